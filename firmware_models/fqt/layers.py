"""Layers of the networks that train by backpropagation, as geometry alone.

Each layer reads its input through a table of positions, so forward and backward passes are the
same few lines for every kind of layer and every arithmetic:

    columns[p, g, c] = x[index[p, g, c]]                      what a kernel sees at position p
    acc[p, r] = sum_c w[r, c] columns[p, g(r), c] + b[r]      forward
    g[r, c] = sum_p e[p, r] columns[p, g(r), c]               gradient of the weights
    e_in[i] = sum over index[p, g(r), c] = i of w[r, c] e[p, r]

g(r) is 0, or r in a depthwise layer. Tensors are rows, columns, channels (HWC), kernels filter,
row, column, channel: a row of a kernel reads one contiguous piece of the input.
"""
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

KINDS = ("dense", "conv", "depthwise", "max_pool", "average_pool")


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer; :func:`sequential` makes them.

    Parameters
    ----------
    name : str
    kind : {"dense", "conv", "depthwise", "max_pool", "average_pool"}
    shape_in, shape_out : tuple of int (rows, columns, channels)
    kernel, strides, pads : tuple of int (rows, columns)
        `pads` are those above and to the left.
    relu : bool
        Negative outputs become 0; every layer with weights but the last one.
    trainable : bool
    """
    name: str
    kind: str
    shape_in: tuple[int, int, int]
    shape_out: tuple[int, int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    relu: bool = False
    trainable: bool = False

    @property
    def is_linear(self) -> bool:
        return self.kind in ("dense", "conv", "depthwise")

    @property
    def by_channel(self) -> bool:
        """Whether each channel is read by itself."""
        return self.kind not in ("dense", "conv")

    @property
    def n_in(self) -> int:
        return prod(self.shape_in)

    @property
    def n_out(self) -> int:
        return prod(self.shape_out)

    @property
    def positions(self) -> int:
        return self.shape_out[0] * self.shape_out[1]

    @property
    def rows(self) -> int:
        """Structures of the layer: rows of a dense layer, filters of a convolution."""
        return self.shape_out[2]

    @property
    def columns(self) -> int:
        """Weights of a structure."""
        return prod(self.kernel) * (1 if self.by_channel else self.shape_in[2])

    @cached_property
    def index(self) -> np.ndarray:
        """Where a kernel reads: int64 [positions, groups, columns], n_in where it reads padding."""
        (h, w, c), (kh, kw) = self.shape_in, self.kernel
        out_h, out_w, _ = self.shape_out
        y = np.arange(out_h)[:, None] * self.strides[0] - self.pads[0] + np.arange(kh)
        x = np.arange(out_w)[:, None] * self.strides[1] - self.pads[1] + np.arange(kw)
        inside = ((0 <= y) & (y < h))[:, None, :, None] & ((0 <= x) & (x < w))[None, :, None, :]
        first = y[:, None, :, None] * w + x[None, :, None, :]
        pixels = np.where(inside, first, h * w).reshape(self.positions, -1)
        if self.by_channel:
            table = pixels[:, None, :] * c + np.arange(c)[:, None]
        else:
            table = (pixels[:, :, None] * c + np.arange(c)).reshape(self.positions, 1, -1)
        return np.minimum(table, self.n_in)

    def unfold(self, x, fill=0) -> np.ndarray:
        """What kernels see of the flat input x [n_in]: [positions, groups, columns]."""
        return np.append(x, np.asarray(fill, x.dtype))[self.index]

    def forward(self, columns, weights) -> np.ndarray:
        """Sums [positions, rows] of unfolded inputs and weights [rows, columns]."""
        if self.by_channel:
            return (columns * weights).sum(-1)
        return columns[:, 0] @ weights.T

    def gradient(self, columns, errors) -> np.ndarray:
        """Gradient [rows, columns] from errors [positions, rows]."""
        if self.by_channel:
            return (columns * errors[..., None]).sum(0)
        return errors.T @ columns[:, 0]

    def backward(self, weights, errors) -> np.ndarray:
        """Errors [n_in] of the input."""
        if self.by_channel:
            spread = weights * errors[..., None]
        else:
            spread = (errors @ weights)[:, None]
        found = np.zeros(self.n_in + 1, spread.dtype)
        np.add.at(found, self.index, spread)
        return found[:-1]

    def to_largest(self, x, errors) -> np.ndarray:
        """Errors [n_in] of a max pool: each goes to the first of the largest inputs x [n_in]."""
        found = np.zeros(self.n_in, errors.dtype)
        chosen = self.unfold(x).argmax(-1)[..., None]
        found[np.take_along_axis(self.index, chosen, -1)[..., 0]] = errors
        return found


def mean(total, n: int):
    """The mean of n integers, by a multiplication with a rounded reciprocal."""
    return total * ((1 << 16) // n + (1 << 16) % n * 2 // n) + (1 << 15) >> 16


def dense(rows: int, *, trainable: bool = True) -> dict:
    return dict(kind="dense", rows=rows, trainable=trainable)


def conv(filters: int, kernel, *, strides=1, same: bool = False, trainable: bool = True) -> dict:
    """Conv2D, or Conv1D on an input of one row with kernel (1, n)."""
    return dict(kind="conv", rows=filters, kernel=kernel, strides=strides, same=same,
                trainable=trainable)


def depthwise(kernel, *, strides=1, same: bool = False, trainable: bool = True) -> dict:
    return dict(kind="depthwise", kernel=kernel, strides=strides, same=same, trainable=trainable)


def max_pool(size) -> dict:
    return dict(kind="max_pool", kernel=size, strides=size)


def average_pool(size) -> dict:
    return dict(kind="average_pool", kernel=size, strides=size)


def _pair(n) -> tuple[int, int]:
    return (n, n) if isinstance(n, int) else tuple(n)


def sequential(shape, *specs: dict) -> tuple[Layer, ...]:
    """The layers of a network whose input has the shape (rows, columns, channels).

    A dense layer reads whatever comes before it as one vector. All linear layers but the last one,
    which must be dense, end with a ReLU.

    Raises
    ------
    ValueError
        Where a kernel is larger than its input, or the last layer is not dense.
    """
    layers, count = [], {}
    shape = tuple(shape)
    for n, spec in enumerate(specs):
        kind = spec["kind"]
        count[kind] = count.get(kind, 0) + 1
        name = f"{kind}{count[kind]}"
        if kind == "dense":
            shape = (1, 1, prod(shape))
        kernel = _pair(spec.get("kernel", 1))
        strides = _pair(spec.get("strides", 1))
        padding = (0, 0)
        if spec.get("same"):
            padding = tuple(max((-(-size // stride) - 1) * stride + k - size, 0)
                            for size, stride, k in zip(shape, strides, kernel, strict=False))
        out = tuple((size + pad - k) // stride + 1 for size, pad, k, stride
                    in zip(shape, padding, kernel, strides, strict=False))
        if min(out) < 1:
            raise ValueError(f"{name}: a kernel of {kernel[0]}x{kernel[1]} does not fit an input "
                             f"of {shape[0]}x{shape[1]}; use a smaller one")
        layers.append(Layer(
            name=name, kind=kind, shape_in=shape, shape_out=(*out, spec.get("rows", shape[2])),
            kernel=kernel, strides=strides, pads=tuple(pad // 2 for pad in padding),
            relu="trainable" in spec and n < len(specs) - 1,
            trainable=spec.get("trainable", False)))
        shape = layers[-1].shape_out
    if layers[-1].kind != "dense":
        raise ValueError(f"{layers[-1].name}: the last layer must be dense, one row a class")
    return tuple(layers)

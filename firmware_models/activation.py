"""Golden models of the elementwise layers behind a Dense layer, as hls4ml's C++ computes them.

Each layer is plain data, of n outputs in format `result`, with two facts about its hardware:

delay_cycles
    Cycles that it adds to the drain of a stage.
gates
    Whether a node whose output is 0 is off: the loss does not depend on it then.

``values(source)`` are the width and the fraction bits of what the C++ casts to `result` when the
inputs have format `source`; those of ``exact(source)`` hold each of them.
"""
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .formats import Fixed
from .requantize import requantize


class Elementwise:
    """What the layers have in common."""
    delay_cycles: ClassVar[int] = 0
    gates: ClassVar[bool] = False

    def values(self, source: Fixed) -> tuple[tuple[int, int], ...]:
        return ((source.width, source.frac),)

    def exact(self, *sources: Fixed) -> tuple[int, int]:
        """Width and fraction bits that hold each of :meth:`values`.

        Raises
        ------
        ValueError
            If that takes more than 62 bits.
        """
        values = self.values(*sources)
        frac = max(frac for _, frac in values)
        width = max(width + frac - own for width, own in values)
        if width > 62:
            raise ValueError(f"{self.name}: its numbers need {width} bits, 62 are possible; "
                             "narrow the types of its input and of its parameters")
        return width, frac

    def _check_codes(self, what: str, count: int) -> None:
        codes = np.asarray(getattr(self, f"{what}_codes"))
        if codes.shape != (count,):
            raise ValueError(f"{self.name}: {what} codes have shape {codes.shape}, "
                             f"not ({count},)")
        object.__setattr__(self, f"{what}_codes", getattr(self, what).check(codes))


@dataclass(frozen=True, kw_only=True)
class Relu(Elementwise):
    """y = (result)max(x, 0): hls4ml's relu, which casts positive values to its own type."""
    name: str
    n: int
    result: Fixed
    gates: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class ReluMax(Elementwise):
    """y = (result)min(max(x, 0), limit): hls4ml's relu_max, of which it has relu1 and relu6."""
    name: str
    n: int
    result: Fixed
    limit: int
    gates: ClassVar[bool] = True

    def __post_init__(self):
        if not 1 <= self.limit < 1 << 31:
            raise ValueError(f"{self.name}: limit {self.limit} is not a positive int")

    def values(self, source: Fixed):
        return (source.width, source.frac), (self.limit.bit_length() + 1, 0)


@dataclass(frozen=True, kw_only=True)
class ThresholdedRelu(Elementwise):
    """y = (result)x where x > threshold, else 0: hls4ml's thresholded_relu."""
    name: str
    n: int
    result: Fixed
    threshold: Fixed
    threshold_code: int
    gates: ClassVar[bool] = True

    def __post_init__(self):
        self.threshold.check(self.threshold_code)

    def floor(self, source: Fixed) -> int:
        """The largest code of `source` at or below the threshold: those above it exceed both."""
        return int(requantize(self.threshold_code, self.threshold.frac, Fixed(62, source.frac)))


@dataclass(frozen=True, kw_only=True, eq=False)
class PRelu(Elementwise):
    """y = (result)x where x > 0, else (result)(slope * x), with a slope for each node.

    hls4ml's prelu; its leaky_relu is the same with one slope for all.
    """
    name: str
    n: int
    result: Fixed
    slope: Fixed
    slope_codes: np.ndarray
    delay_cycles: ClassVar[int] = 2     # the multiplier's inputs and its product

    def __post_init__(self):
        self._check_codes("slope", self.n)

    def values(self, source: Fixed):
        return ((source.width, source.frac),
                (source.width + self.slope.width, source.frac + self.slope.frac))


@dataclass(frozen=True, kw_only=True)
class HardSigmoid(Elementwise):
    """s = min(max(slope * x + shift, 0), 1); y = (result)s, or (result)(2 s - 1) as hard_tanh."""
    name: str
    n: int
    result: Fixed
    slope: Fixed
    slope_code: int
    shift: Fixed
    shift_code: int
    tanh: bool = False
    delay_cycles: ClassVar[int] = 2     # the multiplier's input, and its product with the shift

    def __post_init__(self):
        self.slope.check(self.slope_code)
        self.shift.check(self.shift_code)
        if self.shift.frac < 0:
            raise ValueError(f"{self.name}: shift {self.shift} has steps above 1, "
                             "so that it cannot be cut off there")

    def values(self, source: Fixed):
        width, frac = _sum(source, self.slope, self.shift)
        return ((width + 2 * self.tanh, frac),)


@dataclass(frozen=True, kw_only=True)
class Linear(Elementwise):
    """y = (result)x: a linear activation with a type of its own."""
    name: str
    n: int
    result: Fixed


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchNorm(Elementwise):
    """y = (result)(x * scale + bias) with a scale and a bias for each node: hls4ml's normalize."""
    name: str
    n: int
    result: Fixed
    scale: Fixed
    scale_codes: np.ndarray
    bias: Fixed
    bias_codes: np.ndarray
    delay_cycles: ClassVar[int] = 2     # the multiplier's inputs, and its product with the bias

    def __post_init__(self):
        self._check_codes("scale", self.n)
        self._check_codes("bias", self.n)

    def values(self, source: Fixed):
        return (_sum(source, self.scale, self.bias),)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup(Elementwise):
    """y = (result)table[size / 2 + trunc(x * size / span)], the index clipped to the table.

    hls4ml's sigmoid and tanh; trunc cuts off toward zero.

    Parameters
    ----------
    function : {"sigmoid", "tanh"}
        What the table holds, with span 16 or 8: from -8 or -4.
    size : int
        Entries, a power of two from `span`.
    table : Fixed
    table_codes : array of int64 [size]
        The entries, as the C++ has them: see ``hwgen/frontend/tables.py``.
    """
    name: str
    n: int
    result: Fixed
    function: str
    size: int
    table: Fixed
    table_codes: np.ndarray
    delay_cycles: ClassVar[int] = 2     # index and entry

    def __post_init__(self):
        if self.function not in SPANS:
            raise ValueError(f"{self.name}: function {self.function!r} is not one of "
                             f"{', '.join(SPANS)}")
        if self.size & self.size - 1 or not SPANS[self.function] <= self.size <= 1 << 16:
            raise ValueError(f"{self.name}: table of {self.size} entries; the size is a power of "
                             f"two from {SPANS[self.function]} to {1 << 16}")
        self._check_codes("table", self.size)

    def values(self, source: Fixed):
        # In the C++ the index is an int.
        if source.width + self.left(source) > 31:
            raise ValueError(f"{self.name}: an index of inputs {source} needs "
                             f"{source.width + self.left(source)} bits, 31 are possible; narrow "
                             "the type of its input")
        return ((self.table.width, self.table.frac),)

    def left(self, source: Fixed) -> int:
        """Bits by which an input is shifted left to become an index, or right if negative."""
        return (self.size // SPANS[self.function]).bit_length() - 1 - source.frac


Activation = (Relu | ReluMax | ThresholdedRelu | PRelu | HardSigmoid | Linear | BatchNorm
              | Lookup)
SPANS = {"sigmoid": 16, "tanh": 8}


def _sum(source: Fixed, factor: Fixed, term: Fixed) -> tuple[int, int]:
    """Width and fraction bits of an exact source * factor + term."""
    frac = max(source.frac + factor.frac, term.frac)
    integer = max(source.width + factor.width - source.frac - factor.frac, term.width - term.frac)
    return integer + 1 + frac, frac


def relu(layer: Relu, x, source: Fixed) -> np.ndarray:
    return requantize(np.maximum(x, 0), source.frac, layer.result)


def relu_max(layer: ReluMax, x, source: Fixed) -> np.ndarray:
    frac = max(source.frac, 0)
    return requantize(np.clip(_at(x, source.frac, frac), 0, layer.limit << frac), frac,
                      layer.result)


def thresholded_relu(layer: ThresholdedRelu, x, source: Fixed) -> np.ndarray:
    return requantize(np.where(np.asarray(x) > layer.floor(source), x, 0), source.frac,
                      layer.result)


def prelu(layer: PRelu, x, source: Fixed) -> np.ndarray:
    below = requantize(np.asarray(x) * layer.slope_codes, source.frac + layer.slope.frac,
                       layer.result)
    return np.where(np.asarray(x) > 0, requantize(x, source.frac, layer.result), below)


def hard_sigmoid(layer: HardSigmoid, x, source: Fixed) -> np.ndarray:
    frac = max(source.frac + layer.slope.frac, layer.shift.frac)
    total = _at(np.asarray(x) * layer.slope_code, source.frac + layer.slope.frac, frac)
    clipped = np.clip(total + _at(layer.shift_code, layer.shift.frac, frac), 0, 1 << frac)
    return requantize(2 * clipped - (1 << frac) if layer.tanh else clipped, frac, layer.result)


def linear(layer: Linear, x, source: Fixed) -> np.ndarray:
    return requantize(x, source.frac, layer.result)


def batch_norm(layer: BatchNorm, x, source: Fixed) -> np.ndarray:
    frac = max(source.frac + layer.scale.frac, layer.bias.frac)
    total = _at(np.asarray(x) * layer.scale_codes, source.frac + layer.scale.frac, frac)
    return requantize(total + _at(layer.bias_codes, layer.bias.frac, frac), frac, layer.result)


def lookup(layer: Lookup, x, source: Fixed) -> np.ndarray:
    x, left = np.asarray(x, np.int64), layer.left(source)
    steps = np.abs(x) << left if left >= 0 else np.abs(x) >> min(-left, 62)
    index = np.clip(np.sign(x) * steps + layer.size // 2, 0, layer.size - 1)
    return requantize(layer.table_codes[index], layer.table.frac, layer.result)


def _at(codes, frac: int, more: int) -> np.ndarray:
    """Codes with `more` fraction bits of values that have `frac`."""
    return np.asarray(codes, np.int64) << more - frac


FUNCTIONS = {Relu: relu, ReluMax: relu_max, ThresholdedRelu: thresholded_relu, PRelu: prelu,
             HardSigmoid: hard_sigmoid, Linear: linear, BatchNorm: batch_norm,
             Lookup: lookup}


def apply(layer, x, source: Fixed) -> np.ndarray:
    """Output codes [..., n] of a layer for input codes of format `source`."""
    return FUNCTIONS[type(layer)](layer, x, source)

"""Data sets of the examples, and the disturbances from which a core has to recover."""
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firmware_models.sample_packets import check_labels

from .errors import HwgenError

NAMES = ("digits", "mnist")
KINDS = ("none", "noise:STD", "stuck:FRACTION", "invert", "rotate:DEGREES", "impulse:FRACTION")

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
# Beside the project's own folder: where a checkout that shares its data sets keeps them.
SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images as rows of bytes, with their classes.

    Parameters
    ----------
    name : str
    x_train, x_test : array of uint8 [n, n_in]
        Pixels row by row, 0 to 255.
    y_train, y_test : array of int64 [n]
        Classes, 0 to n_classes - 1.
    n_classes : int
    n_validation : int
        How many of the last training samples are set apart for choosing settings.
    """
    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    n_classes: int
    n_validation: int

    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """The training samples without the validation split: what a stream may draw from."""
        return self.x_train[:-self.n_validation], self.y_train[:-self.n_validation]

    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """The samples on which settings are chosen; they appear in no stream and no result."""
        return self.x_train[-self.n_validation:], self.y_train[-self.n_validation:]


def load(name: str) -> Dataset:
    """Load a data set by name.

    ``digits`` is scikit-learn's bundled set of 8x8 images, which needs no network. Its values 0 to
    16 become min(16 * value, 255), and a fixed permutation splits it into 1,400 training and 397
    test samples. ``mnist`` is read from ``mnist.npz`` (see :func:`find_mnist`).
    """
    if name == "digits":
        return _digits()
    if name == "mnist":
        return _mnist(find_mnist())
    raise HwgenError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}")


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # takes a second to import
    x, y = load_digits(return_X_y=True)
    x = np.minimum(x.astype(np.int64) * 16, 255).astype(np.uint8)
    order = np.random.RandomState(0).permutation(len(x))
    train, test = order[:1400], order[1400:]
    y = y.astype(np.int64)
    return Dataset(name="digits", x_train=x[train], y_train=y[train], x_test=x[test],
                   y_test=y[test], n_classes=10, n_validation=200)


def find_mnist(download: bool = True) -> Path:
    """Path of ``mnist.npz`` in the Keras layout.

    Looked for in the folder ``$HWGEN_DATA``; if that is not set, in ``../shared/data`` beside the
    project; else downloaded once, with a checked sum, into the user's cache.

    Raises
    ------
    HwgenError
        Where there is none, or where `download` is False and it would have to be fetched.
    """
    folder = os.environ.get("HWGEN_DATA")
    if folder:
        path = Path(folder) / "mnist.npz"
        if not path.is_file():
            raise HwgenError(f"no mnist.npz in the folder {folder!r} that HWGEN_DATA names; "
                             "put it there, or unset HWGEN_DATA to have it downloaded")
        return path
    if (SHARED / "mnist.npz").is_file():
        return SHARED / "mnist.npz"
    import pooch
    cache = pooch.os_cache("hwgen")
    if not download and not (cache / "mnist.npz").is_file():
        raise HwgenError("mnist.npz is not on this machine; set HWGEN_DATA to a folder that has it")
    try:
        return Path(pooch.retrieve(MNIST_URL, f"sha256:{MNIST_SHA256}", "mnist.npz", cache))
    except Exception as error:      # of the network library, of the disk, or a wrong sum
        raise HwgenError(f"could not download mnist.npz ({type(error).__name__}); get it from "
                         f"{MNIST_URL} and set HWGEN_DATA to its folder") from error


def _mnist(path: Path) -> Dataset:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    except Exception as error:      # a damaged archive raises nearly anything
        raise HwgenError(f"{path.name} in {str(path.parent)!r} is not the Keras mnist.npz "
                         f"({error}); replace it by {MNIST_URL}") from error
    # Repacked files differ in their bytes, so only what is inside them is checked.
    for split, n in (("train", 60000), ("test", 10000)):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if (x.shape, x.dtype, y.shape) != ((n, 28, 28), np.uint8, (n,)) or y.dtype.kind not in "iu":
            raise HwgenError(f"{path.name} in {str(path.parent)!r}: {split} split is {x.dtype} "
                             f"{x.shape} and {y.dtype} {y.shape}, not uint8 ({n}, 28, 28) and "
                             f"integer ({n},); replace it by {MNIST_URL}")
        arrays[f"x_{split}"] = x.reshape(n, 784)
        arrays[f"y_{split}"] = y.astype(np.int64)
        try:
            check_labels(arrays[f"y_{split}"], n, 10)
        except ValueError as error:
            raise HwgenError(f"{path.name}: {error}; replace it by {MNIST_URL}") from None
    return Dataset(name="mnist", **arrays, n_classes=10, n_validation=5000)


def disturb(x, kind: str, rng_seed: int) -> np.ndarray:
    """Images as a disturbed sensor would deliver them.

    Parameters
    ----------
    x : array of uint8 [n, side * side]
        Square images, row by row.
    kind : str
        ``none``; ``noise:S`` adds Gaussian noise whose standard deviation is the fraction S of full
        scale (255), rounded and clipped; ``stuck:F`` holds the fraction F of the pixel columns, the
        same in every image, at 255; ``invert``; ``rotate:D`` turns by D degrees counter-clockwise,
        nearest pixel, black outside; ``impulse:F`` sets the fraction F of all pixels to 0 or 255.
    rng_seed : int
        The same seed gives the same disturbance.

    Returns
    -------
    numpy.ndarray of uint8 [n, side * side], a copy
    """
    x = np.asarray(x)
    side = math.isqrt(x.shape[-1]) if x.ndim == 2 else 0
    if x.dtype != np.uint8 or x.ndim != 2 or side * side != x.shape[1]:
        raise HwgenError(f"images are {x.dtype} of shape {x.shape}; give one square image of bytes "
                         "per row")
    name, amount = _parse(kind)
    rng = np.random.default_rng(rng_seed)
    y = x.copy()
    if name == "invert":
        y = 255 - y
    elif name == "rotate":
        inside, source = _rotation(side, amount)
        y[:, inside] = x[:, source]
        y[:, ~inside] = 0
    elif name == "stuck":
        columns = rng.permutation(side)[:math.ceil(amount * side)]
        y.reshape(-1, side, side)[:, :, columns] = 255
    elif name in ("noise", "impulse"):
        # In parts, since float64 copies of a whole data set take hundreds of megabytes.
        for part in np.split(y, range(4096, len(y), 4096)):
            if name == "noise":
                noise = rng.normal(0, amount * 255, part.shape)
                part[:] = np.clip(np.rint(part + noise), 0, 255)
            else:
                draw = rng.random(part.shape)
                part[draw < amount] = 255
                part[draw < amount / 2] = 0
    return y


def _parse(kind: str) -> tuple[str, float]:
    """Name and amount of a disturbance."""
    name, colon, text = kind.partition(":")
    plain = name in ("none", "invert")
    limits = {"noise": (0, 10), "stuck": (0, 1), "impulse": (0, 1), "rotate": (-360, 360)}
    if (plain and not colon) or name in limits:
        try:
            amount = 0.0 if plain else float(text)
            low, high = (0, 0) if plain else limits[name]
            if low <= amount <= high:
                return name, amount
        except ValueError:
            pass
    raise HwgenError(f"unknown disturbance {kind!r}; choose one of {', '.join(KINDS)}")


def _rotation(side: int, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of a rotated image lie inside the source, and the source pixel of each."""
    centre = (side - 1) / 2
    row, column = np.divmod(np.arange(side * side), side)
    dy, dx = row - centre, column - centre
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Rows count downwards, so this is the inverse of a counter-clockwise turn as one sees it.
    from_row = np.rint(s * dx + c * dy + centre).astype(int)
    from_column = np.rint(c * dx - s * dy + centre).astype(int)
    inside = (0 <= from_row) & (from_row < side) & (0 <= from_column) & (from_column < side)
    return inside, (from_row * side + from_column)[inside]

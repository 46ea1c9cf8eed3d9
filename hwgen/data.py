"""Data sets of the examples, and the disturbances from which a core has to recover."""
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firmware_models.sample_packets import check_labels

from .errors import HwgenError

NAMES = ("digits", "mnist", "fashion", "speech", "ecg")
KINDS = ("none", "noise:STD", "stuck:FRACTION", "invert", "rotate:DEGREES", "impulse:FRACTION")

MNIST_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
# docs/data.md says what is in each file, and from where.
FILES = {"mnist": "mnist.npz", "fashion": "fashion_mnist.npz", "speech": "fsdd5.npz",
         "ecg": "mitbih_ds1.npz"}
# Beside the project's own folder: where a checkout that shares its data sets keeps them.
SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"

# jackson: each of the five left out in turn, the middle one in how well a network that knows the
# other four does (of all clips, mean of three networks: 48, 61, 56, 73 and 69 %).
UNSEEN_SPEAKER = 1
# The records with at least five beats of each of N, S and V on both sides of the test split.
UNSEEN_PATIENTS = (118, 201, 223)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Samples as rows of bytes, with their classes.

    A network trains on `x_train`. On the chip it learns from :meth:`field` and is judged on
    `x_test`. With images both come from where the training samples came from, and a disturbance
    makes the difference; with ``speech`` and ``ecg`` both come from people whom the network has
    not met, and `x_known` from those whom it has.

    Parameters
    ----------
    name : str
    x_train, x_test, x_field, x_known : array of uint8 [n, n_in]
        Pixels row by row, or another feature, 0 to 255. `x_field` and `x_known` are None where
        they are no others than the training and the test samples.
    y_train, y_test, y_field, y_known : array of int64 [n]
        Classes, 0 to n_classes - 1; None as their samples are.
    n_classes : int
    n_validation : int
        How many of the last training samples are set apart for choosing a network's settings.
    n_field_validation : int
        How many of the last field samples are set apart for choosing settings of learning.
    """
    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    n_classes: int
    n_validation: int
    x_field: np.ndarray | None = None
    y_field: np.ndarray | None = None
    n_field_validation: int = 0
    x_known: np.ndarray | None = None
    y_known: np.ndarray | None = None

    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """The training samples without the validation split."""
        return self.x_train[:-self.n_validation], self.y_train[:-self.n_validation]

    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """The samples on which a network's settings are chosen; in no stream and no result."""
        return self.x_train[-self.n_validation:], self.y_train[-self.n_validation:]

    def field(self) -> tuple[np.ndarray, np.ndarray]:
        """What a stream may draw from; the training samples where there are no others."""
        if self.x_field is None:
            return self.training()
        return self.x_field[:-self.n_field_validation], self.y_field[:-self.n_field_validation]

    def field_validation(self) -> tuple[np.ndarray, np.ndarray]:
        """The samples on which settings of learning are chosen; in no stream and no result."""
        if self.x_field is None:
            return self.validation()
        return self.x_field[-self.n_field_validation:], self.y_field[-self.n_field_validation:]

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """The test split of what the network was trained for: known people, clean images."""
        return (self.x_test, self.y_test) if self.x_known is None else (self.x_known, self.y_known)


def load(name: str) -> Dataset:
    """Load a data set by name.

    ``digits`` is scikit-learn's bundled set of 8x8 images, which needs no network. Its values 0 to
    16 become min(16 * value, 255), and a fixed permutation splits it into 1,400 training and 397
    test samples. The others are read from files (see :func:`find`):

    - ``mnist`` and ``fashion``: 60,000 and 10,000 images of 28x28.
    - ``speech``: digits spoken by five people, 32 frames of 16 mel bands. The network knows four
      of them, to be tested on their takes 0 to 4, the set's own test split, and validated on 45 to
      49. Of speaker `UNSEEN_SPEAKER`, takes 0 to 19 are the test split, 20 to 43 the field and 44
      to 49 its validation split.
    - ``ecg``: heartbeats of 22 patients, 128 values at 180 Hz, bytes as :func:`ecg_bytes` makes
      them. Class 0: AAMI's N and S, 1: V, beats that start in the ventricles and so have another
      shape. S differs from N in its timing, which one beat does not show; nine of ten F are one
      patient's, and there are 8 Q, so both are left out. Of the patients whom the network knows,
      the first 70 % of the beats in order of time are for training, 10 % for validation, 20 % for
      the test of what it knows. Of `UNSEEN_PATIENTS`, the first 48 % are the field, 12 % its
      validation split, 40 % the test split.
    """
    if name == "digits":
        return _digits()
    if name in ("mnist", "fashion"):
        return _images(name)
    if name == "speech":
        return _speech()
    if name == "ecg":
        return _ecg()
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


def find(name: str, download: bool = True) -> Path:
    """Path of the file that holds the data set `name`.

    Looked for in the folder ``$HWGEN_DATA``; if that is not set, in ``../shared/data`` beside the
    project; else ``mnist.npz`` is downloaded once, with a checked sum, into the user's cache.

    Raises
    ------
    HwgenError
        Where there is none, or where `download` is False and it would have to be fetched.
    """
    file = FILES[name]
    folder = os.environ.get("HWGEN_DATA")
    if folder:
        path = Path(folder) / file
        if not path.is_file():
            raise HwgenError(f"no {file} in the folder {folder!r} that HWGEN_DATA names; put it "
                             "there, or unset HWGEN_DATA to have it looked for elsewhere; "
                             + _remedy(name))
        return path
    if (SHARED / file).is_file():
        return SHARED / file
    if name != "mnist":
        raise HwgenError(f"{file} is not on this machine; set HWGEN_DATA to a folder that has it; "
                         + _remedy(name))
    import pooch
    cache = pooch.os_cache("hwgen")
    if not download and not (cache / file).is_file():
        raise HwgenError(f"{file} is not on this machine; set HWGEN_DATA to a folder that has it")
    try:
        return Path(pooch.retrieve(MNIST_URL, f"sha256:{MNIST_SHA256}", file, cache))
    except Exception as error:      # of the network library, of the disk, or a wrong sum
        raise HwgenError(f"could not download {file} ({type(error).__name__}); get it from "
                         f"{MNIST_URL} and set HWGEN_DATA to its folder") from error


def _remedy(name: str) -> str:
    return f"get it from {MNIST_URL}" if name == "mnist" else "docs/data.md says how to make it"


def _read(name: str, classes: int, **expected: tuple[type, tuple[int, ...]]):
    """Arrays of a data set's file, each of the expected type (int: any integers) and shape.

    Repacked files differ in their bytes, so only what is inside them is checked. Arrays called
    ``y...`` hold classes and come as int64.
    """
    path = find(name)
    where = f"{path.name} in {str(path.parent)!r}"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {key: file[key] for key in expected}
    except Exception as error:      # a damaged archive raises nearly anything
        raise HwgenError(f"{where} is not the file of {name} ({error}); "
                         + _remedy(name)) from error
    for key, (dtype, shape) in expected.items():
        array = arrays[key]
        fits = array.dtype.kind in "iu" if dtype is int else array.dtype == dtype
        if not fits or array.shape != shape:
            raise HwgenError(f"{where}: {key} is {array.dtype} {array.shape}, not "
                             f"{dtype.__name__} {shape}; {_remedy(name)}")
        if key.startswith("y"):
            arrays[key] = array.astype(np.int64)
            try:
                check_labels(arrays[key], len(array), classes)
            except ValueError as error:
                raise HwgenError(f"{path.name}: {error}; {_remedy(name)}") from None
    return arrays


def _images(name: str) -> Dataset:
    arrays = _read(name, 10, x_train=(np.uint8, (60000, 28, 28)), y_train=(int, (60000,)),
                   x_test=(np.uint8, (10000, 28, 28)), y_test=(int, (10000,)))
    for key in ("x_train", "x_test"):
        arrays[key] = arrays[key].reshape(-1, 784)
    return Dataset(name=name, **arrays, n_classes=10, n_validation=5000)


def _speech() -> Dataset:
    n = 2500
    arrays = _read("speech", 10, logmel=(np.uint8, (n, 32, 16)), y=(int, (n,)),
                   speaker=(int, (n,)), take=(int, (n,)))
    x, y, speaker, take = arrays["logmel"].reshape(n, 512), *(arrays[key] for key in (
        "y", "speaker", "take"))
    if len(np.unique(np.stack([speaker, take, y]), axis=1).T) != n or speaker.max() > 4:
        raise HwgenError("fsdd5.npz: not 50 takes of each of 10 digits by 5 speakers; "
                         + _remedy("speech"))
    in_order = np.lexsort((y, speaker, take))

    def takes(first: int, last: int, unseen: bool):
        chosen = (first <= take) & (take <= last) & ((speaker == UNSEEN_SPEAKER) == unseen)
        rows = in_order[chosen[in_order]]
        return x[rows], y[rows]

    return _people("speech", train=takes(5, 44, False), validation=takes(45, 49, False),
                   known=takes(0, 4, False), field=takes(20, 43, True),
                   field_validation=takes(44, 49, True), test=takes(0, 19, True), n_classes=10)


def _ecg() -> Dataset:
    n = 13080
    arrays = _read("ecg", 5, x=(np.int16, (n, 128)), y=(int, (n,)), record=(int, (n,)),
                   sample=(int, (n,)))
    x, y, record = ecg_bytes(arrays["x"]), arrays["y"], arrays["record"]
    if not np.isin(UNSEEN_PATIENTS, record).all():
        raise HwgenError(f"mitbih_ds1.npz: no beats of the records {UNSEEN_PATIENTS}; "
                         + _remedy("ecg"))
    in_order = np.argsort(arrays["sample"], kind="stable")
    in_order = in_order[np.isin(y[in_order], (0, 1, 2))]

    percent = np.full(n, -1)                # of the recording's beats that came before
    for patient in np.unique(record):
        own = in_order[record[in_order] == patient]
        percent[own] = np.arange(len(own)) * 100 // len(own)
    unseen_patient = np.isin(record, UNSEEN_PATIENTS)

    def beats(start: int, end: int, unseen: bool):
        chosen = (start <= percent) & (percent < end) & (unseen_patient == unseen)
        rows = in_order[chosen[in_order]]
        return x[rows], (y[rows] == 2).astype(np.int64)

    return _people("ecg", train=beats(0, 70, False), validation=beats(70, 80, False),
                   known=beats(80, 100, False), field=beats(0, 48, True),
                   field_validation=beats(48, 60, True), test=beats(60, 100, True),
                   n_classes=2)


def ecg_bytes(counts) -> np.ndarray:
    """Features of ADC counts: four to a step, half to even; +-2.5 mV before they clip."""
    return np.clip(np.rint(np.asarray(counts) / 4) + 128, 0, 255).astype(np.uint8)


def _people(name: str, *, train, validation, known, field, field_validation, test,
            n_classes: int) -> Dataset:
    """A data set from splits (x, y) by people."""
    def joined(*splits):
        return (np.concatenate(parts) for parts in zip(*splits, strict=True))
    x_train, y_train = joined(train, validation)
    x_field, y_field = joined(field, field_validation)
    return Dataset(name=name, x_train=x_train, y_train=y_train, n_validation=len(validation[1]),
                   x_known=known[0], y_known=known[1], x_field=x_field, y_field=y_field,
                   n_field_validation=len(field_validation[1]), x_test=test[0], y_test=test[1],
                   n_classes=n_classes)


def disturb(x, kind: str, rng_seed: int, sensor: int = 0) -> np.ndarray:
    """Images as a disturbed sensor would deliver them.

    Parameters
    ----------
    x : array of uint8 [n, side * side]
        Square images, row by row; for ``none`` any rows of bytes.
    kind : str
        ``none``; ``noise:S`` adds Gaussian noise whose standard deviation is the fraction S of full
        scale (255), rounded and clipped; ``stuck:F`` holds the fraction F of the pixel columns, the
        same in every image, at 255; ``invert``; ``rotate:D`` turns by D degrees counter-clockwise,
        nearest pixel, black outside; ``impulse:F`` sets the fraction F of all pixels to 0 or 255.
    rng_seed : int
        The same seed gives the same disturbance.
    sensor : int
        Decides, alone, which columns are stuck: those of one sensor in every call.

    Returns
    -------
    numpy.ndarray of uint8, a copy of the same shape
    """
    x = np.asarray(x)
    name, amount = _parse(kind)
    side = math.isqrt(x.shape[-1]) if x.ndim == 2 else 0
    if x.dtype != np.uint8 or x.ndim != 2 or (name != "none" and side * side != x.shape[1]):
        raise HwgenError(f"samples are {x.dtype} of shape {x.shape}; {name} needs one square image "
                         "of bytes per row" if name != "none" else
                         f"samples are {x.dtype} of shape {x.shape}; give rows of bytes")
    rng = np.random.default_rng(rng_seed)
    y = x.copy()
    if name == "invert":
        y = 255 - y
    elif name == "rotate":
        inside, source = _rotation(side, amount)
        y[:, inside] = x[:, source]
        y[:, ~inside] = 0
    elif name == "stuck":
        columns = np.random.default_rng(sensor).permutation(side)[:math.ceil(amount * side)]
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

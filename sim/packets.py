"""Samples to beats of the input stream, as the manifest lays them out."""
import numpy as np

from firmware_models.formats import Fixed

LEARN = 1 << 8                      # bit of tuser; the label is below it


def check_samples(x, n_in: int, fmt: Fixed) -> np.ndarray:
    """Input codes [n, n_in] of `x`, which may be one sample [n_in].

    Raises
    ------
    ValueError
        For another shape, NaN, fractions, or values that are no codes of `fmt`.
    """
    x = np.asarray(x)
    if x.ndim == 1:
        x = x[None]
    if x.ndim != 2 or x.shape[1] != n_in:
        raise ValueError(f"samples have shape {x.shape}; this core takes (n, {n_in})")
    if x.dtype.kind == "f":
        if not np.isfinite(x).all():
            raise ValueError("samples hold NaN or infinity; clean the data first")
        if (x != np.floor(x)).any():
            raise ValueError("samples hold fractions; this core takes integer codes of "
                             f"{fmt}: quantize them first")
        x = x.astype(np.int64)
    return fmt.check(x)


def check_labels(y, n: int, n_classes: int) -> np.ndarray:
    """Labels [n] as int64; ValueError for another shape, or a label that is no class."""
    y = np.asarray(y)
    if y.ndim == 0:
        y = y[None]
    if y.shape != (n,):
        raise ValueError(f"labels have shape {y.shape}; {n} samples need ({n},)")
    if y.dtype.kind not in "iu":
        raise ValueError(f"labels are integers, not {y.dtype}")
    wrong = y[(y < 0) | (y >= n_classes)]
    if wrong.size:
        raise ValueError(f"label {wrong[0]} is out of range; this core has the classes "
                         f"0 to {n_classes - 1}")
    return y.astype(np.int64)


def pack(x: np.ndarray, element_bits: int, elements_per_beat: int, beats: int) -> np.ndarray:
    """Beats [n, beats] uint32 of codes [n, n_in]: lowest slot first, the last beat zero-padded."""
    slots = np.zeros((len(x), beats * elements_per_beat), np.uint64)
    slots[:, :x.shape[1]] = x.astype(np.int64).view(np.uint64) & np.uint64(2 ** element_bits - 1)
    shifts = np.arange(elements_per_beat, dtype=np.uint64) * np.uint64(element_bits)
    return (slots.reshape(len(x), beats, elements_per_beat) << shifts).sum(-1).astype(np.uint32)

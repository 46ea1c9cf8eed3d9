"""Samples as packets of the input stream, and what is refused before it becomes one."""
from dataclasses import dataclass

import numpy as np

from .formats import Fixed
from .network import Network

BEAT_WIDTH = 32
LABEL_WIDTH = 8         # tuser: label in bits 7:0, learn in bit 8
LEARN = 1 << LABEL_WIDTH
USER_WIDTH = 16


@dataclass(frozen=True, kw_only=True)
class BeatLayout:
    """Packing of one sample: features in natural order, the first one lowest, 0 after the last.

    Parameters
    ----------
    element_bits : int
        Slot of a feature: 8, 16 or 32 bits.
    elements_per_beat, beats : int
    """
    element_bits: int
    elements_per_beat: int
    beats: int


def beat_layout(network: Network) -> BeatLayout:
    """Packing of a network's samples.

    Raises
    ------
    ValueError
        For features wider than a beat.
    """
    width = network.input.width
    bits = next((bits for bits in (8, 16, 32) if width <= bits), None)
    if bits is None:
        raise ValueError(f"{network.name}: features of {width} bits do not fit a beat of "
                         f"{BEAT_WIDTH} bits")
    per_beat = BEAT_WIDTH // bits
    return BeatLayout(element_bits=bits, elements_per_beat=per_beat,
                      beats=-(-network.n_in // per_beat))


def pack(x: np.ndarray, layout: BeatLayout) -> np.ndarray:
    """Beats [n, beats] uint32 of input codes [n, n_in]."""
    slots = np.zeros((len(x), layout.beats * layout.elements_per_beat), np.uint64)
    mask = np.uint64(2 ** layout.element_bits - 1)
    slots[:, :x.shape[1]] = x.astype(np.int64).view(np.uint64) & mask
    shifts = np.arange(layout.elements_per_beat, dtype=np.uint64) * np.uint64(layout.element_bits)
    beats = slots.reshape(len(x), layout.beats, layout.elements_per_beat) << shifts
    return beats.sum(-1).astype(np.uint32)


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
        raise ValueError(f"samples have shape {x.shape}; features are (n, {n_in})")
    if x.dtype.kind == "f":
        if not np.isfinite(x).all():
            sample, feature = np.argwhere(~np.isfinite(x))[0]
            raise ValueError(f"feature {feature} of sample {sample} is NaN or infinite; "
                             "clean the data first")
        if (x != np.floor(x)).any():
            raise ValueError(f"samples hold fractions; features are integer codes of {fmt}: "
                             "quantize them first")
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
        raise ValueError(f"label {wrong[0]} is out of range; the classes are 0 to {n_classes - 1}")
    return y.astype(np.int64)

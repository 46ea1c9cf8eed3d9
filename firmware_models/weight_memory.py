"""Golden model of a trainable weight memory: masters, deployed weights, noise on read, commit.

A master holds ``width + R`` bits: the weight above, R residual bits below. What an update adds
below the weight's last bit stays in the residual (error feedback) and counts later. A fresh master
stands in the middle of its residual range, so that cutting R bits off rounds to nearest: the
deployed weight is simply the upper part of the word and costs no logic.
"""
import numpy as np

from .formats import Fixed


def to_master(codes, residual: int) -> np.ndarray:
    """Masters of weight codes: code * 2**R + 2**(R-1)."""
    return (np.asarray(codes, np.int64) << residual) + (1 << residual >> 1)


def deployed(master, residual: int) -> np.ndarray:
    """Weight codes that the multipliers see: floor(M / 2**R)."""
    return np.asarray(master, np.int64) >> residual


def perturbed(codes, z, amplitude_log2: int, fmt: Fixed, offset=0) -> np.ndarray:
    """Weight codes with noise: clip(w + offset + z * 2**amplitude_log2) to the range of `fmt`."""
    moved = np.asarray(codes) + offset + (np.asarray(z) << amplitude_log2)
    return np.clip(moved, fmt.min, fmt.max)


def commit(master, change, fmt: Fixed, residual: int) -> tuple[np.ndarray, np.ndarray]:
    """Subtract `change` (in master steps) and clip to ``width + R`` bits.

    Returns
    -------
    master : int64 array
    clipped : bool array of the same shape
        Where the clip acted.
    """
    limits = Fixed(fmt.width + residual, 0)
    raw = np.asarray(master) - np.asarray(change)
    new = np.clip(raw, limits.min, limits.max)
    return new, new != raw

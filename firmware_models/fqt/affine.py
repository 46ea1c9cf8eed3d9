"""Tensors of unsigned bytes with a scale and a zero point: value = s (q - z).

    s = max(high - low, 2**-16) / 255,   z = floor(-low / s)       for a range with 0 in it
    q = clip(floor(x / s + 1/2) + z, 0, 255)

s and x are float32, z is an integer. Every operation is one float32 operation, written down in its
order: C on any processor computes the same bits. Floats saturate at 2**20, so that no sum of
products overflows and nothing is ever not a number.

Source: Deutel et al. 2024, arXiv 2407.10734, the quantization of tensors and its ranges on line.
"""
import numpy as np

F = np.float32
CODE_MAX = 255
RANGE_MIN = F(2 ** -16)
LIMIT = F(2 ** 20)
ALPHA = F(0.1)              # of the moving averages
HALF = F(0.5)


def round_half_up(x):
    """floor(x + 1/2), a whole number in float32."""
    return np.floor(x + HALF)


def whole(x, limit: int):
    """x rounded half up to an integer from -limit to limit, which float32 holds exactly."""
    return np.clip(round_half_up(x), F(-limit), F(limit)).astype(np.int64)


def total(terms, axis: int):
    """Sum in float32, one term after the other from 0, as a loop in C adds them."""
    return np.add.accumulate(terms, axis=axis, dtype=F).take(-1, axis) + F(0)


def follow(average, value):
    """The moving average after a value, which saturates."""
    return average + ALPHA * (np.clip(value, -LIMIT, LIMIT) - average)


def span(x) -> tuple:
    """Smallest and largest value of float32 x, and 0."""
    low, high = x.min(), x.max()
    return low if low < 0 else F(0), high if high > 0 else F(0)


def scale_of(low, high) -> tuple[np.float32, int]:
    """Scale and zero point of the range from low <= 0 to high >= 0."""
    width = high - low
    scale = (width if width > RANGE_MIN else RANGE_MIN) / F(CODE_MAX)
    return scale, int(np.clip(np.floor(-low / scale), F(0), F(CODE_MAX)))


def quantize(x, scale, zero: int) -> np.ndarray:
    """Codes of float32 x, 0 to 255, as int64."""
    return clipped(round_half_up(x / scale), zero)


def clipped(steps, zero: int) -> np.ndarray:
    """Codes that lie whole float32 steps from the zero point."""
    return np.clip(steps + F(zero), F(0), F(CODE_MAX)).astype(np.int64)

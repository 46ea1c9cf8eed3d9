"""Golden model of the loss unit: integer cross entropy to base 2, without a divider."""
import numpy as np

from .formats import Fixed
from .requantize import requantize

LOGIT = Fixed(12, 4, True, "RND", "SAT")   # what the loss sees of a logit: 1/16 bit, +-128
LOSS_WIDTH = 14                            # 1/256 bit; at most 64 bits of surprise
EXP_FRAC = 12                              # fraction bits of the exponentials
# 2**(-r/16) for the fraction of the exponent; the integer part is a shift, which floors the same
# way: floor(floor(a) / 2**n) = floor(a / 2**n).
EXP_TABLE = tuple(int(2 ** EXP_FRAC * 2 ** (-r / 16)) for r in range(16))
LOG_TABLE = tuple(round(256 * np.log2(1 + f / 256)) for f in range(256))
D_MAX = 255                                # exponentials beyond 2**-15.9 are 0 anyway
AVERAGE_FRAC = 8                           # extra fraction bits of the running average
AVERAGE_SHIFT = 6                          # the average follows the last 2**6 losses


def exp2_negative(d):
    """E[d] = floor(2**12 * 2**(-d/16)) for integers 0 <= d <= 255."""
    d = np.asarray(d, np.int64)
    return np.asarray(EXP_TABLE, np.int64)[d & 15] >> (d >> 4)


def ilog2(s):
    """256 * log2(s) for integers s >= 256: leading-one position, then a table of 8 more bits."""
    s = np.asarray(s, np.int64)
    position = np.frexp(s.astype(np.float64))[1].astype(np.int64) - 1
    return (position << 8) + np.asarray(LOG_TABLE, np.int64)[(s >> position - 8) & 255]


def _terms(logits, fmt: Fixed):
    """How far each logit is below the largest, the same clipped for the table, and ilog2(S)."""
    scaled = requantize(logits, fmt.frac, LOGIT)
    below = scaled.max(-1, keepdims=True) - scaled           # 1/16 bit below the largest logit
    d = np.minimum(below, D_MAX)
    return below, d, ilog2(exp2_negative(d).sum(-1)) - (EXP_FRAC << 8)


def cross_entropy(logits, labels, fmt: Fixed) -> np.ndarray:
    """Loss of logit codes [..., n_classes] for labels [...], in 1/256 bit.

        L = min(16 * (m - l_y) + ilog2(sum_c E[m - l_c]) - 12 * 256, 2**14 - 1),  m = max(l)

    with l the logits in 1/16 bit (format :data:`LOGIT`), scaled so that 2**l is the softmax.
    """
    below, _, log_sum = _terms(logits, fmt)
    below_y = np.take_along_axis(below, np.asarray(labels)[..., None], -1)[..., 0]
    return np.minimum((below_y << 4) + log_sum, (1 << LOSS_WIDTH) - 1)


def head_error(logits, labels, fmt: Fixed) -> np.ndarray:
    """Error of each logit, softmax minus one-hot, in 1/256: integers -256 to 256.

        p_c = E[min(255, d_c + rnd(ilog2(S) - 3072, 4))] >> 4,  err_c = p_c - 256 * [c == y]

    The division of the softmax is a subtraction of logarithms.
    """
    _, d, log_sum = _terms(logits, fmt)
    p = exp2_negative(np.minimum(d + (log_sum[..., None] + 8 >> 4), D_MAX)) >> 4
    one_hot = np.arange(p.shape[-1]) == np.asarray(labels)[..., None]
    return p - 256 * one_hot


def running_average(average: int, loss: int) -> int:
    """New average of losses, in 2**-16 bit: average + (loss - average) / 64, floored."""
    return average + ((loss << AVERAGE_FRAC) - average >> AVERAGE_SHIFT)

"""Softmax and its loss in float32, the same bits on every processor: no function of a C library.

    E(d) = 2**floor(d) P(d - floor(d)),   d = max(log2(e) (l - max l), -64)
    p_c = E_c / sum E,   err_c = p_c - [c == y]

P is a polynomial of degree 5 that is within 4e-7 of 2**f for f from 0 to 1.
"""
import numpy as np

from ..loss import EXP_FRAC, LOSS_WIDTH, ilog2
from .affine import F, round_half_up, total

LOG2_E = F(1.4426950)
LEAST = F(-64)
EXP2 = tuple(F(c) for c in (
    1.0, 0.6931476, 0.24020687, 0.055658665, 0.009196802, 0.0017896651))
LOSS_MAX = (1 << LOSS_WIDTH) - 1


def exp2_negative(d):
    """2**d for float32 d <= 0; 2**-64 below that."""
    d = np.maximum(d, LEAST)
    whole = np.floor(d)
    f = d - whole
    p = EXP2[5]
    for c in EXP2[4::-1]:
        p = p * f + c
    return p * (whole.astype(np.int32) + 127 << 23).view(F)


def head_error(logits, label: int) -> tuple[int, np.ndarray]:
    """Loss in 1/256 bit, at most 2**14 - 1, and errors [n] of float32 logits [n]."""
    d = (logits - logits.max()) * LOG2_E
    e = exp2_negative(d)
    sum_e = total(e, 0)
    below = np.minimum(round_half_up(d[label] * F(-256)), F(LOSS_MAX))
    loss = int(below) + int(ilog2(int(sum_e * F(1 << EXP_FRAC)))) - (EXP_FRAC << 8)
    errors = e / sum_e
    errors[label] -= F(1)
    return min(loss, LOSS_MAX), errors

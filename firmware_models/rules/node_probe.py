"""Node probes: noise on a layer's pre-activations, and the delta rule of the last layer.

    nu_kj = 2**k_l * z_kj,   z_kj = s_j * (-1)**popcount(k & j)
    D_k = clip(L(nu_k) - L(0)),   e_j += a_j * sum_k D_k z_kj        (a trained hidden layer)
    e_c += p_c - [c == y]                                             (the last layer)
    c_j = sgn(e_j) if |e_j| >= 2**lr_shift else 0,   e_j -= c_j * 2**lr_shift,   M_ij -= c_j * u_i

Cores with multipliers have coefficients of four bits and a sign instead, in quarters of that step.

s_j = +-1 is drawn anew for every sample and node; the rows (-1)**popcount(k & j) of a Hadamard
matrix make a sample's probes orthogonal, so that they share nothing but what K < n_out forces on
them. a_j says that node j was active in the base pass: the loss does not depend on the others, and
what their probes seem to show is noise of the active ones. Both lower the variance of the sum for a
few LUTs; docs/results.md says how little that changes at K = 8.

The sum over the probes is a number of a dozen bits, the coefficient c_j a single one with a sign:
what it leaves stays in e_j and counts with the next samples (error feedback), so a lane needs no
multiplier.

Source: Widrow and Lehr 1990, Proc. IEEE 78 (9), sections VI and VII, for the delta rule; Le Cun et
al. 1988, NIPS 1, and Jabri and Flower 1992, IEEE Trans. Neural Netw. 3 (1), for perturbing nodes.
"""
import numpy as np

from ..formats import Fixed
from ..requantize import requantize

MAX_PROBES = 32
DELTA = Fixed(10, 0, overflow="SAT")        # loss difference of a probe, 1/256 bit
ERROR = Fixed(14, 0, overflow="SAT")        # accumulated error of a node
AMPLITUDE_BITS = 6                          # sigma_log2 = 6: noise of 1 in the pre-activation
FRACTION = {1: 0, 4: 2}                     # fraction bits of coefficients of so many bits
SHIFT_MAX = 15                              # from ERROR.width - 1 on, no coefficient is left


def signs(k: int, s) -> np.ndarray:
    """z_kj of probe k from the sample's signs s [n_out]."""
    j = np.arange(len(s))
    parity = np.bitwise_count(j & k) & 1
    return np.asarray(s, np.int64) * (1 - 2 * parity.astype(np.int64))


def amplitude_shift(accum: Fixed, sigma_log2: int) -> int:
    """Noise is +-2**shift accumulator steps: 2**(sigma_log2 - 6) where the format has the bits."""
    return max(accum.frac - AMPLITUDE_BITS, 0) + sigma_log2


def difference(loss: int, base: int) -> int:
    """D of a probe."""
    return int(requantize(loss - base, 0, DELTA))


def accumulate(errors, terms) -> np.ndarray:
    """Errors with one more term each, clipped to their format."""
    return requantize(np.asarray(errors) + terms, 0, ERROR)


def coefficients(errors, shift: int, bits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of the nodes and the errors that they leave.

    With one bit they are -1, 0 or 1: a node fires when its error reaches 2**shift. With four they
    are -15 to 15, in units of 2**(shift - 2). Downwards each comes one step later, because the
    magnitude is taken as the ones' complement.
    """
    errors = np.asarray(errors, np.int64)
    unit = max(shift - FRACTION[bits], 0)
    magnitude = np.minimum((errors ^ (errors >> 63)) >> unit, (1 << bits) - 1)
    c = np.where(errors < 0, -magnitude, magnitude)
    return c, errors - (c << unit)

"""QZO-FF: sign-m-SPSA: the sum of m probe directions, each with the sign of its pair.

    g = sum_i sgn(L(w + sigma z_i) - L(w - sigma z_i)) z_i,   M -= g * 2**(7 - lr_shift)

This is the evolutionary strategy with sign fitness and a batch of one sample, so the same circuit
serves both; the definition here is kept apart to check that.

Source: Feng et al. 2024 (arXiv 2411.04036), section 3, sign-m-SPSA; Spall 1992 for SPSA.
"""
import numpy as np

M_MAX = 16


def gradient(deltas, z) -> np.ndarray:
    """g of m loss differences [m] and probe directions [m, ...]."""
    return np.tensordot(np.sign(np.asarray(deltas, np.int64)), np.asarray(z, np.int64), 1)

"""Dynamic partial updates: which of a layer's structures learn from a sample.

    k = max(1, #{t in 1..N : t * (emax << 8) <= num * N}),   num = lmin*emax + e*(lmax - lmin)

which is ``max(floor((lmin + e/emax * (lmax - lmin)) * N), 1)`` without its divisions; lmin and lmax
count in 1/256. N structures (rows, filters), e the sum of the layer's absolute errors (the paper's
mean, N times), emax the largest so far.

Source: Deutel et al. 2024, arXiv 2407.10734, the dynamic partial gradient updates.
"""
import numpy as np

FRACTION_ONE = 256


def k_of(e: int, emax: int, n: int, lmin: int, lmax: int) -> int:
    """How many of `n` structures are updated, 1 to n; e, emax in any common unit, e <= emax."""
    num = lmin * emax + e * (lmax - lmin)
    return max(1, sum(t * (emax << 8) <= num * n for t in range(1, n + 1)))


def top_k(magnitudes, k: int) -> np.ndarray:
    """Mask [n] of the k largest magnitudes; of equal ones the first."""
    chosen = np.zeros(len(magnitudes), bool)
    chosen[np.argsort(-np.asarray(magnitudes, np.int64), kind="stable")[:k]] = True
    return chosen

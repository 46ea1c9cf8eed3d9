"""Evolutionary strategy: a population of antithetic probe pairs, only (seed, fitness) is kept.

    D_i = L(w + sigma z_i) - L(w - sigma z_i),   V = sum_i c(F(D)_i) z_i,   M -= V

Source: AbdulQader et al. 2021 (arXiv 2103.14007) for the system; Salimans et al. 2017
(arXiv 1703.03864), section 2.1, for antithetic sampling, rank shaping and shared seeds.
"""
import numpy as np

from ..progress import DECAYS_MAX
from ..rounding import FRACTION

FITNESSES = ("sign", "rank", "zscore", "best")      # position = value of the register field
SHAPED = ("zscore", "best")         # need a walk over all differences first
RATE_BITS = 7                       # lr_shift = 7: a fitness of 1 moves a weight by a master step
COEFFICIENT_WIDTH = 8
VOTE_WIDTH = 14                     # 64 pairs of 127 are below 2**13


def fitness(deltas, kind: str) -> np.ndarray:
    """Fitness of each of P pairs from its loss difference D_i.

    sign: -1, 0 or +1.
    rank: number of smaller differences minus number of larger ones, -(P-1) to P-1. Equal
    differences get equal ranks, so a population that cannot be told apart moves nothing.
    zscore: the differences themselves; :func:`scale` says by how many bits they are too large.
    best: sgn(D_i) of the first of the largest |D_i|, 0 for the others.
    """
    deltas = np.asarray(deltas, np.int64)
    if kind == "sign":
        return np.sign(deltas)
    if kind == "rank":
        return np.sign(deltas[:, None] - deltas[None, :]).sum(1)
    if kind == "zscore":
        return deltas
    if kind == "best":
        return np.sign(deltas) * (np.arange(len(deltas)) == np.abs(deltas).argmax())
    raise ValueError(f"fitness must be one of {FITNESSES}, not {kind!r}")


def scale(deltas, kind: str) -> int:
    """Bits s by which a fitness is divided: ilog2 of the mean of |D_i| for "zscore", else 0.

    The mean is a shift as well, by ceil(log2(P)), and counts as 1 at least.
    """
    if kind != "zscore":
        return 0
    mean = int(np.abs(np.asarray(deltas, np.int64)).sum()) >> (len(deltas) - 1).bit_length()
    return max(1, mean).bit_length() - 1


def rate(lr_shift: int, decays: int, rounding: str) -> int:
    """Shift of the coefficients: of those of 2**-4 master steps it is 4 less."""
    return max(min(lr_shift + decays, DECAYS_MAX) - (FRACTION if rounding != "feedback" else 0), 0)


def coefficients(deltas, kind: str, lr_shift: int) -> np.ndarray:
    """Coefficients of a population, rounded once: by the scale and the rate together."""
    return coefficient(fitness(deltas, kind), lr_shift + scale(deltas, kind))


def voted(change, threshold: int, residual: int) -> np.ndarray:
    """Changes V of masters, or with a threshold sgn(V) weight steps where |V| exceeds it, else 0.

    Source: Sarkar et al. 2025, EGGROLL (arXiv 2511.16652), the update of integer weights.
    """
    change = np.asarray(change, np.int64)
    if not threshold:
        return change
    return np.sign(change) * (np.abs(change) > threshold) << residual


def coefficient(fit, lr_shift: int) -> np.ndarray:
    """What a probe's signs are multiplied by: clip(rnd(F * 2**7, lr_shift)), in master steps."""
    limit = (1 << COEFFICIENT_WIDTH - 1) - 1
    scaled = (np.asarray(fit, np.int64) << RATE_BITS) + (1 << lr_shift >> 1) >> lr_shift
    return np.clip(scaled, -limit, limit)

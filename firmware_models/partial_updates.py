"""Golden model of dynamic partial updates: a sample changes only the nodes of largest error.

    e = sum |err_j|,  emax = the largest e so far, this sample's included,  N nodes
    num = lmin * emax + e * (lmax - lmin)                        lmin, lmax in 1/256
    k = max(1, #{t in 1 ... N: t * (emax << 8) <= N * num})

That is max(floor((lmin + (e / emax) * (lmax - lmin)) * N), 1) of the paper without a division: a
sample of small error updates few nodes, the worst one so far lmax of them. The paper's e is the
mean of |err|; a sum in its place, in e and emax alike, gives the same k.

In the core the layer is the last one, and err its error p_c - [c == y]. What the other nodes'
errors would add to their sums is dropped.

Source: Deutel, Hannig, Mutschler and Teich, arXiv 2407.10734v2, dynamic partial gradient updates.
"""
import numpy as np

FRACTION = 8                    # bits of lmin and lmax
ONE = 1 << FRACTION             # all nodes
SHARE_WIDTH = FRACTION + 1
# Of e. The softmax's probabilities sum up to at most 280 / 256: the sum of exponentials is floored
# to 15/16 of what it is at least, and its logarithm rounded to 1/16. One-hot adds 256.
ERROR_SUM_WIDTH = 10


def k_of(e: int, emax: int, lmin: int, lmax: int, n: int) -> int:
    """How many of n nodes are updated, 1 to n.

    Parameters
    ----------
    e, emax : int
        Sum, or mean, of the layer's |error|, and the largest one so far, which is not below it.
    lmin, lmax : int
        Share of the nodes at an error of 0 and of emax, 0 to 256 in 1/256.
    n : int
        Nodes.
    """
    num = lmin * emax + e * (lmax - lmin)
    return max(1, sum(t * (emax << 8) <= num * n for t in range(1, n + 1)))


def top_k(magnitudes, k: int) -> np.ndarray:
    """Which k of the magnitudes [n] are the largest, as bool [n]; of equal ones the first.

    Radix selection: bit by bit from the most significant one, the largest threshold that k
    magnitudes reach. Those above it are chosen, and of those at it as many as are still missing.
    """
    magnitudes = np.asarray(magnitudes, np.int64)
    threshold = 0
    for bit in reversed(range(int(magnitudes.max(initial=0)).bit_length())):
        trial = threshold | 1 << bit
        if (magnitudes >= trial).sum() >= k:
            threshold = trial
    above, at = magnitudes > threshold, magnitudes == threshold
    return above | at & (np.cumsum(at) <= k - above.sum())


def partial(errors, emax: int, lmin: int, lmax: int) -> tuple[np.ndarray, int]:
    """Errors [n] of which all but the top k are 0, and the largest sum after this sample.

    With `lmin` 256 nothing is selected, and the largest sum is not followed.
    """
    if lmin >= ONE:
        return np.asarray(errors, np.int64), emax
    magnitudes = np.abs(np.asarray(errors, np.int64))
    e = int(magnitudes.sum())
    emax = max(emax, e)
    k = k_of(e, emax, lmin, lmax, len(magnitudes))
    return np.where(top_k(magnitudes, k), errors, 0), emax


def delay_cycles(n: int) -> int:
    """Cycles from an error into :class:`rtl.partial_updates.PartialUpdates` until it comes out."""
    return n + 1 + SHARE_WIDTH + 1 + SHARE_WIDTH * (n + 1)

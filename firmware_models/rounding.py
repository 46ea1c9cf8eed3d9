"""Golden model of the rounding of updates to master steps.

With "feedback" the coefficients are whole master steps, and what a deployed weight does not show
yet stays in the master's residual bits. The others sum up V in steps of 2**-4 of a master's:

    M -= floor((V + a) / 16),   a = 8             "nearest", "replay"
                                a = 0 ... 15      "stochastic": four noise bits
                                a = 15 or 0       "pseudo": whether V[3:2] > V[1:0]

"replay" is "nearest" with error feedback from nothing stored: the residual that the last updates
left is the sum of their changes, modulo 16, and is found again from their seeds and coefficients.

Source: Wang et al. 2020, NITI, arXiv 2009.13108, for pseudo-stochastic rounding; Quantized
Evolution Strategies, arXiv 2602.03120, for the residual from replayed seeds.
"""
import numpy as np

from .noise import beside

ROUNDINGS = ("feedback", "nearest", "stochastic", "pseudo", "replay")   # register field
FRACTION = 4                        # bits below a master step
# Bits of the generator's word, counted from the lane's own, that round: lowest first.
RANDOM_BITS = (3, 9, 15, 22)
HALF, ALL = 1 << FRACTION - 1, (1 << FRACTION) - 1


def slots(max_pairs: int) -> int:
    """Pairs that a core for populations of `max_pairs` keeps to replay, the population's included.

    They stand in a ring, whose slots are counted by wrapping around.
    """
    return 1 << (max_pairs - 1).bit_length()


def most_older(max_pairs: int, pairs: int) -> int:
    """Pairs of earlier updates that stay beside a population of `pairs`; replay finds these."""
    return max(slots(max_pairs) - pairs, 0)


def random(states) -> np.ndarray:
    """Four noise bits, 0 to 15, of every lane of words of whole generators, given as signs."""
    return sum(beside(states, shift) << n for n, shift in enumerate(RANDOM_BITS))


def residual(change) -> np.ndarray:
    """What rounding left of the changes that sum up to this: the low bits, -8 to 7."""
    return (np.asarray(change, np.int64) + HALF & ALL) - HALF


def rounded(change, kind: str, noise=0) -> np.ndarray:
    """Changes V in 2**-4 master steps as whole ones; with "feedback" they are that already.

    `noise` is what :func:`random` draws, broadcast.
    """
    change = np.asarray(change, np.int64)
    if kind == "feedback":
        return change
    if kind == "stochastic":
        add = noise
    elif kind == "pseudo":
        add = np.where((change >> 2 & 3) > (change & 3), ALL, 0)
    else:
        add = HALF
    return change + add >> FRACTION

"""Golden model of momentum-guided sampling: probes drawn around the way the weights have gone.

A counter m of 3 bits per weight follows the signs of the updates; where it has gone far the sign of
the next probes is often that of the counter instead of a drawn one. Under antithetic pairs it does
not matter which of the two ways is called +.

Source: Feng et al. 2024 (arXiv 2411.04036), momentum-guided sampling; the counter is ours.
"""
import numpy as np

from .noise import beside

LIMIT, COUNTER_WIDTH = 3, 3         # m is -3 to 3
COUNTER_WORD = 1 << 15              # of the window: counters of weight word 0
# A counter from 2 on gives its sign where these bits of the generator's word, counted from the
# lane's own, differ: they are signs of other lanes, on neither of which their difference depends.
GUIDE_BITS = (5, 25)


def guided(z, states, counters) -> np.ndarray:
    """Signs z with those of the counters in place of some.

    Parameters
    ----------
    z, states : int64 [..., words, lanes]
        Drawn signs, +1 or -1; words of the noise generators as signs, whole generators.
    counters : int64 [words, lanes]
    """
    counters = np.asarray(counters)
    first, second = (beside(states, shift)[..., :z.shape[-1]] for shift in GUIDE_BITS)
    forced = (first ^ second) & (np.abs(counters) >= LIMIT - 1)
    return np.where(forced, np.sign(counters), z)


def check(network) -> None:
    """ValueError for a layer whose counters the window does not reach."""
    for index in network.trainable:
        if (words := network.parts[index].dense.reuse_factor) > COUNTER_WORD:
            raise ValueError(f"stage {index} has {words} weight words; with option momentum there "
                             f"may be {COUNTER_WORD}: take a smaller reuse factor")


def follow(counters, change) -> np.ndarray:
    """Counters after an update by `change`, the sums V of its coefficients and signs."""
    return np.clip(np.asarray(counters) + np.sign(change), -LIMIT, LIMIT)

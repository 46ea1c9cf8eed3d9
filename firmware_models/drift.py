"""Golden model of continuous operation: the running loss alone starts and stops learning.

Every `PERIOD`-th sample a decision is taken from the running loss, and it comes into force `DELAY`
samples later. A core holds fewer than `DELAY` samples at a time, so the loss that decides is known
by then, whatever the pipeline holds: which samples are learned from does not depend on timing.

Source: the two-threshold switch is Schmitt's (1938, J. Sci. Instrum. 15); the running loss as a
measure of drift follows Gama et al. 2004, Learning with Drift Detection,
https://doi.org/10.1007/978-3-540-28645-5_29.
"""
from .loss import AVERAGE_FRAC

PERIOD = 128                # samples between two decisions
DELAY = 64                  # samples from a decision until it comes into force


def enter(on: int, decided: int, samples: int, start: int) -> int:
    """Whether learning is on from this sample on: 0 or 1.

    Parameters
    ----------
    on, decided : int
        Before this sample; the last decision.
    samples : int
        Samples since reset, without this one; those without learning count, dropped packets do not.
    start : int
        0: always on.
    """
    if start == 0:
        return 1
    return decided if samples % PERIOD == DELAY else on


def decide(decided: int, samples: int, loss_average: int, start: int, stop: int) -> int:
    """The decision in force or to come, after the loss of a sample: 0 or 1.

    Parameters
    ----------
    decided : int
        The last decision.
    samples : int
        Samples since reset, with this one.
    loss_average : int
        With this sample's loss, in 2**-16 bit.
    start, stop : int
        Learn from this average on, and not below that one, in 1/256 bit; between them as before.
    """
    if samples % PERIOD:
        return decided
    average = loss_average >> AVERAGE_FRAC
    if average >= start:
        return 1
    return 0 if average < stop else decided

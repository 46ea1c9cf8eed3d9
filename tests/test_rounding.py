"""Rounding of updates: by hand, by probability, and the residual that is found again."""
import numpy as np
import pytest

from firmware_models import directions, noise
from firmware_models.learner import Learner
from firmware_models.rounding import RANDOM_BITS, ROUNDINGS, random, residual, rounded
from firmware_models.settings import Settings

from .networks import samples, small_network


def test_by_hand():
    v = [-24, -9, -8, -1, 0, 7, 8, 23, 24]
    assert rounded(v, "feedback").tolist() == v
    assert rounded(v, "nearest").tolist() == [-1, -1, 0, 0, 0, 0, 1, 1, 2]
    assert rounded([5, 5, 5, -5, -5], "stochastic", [0, 10, 11, 4, 5]).tolist() == [0, 0, 1, -1, 0]
    # Dropped bits, high and low half: 01|00 up, 01|01 down, 11|10 up, 00|00 down, 11|11 down.
    assert rounded([4, 5, 14, 16, 31], "pseudo").tolist() == [1, 0, 1, 1, 1]
    assert residual([0, 7, 8, 15, 16, -8, -9]).tolist() == [0, 7, -8, -1, 0, -8, 7]


def test_noise_by_hand():
    """Lane 0 sees bits 3, 9, 15, 22 of its word, the lowest first; lane 30 those 30 on."""
    states = np.ones((1, 64), int)
    states[0, [3, 15, 20, 32 + 7]] = -1
    got = random(states)[0]
    assert (got[0], got[30], got[32 + 30]) == (0b0101, 0b1000, 0b0010)
    assert len({0, *RANDOM_BITS, *directions.MASK_BITS}) == 7


def test_stochastic_is_unbiased():
    """Over the seeds every weight and bias rounds up as often as its fraction says."""
    dense = small_network((8, 6, 4), (0,)).stages[0].dense
    seeds = np.random.default_rng(3).integers(1, 2**32, 1000)
    drawn = [directions.rounding_noise(int(seed), 0, dense) for seed in seeds]
    for noises in zip(*drawn, strict=True):
        for fraction in (1, 5, 12):
            up = rounded(np.full_like(noises, fraction), "stochastic", np.array(noises)).mean(0)
            assert (np.abs(up - fraction / 16) < 0.07).all()


@pytest.mark.parametrize("kind", ROUNDINGS[1:])
def test_small_steps(kind):
    """Without residual bits and steps of 1/8: what moves in 24 updates of one pair."""
    network = small_network((8, 6, 4), (1,))
    learner = Learner(network, Settings(rule="es", layers=(1,), pairs=1, lr_shift=10,
                                        rounding=kind, seed=5), residual=0)
    start = learner.state
    learner.learn(*samples(network, 24))
    moved = np.abs(learner.state.weights[1] - start.weights[1])
    # A step of 2/16 has no upper half to be larger than the lower one, and is less than a half.
    assert moved.any() == (kind in ("stochastic", "replay"))
    assert moved.max() <= 6


def test_replay_is_error_feedback():
    """While all updates are kept, the weights are the rounded sum of all changes."""
    network = small_network((8, 6, 4), (1,))
    updates, settings = 15, Settings(rule="es", layers=(1,), pairs=1, lr_shift=7,
                                     rounding="replay", seed=5)
    learner = Learner(network, settings, residual=0)
    start, total, dense = learner.state.weights[1], 0, network.stages[1].dense
    for row, label in zip(*samples(network, updates), strict=True):
        learner.step(row, int(label))
        seed, c = learner.evolution.past[-1]
        total = total - c * directions.probe(
            int(seed), learner.evolution.first_generator[1], dense)[0]
        # Half of a step away both ways: ties follow the sign, here they go to the old weight.
        np.testing.assert_array_less(np.abs(16 * (learner.state.weights[1] - start) - total), 9)
    assert np.abs(learner.state.weights[1] - start).max() > 1
    assert len(learner.evolution.past) == updates
    learner.learn(*samples(network, 5, seed=2))
    assert len(learner.evolution.past) == 15        # of 16 slots one is the population's
    seeds = learner.evolution.past[:, 0]
    assert (seeds[1:] == [noise.next_seed(int(seed)) for seed in seeds[:-1]]).all()
    learner.configure(settings)
    assert len(learner.evolution.past) == 0

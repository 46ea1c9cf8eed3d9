"""Momentum-guided sampling: signs and counters by hand, and what a learner makes of them."""
import numpy as np

from firmware_models import directions
from firmware_models.learner import Learner
from firmware_models.momentum import GUIDE_BITS, LIMIT, follow, guided
from firmware_models.settings import Settings

from .networks import samples, small_network


def test_signs_by_hand():
    """Lane 0 sees bits 5 and 25 of its word, lane 30 bits 3 and 23."""
    z, states = np.ones((1, 31), int), np.ones((1, 32), int)
    states[0, [5, 25, 3]] = -1
    counters = np.zeros((1, 31), int)
    for m, lane_0, lane_30 in ((0, 1, 1), (-1, 1, 1), (-2, -1, 1), (-3, -1, -1), (3, 1, 1)):
        counters[0, [0, 1, 30]] = m
        got = guided(z, states, counters)[0]
        assert (got[0], got[1], got[30]) == (lane_0, 1, lane_30)
    assert guided(-z, states, np.full((1, 31), 3))[0, [0, 1]].tolist() == [1, -1]


def test_counters_by_hand():
    assert follow([-3, -2, 0, 2, 3, 1], [-7, -1, 0, 5, 1, -2]).tolist() == [-3, -3, 0, 3, 3, 0]


def test_probes_lean_towards_the_counters():
    """Over the seeds, a counter at its limit makes half of the signs its own, 2 a quarter."""
    network = small_network((8, 6, 4), (0,))
    dense = network.stages[0].dense
    counters = np.arange(dense.weight_codes.size).reshape(dense.weight_codes.shape) % 7 - LIMIT
    z, _ = directions.probe(np.random.default_rng(1).integers(1, 2**32, 4000), 0, dense,
                            counters=counters)
    mean = z.mean(0)
    for m, low, high in ((0, -0.07, 0.07), (1, -0.07, 0.07), (2, 0.18, 0.32), (3, 0.43, 0.57)):
        for sign in (1, -1):
            got = sign * mean[counters == sign * m]
            assert ((got > low) & (got < high)).all()
    assert len(set(GUIDE_BITS) | {0, *directions.MASK_BITS}) == 5


def test_learner_counts_update_signs():
    """One pair: every weight moves the way that its counter goes, and a counter steps by one."""
    network = small_network((8, 6, 4), (0, 1))
    settings = Settings(rule="es", layers=(0,), pairs=1, lr_shift=3, momentum=True)
    learner = Learner(network, settings, momentum=True)
    for row, label in zip(*samples(network, 12), strict=True):
        before = learner.state
        learner.step(row, int(label))
        after = learner.state
        moved = np.sign(before.weights[0] - after.weights[0])
        np.testing.assert_array_equal(after.momenta[0],
                                      np.clip(before.momenta[0] + moved, -LIMIT, LIMIT))
        assert not after.momenta[1].any()
    assert np.abs(after.momenta[0]).max() == LIMIT
    learner.configure(settings)
    assert np.abs(learner.state.momenta[0]).max() == LIMIT

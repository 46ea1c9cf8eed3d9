"""The golden learner: what it learns, what it refuses, what its settings do."""
from dataclasses import fields, replace

import numpy as np
import pytest

from firmware_models import noise
from firmware_models.evolution import first_generators
from firmware_models.learner import Learner, compare
from firmware_models.loss import running_average
from firmware_models.settings import Settings
from firmware_models.weight_memory import deployed, to_master

from .networks import samples, small_network


def toy():
    """A classifier with random weights, and samples that another one of its kind labels."""
    network = small_network((8, 6, 4), (1,), seed=5)
    x, _ = samples(network, 400, seed=2)
    return network, x, Learner(small_network((8, 6, 4), seed=9), Settings(rule="es")).predict(x)


@pytest.mark.parametrize("fitness", ["sign", "rank"])
def test_learning_reduces_the_loss(fitness):
    network, x, y = toy()
    learner = Learner(network, Settings(rule="es", layers=(1,), pairs=8, fitness=fitness,
                                        lr_shift=4, seed=3))
    losses, before = [], (learner.predict(x) == y).sum()
    for row, label in zip(x, y, strict=True):
        learner.step(row, int(label))
        losses.append(learner.state.loss)
    assert 2 * sum(losses[-100:]) < sum(losses[:100])
    assert (learner.predict(x) == y).sum() > before
    state = learner.state
    assert (state.samples, state.updates, state.passes) == (400, 400, 400 * 17)
    assert state.weights.keys() == {1}


def test_nothing_moves_without_learning():
    network, x, y = toy()
    for learner, learn in ((Learner(network, Settings(rule="es")), True),
                           (Learner(network, Settings(rule="es", layers=(1,))), False)):
        start, average = learner.state, 0
        for row, label in zip(x[:20], y[:20], strict=True):
            learner.step(row, int(label), learn)
            average = running_average(average, learner.state.loss)
        end = learner.state
        np.testing.assert_array_equal(end.weights[1], start.weights[1])
        assert (end.samples, end.passes, end.updates, end.seed) == (20, 20, 0, 1)
        assert end.loss_average == average


def test_one_update_by_hand():
    """One layer, one input, one pair: every number of the update in the open."""
    network = small_network((1, 2), (0,))
    dense = network.stages[0].dense
    settings = Settings(rule="es", layers=(0,), pairs=1, fitness="sign", sigma_log2=3,
                        lr_shift=4, seed=77)
    learner = Learner(network, settings)
    learner.step([200], 1)
    zw, zb = noise.probe(77, 0, 1, 2, 2)
    delta = int(learner.state.deltas[0])
    assert delta != 0
    change = (8 if delta > 0 else -8)
    np.testing.assert_array_equal(
        learner.state.weights[0],
        to_master(dense.weight_codes, 4) - change * zw.reshape(2, 1))
    np.testing.assert_array_equal(learner.state.biases[0],
                                  to_master(dense.bias_codes, 4) - change * zb)
    assert learner.state.seed == noise.next_seed(77)
    np.testing.assert_array_equal(learner.state.seeds, [77])


def test_batch_shares_a_population():
    network, x, y = toy()
    learner = Learner(network, Settings(rule="es", layers=(1,), pairs=3, batch=4, seed=11))
    deltas, population = np.zeros(3, int), None
    for n in range(4):
        alone = Learner(network, Settings(rule="es", layers=(1,), pairs=3, batch=256, seed=11))
        alone.step(x[n], int(y[n]))
        deltas += alone.state.deltas
        learner.step(x[n], int(y[n]))
        population = learner.state.seeds if population is None else population
        np.testing.assert_array_equal(learner.state.seeds, population)
        assert (learner.state.batch_index, learner.state.updates) == ((n + 1) % 4, (n + 1) // 4)
    np.testing.assert_array_equal(learner.state.deltas, deltas)
    learner.step(x[4], int(y[4]))
    assert (learner.state.seeds != population).all()


def test_rate_decays():
    """A fitness of 1 moves masters by 2**(7 - lr_shift) steps, halved every 2 updates."""
    network, x, y = toy()
    learner = Learner(network, Settings(rule="es", layers=(1,), pairs=1, fitness="sign", lr_shift=5,
                                        lr_decay=2))
    moves, counts = [], []
    for row, label in zip(x[:40], y[:40], strict=True):
        before = learner.state.weights[1]
        learner.step(row, int(label))
        if learner.state.deltas[0]:
            moves.append((learner.state.updates, int(np.abs(learner.state.weights[1]
                                                            - before).max())))
        counts.append((learner.state.decays, learner.state.decay_count))
    assert counts[:5] == [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert counts[-1] == (15, 0)                        # and stays there
    # Halves go up: a step of 1/2 is 1 where the coefficient is positive, else 0.
    for update, move in moves:
        shift = 5 + (update - 1) // 2
        assert move == 2 ** (7 - shift) if shift <= 7 else move in ((0, 1) if shift == 8 else (0,))
    assert {update for update, _ in moves} & {1, 2}


def test_configure_restarts_the_population():
    network, x, y = toy()
    learner = Learner(network, Settings(rule="es", layers=(1,), batch=3, lr_decay=1, seed=5))
    for n in range(5):
        learner.step(x[n], int(y[n]))
    before = learner.state
    assert (before.batch_index, before.decays, before.updates) == (2, 1, 1)
    learner.configure(Settings(rule="es", layers=(1,), seed=9))
    after = learner.state
    assert (after.seed, after.batch_index, after.decays, after.decay_count) == (9, 0, 0, 0)
    assert len(before.seeds) == 4 and not len(after.seeds) and not len(after.deltas)
    np.testing.assert_array_equal(after.weights[1], before.weights[1])
    assert (after.samples, after.updates) == (5, 1)


def test_deployed_network():
    network, x, y = toy()
    learner = Learner(network, Settings(rule="es", layers=(1,), lr_shift=2))
    for n in range(10):
        learner.step(x[n], int(y[n]))
    stages = learner.deployed_network().stages
    np.testing.assert_array_equal(stages[0].dense.weight_codes,
                                  network.stages[0].dense.weight_codes)
    np.testing.assert_array_equal(stages[1].dense.weight_codes,
                                  deployed(learner.state.weights[1], 4))
    assert learner.predict(x[:1])[0] == learner.step(x[0], 0, learn=False).argmax()


@pytest.mark.parametrize("change, message", [
    ({"pairs": 0}, "pairs must be 1 to 64, not 0"),
    ({"pairs": 65}, "pairs must be 1 to 64, not 65"),
    ({"batch": 257}, "batch must be 1 to 256, not 257"),
    ({"sigma_log2": 8}, "sigma_log2 must be 0 to 7, not 8"),
    ({"lr_shift": 16}, "lr_shift must be 0 to 15, not 16"),
    ({"lr_decay": 65536}, "lr_decay must be 0 to 65535, not 65536"),
    ({"seed": 0}, "seed must be 1 to 4294967295, not 0"),
    ({"vote": 16384}, "vote must be 0 to 16383, not 16384"),
    ({"fitness": "mean"}, r"fitness must be one of \('sign', .*'best'\), not 'mean'"),
])
def test_refused_settings(change, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{"rule": "es"} | change)


def test_refused_layers():
    with pytest.raises(ValueError, match=r"layers \(0, 1\) are not all trainable: .*\(1,\)"):
        Learner(toy()[0], Settings(rule="es", layers=(1, 0)))


def test_first_generators():
    network = small_network((12, 33, 8, 4), (0, 1, 2), {0: 6, 1: 11})
    # Lanes 33 * 2, 8 * 3, 4 * 1 take 3, 1 and 1 generators.
    assert first_generators(network) == {0: 0, 1: 3, 2: 4}
    assert first_generators(network.with_trainable(["fc2", "fc3"])) == {1: 0, 2: 1}


def test_compare_names_the_first_difference():
    state = Learner(toy()[0], Settings(rule="es")).state
    got = {f.name: getattr(state, f.name) for f in fields(state)}
    assert compare(state, got) == ""
    weights = state.weights[1].copy()
    weights[2, 3] += 1
    message = f"weights[1][2, 3]: {weights[2, 3]}, expected {weights[2, 3] - 1}"
    assert compare(state, got | {"weights": {1: weights}}) == message
    assert compare(state, got | {"updates": 3}) == "updates[]: 3, expected 0"
    assert compare(state, got | {"seeds": np.zeros(2)}) == "seeds: shape (2,), expected (0,)"
    del got["loss"]
    assert compare(state, got) == "not read back: ['loss']"
    assert compare(replace(state, samples=1), got | {"loss": 0}) == "samples[]: 0, expected 1"

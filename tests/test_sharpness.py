"""Sharpness-aware pairs, decay of the amplitude, amplitudes of wide weights: by definition."""
from dataclasses import replace

import numpy as np
import pytest

from firmware_models import directions
from firmware_models.dense import forward
from firmware_models.formats import Fixed
from firmware_models.learner import Learner
from firmware_models.loss import cross_entropy
from firmware_models.settings import Settings
from firmware_models.weight_memory import deployed

from .networks import samples, small_network


def losses_of(network, learner, offsets, x, label):
    """Loss of the network with `offsets` added to the codes of its learning layers, clipped."""
    layers = list(network.layers)
    for index, (w, b) in offsets.items():
        dense = network.stages[index].dense
        at = layers.index(dense)
        codes = (deployed(of[index], learner.residual) + change for of, change in (
            (learner.state.weights, w), (learner.state.biases, b)))
        layers[at] = replace(dense, **{
            name: np.clip(code, fmt.min, fmt.max) for name, code, fmt in zip(
                ("weight_codes", "bias_codes"), codes, (dense.weight, dense.bias), strict=True)})
    logits = forward(replace(network, layers=tuple(layers)), x[None])
    return int(cross_entropy(logits, np.array([label]), network.stages[-1].result)[0])


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("layers", [(0, 1), (1,)])
def test_pairs_at_a_neighbour(layers, kernel):
    """Differences of every pair from losses of changed networks, one by one."""
    network = small_network((8, 6, 4), (0, 1))
    settings = Settings(rule="es", layers=layers, pairs=3, batch=2, sigma_log2=2, sharp=2,
                        kernel=kernel, seed=9)
    learner = Learner(network, settings)
    x, y = samples(network, 2)

    def moves(seed, log2):
        found = {}
        for index in layers:
            dense = network.stages[index].dense
            zw, zb = directions.probe(seed, learner.evolution.first_generator[index], dense)
            shifts = directions.row_amplitudes(log2, directions.row_shifts(dense, kernel))
            found[index] = zw << shifts[:, None], zb << shifts
        return found

    expected = np.zeros(3, int)
    for row, label in zip(x, y, strict=True):
        learner.step(row, int(label))
        ahead = 0
        for pair, seed in enumerate(learner.state.seeds.tolist()):
            probe, way = moves(seed, 2), moves(int(learner.state.seeds[0]), settings.sharp - 1)
            plus, minus = (losses_of(network, Learner(network, settings), {
                index: tuple(ahead * way[index][k] + sign * probe[index][k] for k in (0, 1))
                for index in layers}, row, int(label)) for sign in (1, -1))
            if pair == 0:
                ahead = int(np.sign(plus - minus))
            expected[pair] += plus - minus
    np.testing.assert_array_equal(learner.state.deltas, expected)
    plain = Learner(network, replace(settings, sharp=0))
    plain.learn(x, y)
    assert plain.state.deltas[0] == expected[0] and (plain.state.deltas != expected).any()


def test_amplitude_decays_with_the_rate():
    network = small_network((8, 6, 4), (1,))
    x, y = samples(network, 12)
    settings = Settings(rule="es", layers=(1,), pairs=2, sigma_log2=3, lr_decay=4,
                        sigma_decay=True)
    learner = Learner(network, settings)
    for n in range(4):
        for row, label in zip(x[:4], y[:4], strict=True):
            before = learner.state
            learner.step(row, int(label))
            probed = Learner(network, replace(settings, sigma_log2=max(3 - n, 0), lr_decay=0,
                                              seed=int(before.seed)))
            probed.load(before.weights, before.biases)
            probed.step(row, int(label))
            assert probed.state.deltas.tolist() == learner.state.deltas.tolist()
    assert learner.state.decays == 4


def test_amplitudes_of_wide_weights():
    """16 bits of weights: the same network, and the same losses of its probes."""
    narrow = small_network((8, 6, 4), (0, 1), weight=Fixed(8, 2), bias=Fixed(8, 2))
    wide = replace(narrow, layers=tuple(replace(
        layer, weight=Fixed(16, 10), bias=Fixed(16, 10), weight_codes=layer.weight_codes << 8,
        bias_codes=layer.bias_codes << 8) if hasattr(layer, "weight") else layer
        for layer in narrow.layers))
    assert directions.finer(narrow.stages[0].dense) == 0
    assert directions.finer(wide.stages[0].dense) == 8
    settings = Settings(rule="es", layers=(0, 1), pairs=4, sigma_log2=1, sharp=1)
    learners = Learner(narrow, settings, residual=8), Learner(wide, settings, residual=0)
    for learner in learners:
        learner.step(*(part[0] for part in samples(narrow, 1)))
    assert learners[0].state.deltas.tolist() == learners[1].state.deltas.tolist()

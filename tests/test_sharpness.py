# amaranth: UnusedElaboratable=no
"""Sharpness-aware pairs, decay of the amplitude, amplitudes of wide weights; the unit."""
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
from rtl.sharpness import Sharpness

from .networks import samples, small_network
from .pysim import simulate


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


@pytest.mark.parametrize("log2", [0, 1, 7])
@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_unit(pairs, log2):
    """Samples one after the other: what the first pair finds holds from its loss to the end."""
    dut, rng, seen, expected = Sharpness(), np.random.default_rng(4), [], []

    async def loss(ctx, plus, minus):
        for name, value in (("plus", plus), ("minus", minus), ("loss_valid", 1)):
            ctx.set(getattr(dut, name), value)
        known = ctx.get(dut.known)
        await ctx.tick()
        ctx.set(dut.loss_valid, 0)
        return known

    async def bench(ctx):
        ctx.set(dut.log2, log2)
        for n in range(12):
            plus, seed = (int(value) for value in rng.integers(1, 2 ** 14 - 1, 2))
            s, found = n % 3 - 1, []
            assert not ctx.get(dut.away)
            for pair in range(pairs):
                ctx.set(dut.more, pair < pairs - 1)
                ctx.set(dut.first, pair == 0)
                ctx.set(dut.seed, seed + pair)
                assert ctx.get(dut.wait) == (log2 > 0 and pair < pairs - 1)
                for _ in range(2):              # both passes
                    await ctx.tick()
                ctx.set(dut.first, 0)
                await ctx.tick()
                # Later pairs find other differences, which do not count.
                difference = s if pair == 0 else 1
                found += [await loss(ctx, plus, plus - difference), ctx.get(dut.away),
                          ctx.get(dut.away) and ctx.get(dut.down)]
            seen.append(found)
            asked = log2 > 0 and pairs > 1
            away, down = int(asked and s != 0), int(asked and s < 0)
            expected.append([int(asked), away, down] + (pairs - 1) * [0, away, down])
            assert ctx.get(dut.first_seed) == seed and ctx.get(dut.rho) == (log2 - 1) % 8
            ctx.set(dut.release, 1)
            await ctx.tick()
            ctx.set(dut.release, 0)

    simulate(dut, bench, deadline=12 * (4 * pairs + 1) + 2)
    assert seen == expected
    assert dut.latency_cycles == 1 and len(dut.first_seed) == 32

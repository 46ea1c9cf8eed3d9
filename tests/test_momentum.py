# amaranth: UnusedElaboratable=no
"""Momentum-guided sampling: signs and counters by hand, a learner's, and the hardware's."""
import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from firmware_models import directions, momentum, noise
from firmware_models import weight_memory as masters
from firmware_models.cycles import sweep_cycles
from firmware_models.learner import Learner
from firmware_models.momentum import (
    COUNTER_WIDTH,
    COUNTER_WORD,
    GUIDE_BITS,
    LIMIT,
    follow,
    guided,
)
from firmware_models.options import checked
from firmware_models.settings import Settings
from rtl.momentum import Momentum
from rtl.momentum import guided as hardware_signs
from rtl.weight_memory import WeightMemory

from .networks import samples, small_network
from .pysim import fields, packed, simulate
from .test_directions import CASES, write
from .test_weight_memory import read_masters, read_pass, sweep


def test_signs_by_hand():
    """Lane 0 sees bits 5 and 25 of its word, lane 30 bits 3 and 23."""
    z, states = np.ones((1, 31), int), np.ones((1, 32), int)
    states[0, [25, 3, 23]] = -1
    counters = np.zeros((1, 31), int)
    for m, lane_0 in ((0, 1), (-1, 1), (-2, -1), (-3, -1), (2, 1), (3, 1)):
        counters[0, [0, 1, 30]] = m
        got = guided(z, states, counters)[0]
        assert (got[0], got[1], got[30]) == (lane_0, 1, 1)      # bits that are equal do not lean
    assert guided(-z, states, np.full((1, 31), 3))[0, [0, 1]].tolist() == [1, -1]


def test_counters_by_hand():
    assert follow([-3, -2, 0, 2, 3, 1], [-7, -1, 0, 5, 1, -2]).tolist() == [-3, -3, 0, 3, 3, 0]


def test_probes_lean_towards_the_counters():
    """Over the seeds, a counter from 2 on makes half of the signs its own; none are correlated."""
    network = small_network((8, 6, 4), (0,))
    dense = network.stages[0].dense
    counters = np.arange(dense.weight_codes.size).reshape(dense.weight_codes.shape) % 7 - LIMIT
    z, _ = directions.probe(np.random.default_rng(1).integers(1, 2**32, 4000), 0, dense,
                            counters=counters)
    mean = z.mean(0)
    for m, low, high in ((0, -0.07, 0.07), (1, -0.07, 0.07), (2, 0.43, 0.57), (3, 0.43, 0.57)):
        for sign in (1, -1):
            got = sign * mean[counters == sign * m]
            assert ((got > low) & (got < high)).all()
    covariance = np.cov(z.reshape(len(z), -1).T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 0.08
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


# The hardware

@pytest.mark.parametrize("case", CASES)
def test_unit_equals_model(case):
    """Every counter meets changes of both signs, of the ends and 0; words go on meanwhile."""
    dense = CASES[case][0].dense
    dut = Momentum(CASES[case][0], width=10)
    assert dut.latency_cycles == 1 and len(dut.counters) == COUNTER_WIDTH * dense.lanes
    rng = np.random.default_rng(len(case))
    expected = np.zeros((dense.reuse_factor, dense.lanes), int)
    changes = [-512, -127, -1, 0, 1, 127, 511]
    plan = [rng.choice(changes, expected.shape, p=p) for p in (
        [0, 0, 0, 1, 0, 0, 0], *[[1 / 7] * 7] * 3, *[[0, 0, 0, 0.1, 0.2, 0.3, 0.4]] * 6,
        *[[0.4, 0.3, 0.2, 0.1, 0, 0, 0]] * 8)]

    def seen(ctx):
        return fields(ctx.get(dut.counters), COUNTER_WIDTH, dense.lanes, True)

    async def bench(ctx):
        for step, change in enumerate(plan):
            # A word a cycle, each committed two cycles after its address, but for some gaps.
            for word in range(dense.reuse_factor + 2):
                ctx.set(dut.addr, min(word, dense.reuse_factor - 1))
                ctx.set(dut.commit, word > 1 and step != 3)
                if word > 1:
                    ctx.set(dut.commit_word, word - 2)
                    for lane, v in enumerate(change[word - 2]):
                        ctx.set(dut.v[lane], int(v))
                await ctx.tick()
                if word < dense.reuse_factor:
                    assert seen(ctx) == expected[word].tolist()
            ctx.set(dut.commit, 0)
            if step != 3:
                expected[:] = follow(expected, change)
            for word in range(dense.reuse_factor):
                ctx.set(dut.addr, word)
                await ctx.tick()
                assert seen(ctx) == expected[word].tolist()

    simulate(dut, bench, deadline=2 * len(plan) * (dense.reuse_factor + 3))
    assert dense.weight_codes.size < 20 or np.abs(expected).max() == LIMIT


@pytest.mark.parametrize("lanes", [1, 32, 40])
def test_signs_equal_model(lanes):
    """Random words beside every counter; switched off, signs stay."""
    m, on = Module(), Signal()
    signs, state = Signal(lanes), Signal(noise.BITS * noise.generators(lanes))
    counters, out = Signal(COUNTER_WIDTH * lanes), Signal(lanes)
    m.d.comb += out.eq(hardware_signs(signs, state, counters, on))
    rng = np.random.default_rng(lanes)

    async def bench(ctx):
        for _ in range(200):
            bits, m_l = rng.integers(0, 2, len(state)), rng.integers(-LIMIT, LIMIT + 1, lanes)
            drawn = rng.integers(0, 2, lanes)
            ctx.set(state, packed(bits, 1))
            ctx.set(signs, packed(drawn, 1))
            ctx.set(counters, packed(m_l, COUNTER_WIDTH))
            for switch, expected in ((0, 1 - 2 * drawn),
                                     (1, guided(1 - 2 * drawn, 1 - 2 * bits, m_l))):
                ctx.set(on, switch)
                assert fields(ctx.get(out), 1, lanes, False) == (expected < 0).tolist()

    simulator = Simulator(m)            # without a clock: all within no time
    simulator.add_testbench(bench)
    simulator.run()


FORMS = [{}, {"rank1": True}, {"sharp": 2}, {"sparse": "static", "rank1": True, "kernel": True},
         {"sparse": "hash", "sharp": 1}]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_memory(case, form):
    """Passes and updates in turn: noise leans to the counters, which follow while it is on.

    With "sharp" the passes are read where the direction of a first pair leads, with its own lean.
    """
    stage, first = CASES[case]
    dense = stage.dense
    dut = WeightMemory(stage, residual=4, first_generator=first, max_pairs=3,
                       options=("momentum", *form))
    rng = np.random.default_rng(7)
    weights, biases = (masters.to_master(codes, 4)
                       for codes in (dense.weight_codes, dense.bias_codes))
    counters = np.zeros_like(weights)
    leaned = 0

    async def read_counters(ctx):
        ctx.set(dut.window_en, 1)
        got = np.zeros((dense.reuse_factor, dense.lanes), int)
        for word, lane in np.ndindex(got.shape):
            ctx.set(dut.window_word, COUNTER_WORD + word)
            ctx.set(dut.window_lane, lane)
            await ctx.tick()
            got[word, lane] = ctx.get(dut.window_data)
        ctx.set(dut.window_en, 0)
        return dense.matrix(got)

    async def bench(ctx):
        nonlocal weights, biases, counters, leaned
        write(ctx, dut, form)
        ctx.set(dut.selected, 1)
        ctx.set(dut.sigma, 2)
        # The same change three times takes most counters to an end.
        runs = [(1, 5)] * 3 + [(2, None), (3, None)] * 4
        for n, (pairs, seed) in enumerate(runs):
            on = n % 4 != 3
            ctx.set(dut.momentum, on)
            seeds = np.full(pairs, seed) if seed else rng.integers(1, 2 ** 32, pairs)
            c = np.full(pairs, 9) if seed else rng.choice([-127, 0, 5, 127], pairs)
            bits = {name: form[name] for name in ("sparse", "rank1") if name in form}
            shifts = directions.row_shifts(dense, form.get("kernel", False))

            def probe(seeds, bits=bits, counters=counters if on else None):
                return directions.probe(seeds, first, dense, **bits, counters=counters)

            one = int(rng.integers(1, 2 ** 32))
            z, z_bias = probe(one)
            leaned += (z != directions.probe(one, first, dense, **bits)[0]).sum()
            sizes, way, way_bias = directions.row_amplitudes(2, shifts), 0, 0
            if "sharp" in form:
                start, rho = int(rng.integers(1, 2 ** 32)), form["sharp"] - 1
                for name, value in (("away", 1), ("down", 1), ("rho", rho), ("first_seed", start)):
                    ctx.set(getattr(dut, name), value)
                way, way_bias = (-of << rho for of in probe(start))
            w = masters.perturbed(masters.deployed(weights, 4), -z, sizes[:, None], dense.weight,
                                  way)
            b = masters.perturbed(masters.deployed(biases, 4), -z_bias, sizes, dense.bias, way_bias)
            assert await read_pass(ctx, dut, seed=one, probe=1, negative=1) == (
                dense.words(w).tolist(),
                [b[s::stage.drain_words].tolist() for s in range(stage.drain_words)])

            cycles, _ = await sweep(ctx, dut, seeds, c)
            assert cycles == sweep_cycles(stage, pairs)
            z, z_bias = probe(seeds)
            rows = directions.row_coefficients(c, shifts)
            v = (rows[..., None] * z).sum(0)
            weights, _ = masters.commit(weights, v, dense.weight, 4)
            biases, _ = masters.commit(biases, (rows * z_bias).sum(0), dense.bias, 4)
            if on:
                counters = follow(counters, v)
            assert await read_masters(ctx, dut) == (weights.tolist(), biases.tolist())
            np.testing.assert_array_equal(await read_counters(ctx), counters)

    count = 2 * dense.weight_codes.size + dense.n_out
    simulate(dut, bench, deadline=11 * (sweep_cycles(stage, 3) + count + 2 * (
        dense.reuse_factor + stage.drain_words + 6)))
    assert leaned or dense.weight_codes.size < 20 or "sparse" in form


def test_refusals():
    network = small_network((8, 4), (0,))
    with pytest.raises(ValueError, match="momentum needs counters: a core with option momentum"):
        Learner(network, Settings(rule="es", momentum=True))
    with pytest.raises(ValueError, match="option momentum does not go with journal: its"):
        checked(("momentum", "journal"), ("es",))
    with pytest.raises(ValueError, match="option momentum needs rule es"):
        checked(("momentum",), ("np",))
    momentum.check(small_network((COUNTER_WORD, 1), (0,)))
    with pytest.raises(ValueError, match="stage 0 has 32769 weight words; with option momentum "
                       "there may be 32768"):
        momentum.check(small_network((COUNTER_WORD + 1, 1), (0,)))

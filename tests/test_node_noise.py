# amaranth: UnusedElaboratable=no
"""Noise of node probes: period and independence of the signs, rows by hand; hardware and model."""
import numpy as np
import pytest

from firmware_models import noise as model
from firmware_models.formats import Fixed
from firmware_models.rules import node_probe
from rtl.node_noise import NodeNoise

from .networks import small_network
from .pysim import pauses, simulate
from .test_noise import PERIOD, PRIMES, distinct, power

DRAWS = 1500
UNITS = [1 << k for k in range(model.BITS)]


def test_serial_by_hand():
    """A one walks up; when it reaches tap 9, a one follows."""
    drawn, state = model.serial(1, 11)
    assert drawn.tolist() == [1] * 9 + [-1, 1] and state == (1 << 10 | 1) << 1
    # Taps 29, 30 and 31 one after the other; then it is gone.
    assert model.serial(1 << 29, 4)[0].tolist() == [-1, -1, -1, 1]
    assert model.serial(1 << 31, 1)[0] == [-1] and model.serial(3 << 30, 1)[0] == [1]
    assert model.serial(7, 0)[1] == 7


def test_serial_continues():
    drawn, state = model.serial(99, 40)
    first, between = model.serial(99, 13)
    rest, end = model.serial(between, 27)
    assert drawn.tolist() == [*first, *rest] and state == end


def test_serial_full_period():
    """The matrix of a step has order 2**32 - 1."""
    step = [model.serial(unit, 1)[1] for unit in UNITS]
    assert power(step, PERIOD) == UNITS
    for prime in PRIMES:
        assert power(step, PERIOD // prime) != UNITS


@pytest.mark.parametrize("generator", [0, 1, 4])
def test_signs_are_pairwise_independent_over_samples(generator):
    """No two of the signs drawn are the same linear function of the seed, and none is constant."""
    drawn = np.stack([model.serial(model.start_state(unit, generator), DRAWS)[0]
                      for unit in UNITS])
    assert distinct(((drawn < 0).astype(np.int64) << np.arange(model.BITS)[:, None]).sum(0))


def test_rows_by_hand():
    s = [1, 1, -1, 1, -1, 1]
    assert node_probe.signs(0, s).tolist() == s
    assert node_probe.signs(1, s).tolist() == [1, -1, -1, -1, -1, -1]
    assert node_probe.signs(2, s).tolist() == [1, 1, 1, -1, -1, 1]
    assert node_probe.signs(3, s).tolist() == [1, -1, 1, 1, -1, -1]
    assert node_probe.signs(8, s).tolist() == s         # too few nodes for this bit
    rows = np.array([node_probe.signs(k, [1] * 32) for k in range(node_probe.MAX_PROBES)])
    np.testing.assert_array_equal(rows @ rows.T, 32 * np.eye(32))


@pytest.mark.parametrize("frac, sigma, shift", [(14, 0, 8), (14, 7, 15), (6, 5, 5), (3, 5, 5),
                                                (-2, 0, 0)])
def test_amplitude_by_hand(frac, sigma, shift):
    """2**(sigma - 6) of the pre-activation, where the accumulator has the bits for it."""
    assert node_probe.amplitude_shift(Fixed(20, frac), sigma) == shift


def stage_of(*sizes, **options):
    return small_network(sizes, (0,), **options).stages[0]


CASES = {
    "one a word": (stage_of(5, 6, 4), 0),
    "three a word, five words": (stage_of(9, 15, 4, reuse={1: 5}), 1),
    "one word": (stage_of(4, 12, 3, reuse={1: 1}), 2),
    "more than 32": (stage_of(4, 40, 3, reuse={1: 20}), 0),
    "one node": (stage_of(4, 1, 3), 3),
}


@pytest.mark.parametrize("idle", ["none", "some", "most"])
@pytest.mark.parametrize("case", CASES)
def test_unit_equals_model(case, idle):
    """Noise of the sample drawn last; signs and activity of the last two; a restart."""
    stage, generator = CASES[case]
    dut = NodeNoise(stage, generator=generator)
    words, lanes = stage.drain_words, stage.drain_lanes
    rng, pause = np.random.default_rng(2), pauses(idle)
    got, expected = [], []

    async def drain(ctx, s, active):
        for word in range(words):
            while next(pause):
                await ctx.tick()
            ctx.set(dut.draw, 1)
            ctx.set(dut.w_addr, word)
            ctx.set(dut.last, word == words - 1)
            ctx.set(dut.active, sum(int(a) << c for c, a in enumerate(active[word::words])))
            await ctx.tick()
            ctx.set(dut.draw, 0)
            ctx.set(dut.active, -1)
        for k in (0, 1, 2, 6, 31):
            sigma = int(rng.integers(0, 8))
            ctx.set(dut.k, k)
            ctx.set(dut.sigma, sigma)
            # In steps of the smallest amplitude, which the engine knows.
            expected.append((node_probe.signs(k, s) << sigma).tolist())
            z = np.zeros(words * lanes, int)
            for word in range(words):
                ctx.set(dut.addr, word)
                ctx.set(dut.en, 0)
                assert [ctx.get(noise) for noise in dut.noise] == [0] * lanes
                ctx.set(dut.en, 1)
                z[word::words] = [ctx.get(noise) for noise in dut.noise]
                await ctx.tick()
            got.append(z.tolist())

    async def bench(ctx):
        for seed in (1, 0xDEADBEEF):
            if seed != 1:
                ctx.set(dut.seed, seed)
                ctx.set(dut.restart, 1)
                await ctx.tick()
                ctx.set(dut.restart, 0)
            state, samples = model.start_state(seed, generator), []
            for n in range(4):
                drawn, state = model.serial(state, words * lanes)
                s = drawn.reshape(words, lanes).T.ravel()
                samples.append((s, rng.random(words * lanes) < 0.5))
                await drain(ctx, *samples[-1])
                for back in range(min(n + 1, 2)):
                    ctx.set(dut.r_slot, (n - back) % 2)
                    s, active = samples[n - back]
                    expected.append([(int(s[j] < 0), int(active[j])) for j in range(len(s))])
                    roles = []
                    for j in range(words * lanes):
                        ctx.set(dut.r_word, j % words)
                        ctx.set(dut.r_lane, j // words)
                        roles.append((ctx.get(dut.negative), ctx.get(dut.r_active)))
                        await ctx.tick()
                    got.append(roles)

    simulate(dut, bench, deadline=8 * words * (6 + 2 * lanes + 5) + 20)
    assert got == expected


def test_widths():
    dut = NodeNoise(CASES["three a word, five words"][0], generator=0)
    assert (len(dut.noise), len(dut.active), len(dut.w_addr), len(dut.r_lane), len(dut.k)) \
        == (3, 3, 3, 2, 5)

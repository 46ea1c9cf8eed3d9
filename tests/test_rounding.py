# amaranth: UnusedElaboratable=no
"""Rounding of updates: by hand, by probability, and the residual that is found again; hardware."""
import numpy as np
import pytest
from amaranth.sim import Simulator

from firmware_models import directions, noise
from firmware_models import weight_memory as masters
from firmware_models.cycles import CycleModel, sweep_cycles
from firmware_models.learner import Learner
from firmware_models.options import checked, needed
from firmware_models.registers import table
from firmware_models.rounding import (
    RANDOM_BITS,
    ROUNDINGS,
    most_older,
    random,
    residual,
    rounded,
    slots,
)
from firmware_models.rules import es
from firmware_models.settings import Settings
from rtl.rounding import Rounding
from rtl.weight_memory import WeightMemory

from .networks import samples, small_network
from .pysim import simulate
from .test_weight_memory import read_masters, read_pass, stage_of


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


def test_slots_by_hand():
    assert [slots(n) for n in (1, 2, 3, 4, 5, 8, 64)] == [1, 2, 4, 4, 8, 8, 64]
    assert [most_older(6, n) for n in (1, 6)] == [7, 2] and most_older(8, 8) == 0


def test_options_and_register():
    """Each kind needs what it says; the residual cannot be replayed beside a journal."""
    assert [needed(Settings(rule="es", rounding=kind)) for kind in ROUNDINGS] == [
        (), *3 * [("rounding",)], ("rounding", "replay")]
    assert checked(("replay", "rounding"), ("es",)) == ("rounding", "replay")
    for options, why in ((("replay",), "option replay needs option rounding"),
                         (("replay", "rounding", "journal"), "replay does not go with journal")):
        with pytest.raises(ValueError, match=why):
            checked(options, ("es",))
    for options in ((), ("rounding",)):
        assert ["rounding"] * len(options) == [
            f.name for r in table(True, ("es",), options) for f in r.fields if f.name == "rounding"]


def test_replay_cycles_by_hand():
    """One layer 5-3 and a ring of four pairs: sweeps of 1, 2, 3, 4 and 4 pairs."""
    network = small_network((5, 3), (0,))
    settings = Settings(rule="es", layers=(0,), pairs=1, rounding="replay")
    nearest = Settings(rule="es", layers=(0,), pairs=1, rounding="nearest")
    ends = [[CycleModel(network, max_pairs=4).run(1, s, older=older).idle_cycle
             for older in (0, 1, 3)] for s in (nearest, settings)]
    assert ends[0][0] == ends[0][1] == ends[0][2] == ends[1][0]
    assert [end - ends[0][0] for end in ends[1]] == [0, 6, 18]
    runs = [CycleModel(network, max_pairs=4).run(5, s).idle_cycle for s in (nearest, settings)]
    assert runs[1] - runs[0] == 6 * (0 + 1 + 2 + 3 + 3)


# The hardware

@pytest.mark.parametrize("kind", ROUNDINGS)
@pytest.mark.parametrize("width", [8, 14])
def test_unit_equals_model(width, kind):
    """Every fraction next to 0 and both ends, random changes, noise of two generators."""
    lanes, rng = 40, np.random.default_rng(width)
    dut = Rounding(lanes, width=width)
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    near = np.array([*range(-40, 40), *range(low, low + 40), *range(high - 39, high + 1)])
    rows = [*near.reshape(-1, lanes), *rng.integers(low, high + 1, (6, lanes))]
    words = [int(rng.integers(2**32)) << 32 | int(rng.integers(2**32)) for _ in rows]
    got = []

    async def bench(ctx):
        ctx.set(dut.kind, ROUNDINGS.index(kind))
        for word, values in zip(words, rows, strict=True):
            ctx.set(dut.random, word)
            for lane, value in enumerate(values):
                ctx.set(dut.v[lane], int(value))
            got.append([ctx.get(dut.change[lane]) for lane in range(lanes)])

    simulator = Simulator(dut)          # without a clock: all within no time
    simulator.add_testbench(bench)
    simulator.run()
    assert got == [rounded(values, kind, random(
        1 - 2 * np.array([word >> bit & 1 for bit in range(64)]))[:lanes]).tolist()
        for word, values in zip(words, rows, strict=True)]


def test_widths():
    dut = Rounding(33, width=9)
    assert (len(dut.kind), len(dut.random), len(dut.v[0]), len(dut.change[0])) == (3, 64, 9, 9)
    with pytest.raises(ValueError, match="width must be more than 4 bits, not 4"):
        Rounding(1, width=4)


MEMORIES = {
    # stage, first generator
    "one input a word": (stage_of((5, 4, 2)), 0),
    "two inputs a word": (stage_of((6, 4, 2), reuse={0: 3, 1: 2}), 1),
    "one word, two generators, extreme": (stage_of((7, 6, 2), reuse={0: 1, 1: 1}, extreme=True), 2),
    "smallest": (stage_of((1, 1)), 0),
}
RESIDUAL, MOST = 1, 5


async def sweep(ctx, dut, seeds, c, older):
    """One update, by the pairs from number `older` on; the cycles it took."""
    ctx.set(dut.sweep, 1)
    await ctx.tick()
    ctx.set(dut.sweep, 0)
    replay, cycles, done = 0, 0, False
    while not done:
        ctx.set(dut.pair, replay - older & slots(MOST) - 1)
        if hasattr(dut, "oldest"):
            ctx.set(dut.oldest, replay == 0)
        ctx.set(dut.seed, int(seeds[replay]))
        ctx.set(dut.coefficient, int(c[replay]))
        ctx.set(dut.last_pair, replay == len(seeds) - 1)
        _, _, accumulate, done = await ctx.tick().sample(dut.accumulate, dut.sweep_done)
        cycles += 1
        if accumulate:
            replay = (replay + 1) % len(seeds)
    return cycles


@pytest.mark.parametrize("case", MEMORIES)
@pytest.mark.parametrize("form", [{}, {"sparse": "static", "rank1": True}], ids=str)
@pytest.mark.parametrize("options", [("rounding",), ("rounding", "replay"),
                                     ("rounding", "replay", "vote")], ids=str)
def test_memory(case, form, options):
    """Updates of every kind with passes between, and with older pairs; every master after each."""
    stage, first = MEMORIES[case]
    dense = stage.dense
    dut = WeightMemory(stage, residual=RESIDUAL, first_generator=first, max_pairs=MOST,
                       options=(*options, *form))
    weights, biases = (masters.to_master(codes, RESIDUAL)
                       for codes in (dense.weight_codes, dense.bias_codes))
    rng = np.random.default_rng(7)
    plans = [(kind, pairs, older * ("replay" in options), n % 3 * 2 * ("vote" in options))
             for n, (kind, pairs, older) in enumerate(
                 (kind, pairs, older if kind == "replay" else 0)
                 for pairs, older in ((1, 7), (MOST, 3), (2, 1), (3, 0)) for kind in ROUNDINGS
                 if kind != "replay" or "replay" in options)]

    def changed(seeds, c, older, kind, vote):
        z = directions.probe(seeds, first, dense, **form)
        noises = directions.rounding_noise(int(seeds[-1]), first, dense)
        for signs, drawn in zip(z, noises, strict=True):
            before, v = (np.tensordot(c[part], signs[part], 1)
                         for part in (slice(older), slice(older, None)))
            v = v + residual(before) * (older > 0)
            yield es.voted(rounded(v, kind, drawn), vote, RESIDUAL)

    async def bench(ctx):
        nonlocal weights, biases
        for name, value in form.items():
            ctx.set(getattr(dut, name), directions.SPARSE.index(value) if name == "sparse"
                    else value)
        for kind, pairs, older, vote in plans:
            ctx.set(dut.rounding, ROUNDINGS.index(kind))
            if "vote" in options:
                ctx.set(dut.vote, vote)
            await read_pass(ctx, dut, seed=int(rng.integers(1, 2**32)), probe=1)
            seeds = rng.integers(1, 2**32, older + pairs)
            c = rng.integers(-127, 128, older + pairs)
            assert await sweep(ctx, dut, seeds, c, older) == sweep_cycles(stage, older + pairs)
            change, bias_change = changed(seeds, c, older, kind, vote)
            weights, _ = masters.commit(weights, change, dense.weight, RESIDUAL)
            biases, _ = masters.commit(biases, bias_change, dense.bias, RESIDUAL)
            assert await read_masters(ctx, dut) == (weights.tolist(), biases.tolist()), kind

    count = dense.weight_codes.size + dense.n_out
    simulate(dut, bench, deadline=len(plans) * (
        sweep_cycles(stage, slots(MOST)) + count + dense.reuse_factor + stage.drain_words + 9))

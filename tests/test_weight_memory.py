# amaranth: UnusedElaboratable=no
"""Trainable weight memory: masters by hand; read, probe, sweep and read-back in hardware."""
import numpy as np
import pytest

from firmware_models import fused_update, noise
from firmware_models import weight_memory as model
from firmware_models.cycles import sweep_cycles
from firmware_models.formats import Fixed
from rtl.weight_memory import WeightMemory

from .fused_pass import Plan
from .networks import small_network
from .pysim import fields, simulate


def test_masters_by_hand():
    """A fresh master stands in the middle of what is deployed as its code."""
    np.testing.assert_array_equal(model.to_master([-8, -1, 0, 7], 4), [-120, -8, 8, 120])
    np.testing.assert_array_equal(model.to_master([-8, 7], 0), [-8, 7])
    np.testing.assert_array_equal(model.to_master([-8, 7], 1), [-15, 15])
    np.testing.assert_array_equal(model.deployed([-120, -8, 8, 120], 4), [-8, -1, 0, 7])
    # Seven steps up and eight down stay on code 0; one more leaves it. Cutting rounds to nearest.
    np.testing.assert_array_equal(model.deployed([8 + 7, 8 + 8, 8 - 8, 8 - 9], 4), [0, 1, 0, -1])


def test_perturbed_by_hand():
    fmt = Fixed(4, 2)
    np.testing.assert_array_equal(
        model.perturbed([-8, -7, 0, 6, 7], [-1, -1, 1, 1, 1], 1, fmt), [-8, -8, 2, 7, 7])
    np.testing.assert_array_equal(model.perturbed([-8, 7], [1, -1], 7, fmt), [7, -8])


def test_commit_by_hand():
    fmt = Fixed(4, 2)                                   # masters of 6 bits: -32 to 31
    new, clipped = model.commit([30, 31, -32, 0, -30], [-1, -1, 1, 5, 2], fmt, 2)
    np.testing.assert_array_equal(new, [31, 31, -32, -5, -32])
    np.testing.assert_array_equal(clipped, [False, True, True, False, False])


def stage_of(sizes, index=0, **options):
    return small_network(sizes, (index,), **options).stages[index]


CASES = {
    # stage, residual, first generator, most pairs
    "one input a word": (stage_of((5, 4, 2)), 4, 0, 4),
    "several inputs, two outputs a bias word": (stage_of((6, 4, 2), reuse={0: 3, 1: 2}), 2, 1, 5),
    "one word, two generators": (stage_of((7, 6, 2), reuse={0: 1, 1: 1}), 4, 2, 3),
    "no residual, extreme": (stage_of((4, 3, 2), extreme=True), 0, 0, 2),
    "all residual, extreme": (stage_of((4, 3, 2), extreme=True, weight=Fixed(5, 3)), 8, 3, 1),
    "last layer": (stage_of((4, 6, 3), index=1, bias=Fixed(4, 1)), 3, 0, 16),
    "smallest": (stage_of((1, 1)), 1, 0, 1),
}


def memory(case) -> WeightMemory:
    stage, residual, first, max_pairs = CASES[case]
    return WeightMemory(stage, residual=residual, first_generator=first, max_pairs=max_pairs)


async def read_pass(ctx, dut, *, seed=0, probe=0, negative=0, gap=False):
    """Deployed weights and biases of one pass, in the order of their words."""
    stage, dense = dut.stage, dut.stage.dense
    weights, biases = [], []
    for tag in (dut.pass_tag, dut.bias_tag):
        ctx.set(tag.seed, seed)
        ctx.set(tag.probe, probe)
        ctx.set(tag.negative, negative)
    for word in range(dense.reuse_factor + 2):
        ctx.set(dut.en, word < dense.reuse_factor)
        ctx.set(dut.first, word == 0)
        ctx.set(dut.addr, min(word, dense.reuse_factor - 1))
        _, _, data = await ctx.tick().sample(dut.data)
        weights.append(fields(data, dense.weight.width, dense.lanes, True))
        if word >= dense.reuse_factor:
            # Another tag may come when the last word has been addressed.
            ctx.set(dut.pass_tag.probe, 0)
    for word in range(stage.drain_words + 2):
        ctx.set(dut.bias_addr, min(word, stage.drain_words - 1))
        _, _, data = await ctx.tick().sample(dut.bias_data)
        biases.append(fields(data, dense.bias.width, stage.drain_lanes, True))
    return weights[2:], biases[2:]          # two cycles behind their addresses


def expected_pass(case, weights, biases, *, seed=0, probe=0, negative=0, sigma=0):
    """The same from masters, in the model."""
    stage, residual, first, _ = CASES[case]
    dense = stage.dense
    w, b = model.deployed(weights, residual), model.deployed(biases, residual)
    if probe:
        z_words, z_bias = noise.probe(seed, first, dense.reuse_factor, dense.lanes, dense.n_out)
        sign = -1 if negative else 1
        w = model.perturbed(w, sign * dense.matrix(z_words), sigma, dense.weight)
        b = model.perturbed(b, sign * z_bias, sigma, dense.bias)
    return (dense.words(w).tolist(),
            [b[s::stage.drain_words].tolist() for s in range(stage.drain_words)])


async def read_masters(ctx, dut):
    """All masters through the window, as matrices."""
    stage, dense = dut.stage, dut.stage.dense
    ctx.set(dut.window_en, 1)
    words = []
    for word in range(dense.reuse_factor + stage.drain_words):
        ctx.set(dut.window_word, word)
        row = []
        for lane in range(dense.lanes if word < dense.reuse_factor else stage.drain_lanes):
            ctx.set(dut.window_lane, lane)
            await ctx.tick()
            row.append(ctx.get(dut.window_data))
        words.append(row)
    ctx.set(dut.window_en, 0)
    split = dense.reuse_factor
    return (dense.matrix(np.array(words[:split])).tolist(),
            np.transpose(words[split:]).ravel().tolist())


async def sweep(ctx, dut, seeds, coefficients):
    """One update; the cycles it took and those in which a word was clipped."""
    ctx.set(dut.sweep, 1)
    await ctx.tick()
    ctx.set(dut.sweep, 0)
    replay, cycles, clipped = 0, 0, 0
    while True:
        ctx.set(dut.pair, replay)
        ctx.set(dut.seed, int(seeds[replay]))
        ctx.set(dut.coefficient, int(coefficients[replay]))
        ctx.set(dut.last_pair, replay == len(seeds) - 1)
        _, _, accumulate, done, clip = await ctx.tick().sample(
            dut.accumulate, dut.sweep_done, dut.clipped)
        cycles, clipped = cycles + 1, clipped + clip.bit_count()
        if accumulate:
            replay = (replay + 1) % len(seeds)
        if done:
            assert not replay
            return cycles, clipped


@pytest.mark.parametrize("case", CASES)
def test_read_with_and_without_probe(case):
    stage, residual, _, _ = CASES[case]
    dut, dense = memory(case), stage.dense
    weights, biases = (model.to_master(codes, residual)
                       for codes in (dense.weight_codes, dense.bias_codes))
    got, expected = [], []

    async def bench(ctx):
        for sigma in (0, 3, 7):                     # 7: 128 weight steps, beyond both ends
            ctx.set(dut.sigma, sigma)
            for selected in (0, 1):
                ctx.set(dut.selected, selected)
                for tag in ({"seed": 0}, {"seed": 99, "probe": 1},
                            {"seed": 99, "probe": 1, "negative": 1},
                            {"seed": 2 ** 32 - 5, "probe": 1}):
                    got.append(await read_pass(ctx, dut, **tag))
                    seen = tag if selected else {}
                    expected.append(expected_pass(case, weights, biases, sigma=sigma, **seen))

    simulate(dut, bench, deadline=24 * (dense.reuse_factor + stage.drain_words + 6))
    assert got == expected


@pytest.mark.parametrize("case", CASES)
def test_sweeps(case):
    """Updates with every number of pairs, small and large; every master after each of them."""
    stage, residual, first, max_pairs = CASES[case]
    dut, dense = memory(case), stage.dense
    rng = np.random.default_rng(3)
    weights, biases = (model.to_master(codes, residual)
                       for codes in (dense.weight_codes, dense.bias_codes))
    plans = [(pairs, scale) for pairs in sorted({1, min(2, max_pairs), max_pairs})
             for scale in (1, 127)]
    masters = dense.weight_codes.size + dense.n_out
    clips = []

    async def bench(ctx):
        nonlocal weights, biases
        ctx.set(dut.selected, 1)
        ctx.set(dut.sigma, 1)
        assert await read_masters(ctx, dut) == (weights.tolist(), biases.tolist())
        for pairs, scale in plans:
            seeds = rng.integers(1, 2 ** 32, pairs)
            c = rng.choice([-scale, 0, scale], pairs) if scale == 1 else \
                rng.choice([-127, 127], pairs)
            cycles, clipped = await sweep(ctx, dut, seeds, c)
            assert cycles == sweep_cycles(stage, pairs)
            zw, zb = noise.probe(seeds, first, dense.reuse_factor, dense.lanes, dense.n_out)
            weights, at_w = model.commit(weights, np.tensordot(c, dense.matrix(zw), 1),
                                         dense.weight, residual)
            biases, at_b = model.commit(biases, c @ zb, dense.bias, residual)
            assert await read_masters(ctx, dut) == (weights.tolist(), biases.tolist())
            assert clipped == (dense.words(at_w).any(-1).sum()
                               + at_b.reshape(-1, stage.drain_words).any(0).sum())
            clips.append(clipped)
            # A pass right after it sees the new weights, and its own noise.
            tag = {"seed": 12345, "probe": 1, "negative": pairs % 2}
            assert await read_pass(ctx, dut, **tag) == expected_pass(
                case, weights, biases, sigma=1, **tag)

    deadline = 2 * len(plans) * (sweep_cycles(stage, max_pairs) + masters + 50) + 2 * masters
    simulate(dut, bench, deadline=deadline)
    if "extreme" in case:
        assert any(clips)


FUSED = {
    # stage, residual
    "one input a word": (stage_of((5, 4, 2), extreme=True), 4),
    "several inputs, three outputs a bias word": (stage_of((12, 6, 3), reuse={0: 4, 1: 2}), 4),
    "one word": (stage_of((5, 4, 3), reuse={0: 1, 1: 1}, extreme=True), 2),
    "behind a ReLU, no residual": (stage_of((4, 6, 5, 3), index=1, extreme=True), 0),
    "all residual": (stage_of((6, 3), weight=Fixed(5, 3), extreme=True), 8),
    "smallest": (stage_of((1, 1)), 1),
}


@pytest.mark.parametrize("gap, bits", [("none", 1), ("most", 1), ("none", 4)])
@pytest.mark.parametrize("case", FUSED)
def test_fused_passes(case, gap, bits):
    """What every pass is served, updated or not; words held back; every master at the end."""
    stage, residual = FUSED[case]
    dut, dense = WeightMemory(stage, residual=residual, rules=("np",), bits=bits), stage.dense
    plan = Plan(stage, 16, gap, seed=len(case), restart_after=10, bits=bits)
    weights, biases = (model.to_master(codes, residual)
                       for codes in (dense.weight_codes, dense.bias_codes))
    expected, of, held = [], fused_update.step_of(stage, residual, bits), 0
    for one, x in zip(plan.passes, plan.centred(residual), strict=True):
        if one.c is not None:
            u, size = of.steps(x, np.abs(one.c)[:, None]), np.abs(one.c)
            weights, at_w = fused_update.apply(weights, one.c[:, None], u,
                                               dense.weight.width + residual)
            biases, at_b = fused_update.apply(biases, one.c, of.steps(1 << of.source.width, size),
                                              dense.bias.width + residual)
            held += dense.words(at_w).any(-1).sum()
            held += at_b.reshape(-1, stage.drain_words).any(0).sum()
        w, b = model.deployed(weights, residual), model.deployed(biases, residual)
        expected += [*dense.words(w).tolist(),
                     *(b[s::stage.drain_words].tolist() for s in range(stage.drain_words))]
    at = [(cycle + 2, "data") for one in plan.passes for cycle in one.words]
    at_bias = [(cycle + 2, "bias_data") for one in plan.passes for cycle in one.biases]
    shown, clips = {}, [0]

    async def bench(ctx):
        def seen(cycle):
            clips[0] += ctx.get(dut.clipped).bit_count()
            shown[cycle, "data"] = fields(ctx.get(dut.data), dense.weight.width, dense.lanes, True)
            shown[cycle, "bias_data"] = fields(ctx.get(dut.bias_data), dense.bias.width,
                                               stage.drain_lanes, True)

        await plan.run(ctx, dut, seen)
        assert await read_masters(ctx, dut) == (weights.tolist(), biases.tolist())

    masters = dense.weight_codes.size + dense.n_out
    simulate(dut, bench, deadline=plan.cycles + masters + 5)
    got = []
    for p in range(len(plan.passes)):
        n, s = dense.reuse_factor, stage.drain_words
        got += [shown[key] for key in [*at[p * n:(p + 1) * n], *at_bias[p * s:(p + 1) * s]]]
    assert got == expected
    assert clips[0] == held and (held > 0) == (dense.weight_codes == dense.weight.max).any()


def test_widths():
    dut = memory("several inputs, two outputs a bias word")
    assert (len(dut.data), len(dut.bias_data)) == (8 * 8, 2 * 8)
    assert (len(dut.window_data), len(dut.coefficient), len(dut.pair)) == (10, 8, 3)

# amaranth: UnusedElaboratable=no
"""Masters that leave their engine on the way of its sums: every lane of every word."""
from dataclasses import replace

import numpy as np
import pytest
from amaranth import Module

from firmware_models.formats import Fixed
from firmware_models.network import Network
from firmware_models.weight_memory import to_master
from rtl.dense import DenseEngine
from rtl.shapes import tag_layout
from rtl.weight_memory import WeightMemory

from .networks import small_network
from .pysim import simulate, until, wait


def narrow_sums() -> Network:
    network = small_network((6, 4, 2), (0,))
    first, *others = network.layers
    return replace(network, layers=(replace(first, accum=Fixed(10, 4)), *others))


CASES = {
    # A drain of two lanes in three words; of one word; of one lane.
    "several inputs a word": (small_network((12, 6, 3), (0,), {0: 4, 1: 3}), 4),
    "three inputs a word": (small_network((9, 5, 3), (0,), {0: 3, 1: 5}), 2),
    "one word": (small_network((6, 11, 4), (0,), {0: 1, 1: 1}), 0),
    "one input a word": (small_network((8, 7, 3), (0,), {1: 7}), 4),
    # Its sums have fewer bits than its masters.
    "narrow sums": (narrow_sums(), 8),
}
LATENCY = 3         # cycles from an address to the master


@pytest.mark.parametrize("rule", ["es", "np"])
@pytest.mark.parametrize("case", CASES)
def test_every_master(case, rule):
    """In random order, whatever stands at the engine's inputs and whatever the last pass was."""
    network, residual = CASES[case]
    stage = network.stages[0]
    dense, rng = stage.dense, np.random.default_rng(3)
    tag = tag_layout(probes=True, seeds=True, train=1)
    m = Module()
    m.submodules.memory = memory = WeightMemory(
        stage, residual=residual, rules=(rule,), picked_by_sums=True)
    m.submodules.engine = engine = DenseEngine(stage, tag=tag, next_tag=tag, residual=residual)
    m.d.comb += [
        memory.addr.eq(engine.w_addr), memory.en.eq(engine.w_en), memory.first.eq(engine.w_first),
        memory.bias_addr.eq(engine.bias_addr), engine.w_data.eq(memory.data),
        engine.bias_data.eq(memory.bias_data), engine.w_residue.eq(memory.residue),
        memory.window_weight.eq(engine.window), engine.window_en.eq(memory.window_en),
        engine.window_lane.eq(memory.window_lane),
    ]
    weights = dense.words(to_master(dense.weight_codes, residual)).tolist()
    biases = to_master(dense.bias_codes, residual).reshape(
        stage.drain_lanes, stage.drain_words).T.tolist()
    masters = weights + biases
    places = [(word, lane) for word, row in enumerate(masters) for lane in range(len(row))]
    got, expected, vectors = [], [], []

    async def a_pass(ctx):
        ctx.set(engine.room, 1)
        ctx.set(engine.pass_valid, 1)
        await until(ctx, engine.pass_ready)
        ctx.set(engine.pass_valid, 0)
        vector, committed = [], False
        while not committed:
            _, _, en, data, committed = await ctx.tick().sample(
                engine.o_en, engine.o_data, engine.o_commit)
            if en:
                vector.append(data)
        await until(ctx, engine.idle)
        vectors.append(vector)

    async def bench(ctx):
        ctx.set(engine.x_data, -1)
        if rule == "es":        # the pass before, whose tag stays, was a probe of this layer
            for of in (memory.pass_tag, memory.bias_tag):
                ctx.set(of.probe, 1)
                ctx.set(of.seed, 77)
            ctx.set(memory.sigma, 5)
            ctx.set(memory.selected, 1)
        await a_pass(ctx)
        for at in rng.permutation(len(places)):
            word, lane = places[at]
            ctx.set(memory.window_en, 1)
            ctx.set(memory.window_word, word)
            ctx.set(memory.window_lane, lane)
            await wait(ctx, LATENCY)
            got.append(ctx.get(memory.window_data))
            expected.append(masters[word][lane])
            if rng.random() < 0.3:      # closed, and a pass in the same cycle as in a core
                if rng.random() < 0.5:
                    ctx.set(engine.pass_valid, 1)
                    await ctx.tick()
                    ctx.set(memory.window_en, 0)
                    ctx.set(engine.pass_valid, 0)
                    await until(ctx, engine.idle)
                else:
                    ctx.set(memory.window_en, 0)
                    await a_pass(ctx)
        ctx.set(memory.window_en, 0)
        await a_pass(ctx)

    simulate(m, bench, deadline=(LATENCY + 60) * (len(places) + 2))
    assert got == expected and len(got) == len(places)
    assert len(vectors) > 2 and all(vector == vectors[0] for vector in vectors)


def test_widths():
    stage = CASES["several inputs a word"][0].stages[0]
    engine = DenseEngine(stage, tag=tag_layout(), next_tag=tag_layout(), residual=4)
    assert (len(engine.w_residue), len(engine.window)) == (18 * 4, 12)
    assert not hasattr(DenseEngine(stage, tag=tag_layout(), next_tag=tag_layout()), "window")

# amaranth: UnusedElaboratable=no
"""Dense and ReLU: model by hand, engine and weight ROM against the model."""
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_models import dense as model
from firmware_models.activation import Linear, Relu
from firmware_models.cycles import interval_cycles
from firmware_models.formats import OVERFLOWS, ROUNDINGS, Fixed
from firmware_models.network import Dense, Network
from rtl.dense import DenseEngine
from rtl.shapes import tag_layout
from rtl.vector_buffer import VectorBuffer
from rtl.weight_rom import WeightRom

from .networks import activated, samples, slopes, small_network
from .pysim import fields, packed, pauses, simulate, wait
from .random_networks import random_activation


def layer(weights, biases, **formats) -> Network:
    weights = np.atleast_2d(weights)
    n_out, n_in = weights.shape
    formats = {"weight": Fixed(4, 2), "bias": Fixed(4, 2), "accum": Fixed(10, 4),
               "result": Fixed(10, 4)} | formats
    return Network(name="net", input=Fixed(4, 2, signed=False), layers=(
        Dense(name="fc", n_in=n_in, n_out=n_out, reuse_factor=n_in, weight_codes=weights,
              bias_codes=np.array(biases), **formats),))


def accumulate(network, x):
    stage = network.stages[0]
    return model.accumulate(stage.dense, stage.source, x).tolist()


@pytest.mark.parametrize("weights, biases, accum, x, expected", [
    # Codes of quarters: products are sixteenths, the bias moves up by 2 bits.
    ([2, -3], [1], Fixed(10, 4), [3, 5], [6 - 15 + 4]),
    ([[2, -3], [-8, 7]], [1, -8], Fixed(10, 4), [15, 15], [-15 + 4, -15 - 32]),
    # 2 * 105 + 4 = 214 in 5 bits: 214 - 7 * 32.
    ([7, 7], [1], Fixed(5, 4), [15, 15], [-10]),
    # A sum that wraps on the way and comes back.
    ([7, -7], [0], Fixed(5, 4), [15, 15], [0]),
    # Each product loses 2 bits before it is added: 3 >> 2 + 3 >> 2, not 6 >> 2.
    ([1, 1], [1], Fixed(8, 2), [3, 3], [1]),
    ([-1, -1], [0], Fixed(8, 2), [1, 1], [-2]),
    ([1, 1], [1], Fixed(8, 2, True, "RND"), [3, 2], [1 + 1 + 1]),
    ([1, 1], [1], Fixed(8, 2, True, "RND_CONV"), [3, 2], [1 + 0 + 1]),
    # More fraction bits than the products have.
    ([1, 1], [1], Fixed(12, 6), [3, 3], [6 * 4 + 16]),
])
def test_accumulate_by_hand(weights, biases, accum, x, expected):
    assert accumulate(layer(weights, biases, accum=accum), x) == expected


def test_activate_by_hand():
    result = Fixed(5, 2, True, "RND", "SAT")
    network = layer([[1], [1]], [0, 0], result=result)
    stage = network.stages[0]
    # Sixteenths to quarters, half up, clipped to -4 .. 3.75.
    np.testing.assert_array_equal(
        model.activate(stage, [[-65, -6, -7, 5, 6, 200]]), [[-16, -1, -2, 1, 2, 15]])
    # Then to halves, floored; each layer takes the codes of the one before.
    halves, out = Fixed(4, 1, True, "TRN", "SAT"), Fixed(3, 1, False)
    stage = replace(stage, activation=(Linear(name="l", n=6, result=halves),
                                       Relu(name="r", n=6, result=out)))
    np.testing.assert_array_equal(
        list(model.outputs(stage, np.array([-65, -6, -7, 5, 6, 200])).values()),
        [[-16, -1, -2, 1, 2, 15], [-8, -1, -1, 0, 1, 7], [0, 0, 0, 0, 1, 7]])


def test_forward_and_trace_agree():
    network = small_network((6, 5, 3))
    x, _ = samples(network, 7)
    outputs = model.trace(network, x)
    assert list(outputs) == ["fc1", "relu1", "fc2"]
    np.testing.assert_array_equal(model.forward(network, x), outputs["fc2"])
    np.testing.assert_array_equal(model.forward(network, outputs["relu1"], start=1),
                                  outputs["fc2"])
    # One weight set per pass gives what each of them gives alone.
    stage = network.stages[0]
    sets = np.stack([stage.dense.weight_codes, -stage.dense.weight_codes])
    both = model.accumulate(stage.dense, stage.source, x[:2], sets)
    for k in range(2):
        np.testing.assert_array_equal(
            both[k], model.accumulate(stage.dense, stage.source, x[k], sets[k]))


def test_quantize_by_hand():
    to = Fixed(4, 2, False, "RND", "SAT")
    np.testing.assert_array_equal(
        model.quantize([0, 0.124, 0.125, 1.0, 3.9, 1e9, -1e9], to), [0, 0, 1, 4, 15, 15, 0])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinity; clean the data first"):
            model.quantize([0.0, bad], to)


NARROW = small_network((6, 4, 2), reuse={0: 3, 1: 2}, weight=Fixed(5, 3), bias=Fixed(4, 6))


def narrow_accumulator() -> Network:
    """Products are rounded before they are added, sums wrap, the bias loses bits."""
    first, relu, last = NARROW.layers
    return Network(name="narrow", input=NARROW.input, layers=(
        Dense(**vars(first) | {"accum": Fixed(7, 5, True, "RND_CONV"),
                               "result": Fixed(6, 4, True, "RND", "WRAP")}), relu, last))


WIDE = small_network((6, 6, 3), reuse={1: 3})       # drains two lanes in three words
RELU = Relu(name="relu", n=6, result=Fixed(8, 4, False))
NETWORKS = {
    "slopes": (activated(WIDE, {0: [slopes("slopes", 6)]}), 0),
    "two layers": (activated(WIDE, {0: [RELU, replace(RELU, name="again", result=Fixed(6, 3))]}),
                   0),
    # Several passes are in the activation: tags, addresses and slopes stay apart.
    "long activation, one word": (activated(
        small_network((6, 6, 3), reuse={0: 3, 1: 1}),
        {0: [slopes(f"slopes{k}", 6, seed=k) for k in range(3)]}), 0),
    "one word": (small_network((6, 4, 3), reuse={0: 1, 1: 2}, extreme=True), 0),
    "several inputs a word": (small_network((12, 6, 3), reuse={0: 4, 1: 3}), 0),
    "one input a word": (small_network((6, 4, 3), reuse={1: 1}), 0),
    "one input, one output": (small_network((1, 1, 1)), 0),
    "longer drain than read": (small_network((4, 6, 2), reuse={0: 2}), 0),
    "last stage": (small_network((6, 4, 5), reuse={1: 2}, extreme=True), 1),
    "narrow accumulator": (narrow_accumulator(), 0),
}


def run_engine(network, index, x, idle, stall):
    """Passes of `x` through an engine, its ROM, and a buffer behind that is emptied in time.

    Returns the drained vectors with their tags, and the cycles of acceptance and of offering.
    """
    stage = network.stages[index]
    dense, tag = stage.dense, tag_layout()
    m = Module()
    m.submodules.engine = engine = DenseEngine(stage, tag=tag, next_tag=tag)
    if not dense.constant:
        m.submodules.rom = rom = WeightRom(stage)
        m.d.comb += [
            rom.addr.eq(engine.w_addr), engine.w_data.eq(rom.data),
            rom.bias_addr.eq(engine.bias_addr), engine.bias_data.eq(rom.bias_data),
        ]
    m.submodules.buffer = buffer = VectorBuffer(
        stage.drain_lanes, stage.result.width, depth=stage.drain_words, tag=tag, slots=2)
    m.d.comb += [
        engine.room.eq(buffer.room), buffer.reserve.eq(engine.reserve),
        buffer.w_en.eq(engine.o_en.replicate(stage.drain_lanes)),
        buffer.w_addr.eq(engine.o_addr), buffer.w_data.eq(engine.o_data),
        buffer.w_tag.eq(engine.o_tag), buffer.commit.eq(engine.o_commit),
    ]
    words = x.reshape(len(x), dense.inputs_per_word, dense.reuse_factor)
    accepted, offered, vectors, held = [], [], [], {}
    interval = engine.interval_cycles
    deadline = 200 + 12 * (len(x) + 2) * (interval + dense.reuse_factor + stage.drain_words + 10)

    async def source(ctx):
        pause = pauses(idle)
        ctx.set(engine.pass_valid, 0)
        while len(accepted) < len(x):
            number = len(accepted)
            ctx.set(engine.pass_valid, not next(pause))
            ctx.set(engine.pass_tag.label, number)
            ctx.set(engine.pass_tag.learn, number % 3 == 0)
            _, _, address, valid, ready = await ctx.tick().sample(
                engine.x_addr, engine.pass_valid, engine.pass_ready)
            # The vector's memory answers a cycle after the address.
            if accepted and address < dense.reuse_factor:
                ctx.set(engine.x_data, packed(words[len(accepted) - 1][:, address],
                                              stage.source.width))
            if valid and ready:
                accepted.append(now[0])
        ctx.set(engine.pass_valid, 0)
        while len(vectors) < len(x):
            _, _, address = await ctx.tick().sample(engine.x_addr)
            if address < dense.reuse_factor:
                ctx.set(engine.x_data, packed(words[-1][:, address], stage.source.width))
        _, _, quiet = await ctx.tick().sample(engine.idle)
        assert quiet
        await wait(ctx, 2 * interval)

    now = [0]

    async def monitor(ctx):
        while True:
            _, _, en, address, data, commit, label, learn = await ctx.tick().sample(
                engine.o_en, engine.o_addr, engine.o_data, engine.o_commit, engine.o_tag.label,
                engine.o_tag.learn)
            if en:
                held[address] = fields(data, stage.result.width, stage.drain_lanes,
                                       stage.result.signed)
            assert not commit or en
            if commit:
                # Word s holds outputs s + drain_words * c.
                assert sorted(held) == list(range(stage.drain_words))
                vectors.append((label, learn, np.transpose(
                    [held[s] for s in sorted(held)]).ravel().tolist()))
                held.clear()
            now[0] += 1

    async def sink(ctx):
        pause = pauses(stall)
        while True:
            take = not next(pause) and bool(ctx.get(buffer.valid))
            if ctx.get(buffer.valid) and len(offered) == len(taken):
                offered.append(now[0])
            ctx.set(buffer.take, take)
            ctx.set(buffer.release, take)
            if take:
                taken.append(now[0])
            await ctx.tick()

    taken = []
    simulate(m, source, monitor, sink, deadline=deadline)
    return vectors, accepted, offered


@pytest.mark.parametrize("idle, stall", [("none", "none"), ("some", "bursts"), ("most", "some")])
@pytest.mark.parametrize("case", NETWORKS)
def test_engine_equals_model(case, idle, stall):
    engine_equals_model(*NETWORKS[case], idle, stall)


def engine_equals_model(network, index, idle, stall):
    stage = network.stages[index]
    rng = np.random.default_rng(2)
    of = stage.source
    x = rng.integers(of.min, of.max + 1, (8, stage.dense.n_in))
    x[0], x[1] = of.min, of.max
    vectors, accepted, offered = run_engine(network, index, x, idle, stall)
    expected = model.activate(stage, model.accumulate(stage.dense, stage.source, x))
    assert vectors == [(n, n % 3 == 0, y.tolist()) for n, y in enumerate(expected)]
    if (idle, stall) == ("none", "none"):
        words = stage.dense.reuse_factor + stage.drain_words
        assert offered[0] - accepted[0] == \
            words + 7 + stage.sum_delay_cycles + stage.delay_cycles
        interval = DenseEngine(stage, tag=tag_layout(), next_tag=tag_layout()).interval_cycles
        assert interval == interval_cycles(stage)
        # Two slots behind: the third pass waits for the first to have left.
        assert accepted[1] - accepted[0] == interval
        for n in range(2, len(x)):
            assert accepted[n] == max(accepted[n - 1] + interval, offered[n - 2] + 1)


def drawn(widths, fracs, signed=None, overflows=OVERFLOWS):
    return st.builds(Fixed, st.integers(*widths), st.integers(*fracs),
                     st.booleans() if signed is None else st.just(signed),
                     st.sampled_from(ROUNDINGS), st.sampled_from(overflows))


def drawn_layer(data, name, n, source):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    return random_activation(rng, name, n, source)


@settings(max_examples=25)
@given(st.data())
def test_engine_equals_model_in_any_format(data):
    """Binary points that do not meet, modes of every kind, codes at both ends."""
    n_in, n_out, layers = 4, 2, data.draw(st.integers(0, 2))
    source, weight, bias = (data.draw(drawn((1, 8), (-2, 8))) for _ in range(3))
    accum = data.draw(drawn((2, 20), (-3, 12), overflows=("WRAP",)))
    of = result = data.draw(drawn((1, 12), (-2, 8)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))

    def codes(of, shape):
        return np.where(rng.random(shape) < 0.4, rng.choice([of.min, of.max], shape),
                        rng.integers(of.min, of.max + 1, shape))

    activation = []
    for k in range(layers):
        activation.append(drawn_layer(data, f"act{k}", n_out, of))
        of = activation[-1].result
    last = small_network((n_out, 2), reuse={0: data.draw(st.sampled_from([1, 2]))}).layers[0]
    network = Network(name="drawn", input=source, layers=(
        Dense(name="fc", n_in=n_in, n_out=n_out,
              reuse_factor=data.draw(st.sampled_from([1, 2, 4])), weight=weight, bias=bias,
              accum=accum, result=result, weight_codes=codes(weight, (n_out, n_in)),
              bias_codes=codes(bias, n_out)),
        *activation, last))
    stage, x = network.stages[0], codes(source, (6, n_in))
    vectors, _, _ = run_engine(network, 0, x, "none", "none")
    expected = model.activate(stage, model.accumulate(stage.dense, source, x))
    assert [y for _, _, y in vectors] == expected.tolist()


def test_widths():
    stage = NETWORKS["several inputs a word"][0].stages[0]
    engine = DenseEngine(stage, tag=tag_layout(), next_tag=tag_layout())
    assert (len(engine.x_data), len(engine.w_data)) == (3 * 8, 18 * 8)
    assert (len(engine.x_addr), len(engine.w_addr), len(engine.bias_addr)) == (2, 2, 2)
    assert (len(engine.bias_data), len(engine.o_data)) == (2 * 8, 2 * 8)


def test_weight_rom_layout_and_latency():
    """Words and bias words in the model's order, two cycles behind their addresses."""
    network = small_network((12, 6, 3), reuse={0: 4, 1: 3})
    stage = network.stages[0]
    dense, rom = stage.dense, WeightRom(stage)
    words = dense.words(dense.weight_codes).tolist()
    biases = [dense.bias_codes[s::stage.drain_words].tolist() for s in range(stage.drain_words)]
    order = [(r % 4, r * 2 % 3) for r in range(12)]
    got = []

    async def bench(ctx):
        for a, b in [*order, (0, 0), (0, 0)]:
            ctx.set(rom.addr, a)
            ctx.set(rom.bias_addr, b)
            _, _, data, bias = await ctx.tick().sample(rom.data, rom.bias_data)
            got.append((fields(data, dense.weight.width, dense.lanes, True),
                        fields(bias, dense.bias.width, stage.drain_lanes, True)))

    simulate(rom, bench, deadline=20)
    assert got[2:] == [(words[a], biases[b]) for a, b in order]
    assert (len(rom.data), len(rom.bias_data)) == (18 * 8, 2 * 8)

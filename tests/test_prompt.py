# amaranth: UnusedElaboratable=no
"""The input prompt: model by hand, what a network with one says and refuses, unit against model."""
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from firmware_models import noise
from firmware_models.cycles import CycleModel, sweep_cycles
from firmware_models.dense import forward, trace
from firmware_models.evolution import PROMPT_SKIPS, first_generators
from firmware_models.fast import FastLearner
from firmware_models.formats import Fixed
from firmware_models.learner import Learner
from firmware_models.loss import cross_entropy
from firmware_models.options import checked
from firmware_models.prompt import prompted
from firmware_models.settings import Settings
from firmware_models.snapshot import copy_words
from rtl.controller import LearnController
from rtl.core import Core
from rtl.dense import DenseEngine
from rtl.prompt import Prompt
from rtl.shapes import engine_tag, tag_layout

from .networks import samples, small_network
from .pysim import fields, packed, pauses, simulate, wait

NETWORK = small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3})
PROMPTED = NETWORK.with_prompt()


@pytest.mark.parametrize("features, x, p, expected", [
    (Fixed(4, 2, False), [0, 15, 7, 3, 9], [-1, 1, -16, 12, 4], [0, 15, 0, 15, 13]),
    (Fixed(4, 2), [-8, 7, -8, 3, 0], [-1, 1, 15, -16, 5], [-8, 7, 7, -8, 5]),
    (Fixed(1, 0, False), [0, 1, 1, 0], [1, 1, -2, -1], [1, 1, 0, 0]),
])
def test_sum_by_hand(features, x, p, expected):
    """It clips, though all of these formats wrap."""
    assert prompted(x, p, features).tolist() == expected
    # More than one prompt for a vector, as the passes of a population have.
    many = prompted(x, np.stack([p, np.zeros_like(p)]), features)
    assert many.tolist() == [expected, x]


def test_parts_of_a_network():
    assert NETWORK.parts == NETWORK.stages and NETWORK.prompt is None
    part = PROMPTED.parts[3]
    assert PROMPTED.trainable == (1, 2, 3) and PROMPTED.hidden == (1,)
    assert (part.index, part.drain_words, part.source) == (3, 1, NETWORK.input)
    dense = part.dense
    assert (dense.name, dense.n_in, dense.n_out, dense.reuse_factor, dense.lanes) == (
        "prompt", 10, 1, 5, 2)
    # Features of 8 bits without a sign: -256 to 255 reach every value from every other.
    assert dense.weight == Fixed(9, 8) and not dense.weight_codes.any()
    assert PROMPTED.with_prompt() is PROMPTED
    assert [PROMPTED.entry(layers) for layers in ((1, 2), (2, 3), (3,), (2,))] == [1, 0, 0, 2]
    # Generators of the layers stay what they are.
    assert first_generators(PROMPTED) == {1: 0, 2: 1, 3: 2 + PROMPT_SKIPS}
    assert PROMPTED.with_trainable(["prompt", "fc3"]).trainable == (2, 3)
    assert PROMPTED.with_trainable(["fc3"]).prompt is None
    assert copy_words(small_network((10, 3), (), {0: 10}).with_prompt()) == 10


def test_identity():
    """A network without a prompt is described as before; one with zeros is another network."""
    assert PROMPTED.digest() != NETWORK.digest()
    assert PROMPTED.with_trainable(["fc2", "fc3"]).digest() == NETWORK.digest()
    assert "prompt" not in NETWORK.describe()
    learned = replace(PROMPTED, prompt=np.arange(10))
    assert learned.digest() != PROMPTED.digest()
    assert learned.with_trainable(["prompt"]).prompt.tolist() == list(range(10))


@pytest.mark.parametrize("sizes", [
    (784, 32, 16, 10), (64, 32, 16, 10), (512, 32, 16, 10), (128, 32, 16, 2)])
@pytest.mark.parametrize("trained", [(0, 1, 2), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,), ()])
def test_bits_of_layers_and_prompt_are_pairwise_independent(sizes, trained):
    """Those of the examples, whichever of their layers learn."""
    network = small_network(sizes, trained).with_prompt()
    first = first_generators(network)
    masks = np.concatenate([noise.functionals(
        first[index], part.dense.reuse_factor, part.dense.lanes, part.dense.n_out)
        for index, part in enumerate(network.parts) if part.dense.trainable])
    assert masks.all() and len(np.unique(masks)) == len(masks)


def test_inference_with_a_prompt():
    x, _ = samples(NETWORK, 20)
    p = np.random.default_rng(1).integers(-256, 256, 10)
    network = replace(PROMPTED, prompt=p)
    moved = np.clip(x + p, 0, 255)
    np.testing.assert_array_equal(forward(network, x), forward(NETWORK, moved))
    np.testing.assert_array_equal(forward(PROMPTED, x), forward(NETWORK, x))
    for name, codes in trace(network, x).items():
        np.testing.assert_array_equal(codes, trace(NETWORK, moved)[name])
    hidden = np.clip(x[:, :8], 0, 255)
    np.testing.assert_array_equal(forward(network, hidden, 1), forward(NETWORK, hidden, 1))


def test_unclipped_prompt_is_a_bias():
    """W (x + p) + b = W x + (W p + b): before a dense layer a prompt is worth a bias."""
    x, _ = samples(NETWORK, 20)
    x, p = x // 4 + 100, np.random.default_rng(1).integers(-90, 90, 10)
    first = NETWORK.layers[0]
    shift = NETWORK.input.frac + first.weight.frac - first.bias.frac
    wide = replace(first, bias=Fixed(40, first.bias.frac + shift),
                   bias_codes=(first.bias_codes << shift) + first.weight_codes @ p)
    biased = replace(NETWORK, layers=(wide, *NETWORK.layers[1:]))
    np.testing.assert_array_equal(forward(replace(PROMPTED, prompt=p), x), forward(biased, x))


def test_one_update_by_hand():
    """Two inputs, one pair, nothing else learns: every number in the open."""
    network = small_network((2, 3)).with_prompt()
    settings = Settings(rule="es", layers=(1,), pairs=1, sigma_log2=3, lr_shift=4, seed=77)
    learner = Learner(network, settings)
    x = np.array([3, 200])
    learner.load({1: [[-90 * 16, 50 * 16 + 15]]}, {})
    assert learner.step(x, 1).tolist() == forward(network, [0, 250]).tolist()
    z = noise.probe(77, PROMPT_SKIPS, 2, 1, 1)[0][:, 0]
    plus, minus = (np.clip(x + [-90, 50] + s * 8 * z, 0, 255) for s in (1, -1))
    losses = [int(cross_entropy(forward(network, row), 1, network.stages[0].result))
              for row in (plus, minus)]
    delta = int(learner.state.deltas[0])
    assert delta == losses[0] - losses[1] != 0
    change = 8 if delta > 0 else -8
    np.testing.assert_array_equal(
        learner.state.weights[1], [np.array([-90 * 16, 50 * 16 + 15]) - change * z])
    assert (learner.state.passes, learner.state.updates) == (3, 1)
    # What is left of the bias of a layer: it goes its way, and nothing depends on it.
    assert learner.state.biases[1].shape == (1,)
    before = learner.step(x, 1, learn=False).tolist()
    learner.load({}, {1: [-999]})
    assert learner.step(x, 1, learn=False).tolist() == before


def test_other_layers_learn_behind_the_prompt():
    """Not selected, it stays, and what is learned behind it sees x'."""
    x, y = samples(NETWORK, 12)
    p = np.random.default_rng(2).integers(-100, 100, 10)
    for layers in ((1, 2), (2,)):
        settings = Settings(rule="es", layers=layers, pairs=3, seed=5)
        one = Learner(replace(PROMPTED, prompt=p), settings)
        other = Learner(NETWORK, settings)
        one.learn(x, y)
        other.learn(np.clip(x + p, 0, 255), y)
        for index in layers:
            np.testing.assert_array_equal(one.state.weights[index], other.state.weights[index])
        np.testing.assert_array_equal(one.deployed_network().prompt, p)


def test_predictions_of_a_learned_prompt():
    x, y = samples(NETWORK, 60)
    learner = Learner(PROMPTED, Settings(rule="es", layers=(3,), lr_shift=0, sigma_log2=5, seed=3))
    learner.learn(x, y)
    network = learner.deployed_network()
    assert np.abs(network.prompt).max() > 8
    want = learner.learn(x, y, learn=False)
    assert learner.predict(x).tolist() == forward(network, x).argmax(-1).tolist() == want.tolist()
    # Its layers are those it started with.
    np.testing.assert_array_equal(forward(replace(network, prompt=None), x), forward(NETWORK, x))


def test_cycles_by_hand():
    """Its passes enter at the first stage; its sweep has the words of that one, and a bias."""
    settings = Settings(rule="es", layers=(3,), pairs=2)
    prompt = CycleModel(PROMPTED).run(1, settings)
    last = CycleModel(PROMPTED).run(1, replace(settings, layers=(2,)))
    assert sweep_cycles(PROMPTED.parts[3], 2) == (5 + 1) * 2 + 1 + 2
    assert prompt.passes == last.passes == 5
    first = CycleModel(small_network((10, 8, 6, 4), (0,), {0: 5, 1: 4, 2: 3})).run(
        1, replace(settings, layers=(0,)))
    # The first layer has 4 words of biases more, and enters where the prompt does.
    assert first.idle_cycle - prompt.idle_cycle == 4 - 1


@pytest.mark.parametrize("make, message", [
    (lambda: Learner(PROMPTED, Settings(layers=(1,))), "a prompt learns by rule es"),
    (lambda: FastLearner(PROMPTED, Settings(layers=(1,))), "a prompt learns by rule es"),
    (lambda: checked(["prompt"], ("np",)), "option prompt needs rule es"),
    (lambda: checked(["prompt"], ("np", "es")), "a core with rule np cannot have it"),
    (lambda: Core(PROMPTED, rules=("es", "np")), "a core with rule np cannot have it"),
    (lambda: replace(PROMPTED, prompt=np.zeros(9, int)), r"shape \(1, 9\), not \(1, 10\)"),
    (lambda: replace(PROMPTED, prompt=np.full(10, 256)), "256 is not a code of fixed<9,1>"),
    (lambda: replace(PROMPTED, prompt=np.arange(10)).with_trainable(["fc3"]), "cannot be left out"),
    (lambda: replace(NETWORK.layers[0], name="prompt") and replace(
        PROMPTED, layers=(replace(NETWORK.layers[0], name="prompt"), *NETWORK.layers[1:])),
     "two layers of the same name"),
    (lambda: Core(small_network((4, 3), source=Fixed(30, 8)), rules=("es",), options=("prompt",)),
     "features of 30 bits and 4 residual bits does not fit a register"),
    (lambda: Prompt(NETWORK), "there is no prompt"),
])
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_option_and_network_imply_each_other():
    """A prompt alone is enough to learn, and costs nothing where there is no learning."""
    frozen = small_network((4, 3))
    assert Core(frozen, rules=("es",), options=("prompt",)).network.trainable == (1,)
    assert Core(frozen.with_prompt(), rules=("es",)).options == ("prompt",)
    assert Core(frozen.with_prompt(), learning=False).network.prompt is None


@pytest.mark.parametrize("layers, owned", [
    (0b001, 0b001), (0b011, 0b001), (0b110, 0b100), (0b101, 0b100), (0b100, 0b100)])
def test_where_passes_enter(layers, owned):
    """One bit for each of two layers and, above them, the prompt: it comes before both."""
    dut = LearnController(PROMPTED, max_pairs=4)
    got = []

    async def bench(ctx):
        for signal, value in ((dut.learn, 1), (dut.layers, layers), (dut.head_learn, 0b111)):
            ctx.set(signal, value)
        got.append(ctx.get(dut.owned))
        ctx.set(dut.head_valid, 0b111)
        ctx.set(dut.layers, layers)
        await wait(ctx, 2)                  # the sample's, from now on
        ctx.set(dut.layers, 0b010)
        got.append(ctx.get(dut.owned))

    simulate(dut, bench, deadline=10)
    assert got == [owned, owned]


FEATURES = {"unsigned": Fixed(4, 2, False), "signed": Fixed(4, 2), "saturating": Fixed(
    4, 2, overflow="SAT"), "one bit": Fixed(1, 0, False), "sign alone": Fixed(1, 0)}


@pytest.mark.parametrize("name", FEATURES)
def test_unit_equals_model(name):
    """Every feature with every prompt, in both lanes."""
    of = FEATURES[name]
    dut = Prompt(small_network((4, 3), source=of, reuse={0: 2}).with_prompt())
    assert (len(dut.x), len(dut.o), len(dut.w_data)) == (
        2 * of.width, 2 * of.width, 2 * (of.width + 1))
    x, p = (a.ravel() for a in np.meshgrid(np.arange(of.min, of.max + 1),
                                           np.arange(-2 << of.width - 1, 2 << of.width - 1)))
    got = []

    async def bench(ctx):
        for k in range(len(x)):
            ctx.set(dut.x, packed([x[k], x[-1 - k]], of.width))
            ctx.set(dut.w_data, packed([p[k], p[-1 - k]], of.width + 1))
            got.append(fields(ctx.get(dut.o), of.width, 2, of.signed))

    simulator = Simulator(dut)          # without a clock: all within no time
    simulator.add_testbench(bench)
    simulator.run()
    want = prompted(x, p, of)
    assert got == np.stack([want, want[::-1]], 1).tolist()


@pytest.mark.parametrize("idle", ["none", "some", "most"])
@pytest.mark.parametrize("sizes, reuse", [((6, 4), 6), ((6, 4), 2), ((5, 3), 1), ((3, 7), 3)])
def test_reads_a_cycle_before_the_engine(sizes, reuse, idle):
    """What it addresses in a cycle, the engine addresses in the next, with the same tag."""
    network = small_network(sizes, reuse={0: reuse}).with_prompt()
    tag = engine_tag(network, 0, ("es",), arriving=False)
    m = Module()
    m.submodules.engine = engine = DenseEngine(
        network.stages[0], tag=tag, next_tag=tag_layout(probes=True))
    m.submodules.dut = dut = Prompt(network)
    m.d.comb += [
        engine.room.eq(1),
        dut.accepted.eq(engine.pass_valid & engine.pass_ready), dut.pass_tag.eq(engine.pass_tag),
        dut.next_addr.eq(engine.w_next), dut.addressing.eq(engine.w_en),
        dut.last.eq(engine.x_last), dut.tag.eq(engine.w_tag),
    ]
    reads, ahead = [], []

    async def bench(ctx):
        pause, number = pauses(idle), 1
        while number < 20:
            ctx.set(engine.pass_valid, not next(pause))
            ctx.set(engine.pass_tag.seed, number)
            ctx.set(engine.pass_tag.negative, number % 2)
            ctx.set(engine.pass_tag.probe, number % 3 == 0)
            got = await ctx.tick().sample(
                engine.w_en, engine.w_first, engine.w_addr, engine.w_tag, dut.w_en, dut.w_first,
                dut.w_addr, dut.w_tag, dut.accepted)
            for found, (en, first, *word) in ((reads, got[2:6]), (ahead, got[6:10])):
                found.append((first, *word) if en else None)
            number += got[10]
        await wait(ctx, 1)

    simulate(m, bench, deadline=2000)
    assert sum(read is not None for read in reads) > 15 * reuse
    assert ahead[:-1] == reads[1:]

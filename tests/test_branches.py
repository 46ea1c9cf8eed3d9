# amaranth: UnusedElaboratable=no
"""Networks with branches: by hand, hls4ml's C++ layer by layer, and the core in lockstep."""
import json
import shutil
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from firmware_models import branches as model
from firmware_models import dense
from firmware_models.activation import Relu
from firmware_models.branches import FEATURES, Add, Concatenate, Vector
from firmware_models.cycles import CycleModel
from firmware_models.fast import FastLearner
from firmware_models.fast_evolution import FastEvolution
from firmware_models.formats import Fixed
from firmware_models.learner import Learner
from firmware_models.line_rate_cycles import schedule
from firmware_models.network import Dense, Network, described
from firmware_models.settings import Settings
from hwgen import recover
from hwgen.build import build
from hwgen.frontend import DenseSpec, Emulation, NetworkSpec, from_layers, lower
from rtl.branches import Branches
from sim.device import Device

from .da4ml import needs_da4ml
from .lockstep import lockstep
from .networks import BIAS, LOGITS, WEIGHT, constant, samples, slopes
from .pysim import simulate
from .random_networks import random_codes
from .test_random_networks import compare, emulate

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
INPUT = Fixed(8, 8, signed=False)
HIDDEN, SUM = Fixed(8, 6, False, "RND", "SAT"), Fixed(9, 5, True, "RND_CONV", "SAT")
SUMS = Fixed(14, 8, True, "RND", "SAT")
MIXED = Fixed(8, 5, True, "RND", "WRAP")


def fc(name, n_in, n_out, reuse_factor, result=SUMS, reads=None):
    rng = np.random.default_rng(sum(map(ord, name)))
    return DenseSpec(name=name, weight=WEIGHT, bias=BIAS, result=result, reads=reads,
                     weight_codes=rng.integers(-43, 43, (n_out, n_in)),
                     bias_codes=rng.integers(-43, 43, n_out), reuse_factor=reuse_factor)


def relu(name, n, result=HIDDEN):
    return Relu(name=name, n=n, result=result)


def add(name, n, other, result=SUM):
    return Add(name=name, n=n, other=other, result=result)


def join(name, n, *parts, result=MIXED):
    return Concatenate(name=name, n=n, parts=parts, result=result)


NETWORKS = {
    "residual": (fc("a", 6, 4, 3), relu("ra", 4), fc("b", 4, 6, 2), add("sum", 6, FEATURES),
                 relu("rs", 6), fc("c", 6, 3, 3, LOGITS)),
    "wide and deep": (fc("a", 6, 8, 6), relu("ra", 8), fc("b", 8, 4, 4), relu("rb", 4),
                      join("cat", 10, FEATURES, "rb"), fc("c", 10, 3, 2, LOGITS)),
    "parallel": (fc("a", 6, 4, 2), relu("ra", 4), fc("b", 6, 6, 2, reads=FEATURES),
                 relu("rb", 6, SUM), join("cat", 10, "rb", "ra"), fc("c", 10, 3, 2, LOGITS)),
    # Two skips open at once, a sum that is delayed, and a skip around everything to the logits.
    "nested": (fc("a", 5, 6, 5), relu("ra", 6), fc("b", 6, 6, 2), relu("rb", 6, Fixed(7, 4)),
               fc("c", 6, 6, 3), add("inner", 6, "rb"), slopes("slopes", 6),
               add("outer", 6, "ra", Fixed(11, 7)), fc("d", 6, 5, 1),
               add("logits", 5, FEATURES, LOGITS)),
    # Both parts are older, and of sizes that are no multiple of the words.
    "older parts": (fc("a", 3, 5, 3), relu("ra", 5), fc("b", 5, 4, 1), relu("rb", 4),
                    join("old", 8, FEATURES, "ra", result=SUM), fc("c", 4, 4, 4, reads="rb"),
                    add("sum", 4, "rb"), fc("d", 8, 4, 4, reads="old"), add("last", 4, "sum"),
                    fc("e", 4, 3, 2, LOGITS)),
}


def spec(name: str) -> NetworkSpec:
    return NetworkSpec(name="branches", input=INPUT, layers=NETWORKS[name])


@cache
def network(name: str) -> Network:
    """The network with all of its Dense layers trainable."""
    return made(NETWORKS[name])


def made(layers) -> Network:
    layers = [Dense(**vars(layer) | {"n_in": layer.n_in, "n_out": layer.n_out, "trainable": True,
                                     "accum": Fixed(24, 14)})
              if isinstance(layer, DenseSpec) else layer for layer in layers]
    return Network(name="branches", input=INPUT, layers=tuple(layers))


def test_sums_by_hand():
    """Quarters and unsigned halves: the sum is exact before it is rounded and clipped."""
    layer = Add(name="add", n=3, other="x", result=Fixed(4, 1, True, "RND", "SAT"))
    got = model.add(layer, np.array([-3, 5, 7]), Fixed(4, 2), np.array([2, 0, 7]),
                    Fixed(3, 1, False))
    assert got.tolist() == [1, 3, 7]
    assert layer.exact(Fixed(4, 2), Fixed(3, 1, False)) == (6, 2)
    assert layer.exact(Fixed(3, 1, False), Fixed(3, 1, False)) == (4, 1)


def test_concatenation_by_hand():
    layer = join("cat", 4, "x", "y", result=Fixed(4, 1, True, "RND", "SAT"))
    got = model.concatenate(layer, [(np.array([-3, 31]), Fixed(6, 2)),
                                    (np.array([-1, 3]), Fixed(3, 0))])
    assert got.tolist() == [-1, 7, -2, 6]


def test_frames_by_hand():
    def names(name):
        stages = network(name).stages
        assert [s.leaving for s in stages[:-1]] == [s.frame for s in stages[1:]]
        return [[vector.name for vector in stage.frame] for stage in stages]

    assert names("residual") == [[FEATURES], ["ra", FEATURES], ["rs"]]
    assert names("parallel") == [[FEATURES], [FEATURES, "ra"], ["cat"]]
    assert names("nested") == [[FEATURES], ["ra", FEATURES], ["rb", FEATURES, "ra"],
                               ["outer", FEATURES]]
    assert names("older parts") == [[FEATURES], ["ra", FEATURES], ["rb", "old"], ["old", "sum"],
                                    ["last"]]
    stage = network("nested").stages[2]
    assert stage.frame[1:] == (Vector(FEATURES, 5, INPUT), Vector("ra", 6, HIDDEN))
    # Words of 2, 2 and 2 codes; of 6 and 5 when the next stage reads all at once.
    assert stage.frame_width == 2 * 7 + 2 * 8 + 2 * 8 and stage.leaving_width == 6 * 11 + 5 * 8
    assert network("nested").branches and not Network(
        name="chain", input=INPUT, layers=network("nested").layers[:1]).branches


def test_passes_by_hand():
    """x = (x0, x1): a = x0 + x1; b = a + x, once for each; logits = (b, x) summed."""
    def ones(name, n_in, n_out, **more):
        one = Fixed(4, 0)
        return Dense(name=name, n_in=n_in, n_out=n_out, reuse_factor=1, weight=one, bias=one,
                     accum=Fixed(12, 0), result=Fixed(12, 0), bias_codes=np.zeros(n_out, int),
                     weight_codes=np.ones((n_out, n_in), int), **more)

    whole = Fixed(12, 0)
    net = Network(name="hand", input=Fixed(6, 0), layers=(
        ones("a", 2, 1), ones("b", 1, 2), add("sum", 2, FEATURES, whole),
        join("cat", 4, "sum", FEATURES, result=whole), ones("c", 4, 1)))
    found = dense.trace(net, np.array([[3, -1], [10, 20]]))
    assert found["sum"].tolist() == [[5, 1], [40, 50]]
    assert found["cat"].tolist() == [[5, 1, 3, -1], [40, 50, 10, 20]]
    assert found["c"].tolist() == [[8], [120]]


@pytest.mark.parametrize("name", NETWORKS)
def test_described(name):
    net = network(name)
    got = described(json.loads(json.dumps(net.describe())))
    assert got.describe() == net.describe() and got.stages[1].frame == net.stages[1].frame
    assert repr(got.describe()) == repr(net.describe())         # what the digest is made of


@pytest.mark.parametrize("change, message", [
    ({"reads": "rb"}, r"c: reads rb, needs a vector that is ready before it \(features, ra, rs\);"),
    ({"reads": FEATURES}, "rs: no layer reads it; remove it"),
    ({"reads": "ra"}, "c: 6 inputs after 4 outputs"),
], ids=str)
def test_refused_reading(change, message):
    *layers, last = network("residual").layers
    with pytest.raises(ValueError, match=message):
        Network(name="refused", input=INPUT, layers=(*layers, replace(last, **change)))


def test_refused_name():
    first, *layers = network("residual").layers
    with pytest.raises(ValueError, match="refused: a layer has the name of the features"):
        Network(name="refused", input=INPUT, layers=(replace(first, name=FEATURES), *layers))


@pytest.mark.parametrize("of, settings", [(FastLearner, Settings(layers=(0, 1))),
                                          (FastEvolution, Settings(rule="es", layers=(0, 1)))])
def test_compiled_models_refuse(of, settings):
    with pytest.raises(ValueError, match="b?: other vectors pass by, .* use .*learner.Learner"):
        of(network("residual"), settings)


@pytest.mark.parametrize("rule", ["np", "es"])
def test_experiments_take_the_plain_model(rule):
    device = SimpleNamespace(journal_records=0, manifest={
        "coefficient_bits": 1, "max_pairs": 4, "options": []})
    settings = Settings(rule=rule, layers=(0, 1))
    assert type(recover._model(network("residual"), settings, 4, device)) is Learner


@needs_gxx
def test_equal_to_hls4ml(tmp_path):
    """Every layer of all networks; lowered, they are what was asked for."""
    specs, rng = [replace(spec(name), name=f"n{k}") for k, name in enumerate(NETWORKS)], \
        np.random.default_rng(1)
    xs = [random_codes(rng, one.input, (300, one.dense[0].n_in)) for one in specs]
    emulated = emulate(specs, xs, tmp_path / "joint")
    for k, (one, x, expected) in enumerate(zip(specs, xs, emulated, strict=True)):
        got = lower(from_layers(one, tmp_path / f"n{k}"))
        assert [layer.name for layer in got.layers] == [layer.name for layer in one.layers]
        compare(got, dense.trace(got, x), expected, one.name)


@needs_gxx
def test_layers_in_any_order(tmp_path):
    """As Keras sorts them, by depth: chains are put together again, and the trace with them."""
    a, ra, b, rb, cat, c = NETWORKS["parallel"]
    graph = from_layers(spec("parallel"), tmp_path / "a", trace=True)
    by_depth = {name: graph.graph[name] for name in ("features", "a", "b", "ra", "rb", "cat", "c")}
    graph.graph.clear()
    graph.graph.update(by_depth)
    net, x = lower(graph), random_codes(np.random.default_rng(1), INPUT, (100, 6))
    assert [layer.name for layer in net.layers] == ["a", "ra", "b", "rb", "cat", "c"]
    expected, got = Emulation(graph).trace(x), dense.trace(net, x)
    assert list(got) == list(expected)
    for name in got:
        np.testing.assert_array_equal(got[name], expected[name], name)


def word(vectors, codes, s: int, words: int) -> tuple[int, int]:
    """Word s of a frame, vector by vector, and a mask of the bits that matter."""
    total = mask = at = 0
    for vector in vectors:
        full = (1 << vector.of.width) - 1
        for k in range(s, s + words * vector.lanes(words), words):
            if k < vector.n:
                total |= (int(codes[vector.name][k]) & full) << at
                mask |= full << at
            at += vector.of.width
    return total, mask


@pytest.mark.parametrize("pause", [0, 0.5])
@pytest.mark.parametrize("name, index", [
    (name, stage.index) for name in NETWORKS for stage in network(name).stages if stage.branches])
def test_hardware_equals_model(name, index, pause):
    """Drained twice each, the next pass is read meanwhile; passes of random codes."""
    stage, rng = network(name).stages[index], np.random.default_rng(index)
    dut, words, drain = Branches(stage), stage.dense.reuse_factor, stage.drain_words
    inputs, expected, read, free = {}, {}, 0, 0     # by cycle

    def at(cycle, **values):
        inputs.setdefault(cycle, {}).update(values)

    def gap():
        return int(rng.geometric(1 - pause)) if pause else 1

    for _ in range(6):
        frame = {v.name: random_codes(rng, v.of, (v.n,)) for v in stage.frame}
        acc = random_codes(rng, stage.dense.accum, (stage.dense.n_out,))
        codes = frame | dense.outputs(stage, acc, np.concatenate(list(frame.values())))
        for r in range(words):
            last = r == words - 1
            read = max(read + gap(), free - 1 if last else 0)
            at(read, x=word(stage.frame, frame, r, words)[0])
            at(read + 1, en=1, last=last)
        cycle = read + 2
        for _ in range(2):
            for s in range(drain):
                at(cycle, addr=s)
                leaves = cycle + 3 + stage.delay_cycles
                at(leaves, o_addr=s, outputs=word([stage.outputs], codes, s, drain)[0])
                expected[leaves, "o_data"] = word(stage.leaving, codes, s, drain)
                for n, layer in dut.adds.items():
                    delay = sum(before.delay_cycles for before in stage.activation[:n])
                    expected[cycle + 3 + delay, f"other{n}"] = word(
                        [dut.received[layer.other]], codes, s, drain)
                free, cycle = cycle, cycle + gap()

    async def bench(ctx):
        for cycle in range(max(inputs) + 1):
            for port in ("x", "en", "last", "addr", "o_addr", "outputs"):
                ctx.set(getattr(dut, port), inputs.get(cycle, {}).get(port, 0))
            for (when, port), (want, mask) in expected.items():
                if when == cycle:
                    assert ctx.get(getattr(dut, port)) & mask == want, (cycle, port)
            await ctx.tick()

    simulate(dut, bench, deadline=10 ** 5)


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name: str, prompt: bool = False) -> tuple:
        net = network(name).with_prompt() if prompt else network(name)
        return net, 4, build(net, tmp_path_factory.mktemp("core"), residual=4, max_pairs=4,
                             rules=("es",) if prompt else ("np", "es"))
    return get


@needs_gxx
@pytest.mark.parametrize("name", NETWORKS)
def test_inference_in_verilog(core, name):
    net, _, manifest = core(name)
    infers(net, manifest)


def infers(net, manifest) -> None:
    x, _ = samples(net, 200)
    with Device(manifest) as device:
        for idle, stall in ((0, 0), (0.5, 0), (0, 0.5), (0.4, 0.4)):
            np.testing.assert_array_equal(device.logits(x, idle=idle, stall=stall),
                                          dense.forward(net, x))


@needs_gxx
def test_adds_what_it_multiplies(tmp_path):
    """Nothing passes by, and yet the stage keeps what it reads."""
    net = made((fc("a", 4, 4, 2), add("sum", 4, FEATURES), fc("b", 4, 3, 4, LOGITS)))
    infers(net, build(net, tmp_path, learning=False))


@needs_gxx
@needs_da4ml
def test_around_constant_logic(tmp_path):
    """Its sums come later than those of multipliers; what passes by waits for them."""
    net = constant(network("residual").with_trainable(["c"]), 0, 1)
    assert net.stages[0].sum_delay_cycles + net.stages[1].sum_delay_cycles
    infers(net, build(net, tmp_path, learning=False))


@needs_gxx
@pytest.mark.parametrize("name", NETWORKS)
def test_learning_in_verilog(core, name):
    """Probes of each stage alone and of all; passes that enter in each stage, and in all."""
    net, _, _ = core(name)
    layers = [*[(k,) for k in net.trainable], net.trainable]
    by_nodes = [(Settings(layers=of, probes=3, lr_shift=5, head_shift=4, seed=71 + n), 12)
                for n, of in enumerate(layers)]
    by_weights = [(Settings(rule="es", layers=of, pairs=3, batch=2, lr_shift=3, seed=81 + n), 4)
                  for n, of in enumerate(layers)]
    learner = lockstep(core(name), *by_nodes, *by_weights, *by_nodes[-1:], learn_share=0.9,
                       predict_share=0.1)
    for k in net.trainable:
        assert (learner.state.weights[k] != Learner(net, by_nodes[0][0]).state.weights[k]).any()


@needs_gxx
@pytest.mark.parametrize("name", ["residual", "wide and deep"])
def test_prompt_in_verilog(core, name):
    """The features that go on are those with the prompt, and of a probe those with its noise."""
    net, *_ = core(name, prompt=True)
    prompt = len(net.stages)
    settings = Settings(rule="es", layers=(prompt,), pairs=3, lr_shift=2, sigma_log2=4, seed=91)
    learner = lockstep(core(name, prompt=True), (settings, 12), (
        replace(settings, layers=(1, prompt), seed=92), 8), predict_share=0.1)
    assert learner.deployed_network().prompt.any()


@needs_gxx
@pytest.mark.parametrize("name", NETWORKS)
def test_cycles(core, name):
    """Other vectors take no cycle."""
    net, _, manifest = core(name)
    x, y = samples(net, 24)
    with Device(manifest) as device:
        for settings in (Settings(layers=net.trainable, probes=3),
                         Settings(rule="es", layers=net.trainable[1:], pairs=2)):
            device.configure(settings)
            device.partial_fit(x, y)
            expected = schedule(net, 24, settings) if settings.rule == "np" else CycleModel(
                net, max_pairs=4).run(24, settings)
            start = device.in_cycles[0]
            np.testing.assert_array_equal(device.in_cycles - start, expected.in_cycles)
            np.testing.assert_array_equal(device.out_cycles - start, expected.out_cycles)

# amaranth: UnusedElaboratable=no
"""Constant logic: its adders against the matrix, engines and whole cores against the models."""
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_models import dense as model
from firmware_models.activation import Relu
from firmware_models.constant_product import register_levels
from firmware_models.cycles import CycleModel
from firmware_models.formats import Fixed
from firmware_models.line_rate_cycles import schedule
from firmware_models.network import Dense, Network, described
from firmware_models.settings import Settings
from hwgen import HwgenError, constant_logic
from hwgen.build import build
from hwgen.frontend import DenseSpec, Emulation, NetworkSpec, around_hls, from_layers, lower
from hwgen.frontend.layer_list import model_graph
from hwgen.frontend.quiet import quiet
from rtl.constant_product import ConstantProduct, adders
from sim.device import Device

from .da4ml import needs_da4ml
from .frontends import spec_of
from .lockstep import lockstep
from .networks import constant, samples, small_network
from .pysim import packed, simulate, wait
from .random_networks import random_codes, random_format
from .test_backend import TYPES, convert
from .test_dense import drawn, engine_equals_model

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
SMALL = small_network((12, 6, 4), (1,), {1: 3})


SOURCE, WEIGHT, BIAS = Fixed(5, 2), Fixed(5, 3), Fixed(4, 1)


def one_layer(weight_codes, source=SOURCE, weight=WEIGHT, bias=BIAS, reuse_factor=1,
              bias_codes=None) -> Network:
    """A constant layer whose accumulator is wide, but not of the products' fraction bits."""
    n_out, n_in = np.shape(weight_codes)
    frac = max(source.frac + weight.frac, bias.frac) + 1
    accum = Fixed(30, frac)
    return Network(name="one", input=source, layers=(Dense(
        name="fc", n_in=n_in, n_out=n_out, reuse_factor=reuse_factor, weight=weight, bias=bias,
        accum=accum, result=accum, weight_codes=np.array(weight_codes), constant=True,
        bias_codes=np.zeros(n_out, int) if bias_codes is None else bias_codes),))


@pytest.mark.parametrize("n_in, width, registers", [
    # One digit, and the bias: 0 + 2 + 1 levels, which is what lies between two registers.
    (1, 2, 1), (2, 2, 1),
    # 64 weights of 8 bits, each of 4 digits: 8 levels make one sum of 256 terms, 11 are possible.
    (64, 8, 3),
    # 3 * 3 terms need 4 levels.
    (3, 6, 2),
])
def test_registers_by_hand(n_in, width, registers):
    stage, = one_layer(np.zeros((2, n_in), int), weight=Fixed(width, 0)).stages
    assert register_levels(stage.dense) == registers
    assert stage.sum_delay_cycles == registers - 1
    assert replace(stage, dense=replace(stage.dense, constant=False)).sum_delay_cycles == 0


def test_description():
    """What has no constant layer is described, and digested, as before there were any."""
    network = constant(SMALL, 0)
    assert [layer.get("constant") for layer in network.describe()["layers"]] == [True, None, None]
    assert described(network.describe()).describe() == network.describe()
    assert network.digest() != SMALL.digest()


def test_refused_by_models():
    with pytest.raises(ValueError, match="fc2: constant logic cannot learn; name another layer"):
        constant(SMALL, 1)
    with pytest.raises(ValueError, match="fc1: constant logic cannot learn"):
        constant(SMALL, 0).with_trainable(["fc1"])
    first, *others = constant(SMALL, 0).layers
    with pytest.raises(ValueError, match=r"fc1: accumulator .* rounds; constant logic adds exact"):
        replace(SMALL, layers=(replace(first, accum=Fixed(20, 13)), *others))
    with pytest.raises(ValueError, match="fc: constant logic of weights of 25 bits; 24 are possi"):
        one_layer([[1]], weight=Fixed(25, 0))


def test_da4ml_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(constant_logic, "find_spec", lambda name: None)
    message = r'fc1: da4ml is missing, .* \(pip install "hwgen\[da\]"\), or set LayerName: fc1: Str'
    with pytest.raises(HwgenError, match=message):
        build(constant(SMALL, 0), tmp_path / "core")
    with pytest.raises(HwgenError, match=message):
        converted(tmp_path / "hls")


def evaluated(sums, terms, x):
    """What adders make of inputs [n, n_in]."""
    values = list(x.T)
    for of in sums[len(values):]:
        a, b = values[of.a] << of.a_shift, values[of.b] << of.b_shift
        values.append(a - b if of.subtract else a + b)
        assert of.low <= values[-1].min() and values[-1].max() <= of.high
    return np.transpose([np.zeros(len(x), int) if term is None
                         else (values[term.index] << term.shift) * (-1) ** term.negative
                         for term in terms])


@needs_da4ml
@pytest.mark.parametrize("seed", range(40))
def test_adders_are_the_matrix(seed):
    """Products with matrices that have rows and columns of zeros, or are a single number."""
    rng = np.random.default_rng(seed)
    n_out, n_in = rng.integers(1, 14, 2) if seed > 3 else (3, 1)
    weight, source = random_format(rng, width=int(rng.integers(1, 9))), random_format(rng)
    source = replace(source, signed=bool(seed % 3))
    codes = random_codes(rng, weight, (n_out, n_in)) * (rng.random((n_out, n_in)) < 0.7)
    codes[:, rng.integers(n_in)] *= seed % 2
    codes[rng.integers(n_out)] *= seed % 4 > 0
    x = random_codes(rng, source, (50, n_in))
    sums, terms = adders(codes, source)
    np.testing.assert_array_equal(evaluated(sums, terms, x), x @ codes.T)
    # As deep as cycles allow for, with the bias.
    layer, = one_layer(codes, source, weight).stages
    assert 1 + max(of.level for of in sums) <= 3 * (register_levels(layer.dense) + 1)


SAME = """
import numpy as np
from firmware_models.formats import Fixed
from rtl.constant_product import adders
print(adders(np.random.default_rng(1).integers(-128, 128, (10, 16)), Fixed(8, 0, False)))
"""


@needs_da4ml
def test_same_adders_in_every_process(pytestconfig):
    found = {subprocess.run([sys.executable, "-c", SAME], cwd=pytestconfig.rootpath, check=True,
                            capture_output=True, text=True).stdout for _ in range(2)}
    assert len(found) == 1


@needs_da4ml
@pytest.mark.parametrize("reuse_factor", [1, 2, 6])
def test_component_equals_model(reuse_factor):
    """Passes without a pause between them; a row of zeros has its bias."""
    rng = np.random.default_rng(reuse_factor)
    weights = rng.integers(-16, 16, (5, 6)) * np.array([1, 1, 0, 1, 1])[:, None]
    stage, = one_layer(weights, reuse_factor=reuse_factor,
                       bias_codes=rng.integers(-8, 8, 5)).stages
    dense, of = stage.dense, stage.source
    x = rng.integers(of.min, of.max + 1, (20, 6))
    words = x.reshape(len(x), -1, reuse_factor).swapaxes(1, 2).reshape(-1, 6 // reuse_factor)
    dut, got = ConstantProduct(stage), []

    async def bench(ctx):
        for word in [*words, *[words[0]] * register_levels(dense)]:
            ctx.set(dut.x, packed(word, of.width))
            _, _, *totals = await ctx.tick().sample(*dut.totals)
            got.append(totals)

    simulate(dut, bench, deadline=len(words) + 10)
    last = register_levels(dense) + reuse_factor - 1
    np.testing.assert_array_equal(got[last::reuse_factor], model.accumulate(dense, of, x))


ENGINES = {
    "one word": (small_network((6, 4, 3), reuse={0: 1, 1: 2}, extreme=True), 0),
    "several words": (small_network((12, 6, 3), reuse={0: 4, 1: 3}), 0),
    "one input a word": (small_network((12, 6, 3), reuse={1: 1}), 0),
    "one input, one output": (small_network((1, 1, 1)), 0),
    # More passes inside at once than with multipliers.
    "deep": (small_network((40, 2, 2), reuse={0: 1, 1: 1}), 0),
    "last stage": (small_network((6, 4, 5), reuse={1: 1}, extreme=True), 1),
}


@needs_da4ml
@pytest.mark.parametrize("idle, stall", [("none", "none"), ("some", "bursts"), ("most", "some")])
@pytest.mark.parametrize("case", ENGINES)
def test_engine_equals_model(case, idle, stall):
    network, index = ENGINES[case]
    engine_equals_model(constant(network, index), index, idle, stall)


@needs_da4ml
@settings(max_examples=15)
@given(st.data())
def test_component_in_any_format(data):
    """Binary points that do not meet, on both sides of the integers, and both ends of codes."""
    source, weight, bias = (data.draw(drawn((1, 8), (-3, 8))) for _ in range(3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    stage, = one_layer(random_codes(rng, weight, (3, 4)), source, weight, bias,
                       bias_codes=random_codes(rng, bias, (3,))).stages
    # It wraps where sums need more bits.
    stage = replace(stage, dense=replace(stage.dense, accum=replace(
        stage.dense.accum, width=data.draw(st.integers(2, 20)))))
    x = random_codes(rng, source, (6, 4))
    dut, got = ConstantProduct(stage), []

    async def bench(ctx):
        for row in x:
            ctx.set(dut.x, packed(row, source.width))
            await wait(ctx, register_levels(stage.dense))
            got.append([ctx.get(total) for total in dut.totals])

    simulate(dut, bench, deadline=6 * register_levels(stage.dense) + 10)
    np.testing.assert_array_equal(got, model.accumulate(stage.dense, source, x))


# Before, between and behind layers that learn, of which the last one reads several words.
AMONG = constant(small_network((9, 8, 6, 6, 4, 3), (1, 3), {0: 3, 1: 2, 2: 1, 3: 3, 4: 1},
                               hidden=Fixed(8, 6, False, "RND", "SAT")), 0, 2, 4)


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest."""
    return AMONG, 4, build(AMONG, tmp_path_factory.mktemp("core"), rules=("es", "np"), max_pairs=4)


@needs_da4ml
@needs_gxx
@pytest.mark.parametrize("chosen", [
    Settings(rule="es", layers=(1, 3), pairs=3, lr_shift=4, batch=2, seed=51),
    Settings(layers=(1, 3), probes=4, lr_shift=6, seed=52),
], ids=["es", "np"])
def test_lockstep(core, chosen):
    learner = lockstep(core, (chosen, 100))
    assert all((learner.state.weights[k] != start).any()
               for k, start in type(learner)(AMONG, chosen, 4).state.weights.items())


@needs_da4ml
@needs_gxx
@pytest.mark.parametrize("chosen", [
    None, Settings(rule="es", layers=(1, 3), pairs=3), Settings(layers=(1, 3), probes=8)],
    ids=["inference", "es", "np"])
def test_cycles(core, chosen):
    x, y = samples(AMONG, 40)
    with Device(core[2]) as device:
        if chosen:
            device.configure(chosen)
            device.partial_fit(x, y)
        else:
            device.predict(x)
        np_on = chosen is not None and chosen.rule == "np"
        expected = schedule(AMONG, 40, chosen) if np_on else CycleModel(AMONG).run(40, chosen)
        for got, want in ((device.in_cycles, expected.in_cycles),
                          (device.out_cycles, expected.out_cycles)):
            np.testing.assert_array_equal(got - device.in_cycles[0], want)


RESULT, HIDDEN = Fixed(12, 4, True, "RND", "SAT"), Fixed(7, 3, False, "RND", "SAT")


def converted(folder, *, trace=False, trainable=(), **first):
    """Constant layers first, in the middle and last, from hls4ml; changes of the first one."""
    rng = np.random.default_rng(1)

    def dense(name, n_in, n_out, **more):
        weight, bias = Fixed(6, 4), Fixed(7, 5)
        return DenseSpec(**dict(name=name, weight=weight, bias=bias, result=RESULT,
                         weight_codes=random_codes(rng, weight, (n_out, n_in)),
                         bias_codes=random_codes(rng, bias, (n_out,))) | more)

    return from_layers(NetworkSpec(name="net", input=Fixed(6, 5, False), layers=(
        dense("fc1", 8, 6, constant=True, **{"reuse_factor": 4} | first),
        Relu(name="relu1", n=6, result=HIDDEN), dense("fc2", 6, 6, reuse_factor=2),
        dense("fc3", 6, 5, constant=True, result=Fixed(20, 9)),
        Relu(name="relu3", n=5, result=HIDDEN), dense("fc4", 5, 4, constant=True),
    )), folder, trace=trace)


@needs_da4ml
@needs_gxx
def test_hls4ml(tmp_path):
    """Engines of every position, hls4ml's C++ and the golden model: every layer, every logit."""
    graph = converted(tmp_path / "hls", trace=True)
    network = lower(graph)
    assert [stage.dense.constant for stage in network.stages] == [True, False, True, True]
    x, _ = samples(network, 300)
    trace = model.trace(network, x)
    for name, codes in Emulation(graph).trace(x).items():
        np.testing.assert_array_equal(trace[name], codes, name)
    with Device(build(network, tmp_path / "core", learning=False)) as device:
        np.testing.assert_array_equal(device.logits(x), trace["fc4"])
        cycles = CycleModel(network, learning=False).run(300, logits=True).clock_cycles
        assert device.clock_cycles == cycles
        np.testing.assert_array_equal(device.logits(x, idle=0.4, stall=0.4), trace["fc4"])


REFUSED = {
    "words": (dict(reuse_factor=3), "fc1: 3 words do not divide its 8 inputs; set LayerName: fc1: "
                                    "InputWords to one of 1, 2, 4, 8"),
    "weights": (dict(weight=Fixed(25, 20)), "fc1: constant logic of weights of 25 bits; 24 are .*; "
                                            "set LayerName: fc1: Strategy: Resource"),
    "sums": (dict(bias=Fixed(7, 60), weight_codes=np.ones((6, 8), int)),
             "fc1: sums: .* 62 .*; set LayerName: fc1: Strategy: Resource"),
    # A step of 1/512 is all that one output can have.
    "result": (dict(result=Fixed(12, 7, True, "RND"), weight_codes=np.zeros((6, 8), int),
                    bias=Fixed(7, 9), bias_codes=np.array([1, 0, 0, 63, 0, 0])),
               "fc1: result type .* rounds away 2 bits of a value that has 1; set LayerName"),
}


@needs_da4ml
@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path):
    change, message = REFUSED[case]
    with pytest.raises(HwgenError, match=message):
        converted(tmp_path, **change)


@needs_da4ml
@pytest.mark.parametrize("layer, message", [
    ({"ReuseFactor": 4}, "fc1: reuse factor 4, constant logic needs 1; set LayerName: fc1: ReuseF"),
    ({"ReuseFactor": 1, "Precision": {**TYPES, "weight": "ap_fixed<7,2>"}},
     r"fc1: weight -?[\d.]+ is not a value of fixed<7,2>, .* set LayerName: fc1: Strategy: Res"),
    ({"ReuseFactor": 1, "Trainable": True}, "fc1: strategy distributed_arithmetic makes constant"),
])
def test_refused_by_backend(layer, message, tmp_path):
    with pytest.raises(HwgenError, match=message), quiet(tmp_path):
        convert(tmp_path, (4, 3), layer={"Strategy": "distributed_arithmetic"} | layer)


@needs_da4ml
def test_quantizer_of_elements_is_refused(tmp_path):
    """hls4ml makes it part of its C++, where nothing else shows it."""
    graph = converted(tmp_path)
    node = graph.graph["fc3"]
    code = node.get_attr("da_codegen")
    node.set_attr("da_codegen", type(code)(code.code.replace("model_inp[", "model_inp_q_[")))
    with pytest.raises(HwgenError, match="fc3: hls4ml made a quantizer with a type for every elem"):
        lower(graph)


@needs_da4ml
def test_backend_vitis_is_refused(tmp_path):
    spec = NetworkSpec(name="net", input=SOURCE, layers=(DenseSpec(
        name="fc1", weight=WEIGHT, bias=BIAS, result=RESULT, weight_codes=np.ones((2, 3), int),
        bias_codes=np.zeros(2, int), constant=True),))
    with pytest.raises(HwgenError, match="fc1: strategy .*, of which backend Vitis keeps no weights"
                                         "; convert with backend='Hwgen', or set LayerName: fc1"):
        lower(model_graph([spec], [""], tmp_path, trace=False))


@needs_da4ml
@needs_gxx
def test_inside_an_hls_core(tmp_path):
    """With engine hls the layer stays in hls4ml's C++; this package needs no da4ml for it."""
    network = constant(small_network((5, 6, 3), (1,), {0: 1, 1: 2}), 0)
    manifest = around_hls(from_layers(spec_of(network), tmp_path), tmp_path / "core", ["fc2"],
                          rules=("es",))
    assert "da4ml" not in json.loads(manifest.read_text())["tools"]
    lockstep((network, 4, manifest), (Settings(rule="es", layers=(1,), pairs=3, seed=7), 20))


@needs_da4ml
def test_it_cannot_learn(tmp_path):
    with pytest.raises(HwgenError, match="fc1: strategy distributed_arithmetic .* cannot learn; "
                                         "set LayerName: fc1: Strategy: Resource"):
        lower(converted(tmp_path), ["fc1"])

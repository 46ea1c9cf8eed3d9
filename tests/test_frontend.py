"""Front ends: what hls4ml computes is what we describe, and what we cannot describe is refused."""
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hls4ml.model.types import FixedPrecisionType, NamedType, RoundingMode, SaturationMode

from firmware_models import dense
from firmware_models.formats import Fixed
from hwgen import checkpoint, data
from hwgen.errors import HwgenError
from hwgen.frontend import Emulation, from_layers, lower
from hwgen.frontend.quiet import quiet
from tests.test_data import mnist

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    graph = from_layers(checkpoint.load("digits"), tmp_path_factory.mktemp("digits"), trace=True)
    return graph, lower(graph, trainable=["fc3"])


@pytest.fixture(scope="module")
def mnist_emulation(tmp_path_factory):
    dataset = mnist()
    graph = from_layers(checkpoint.load("mnist"), tmp_path_factory.mktemp("mnist"), trace=True)
    return dataset, lower(graph), Emulation(graph)


def test_description(digits):
    spec, network = checkpoint.load("digits"), digits[1]
    assert network.input == spec.input and network.trainable == (2,)
    for asked, got in zip(spec.layers, network.layers, strict=True):
        assert (asked.name, asked.result) == (got.name, got.result)
    for asked, stage in zip(spec.dense, network.stages, strict=True):
        assert stage.dense.reuse_factor == asked.n_in
        assert stage.dense.accum.overflow == "WRAP"
        np.testing.assert_array_equal(stage.dense.weight_codes, asked.weight_codes)
        np.testing.assert_array_equal(stage.dense.bias_codes, asked.bias_codes)


def test_reuse_factors_by_name(tmp_path):
    graph = from_layers(checkpoint.load("digits"), tmp_path, {"fc1": 8, "fc3": 4})
    assert [stage.dense.reuse_factor for stage in lower(graph).stages] == [8, 32, 4]
    with pytest.raises(HwgenError, match="reuse factor for unknown layer 'fc9'; .* fc1, fc2, fc3"):
        from_layers(checkpoint.load("digits"), tmp_path, {"fc9": 8})


@needs_gxx
def test_digits_equal(digits, capfd):
    graph, network = digits
    x = data.load("digits").x_test
    emulation = Emulation(graph)
    np.testing.assert_array_equal(emulation.logits(x), dense.forward(network, x))
    for n in (1, len(x)):                       # hls4ml drops the batch axis of one sample
        expected, got = emulation.trace(x[:n]), dense.trace(network, x[:n])
        assert list(got) == list(expected)
        for name in got:
            np.testing.assert_array_equal(got[name], expected[name], name)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(HwgenError, match=r"features have shape \(1, 63\); give one row of 64"):
        emulation.logits(x[:1, 1:])
    with pytest.raises(HwgenError, match="256 is not a code of ufixed<8,0>"):
        emulation.logits(np.full((1, 64), 256))
    # Emulation reads weights from text files, but the model keeps what it was given.
    assert not graph.config.get_writer_config()["WriteWeightsTxt"]


@needs_gxx
def test_mnist_every_logit_equal(mnist_emulation):
    dataset, network, emulation = mnist_emulation
    logits = emulation.logits(dataset.x_test)
    np.testing.assert_array_equal(dense.forward(network, dataset.x_test), logits)
    assert (logits.argmax(1) == dataset.y_test).mean() >= 0.960


@needs_gxx
def test_mnist_every_layer_equal(mnist_emulation):
    dataset, network, emulation = mnist_emulation
    expected, got = emulation.trace(dataset.x_test[:200]), dense.trace(network,
                                                                      dataset.x_test[:200])
    assert list(got) == list(expected) == ["fc1", "relu1", "fc2", "relu2", "fc3"]
    for name in got:
        np.testing.assert_array_equal(got[name], expected[name], name)


def test_gxx_missing(digits, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HwgenError, match=r"g\+\+ is missing.*apt install"):
        Emulation(digits[0])


# What follows builds small models in hls4ml's own words and expects a refusal.

PRECISION = {"weight": "ap_fixed<6,1>", "bias": "ap_fixed<8,3>", "accum": "auto",
             "result": "ap_fixed<12,5,AP_RND,AP_SAT>"}


def graph(folder, *, precision=(), layer=(), model=(), config=(), nodes=(), weight=0.0, bias=True,
          features="ap_ufixed<8,0>", more=(), outputs=None):
    """A model 6 - fc1 4 - `nodes`, changed by what is given."""
    first = {"name": "fc1", "class_name": "Dense", "inputs": ["features"], "n_in": 6, "n_out": 4,
             "weight_data": np.full((6, 4), weight), "bias_data": np.zeros(4) if bias else None}
    layers = [{"name": "features", "class_name": "InputLayer", "input_shape": [6]}, first]
    for node in nodes:
        layers.append({"inputs": [layers[-1]["name"]], "n_in": 4, **node})
    settings = {"Precision": PRECISION | dict(precision), "ReuseFactor": 3, "Strategy": "Resource"}
    return of_nodes(folder, layers, {"features": {"Precision": {"result": features}},
                                     "fc1": settings | dict(layer),
                                     "fc2": {"ReuseFactor": 1, "Strategy": "Resource"}}
                    | dict(more), model, config, outputs)


def of_nodes(folder, layers, names, model=(), config=(), outputs=None):
    """A model of these nodes, configured by name; the last one's outputs are the model's."""
    with quiet(folder):
        from hls4ml.model import ModelGraph
        from hls4ml.utils.config import create_config
        full = create_config(output_dir=str(folder), backend="Vitis",
                             **{"io_type": "io_parallel", "write_weights_txt": False}
                             | dict(config))
        full["HLSConfig"] = {
            "Model": {"Precision": "ap_fixed<16,6>", "ReuseFactor": 3, "Strategy": "Resource"}
            | dict(model), "LayerName": names}
        return ModelGraph.from_layer_list(full, layers, ["features"],
                                          outputs or [layers[-1]["name"]])


def test_small_model_is_accepted(tmp_path):
    network = lower(graph(tmp_path), ["fc1"])
    assert network.stages[0].dense.weight == Fixed(6, 5) and network.trainable == (0,)


def relu(name="relu1", **more):
    return {"name": name, "class_name": "Activation", "activation": "relu", **more}


def softmax(**more):
    return {"name": "out", "class_name": "Softmax", "activation": "softmax", "axis": -1, **more}


def fc2(n_in=6, n_out=3, **more):
    return {"name": "fc2", "class_name": "Dense", "n_in": n_in, "n_out": n_out,
            "weight_data": np.zeros((n_in, n_out)), "bias_data": np.zeros(n_out), **more}


ADD = {"name": "add", "class_name": "Merge", "op": "add", "inputs": ["relu1", "relu2"]}
CONCATENATE = {"name": "cat", "class_name": "Concatenate", "op": "concatenate1d", "axis": 1,
               "inputs": ["features", "fc1"]}
REFUSED = {
    "softmax inside": (dict(nodes=[softmax(), relu()]),
                       "out: a softmax before relu1, can only be the last layer; set LayerName: "
                       "out: Skip: true"),
    "softmax legacy": (dict(nodes=[softmax(implementation="legacy")]),
                       "out: softmax implementation legacy, needs stable, latency or argmax; set "
                       "LayerName: out: Implementation: stable"),
    "softmax of rows": (dict(nodes=[softmax(n_outer=2)]),
                        "out: 2 softmaxes side by side, needs one over all classes; put a Flatten"),
    "softmax table": (dict(nodes=[softmax(table_size=100)]),
                      "out: table of 100 entries, needs a power of two from 2 to 65536; "
                      "set LayerName: out: TableSize, exp_table_t, "),
    "softmax sum": (dict(nodes=[softmax()], more={"out": {
                        "exp_table_t": "ap_fixed<4,1>",
                        "Precision": {"accum": "ap_fixed<8,4,AP_TRN,AP_SAT>"}}}),
                    "out: accumulator fixed<8,4,TRN,SAT> saturates and the table has entries"),
    "softmax type": (dict(nodes=[softmax()], more={"out": {"inv_inp_t": "ap_fixed<9,3,AP_RND_INF>"}}
                          ), "out: inv_inp type .* rounds by RND_INF; set LayerName: out: inv_inp_t"
                     ),
    "softmax result": (dict(nodes=[softmax()],
                            more={"out": {"Precision": {"result": "ap_ufixed<32,1>"}}}),
                       r"out: result ufixed<32,1> and its sign do not fit a beat of 32 bits"),
    "unknown layer": (dict(nodes=[{"name": "act", "class_name": "Activation",
                                   "activation": "softplus"}]),
                      "act: unknown layer kind Activation softplus, needs one of docs/layers.md; "
                      "replace it"),
    "ends with relu": (dict(nodes=[relu()]), "relu1: the network ends with an activation, needs"),
    "no dense before": (dict(nodes=[relu(inputs=["features"])]), "relu1: fed by features, needs"),
    "slope out of range": (dict(nodes=[{"name": "act", "class_name": "LeakyReLU",
                                        "activation": "leakyrelu", "activ_param": 32.5}]),
                           r"act: param 32\.5 does not fit fixed<16,6>; set LayerName: act: "),
    "scale out of range": (dict(nodes=[{"name": "norm", "class_name": "BatchNormalization",
                                        "scale_data": np.full(4, 40.0),
                                        "bias_data": np.zeros(4)}]),
                           r"norm: scale 40.0* does not fit fixed<16,6>; .*Precision: scale to a"),
    "activation too wide": (dict(nodes=[relu(), {"name": "act", "class_name": "LeakyReLU",
                                                 "activation": "leakyrelu", "activ_param": 0.5}],
                                 precision={"result": "ap_fixed<60,5>"},
                                 more={"relu1": {"Precision": {"result": "ap_fixed<50,5>"}}}),
                            "act: its numbers need 66 bits, 62 are possible"),
    "activation rounds too much": (dict(
        nodes=[relu()], more={"relu1": {"Precision": {"result": "ap_fixed<12,44,AP_RND>"}}}),
        "relu1: result type .* rounds away .* bits of a value that has 12"),
    "strategy": (dict(layer={"Strategy": "Latency"}),
                 "fc1: strategy latency, needs Resource; set LayerName: fc1: Strategy: Resource"),
    "reuse factor": (dict(layer={"ReuseFactor": 5}),
                     r"fc1: reuse factor 5 does not divide its 6 inputs \(hls4ml would use \d+\); "
                     "set LayerName: fc1: ReuseFactor to one of 1, 2, 3, 6"),
    "reuse factor too large": (dict(layer={"ReuseFactor": 12}), "fc1: reuse factor 12 does not"),
    "accumulator": (dict(precision={"accum": "ap_fixed<20,8,AP_TRN,AP_SAT>"}),
                    "fc1: accumulator fixed<20,8,TRN,SAT> saturates, needs WRAP; .*accum to auto"),
    "rounding": (dict(precision={"result": "ap_fixed<12,5,AP_RND_ZERO>"}),
                 "fc1: result type .* rounds by RND_ZERO; set .* AP_TRN, AP_RND, AP_RND_CONV"),
    "overflow": (dict(precision={"result": "ap_fixed<12,5,AP_RND,AP_SAT_SYM>"}),
                 "fc1: result type .* overflows by SAT_SYM; set LayerName: fc1: Precision: result"),
    "width": (dict(precision={"result": "ap_fixed<70,5>"}), "width must be 1 to 62 bits, not 70"),
    "rounds too much": (dict(precision={"result": "ap_fixed<12,44,AP_RND>"}),
                        "rounds away .* bits of a value that has"),
    "ternary": (dict(precision={"weight": "ap_int<2>"}), "int<2> makes hls4ml multiply"),
    "weight not a code": (dict(weight=0.999999),
                          "fc1: weight .*0.999999.* is not a value of fixed<6,1>; round and clip"),
    "weight out of range": (dict(weight=1.0), "fc1: weight .*1.0.* is not a value of fixed<6,1>"),
    "dead end": (dict(nodes=[fc2(inputs=["features"])]), "fc1: no layer reads it; remove it from"),
    "elementwise behind a branch": (dict(nodes=[relu(), relu("relu2", inputs=["fc1"]), ADD, fc2()]),
                                    "relu2: fed by fc1, needs the layer before it, relu1; let it "
                                    "alone read the outputs of fc1, and branch off behind it"),
    "branch inside a stage": (dict(nodes=[relu(), fc2(n_in=4, n_out=4), dict(
        ADD, inputs=["fc2", "fc1"])]),
        r"add: reads fc1, needs a vector that is ready before it \(features, relu1\); branch off "
        "behind the last layer in front of the next Dense"),
    "cast beside a branch": (dict(
        nodes=[{"name": "cast", "class_name": "Activation", "activation": "linear"},
               fc2(n_in=4, n_out=4), dict(ADD, inputs=["fc2", "fc1"])],
        more={"cast": {"Precision": {"result": "ap_fixed<6,3>"}}}),
        r"add: reads fc1, needs a vector that is ready before it \(features, cast\); branch off"),
    "behind a Concatenate": (dict(nodes=[CONCATENATE, relu(n_in=10), fc2(n_in=10)]),
                             "relu1: stands behind the Concatenate cat; move it in front, behind "
                             "each of the parts"),
    "Concatenate at the end": (dict(nodes=[CONCATENATE]),
                               "cat: the network ends with a Concatenate, needs raw logits"),
    "early output": (dict(nodes=[fc2(inputs=["features"])], outputs=["fc1"]),
                     "fc2: feeds nothing, for the model ends with fc1; remove it"),
    "subtract": (dict(nodes=[relu(), fc2(n_in=4, n_out=4), dict(ADD, op="subtract", inputs=[
        "fc2", "relu1"])]), "add: subtract of two layers, needs Add or Concatenate; replace it"),
    "broadcast": (dict(nodes=[relu(), fc2(n_in=4, n_out=1), dict(ADD, inputs=["fc2", "relu1"])]),
                  "add: adds 4 outputs to 1, needs as many; give both layers the same size"),
    "uneven words": (dict(nodes=[CONCATENATE, fc2(n_in=10)], more={"fc2": {
        "ReuseFactor": 5, "Strategy": "Resource"}}),
        "fc2: reads words in which outputs of fc1 and other vectors do not lie evenly; set "
        "LayerName: fc2: ReuseFactor to one of 1, 2$"),
    "stream": (dict(config={"io_type": "io_stream"}), "has io_stream, needs io_parallel; convert"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path):
    change, message = REFUSED[case]
    with pytest.raises(HwgenError, match=message) as caught:
        lower(graph(tmp_path, **change))
    assert "\n" not in str(caught.value)

@needs_gxx
def test_reshaped(tmp_path):
    """Axes are row-major, and free; a softmax may have types and sizes as HGQ2 gives them."""
    def dense_of(name, n_in, n_out, **more):
        rng = np.random.default_rng(n_in)
        return {"name": name, "class_name": "Dense", "n_in": n_in, "n_out": n_out,
                "weight_data": rng.integers(-16, 16, (n_in, n_out)) / 16,
                "bias_data": rng.integers(-16, 16, n_out) / 16, **more}

    def reshape(name, *shape):
        return {"name": name, "class_name": "Reshape", "target_shape": list(shape)}

    norm = NamedType("norm_t", FixedPrecisionType(6, 3, False, RoundingMode.RND,
                                                  SaturationMode.SAT))
    nodes = [reshape("flat", 6), dense_of("fc1", 6, 4), reshape("rows", 2, 2),
             relu(n_in=4), reshape("flat2", -1), dense_of("fc2", 4, 3),
             softmax(n_in=3, inp_norm_t=norm, exp_table_size=64, inv_table_size=32, exp_scale=0.5)]
    layers = [{"name": "features", "class_name": "InputLayer", "input_shape": [2, 3]}]
    for node in nodes:
        layers.append({"inputs": [layers[-1]["name"]], **node})
    names = {name: {"Precision": PRECISION, "ReuseFactor": 2} for name in ("fc1", "fc2")}
    names |= {"features": {"Precision": {"result": "ap_ufixed<4,0>"}},
              "out": {"inv_inp_t": "ap_ufixed<7,3>"}}
    model = of_nodes(tmp_path, layers, names)
    network = lower(model, ["fc1"])
    assert [layer.name for layer in network.layers] == ["fc1", "relu1", "fc2", "out"]
    x = np.random.default_rng(1).integers(0, 16, (500, 6))
    emulation, got = Emulation(model), dense.trace(network, x)
    assert len(np.unique(got["out"])) > 10
    np.testing.assert_array_equal(emulation.logits(x), got["out"])
    np.testing.assert_array_equal(emulation.logits(x.reshape(-1, 2, 3)), got["out"])


REFUSED_TRAINABLE = {
    "auto weight": (dict(precision={"weight": "auto"}), "fc1: weight type is auto, .* explicit"),
    "auto bias": (dict(precision={"bias": "auto"}), "fc1: bias type is auto, .* explicit"),
    "no bias": (dict(bias=False), "fc1: has no bias, a trainable layer needs one"),
    "unsigned": (dict(precision={"weight": "ap_ufixed<6,1>"}), "unsigned, .* needs a signed one"),
    "narrow accumulator": (dict(precision={"accum": "ap_fixed<15,3>"}),
                           r"fc1: accumulator fixed<15,3> can overflow: its weights may sum to "
                           r"-9\.97656 or .*; set LayerName: fc1: Precision: accum to auto"),
    "weights in text files": (dict(config={"write_weights_txt": True}),
                              "convert with write_weights_txt=False"),
}


@pytest.mark.parametrize("case", REFUSED_TRAINABLE)
def test_refused_on_a_trainable_layer(case, tmp_path):
    change, message = REFUSED_TRAINABLE[case]
    model = graph(tmp_path, **change)
    lower(model)                                # frozen, it is fine
    with pytest.raises(HwgenError, match=message):
        lower(model, ["fc1"])


def test_types_from_values(tmp_path, capsys):
    model = graph(tmp_path, weight=0.25)
    # As hls4ml's bit_exact leaves it, which needs quantizer layers: types of today's weights.
    config = model.config.get_config_value("HLSConfig")
    config["Model"]["BitExact"] = True
    fc1 = list(model.get_layers())[1]
    fc1.weights["weight"].type.precision = FixedPrecisionType(2, 0, True)
    fc1.types["accum_t"].precision = FixedPrecisionType(13, 3, True)
    assert lower(model).stages[0].dense.weight == Fixed(2, 2)
    # The types asked for by name hold any weights.
    for _ in range(2):
        layer = lower(model, ["fc1"]).stages[0].dense
        assert (layer.weight, layer.accum) == (Fixed(6, 5), Fixed(18, 13))
        np.testing.assert_array_equal(layer.weight_codes, np.full((4, 6), 8))
    assert capsys.readouterr().out == (
        "fc1: types sized from values, widened to learn: weight fixed<2,0> to fixed<6,1>, "
        "accum fixed<13,3> to fixed<18,5>\n")
    config["LayerName"]["fc1"]["Precision"]["weight"] = "auto"
    with pytest.raises(HwgenError, match="fc1: its types were sized from the values of its .* set "
                       "LayerName: fc1: Precision: weight to an ap_fixed type"):
        lower(model, ["fc1"])
    config["LayerName"]["fc1"]["Precision"]["weight"] = "ap_fixed<3,2>"
    with pytest.raises(HwgenError, match="weight type fixed<3,2> does not hold its weight values"):
        lower(model, ["fc1"])
    fc1.types["accum_t"].precision = FixedPrecisionType(11, 1, True)
    with pytest.raises(HwgenError, match="fc1: its accumulator fixed<11,1> is too narrow"):
        lower(model, ["fc1"])


def test_type_narrower_than_asked(tmp_path):
    model = graph(tmp_path)
    layer = list(model.get_layers())[1]
    weight = layer.weights["weight"].type.precision
    weight.width -= 1
    with pytest.raises(HwgenError, match=r"weight type fixed<5,1> is not the .*<6,1.* asked for"):
        lower(model, ["fc1"])


def test_unknown_trainable_layer(digits):
    with pytest.raises(HwgenError, match="fc9: no such layer to train; .* fc1, fc2, fc3"):
        lower(digits[0], ["fc9"])


def test_codes_out_of_range(tmp_path):
    spec = checkpoint.load("digits")
    first = replace(spec.dense[0], weight=Fixed(4, 3))
    with pytest.raises(HwgenError, match="fc1: weight codes: .* is not a code of"):
        from_layers(replace(spec, layers=(first, *spec.layers[1:])), tmp_path)

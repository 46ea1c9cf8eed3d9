"""QONNX models as Brevitas exports them: Quant nodes on features, weights, biases, activations."""
import warnings

import numpy as np
import pytest

from firmware_models.activation import BatchNorm
from firmware_models.formats import Fixed
from hwgen import lower
from hwgen.errors import HwgenError
from hwgen.frontend.quiet import quiet

from .frontends import JET_TAGGER, MNIST, engines, equal, learns

pytest.importorskip("qonnx", reason="needs the extra qonnx")
onnx = pytest.importorskip("onnx", reason="needs the extra qonnx")

# hls4ml's ONNX parser and onnx itself use names that numpy and protobuf are about to drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FEATURES = "ap_ufixed<8,0,AP_RND_CONV,AP_SAT>"


class Graph:
    """An ONNX model, written node after node; each method returns the name of its output."""

    def __init__(self, n_in: int, n_out: int):
        self.n_in, self.n_out, self.nodes, self.constants = n_in, n_out, [], []

    def node(self, kind, *inputs, domain="", **attributes) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def constant(self, values) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def quant(self, source: str, scale, bits: int, signed: bool = True, narrow: bool = False):
        parameters = map(self.constant, (scale, 0, bits))
        return self.node("Quant", source, *parameters, domain="qonnx.custom_op.general",
                         signed=int(signed), narrow=int(narrow), rounding_mode="ROUND")

    def model(self, output: str):
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.transformation.gemm_to_matmul import GemmToMatMul
        from qonnx.util.cleanup import cleanup_model
        info = onnx.helper.make_tensor_value_info
        features = info("features", onnx.TensorProto.FLOAT, [1, self.n_in])
        logits = info(output, onnx.TensorProto.FLOAT, [1, self.n_out])
        graph = onnx.helper.make_graph(self.nodes, "model", [features], [logits], self.constants)
        opsets = [onnx.helper.make_opsetid("", 13),
                  onnx.helper.make_opsetid("qonnx.custom_op.general", 1)]
        wrapped = ModelWrapper(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")         # that Gemm is newer than qonnx asks for
            return cleanup_model(cleanup_model(wrapped).transform(GemmToMatMul()))


def perceptron(gemm: bool = False, weight_scale: float = 2.0 ** -6, hidden_scale: float = 2.0 ** -5,
               narrow: bool = False, normalized: bool = False, identity: bool = False,
               sizes=JET_TAGGER):
    rng = np.random.default_rng(1)
    graph = Graph(sizes[0], sizes[-1])
    x = graph.quant("features", 2.0 ** -8, 8, signed=False)
    for k, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        shape = (n_out, n_in) if gemm else (n_in, n_out)
        weight = graph.quant(graph.constant(rng.normal(0, 0.3, shape)), weight_scale, 8,
                             narrow=narrow)
        bias = graph.quant(graph.constant(rng.normal(0, 0.3, n_out)), 2.0 ** -7, 10)
        if gemm:
            x = graph.node("Gemm", x, weight, bias, transB=1)
        else:
            x = graph.node("Add", graph.node("MatMul", x, weight), bias)
        if normalized and k == 1:
            x = graph.node("BatchNormalization", x, *map(graph.constant, (
                rng.uniform(0.5, 2, n_out), rng.normal(0, 0.3, n_out), rng.normal(0, 0.3, n_out),
                rng.uniform(0.5, 2, n_out))))
        if k < len(sizes) - 2:
            x = graph.quant(graph.node("Relu", x), hidden_scale, 8, signed=False)
    return graph.model(graph.node("Identity", x) if identity else x)


def convert(model, folder, *trainable, sizes=JET_TAGGER, **layers):
    with quiet(folder):
        from hls4ml.converters import convert_from_onnx_model
        from hls4ml.utils import config_from_onnx_model
        config = config_from_onnx_model(model, granularity="name", backend="Hwgen",
                                        default_precision="fixed<16,6>")
        for name, settings in config["LayerName"].items():
            settings["Trace"] = True
            settings["Trainable"] = name in trainable
            settings |= layers.get(name, {})
        config["LayerName"]["global_in"] = {"Precision": {"result": FEATURES}} \
            | layers.get("global_in", {})
        for k, n_in in enumerate(sizes[:-1]):
            config["LayerName"][f"MatMul_{k}"]["ReuseFactor"] = n_in
        return convert_from_onnx_model(model, hls_config=config, output_dir=str(folder),
                                       backend="Hwgen", io_type="io_parallel")


@pytest.mark.parametrize("gemm", [False, True])
def test_jet_tagger(gemm, tmp_path):
    model = convert(perceptron(gemm), tmp_path / "hls", "MatMul_3")
    network = equal(model)
    assert [layer.name for layer in network.layers] == [
        "Dense_MatMul_0", "Relu_0", "Dense_MatMul_1", "Relu_1", "Dense_MatMul_2", "Relu_2",
        "Dense_MatMul_3"]
    # The types that the Quant nodes declare.
    assert network.input == Fixed(8, 8, False, "RND_CONV", "SAT")
    assert network.stages[0].result == Fixed(8, 5, False, "RND_CONV", "SAT")
    learning = network.stages[3].dense
    assert (learning.weight.width, learning.weight.frac) == (8, 6)
    assert (learning.bias.width, learning.bias.frac) == (10, 7)
    engines(model)
    learns(network, tmp_path / "core")


def test_mnist(tmp_path):
    model = convert(perceptron(sizes=MNIST), tmp_path, "MatMul_3", sizes=MNIST)
    assert equal(model).n_in == 784
    engines(model)


def test_symmetric_weights(tmp_path, capsys):
    """Brevitas leaves the lowest code out; what learns may have it."""
    model = convert(perceptron(narrow=True, weight_scale=2.0 ** -9), tmp_path)
    network = lower(model, ["Dense_MatMul_3"])
    assert capsys.readouterr().out == ("Dense_MatMul_3: weight type is symmetric; it learns in the "
                                       "whole range of fixed<8,-1,RND_CONV,SAT>\n")
    assert network.stages[0].dense.weight_codes.min() == -127
    equal(model)


@pytest.mark.parametrize("changes", [{"weight_scale": 0.01}, {"normalized": True}])
def test_scales_become_weights(changes, tmp_path):
    """An ApplyAlpha behind Dense is one layer with it; a BatchNormalization is one of its own."""
    model = convert(perceptron(**changes), tmp_path / "hls", "MatMul_3"
                    if "normalized" in changes else "")
    kinds = [node.class_name for node in model.get_layers()]
    assert "ApplyAlpha" in kinds or "BatchNormalization" in kinds
    network = equal(model)
    normalized = any(isinstance(layer, BatchNorm) for layer in network.layers)
    assert normalized == ("normalized" in changes)
    assert normalized or max(stage.dense.weight.width for stage in network.stages) > 8
    if network.trainable:
        learns(network, tmp_path / "core")


REFUSED = {
    "scaled layer learns": (dict(weight_scale=0.01), ["MatMul_3"], {},
                            "bn_Add_3: scales the outputs of Dense_MatMul_3, which learns; let "
                            ".* give the Quant nodes of a QONNX model scales that are one power"),
    "scaled activation": (dict(hidden_scale=0.03), [], {},
                          "Quant_9_scale: scales the outputs of Relu_0, needs Dense there"),
    "features": (dict(), [], {"global_in": {"Precision": {"result": "ap_fixed<16,6>"}}},
                 "Quant_0_act: casts the features from fixed<16,6> to ufixed<8,0,RND_CONV,SAT>, "
                 ".*; set LayerName: global_in: Precision: result to ufixed<8,0,RND_CONV,SAT>"),
    "identity": (dict(identity=True), [], {}, "the model has no outputs; end an ONNX model with"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path):
    changes, trainable, layers, message = REFUSED[case]
    with pytest.raises(HwgenError, match=message):
        convert(perceptron(**changes), tmp_path, *trainable, **layers)

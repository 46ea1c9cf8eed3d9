"""HGQ2 models: types sized from values, exact as they are, wider where weights learn."""
import os

import numpy as np
import pytest

from firmware_models import dense
from firmware_models.formats import Fixed
from hwgen import lower
from hwgen.errors import HwgenError
from hwgen.frontend.quiet import quiet

from .frontends import JET_TAGGER, MNIST, engines, equal, learns

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")   # of numpy 2, inside Keras
os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("hgq", reason="needs the extra hgq2")

ONE_TYPE = {"heterogeneous_axis": (), "homogeneous_axis": None}
SATURATING = ONE_TYPE | {"overflow_mode": "SAT"}


def perceptron(folder, types=SATURATING, shifts: int = 0, sizes=JET_TAGGER):
    """Quantized by 8 bits, or by up to `shifts` more or less, one or one for each weight."""
    with quiet(folder):
        import keras
        from hgq.config import QuantizerConfigScope
        from hgq.layers import QDense
        from hgq.utils import trace_minmax
        rng = np.random.default_rng(1)
        keras.utils.set_random_seed(1)
        scopes = {"weight": {"i0": 1}, "bias": {"i0": 1}, "datalane": {"f0": 5} | types}
        with QuantizerConfigScope(place="weight", **scopes["weight"]), \
                QuantizerConfigScope(place="bias", **scopes["bias"]), \
                QuantizerConfigScope(place="datalane", **scopes["datalane"]):
            x = features = keras.Input((sizes[0],), name="features")
            for k, n_out in enumerate(sizes[1:], 1):
                x = QDense(n_out, name=f"fc{k}", activation="relu" if k < len(sizes) - 1 else None,
                           bias_initializer=keras.initializers.RandomNormal(stddev=0.3))(x)
        model = keras.Model(features, x)
        for layer in model.layers[1:]:
            for quantizer in (layer.kq, layer.bq, layer.iq):
                for variable in quantizer.quantizer.trainable_variables:
                    more = rng.integers(-shifts, shifts + 1, variable.shape)
                    variable.assign(np.asarray(variable) + more)
        trace_minmax(model, rng.normal(size=(500, sizes[0])).astype(np.float32))
    return model


def convert(model, folder, *trainable, **layers):
    settings = {}
    for layer in model.layers[1:]:
        name = layer.name
        settings[f"{name}_relu"] = {"Trace": True}
        settings[name] = {"Trace": True, "Trainable": name in trainable,
                          "ReuseFactor": layer.kernel.shape[0]} | layers.get(name, {})
    with quiet(folder):
        from hls4ml.converters import convert_from_keras_model
        return convert_from_keras_model(
            model, output_dir=str(folder), backend="Hwgen", io_type="io_parallel",
            hls_config={"Model": {"Precision": "fixed<16,6>", "ReuseFactor": 1},
                        "LayerName": settings})


@pytest.mark.parametrize("types", [SATURATING, ONE_TYPE], ids=["SAT", "WRAP"])
def test_frozen(types, tmp_path):
    """The types are as hls4ml gives them."""
    network = equal(convert(perceptron(tmp_path, types, shifts=1), tmp_path))
    assert all(layer.result.overflow == types.get("overflow_mode", "WRAP")
               for layer in network.layers if "relu" in layer.name)


@pytest.mark.parametrize("trainable", [["fc4"], ["fc2"]])
def test_types_of_what_learns(trainable, tmp_path, capsys):
    model = convert(perceptron(tmp_path), tmp_path)
    frozen = {layer.name: layer for layer in lower(model).layers}
    assert capsys.readouterr().out == ""
    network = lower(model, trainable)
    lines = capsys.readouterr().out.splitlines()
    # From the first layer that learns on; once for a model.
    changed = ["fc4"] if trainable == ["fc4"] else ["fc2", "fc3", "fc4"]
    assert [line.split(":")[0] for line in lines] == changed
    lower(model, trainable)
    assert capsys.readouterr().out == ""
    learning = network.stages[network.trainable[0]].dense
    # Declared: 8 bits and a sign, one of them an integer bit.
    assert learning.weight == Fixed(9, 7) and frozen[learning.name].weight.width < 9
    assert f"weight {frozen[learning.name].weight} to fixed<9,2>, bias" in lines[0]
    for layer in network.layers:
        before = frozen[layer.name]
        if layer.name not in changed:
            assert layer.result == before.result
        elif "relu" not in layer.name:
            assert layer.accum.width >= before.accum.width + (layer.name in trainable)
            assert layer.result.frac == before.result.frac
    # Nothing changes until a weight does.
    x = np.random.default_rng(1).integers(network.input.min, network.input.max + 1, (1000, 16))
    np.testing.assert_array_equal(dense.forward(network, x), dense.forward(lower(model), x))


def test_any_weights(tmp_path):
    """At the ends of all learning types no sum overflows."""
    names = ["fc1", "fc2", "fc3", "fc4"]
    network = lower(convert(perceptron(tmp_path), tmp_path), names)
    x = np.full((1, 16), network.input.min)
    for stage in network.stages:
        layer = stage.dense
        weights = np.where(np.arange(layer.n_out)[:, None] % 2, layer.weight.min, layer.weight.max)
        weights = np.broadcast_to(weights, (layer.n_out, layer.n_in))
        biases = np.where(np.arange(layer.n_out) % 2, layer.bias.max, layer.bias.min)
        sums = dense.accumulate(layer, stage.source, x, weights, biases)
        exact = (x @ weights.T << layer.accum.frac - stage.source.frac - layer.weight.frac) \
            + (biases << layer.accum.frac - layer.bias.frac)
        np.testing.assert_array_equal(sums, exact)
        result = layer.result
        assert result.max << layer.accum.frac - result.frac >= exact.max()
        x = dense.activate(stage, exact)


@pytest.mark.parametrize("shifts", [0, 2])
def test_jet_tagger(shifts, tmp_path):
    """Also where every weight has a width of its own."""
    model = convert(perceptron(tmp_path / "hls", shifts=shifts), tmp_path / "hls", "fc2", "fc4")
    network = equal(model)
    assert network.trainable == (1, 3)
    engines(model)
    learns(network, tmp_path / "core")


def test_mnist(tmp_path):
    model = convert(perceptron(tmp_path, sizes=MNIST), tmp_path, "fc4")
    assert equal(model).n_in == 784
    engines(model)


def test_type_by_name(tmp_path):
    model = convert(perceptron(tmp_path), tmp_path, "fc4",
                    fc4={"Precision": {"weight": "ap_fixed<12,3>"}})
    assert lower(model).stages[3].dense.weight == Fixed(12, 9)
    with pytest.raises(HwgenError, match="fc4: weight type fixed<4,3> does not hold its weight"):
        convert(perceptron(tmp_path), tmp_path, "fc4",
                fc4={"Precision": {"weight": "ap_fixed<4,3>"}})


def test_declared_types_lost(tmp_path):
    model = convert(perceptron(tmp_path), tmp_path)
    del model.config.config["KerasModel"]
    lower(model)
    with pytest.raises(HwgenError, match="fc4: its types were sized from the values of its .*; set "
                       "LayerName: fc4: Precision: weight to an ap_fixed type"):
        lower(model, ["fc4"])


def test_a_type_for_every_element(tmp_path):
    with pytest.raises(HwgenError, match="fc1_iq: quantizes every element by a type of its own, "
                       "needs one type for all; give HGQ2's QuantizerConfig of place 'datalane' "
                       r"heterogeneous_axis=\(\)"):
        convert(perceptron(tmp_path, types={}, shifts=1), tmp_path)

"""Keras 3 models: fused names, fused normalization, weights that hls4ml cuts to codes."""
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from firmware_models.activation import BatchNorm
from firmware_models.formats import Fixed
from hwgen.errors import HwgenError
from hwgen.frontend.quiet import quiet

from .frontends import HIDDEN, JET_TAGGER, MNIST, TYPES, engines, equal, learns

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")   # of numpy 2, inside Keras
os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="needs the extra keras")


def perceptron(sizes=JET_TAGGER):
    """With every way that Keras has to say ReLU, and normalized once."""
    sizes = iter(sizes)
    model = keras.Sequential([
        keras.Input((next(sizes),), name="features"),
        keras.layers.Dense(next(sizes), name="fc1", activation="relu"),
        keras.layers.Dense(next(sizes), name="fc2"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Activation("relu", name="relu2"),
        keras.layers.Dense(next(sizes), name="fc3"),
        keras.layers.ReLU(name="relu3"),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(next(sizes), name="fc4", activation="linear")])
    return random(model)


def random(model):
    """The model with random weights."""
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.1, 0.9, array.shape) if "moving_variance" in variable.path
                       else rng.normal(0, 0.3, array.shape)
                       for array, variable in zip(model.get_weights(), model.weights, strict=True)])
    return model


def convert(model, folder, **layers):
    """As hls4ml's users do, layers configured by name."""
    with quiet(folder):
        from hls4ml.converters import convert_from_keras_model
        from hls4ml.utils import config_from_keras_model
        config = config_from_keras_model(model, granularity="name", backend="Hwgen")
        for name, settings in config["LayerName"].items():
            settings["Trace"] = True
            if "relu" in name:
                settings["Precision"] |= HIDDEN
            if name.startswith("fc") and "_" not in name:
                settings["ReuseFactor"] = int(model.get_layer(name).kernel.shape[0])
            for key, value in layers.get(name, {}).items():
                settings[key] = settings["Precision"] | value if key == "Precision" else value
        return convert_from_keras_model(model, hls_config=config, output_dir=str(folder),
                                        backend="Hwgen", io_type="io_parallel")


def test_jet_tagger(tmp_path):
    model = convert(perceptron(), tmp_path / "hls", fc4={"Trainable": True, "Precision": TYPES})
    network = equal(model)
    assert [layer.name for layer in network.layers] == \
        ["fc1", "fc1_relu", "fc2", "relu2", "fc3", "relu3", "fc4"]
    assert network.stages[3].dense.weight == Fixed(8, 6)
    engines(model)
    learns(network, tmp_path / "core")


def test_mnist(tmp_path):
    model = convert(perceptron(MNIST), tmp_path, fc4={"Trainable": True, "Precision": TYPES})
    assert equal(model).n_in == 784
    engines(model)


def test_softmax(tmp_path):
    """As most models end, with all that config_from_keras_model writes but the logits' type."""
    model = perceptron()
    model.add(keras.layers.Softmax(name="softmax"))
    network = equal(convert(model, tmp_path, fc4={"Precision": {
        "result": "ap_fixed<10,4,AP_RND,AP_SAT>"}}))
    assert network.softmax.name == "softmax" and network.softmax.accum.overflow == "SAT"


def test_branches(tmp_path):
    """A functional model: a residual block, and features that go around it."""
    layers = keras.layers
    features = keras.Input((16,), name="features")
    x = layers.Dense(8, name="fc1", activation="relu")(features)
    x = layers.Activation("relu", name="relu2")(
        layers.Add(name="add")([layers.Dense(8, name="fc2")(x), x]))
    x = layers.Dense(5, name="fc3")(layers.Concatenate(name="cat")([features, x]))
    model = random(keras.Model(features, x))
    with pytest.raises(HwgenError, match="set LayerName: fc3: ReuseFactor to one of 1, 2, 4, 8"):
        convert(model, tmp_path / "a")
    network = equal(convert(model, tmp_path / "b", fc3={"ReuseFactor": 8}, fc2={
        "Trainable": True, "Precision": TYPES | {"result": "ap_fixed<12,5>"}}))
    assert [layer.name for layer in network.layers] == \
        ["fc1", "fc1_relu", "fc2", "add", "relu2", "cat", "fc3"]
    learns(network, tmp_path / "core")


def test_normalized_layer_learns(tmp_path):
    """Normalization is fused before the weights become codes; what learns are those."""
    model = convert(perceptron(), tmp_path / "hls", fc2={"Trainable": True, "Precision": TYPES})
    learns(equal(model), tmp_path / "core")


def test_normalization_behind_rounded_sums(tmp_path):
    """A type for the result keeps hls4ml from fusing."""
    model = convert(perceptron(), tmp_path, fc2={"Precision": {"result": "ap_fixed<9,3>"}})
    assert any(isinstance(layer, BatchNorm) for layer in equal(model).layers)


def test_normalization_that_is_not_fused(tmp_path):
    """It is a layer of its own, also behind one that learns."""
    wide = {"Precision": TYPES | {"accum": "ap_fixed<32,14>", "result": "ap_fixed<32,14>"}}
    kept = {"Precision": {"scale": "ap_fixed<10,4>", "bias": "ap_fixed<10,4>",
                          "result": "ap_fixed<20,10,AP_RND_CONV,AP_SAT>"}}
    model = convert(perceptron(), tmp_path / "a", fc1={"Precision": TYPES},
                    fc2=wide | {"Trainable": True}, norm=kept)
    network = equal(model)
    assert isinstance(network.stages[1].activation[0], BatchNorm) and network.trainable == (1,)
    learns(network, tmp_path / "core")


def test_explicit_types_of_what_learns(tmp_path):
    with pytest.raises(HwgenError, match="fc4: weight type is auto, a trainable layer needs an"):
        convert(perceptron(), tmp_path, fc4={"Trainable": True})


def test_weights_that_wrap(tmp_path):
    model = perceptron()
    kernel, bias = model.get_layer("fc4").get_weights()
    model.get_layer("fc4").set_weights([np.ones_like(kernel), bias / 9])
    with pytest.raises(HwgenError, match="fc4: weight 1.0 is not a value of fixed<8,1>; round"):
        convert(model, tmp_path, fc4={"Precision": {"weight": "ap_fixed<8,1>"}})


DIGEST = """
import json, sys
from hwgen import lower
from tests.test_keras import convert, keras, perceptron
print(json.dumps([keras.backend.backend(), lower(convert(perceptron(), sys.argv[1])).digest()]))
"""


def test_back_ends_of_keras(tmp_path):
    digests = {}
    for name in ("jax", "torch"):
        if importlib.util.find_spec(name):
            run = subprocess.run([sys.executable, "-c", DIGEST, str(tmp_path)], check=True,
                                 text=True, stdout=subprocess.PIPE,
                                 env=os.environ | {"KERAS_BACKEND": name})
            used, digests[name] = json.loads(run.stdout.splitlines()[-1])
            assert used == name
    if len(digests) < 2:
        pytest.skip(f"needs jax and torch, there is {', '.join(digests)}")
    assert len(set(digests.values())) == 1

"""What the tests of the front ends do with a model that hls4ml converted."""
import numpy as np

from firmware_models import dense
from firmware_models.network import Dense, Network
from firmware_models.settings import Settings
from firmware_models.softmax import readout
from hwgen import Emulation, build, lower
from hwgen.frontend import DenseSpec, NetworkSpec

from .lockstep import lockstep
from .networks import samples

# Networks of hls4ml's documentation.
JET_TAGGER = (16, 64, 32, 32, 5)
MNIST = (784, 64, 32, 32, 10)
TYPES = {"weight": "ap_fixed<8,2>", "bias": "ap_fixed<8,2>"}
HIDDEN = {"result": "ap_ufixed<8,3,AP_RND,AP_SAT>"}


def spec_of(network: Network) -> NetworkSpec:
    """What hls4ml is asked for to get a network back."""
    return NetworkSpec(name="net", input=network.input, layers=tuple(
        DenseSpec(name=layer.name, weight=layer.weight, bias=layer.bias, result=layer.result,
                  weight_codes=layer.weight_codes, bias_codes=layer.bias_codes,
                  reuse_factor=layer.reuse_factor, accum=layer.accum, constant=layer.constant,
                  reads=layer.reads)
        if isinstance(layer, Dense) else layer for layer in network.layers))


def equal(model, count: int = 1000) -> Network:
    """The lowered network, whose layers all equal those of hls4ml's C++ on random inputs."""
    network = lower(model)
    x, _ = samples(network, count)
    emulation = Emulation(model)
    expected, got = emulation.trace(x), dense.trace(network, x)
    assert list(got) == list(expected) == [layer.name for layer in network.layers]
    for name in got:
        assert len(np.unique(got[name])) > 3, f"{name} says nothing"
        np.testing.assert_array_equal(got[name], expected[name], name)
    np.testing.assert_array_equal(emulation.logits(x),
                                  readout(network, dense.forward(network, x)))
    return network


def engines(model, count: int = 1000) -> None:
    """Predictions of random inputs are the same by every engine of the back end."""
    network = lower(model)
    x, _ = samples(network, count)
    x = np.ascontiguousarray(x * 2.0 ** -network.input.frac)
    model.compile()
    expected = model.predict(x, engine="cpp")
    assert len(np.unique(expected)) > count // 4
    for engine in ("golden", "rtl"):
        np.testing.assert_array_equal(model.predict(x, engine=engine), expected, engine)


def learns(network: Network, folder, updates: int = 20) -> None:
    """The Verilated core takes the steps of the golden model."""
    start = network.stages[network.trainable[0]].dense.weight_codes
    settings = Settings(layers=network.trainable, lr_shift=3, probes=4)
    learner = lockstep((network, 4, build(network, folder)), (settings, updates))
    assert (learner.state.weights[network.trainable[0]] >> 4 != start).any()

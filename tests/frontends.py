"""What the tests of the front ends do with a model that hls4ml converted."""
import numpy as np

from firmware_models import dense
from firmware_models.network import Network
from firmware_models.settings import Settings
from hwgen import Emulation, build, lower

from .lockstep import lockstep
from .networks import samples

JET_TAGGER = (16, 64, 32, 32, 5)        # of hls4ml's documentation
TYPES = {"weight": "ap_fixed<8,2>", "bias": "ap_fixed<8,2>"}
HIDDEN = {"result": "ap_ufixed<8,3,AP_RND,AP_SAT>"}


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
    np.testing.assert_array_equal(emulation.logits(x), dense.forward(network, x))
    return network


def learns(network: Network, folder, updates: int = 20) -> None:
    """The Verilated core takes the steps of the golden model."""
    start = network.stages[network.trainable[0]].dense.weight_codes
    settings = Settings(layers=network.trainable, lr_shift=3, probes=4)
    learner = lockstep((network, 4, build(network, folder)), (settings, updates))
    assert (learner.state.weights[network.trainable[0]] >> 4 != start).any()

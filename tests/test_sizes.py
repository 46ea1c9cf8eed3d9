"""Every reuse factor, and layers wider than random networks have: C++, golden model, Verilog."""
import shutil

import numpy as np
import pytest

from firmware_models import dense
from firmware_models.settings import Settings
from hwgen.build import build
from hwgen.frontend import Emulation, from_layers, lower

from .frontends import spec_of
from .lockstep import lockstep
from .networks import INPUT, small_network
from .random_networks import random_codes
from .test_random_networks import SAMPLES, compare, emulate, in_verilog

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.mark.parametrize("divisors", [
    (1, 4, 12), pytest.param((2, 3, 6), marks=pytest.mark.nightly)], ids=str)
def test_every_reuse_factor(divisors, tmp_path):
    """From one word with all inputs to one input in each word; 7 and 5 outputs."""
    sizes = (12, 7, 5)
    specs = [spec_of(small_network(sizes, reuse={0: k, 1: 7 if k % 2 else 1})) for k in divisors]
    x = random_codes(np.random.default_rng(1), INPUT, (SAMPLES, sizes[0]))
    emulated = emulate(specs, [x] * len(specs), tmp_path / "joint")
    for k, spec, expected in zip(divisors, specs, emulated, strict=True):
        network = lower(from_layers(spec, tmp_path / f"hls{k}"))
        assert network.stages[0].dense.reuse_factor == k
        compare(network, dense.trace(network, x), expected, f"reuse factor {k}")
        in_verilog(k, network, x, dense.forward(network, x), tmp_path / f"core{k}")


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_wide_layers(tmp_path):
    """784-128-64-10 infers, and learns in its widest layer and its last one."""
    spec = spec_of(small_network((784, 128, 64, 10)))
    x = random_codes(np.random.default_rng(1), INPUT, (SAMPLES, 784))
    graph = from_layers(spec, tmp_path / "hls", trace=True)
    network, expected = lower(graph), Emulation(graph).trace(x)
    for name, codes in dense.trace(network, x).items():
        np.testing.assert_array_equal(codes, expected[name], name)
    network = network.with_trainable(["fc1", "fc3"])
    manifest = build(network, tmp_path / "core")
    learner = lockstep((network, 4, manifest), (Settings(layers=(0, 2), lr_shift=3, probes=4), 6))
    assert (learner.deployed_network().stages[0].dense.weight_codes
            != network.stages[0].dense.weight_codes).any()

"""Random networks: golden model and hls4ml's C++ agree on every layer, bit for bit."""
import shutil

import numpy as np
import pytest

from firmware_models import dense
from hwgen.frontend import Emulation, from_layers, lower
from tests.random_networks import random_codes, random_spec

COUNT, NIGHTLY_COUNT = 20, 200
SAMPLES = 200

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def agree(seed: int, folder) -> None:
    rng = np.random.default_rng(seed)
    spec = random_spec(rng, f"random{seed}")
    graph = from_layers(spec, folder, trace=True)
    network = lower(graph)
    x = random_codes(rng, spec.input, (SAMPLES, network.n_in))
    emulation = Emulation(graph)
    expected = emulation.trace(x)
    got = dense.trace(network, x)
    assert list(got) == list(expected)
    for name in got:
        np.testing.assert_array_equal(got[name], expected[name], f"seed {seed}: {name} of {spec}")
    np.testing.assert_array_equal(dense.forward(network, x), emulation.logits(x), f"seed {seed}")


@pytest.mark.parametrize("seed", range(COUNT))
def test_golden_equals_emulation(seed, tmp_path):
    agree(seed, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(COUNT, NIGHTLY_COUNT))
def test_golden_equals_emulation_nightly(seed, tmp_path):
    agree(seed, tmp_path)

"""Random networks: hls4ml's C++, golden model and Verilog agree bit for bit; some of them learn."""
import shutil

import numpy as np
import pytest

from firmware_models import dense
from firmware_models.cycles import CycleModel
from firmware_models.learner import Learner, Settings, compare
from hwgen.build import build
from hwgen.frontend import Emulation, from_layers, lower
from sim.device import Device
from tests.random_networks import random_codes, random_spec

COUNT, NIGHTLY_COUNT = 20, 200
SAMPLES = 200
LEARNING_EVERY = 4          # networks that also learn in Verilog

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
    logits = emulation.logits(x)
    np.testing.assert_array_equal(dense.forward(network, x), logits, f"seed {seed}")
    if seed % LEARNING_EVERY:
        with Device(build(network, folder / "core", learning=False)) as device:
            np.testing.assert_array_equal(device.logits(x), logits, f"seed {seed}")
            schedule = CycleModel(network, learning=False).run(SAMPLES, logits=True)
            assert device.clock_cycles == schedule.clock_cycles
            np.testing.assert_array_equal(device.logits(x, idle=0.4, stall=0.4), logits)
    else:
        learn(rng, network, x, logits, folder / "core")


def learn(rng, network, x, logits, folder) -> None:
    """All layers trainable, any residual bits, any settings: lockstep with the golden model."""
    network = network.with_trainable([stage.dense.name for stage in network.stages])
    residual, max_pairs = int(rng.integers(0, 9)), int(rng.integers(1, 9))
    chosen = [i for i in network.trainable if rng.integers(2)] or [network.trainable[-1]]
    settings = Settings(
        layers=tuple(chosen), pairs=int(rng.integers(1, max_pairs + 1)),
        batch=int(rng.integers(1, 3)), fitness=str(rng.choice(["sign", "rank"])),
        sigma_log2=int(rng.integers(0, 8)), lr_shift=int(rng.integers(0, 16)),
        lr_decay=int(rng.integers(0, 4)), seed=int(rng.integers(1, 2**32)))
    learner = Learner(network, settings, residual)
    y = rng.integers(0, network.n_classes, len(x))
    with Device(build(network, folder, residual=residual, max_pairs=max_pairs)) as device:
        np.testing.assert_array_equal(device.logits(x, idle=0.4, stall=0.4), logits)
        # The logits above went through the loss unit, as unperturbed passes of class 0.
        for row in x:
            learner.step(row, 0, learn=False)
        device.configure(settings)
        for k in range(8):
            device.partial_fit(x[k:k + 1], y[k:k + 1])
            learner.step(x[k], int(y[k]))
            assert not (difference := compare(learner.state, device.state())), (k, difference)
        schedule = CycleModel(network).run(20, settings, batch_index=learner.state.batch_index)
        device.partial_fit(x[8:28], y[8:28])
        for k in range(8, 28):
            learner.step(x[k], int(y[k]))
        assert device.clock_cycles == schedule.clock_cycles
        assert not compare(learner.state, device.state())


@pytest.mark.parametrize("seed", range(COUNT))
def test_golden_equals_emulation(seed, tmp_path):
    agree(seed, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(COUNT, NIGHTLY_COUNT))
def test_golden_equals_emulation_nightly(seed, tmp_path):
    agree(seed, tmp_path)

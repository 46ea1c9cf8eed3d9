"""A million samples through the Verilated core, learning all the time."""
import pytest

from firmware_models.fast import FastLearner
from firmware_models.learner import compare
from firmware_models.settings import Settings
from hwgen import data, example
from hwgen.build import build
from hwgen.recover import stream
from sim.device import Device

CHUNK = 20_000


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("samples", [1_000_000])
def test_no_stall_and_equal_at_the_end(samples, tmp_path):
    """digits, K = 8, random idle and back-pressure; a stall would end in a SimulationError."""
    network, _ = example.prepare("digits", tmp_path)
    settings = Settings(layers=network.trainable, seed=9)
    learner = FastLearner(network, settings)
    x, y = stream(data.load("digits"), "rotate:30", samples, 9)
    with Device(build(network, tmp_path / "core"), seed=9) as device:
        device.configure(settings)
        for start in range(0, samples, CHUNK):
            part = slice(start, start + CHUNK)
            pause = 0.3 * (start // CHUNK % 3)
            got = device.partial_fit(x[part], y[part], idle=0.01 + pause, stall=pause / 2)
            assert (got == learner.learn(x[part], y[part])).all(), f"chunk from {start}"
            assert compare(learner.state, device.state()) == "", f"chunk from {start}"
        assert device.read("samples") == samples and device.read("status") == 0
        assert device.read("dropped") == 0

"""The MNIST example's core, in Verilog, on images of the test set."""
import numpy as np

from firmware_models.dense import forward
from hwgen import example
from hwgen.build import build
from sim.device import Device
from tests.test_data import mnist

IMAGES = 1000


def test_logits_of_test_images(tmp_path):
    dataset = mnist()
    network, _ = example.prepare("mnist", tmp_path)
    x = dataset.x_test[:IMAGES].astype(np.int64)
    with Device(build(network, tmp_path / "core")) as device:
        np.testing.assert_array_equal(device.logits(x), forward(network, x))
        # The first layer's 784 words decide: a sample every 784 cycles.
        assert (np.diff(device.in_cycles[8:]) == 784).all()

"""Packing of samples by hand; refusals are tested through the device, tests/test_device.py."""
import numpy as np
import pytest

from firmware_models.formats import Fixed
from firmware_models.network import Network
from firmware_models.sample_packets import BeatLayout, beat_layout, check_samples, pack
from tests.networks import small_network


@pytest.mark.parametrize("width, bits, per_beat, beats", [
    (8, 8, 4, 2), (5, 8, 4, 2), (9, 16, 2, 3), (16, 16, 2, 3), (17, 32, 1, 5), (32, 32, 1, 5)])
def test_layout(width, bits, per_beat, beats):
    network = small_network((5, 3), source=Fixed(width, 0, signed=False))
    assert beat_layout(network) == BeatLayout(
        element_bits=bits, elements_per_beat=per_beat, beats=beats)


def test_features_wider_than_a_beat():
    network = small_network((5, 3), source=Fixed(33, 0))
    with pytest.raises(ValueError, match="features of 33 bits do not fit a beat of 32"):
        beat_layout(network)
    assert isinstance(network, Network)


def test_pack_by_hand():
    bytes_in = BeatLayout(element_bits=8, elements_per_beat=4, beats=2)
    assert pack(np.array([[1, 2, 3, 4, 0xFF]]), bytes_in).tolist() == [[0x04030201, 0xFF]]
    halves = BeatLayout(element_bits=16, elements_per_beat=2, beats=2)
    assert pack(np.array([[-1, 2, -3]]), halves).tolist() == [[0x2FFFF, 0xFFFD]]


def test_one_sample_or_many():
    assert check_samples([1, 2], 2, Fixed(8, 0)).tolist() == [[1, 2]]
    assert check_samples(np.array([[1.0, 2.0]]), 2, Fixed(8, 0)).dtype == np.int64

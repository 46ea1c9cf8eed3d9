"""Checkpoints of the example networks."""
import numpy as np
import pytest

from firmware_models.dense import forward
from firmware_models.formats import Fixed
from hwgen import checkpoint, data, example
from hwgen.errors import HwgenError
from hwgen.recover import TEST_NOISE_SEED
from tests.test_data import load


@pytest.mark.parametrize("name, sizes", [("digits", [64, 32, 16, 10]),
                                         ("mnist", [784, 32, 16, 10]),
                                         ("fashion", [784, 32, 16, 10]),
                                         ("speech", [512, 32, 16, 10]),
                                         ("ecg", [128, 32, 16, 2])])
def test_structure(name, sizes):
    spec = checkpoint.load(name)
    assert [layer.n_in for layer in spec.dense] + [spec.dense[-1].n_out] == sizes
    assert spec.input == Fixed(8, 8, signed=False)
    for layer in spec.dense:
        assert layer.reuse_factor == layer.n_in and layer.accum is None
        assert (layer.weight.width, layer.bias.width) == (8, 8)
        layer.weight.check(layer.weight_codes)
        layer.bias.check(layer.bias_codes)
        # Room to learn on the chip: few weights near the ends of their range.
        assert (np.abs(layer.weight_codes) > 100).mean() < 0.01
    for layer in spec.layers[1::2]:
        assert (layer.result.width, layer.result.signed) == (8, False)


@pytest.mark.parametrize("name, known, before", [
    ("fashion", 8775, 4376), ("speech", 179, 120), ("ecg", 1934, 551)])
def test_right_answers(name, known, before, tmp_path):
    """How many of the test split of what it knows are right, and of what it has to adapt to."""
    dataset = load(name)
    network, _ = example.prepare(name, tmp_path)
    disturbed = data.disturb(dataset.x_test, example.EXPERIMENTS[name]["disturb"], TEST_NOISE_SEED)
    for (x, y), right in ((dataset.known(), known), ((disturbed, dataset.y_test), before)):
        assert (forward(network, x.astype(np.int64)).argmax(1) == y).sum() == right


def test_size():
    assert sum(path.stat().st_size for path in checkpoint.FOLDER.iterdir()) < 250_000


def test_saving_gives_the_same_bytes(tmp_path):
    path = checkpoint.save(checkpoint.load("digits"), tmp_path)
    assert path.read_bytes() == (checkpoint.FOLDER / "digits.npz").read_bytes()


def test_missing(tmp_path):
    with pytest.raises(HwgenError, match="digits.npz is missing; .*examples.train digits"):
        checkpoint.load("digits", tmp_path)


def test_unknown(tmp_path):
    with pytest.raises(HwgenError, match="unknown example 'resnet'; there are digits, mnist"):
        example.prepare("resnet", tmp_path)


def test_corrupt_anywhere(tmp_path):
    good = bytearray((checkpoint.FOLDER / "digits.npz").read_bytes())
    for damage in (slice(0, 4), slice(200, 201), slice(len(good) // 2, None), slice(0, None)):
        bad = good.copy()
        bad[damage] = bytes(255 - value for value in good[damage])
        (tmp_path / "digits.npz").write_bytes(bad)
        with pytest.raises(HwgenError, match="digits.npz is corrupt"):
            checkpoint.load("digits", tmp_path)


def test_changed_weight(tmp_path):
    with np.load(checkpoint.FOLDER / "digits.npz") as file:
        arrays = {key: file[key] for key in file.files}
    arrays["fc1.weight"][0, 0] ^= 1
    np.savez(tmp_path / "digits.npz", **arrays)
    with pytest.raises(HwgenError, match="checksum does not match"):
        checkpoint.load("digits", tmp_path)

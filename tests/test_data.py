"""Data sets, checks of what a user brings, and disturbances."""
import numpy as np
import pytest

from hwgen import data
from hwgen.errors import HwgenError


def mnist():
    try:
        data.find_mnist(download=False)
    except HwgenError as error:
        pytest.skip(str(error))
    return data.load("mnist")


def test_digits():
    digits = data.load("digits")
    assert digits.x_train.shape == (1400, 64) and digits.x_test.shape == (397, 64)
    assert digits.x_train.dtype == np.uint8 and digits.y_train.dtype == np.int64
    # The bundled set has levels 0 to 16.
    assert set(np.unique(digits.x_train)) <= {*range(0, 256, 16), 255}
    assert set(digits.y_test) == set(range(10))


def test_validation_is_no_part_of_training():
    digits = data.load("digits")
    (x, y), (x_held, y_held) = digits.training(), digits.validation()
    assert (len(x), len(x_held)) == (1200, 200)
    np.testing.assert_array_equal(np.concatenate([x, x_held]), digits.x_train)
    np.testing.assert_array_equal(np.concatenate([y, y_held]), digits.y_train)


def test_mnist():
    dataset = mnist()
    assert dataset.x_train.shape == (60000, 784) and dataset.x_test.shape == (10000, 784)
    # Published counts of the classes.
    assert np.bincount(dataset.y_test).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(dataset.validation()[0]) == 5000


def test_unknown_name():
    with pytest.raises(HwgenError, match="unknown data set 'cifar'; choose one of digits, mnist"):
        data.load("cifar")


def test_missing_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HWGEN_DATA", str(tmp_path))
    with pytest.raises(HwgenError, match="no mnist.npz in the folder"):
        data.load("mnist")


def test_corrupt_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HWGEN_DATA", str(tmp_path))
    (tmp_path / "mnist.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(HwgenError, match="is not the Keras mnist.npz"):
        data.load("mnist")


def test_no_network(tmp_path, monkeypatch):
    import pooch

    def retrieve(*_):
        raise ConnectionError("no route")
    monkeypatch.delenv("HWGEN_DATA", raising=False)
    monkeypatch.setattr(data, "SHARED", tmp_path)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(HwgenError, match="could not download mnist.npz .*set HWGEN_DATA to its"):
        data.load("mnist")


def test_file_of_wrong_shape(tmp_path, monkeypatch):
    monkeypatch.setenv("HWGEN_DATA", str(tmp_path))
    x, y = np.zeros((5, 28, 28), np.uint8), np.zeros(5, np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(HwgenError, match="train split is uint8"):
        data.load("mnist")


def test_label_out_of_range(tmp_path, monkeypatch):
    monkeypatch.setenv("HWGEN_DATA", str(tmp_path))
    x, y = np.zeros((60000, 28, 28), np.uint8), np.full(60000, 10, np.uint8)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:10000],
                        y_test=y[:10000])
    with pytest.raises(HwgenError, match="mnist.npz: label 10 is out of range; the classes are 0 "):
        data.load("mnist")


def test_rotation_by_hand():
    x = np.arange(9, dtype=np.uint8)[None]
    assert data.disturb(x, "rotate:90", 0).reshape(3, 3).tolist() == [
        [2, 5, 8], [1, 4, 7], [0, 3, 6]]
    # At 45 degrees the corners come from outside the image: black.
    assert data.disturb(x + 1, "rotate:45", 0).reshape(3, 3)[1, 1] == 5
    assert data.disturb(np.full((1, 16), 9, np.uint8), "rotate:45", 0)[0, 0] == 0


def test_disturbances_do_what_they_say():
    grey = np.full((500, 64), 128, np.uint8)
    assert (data.disturb(grey, "none", 0) == grey).all()
    assert (data.disturb(grey, "invert", 0) == 127).all()
    stuck = data.disturb(grey, "stuck:0.25", 3).reshape(-1, 8, 8) == 255
    assert (stuck == stuck[0, 0]).all() and stuck[0, 0].sum() == 2
    noise = data.disturb(grey, "noise:0.1", 3).astype(float)
    assert abs(noise.std() - 25.5) < 0.5 and abs(noise.mean() - 128) < 0.5
    impulse = data.disturb(grey, "impulse:0.2", 3)
    assert abs((impulse == 0).mean() - 0.1) < 0.01 and abs((impulse == 255).mean() - 0.1) < 0.01
    assert (grey == 128).all()


@pytest.mark.parametrize("kind", ["noise:0.3", "stuck:0.3", "impulse:0.3"])
def test_seed_decides(kind):
    x = np.arange(256, dtype=np.uint8).reshape(4, 64)
    first = data.disturb(x, kind, 1)
    assert (data.disturb(x, kind, 1) == first).all()
    assert (data.disturb(x, kind, 2) != first).any()


@pytest.mark.parametrize("kind", ["fog", "noise", "noise:", "noise:-1", "noise:nan", "stuck:2",
                                  "invert:1", "rotate:x", ""])
def test_unknown_disturbance(kind):
    with pytest.raises(HwgenError, match="unknown disturbance .*; choose one of none, noise:STD"):
        data.disturb(np.zeros((1, 64), np.uint8), kind, 0)


def test_disturb_refuses_other_shapes():
    with pytest.raises(HwgenError, match="one square image of bytes per row"):
        data.disturb(np.zeros((1, 63), np.uint8), "invert", 0)

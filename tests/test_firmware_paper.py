"""Generated C with scales and zero points, and with floats, against the golden model."""
import numpy as np
import pytest

from firmware_models.fqt import integer
from firmware_models.fqt.paper import MODES, Settings, init, logits
from firmware_models.fqt.softmax import head_error
from hwgen.firmware import generate
from hwgen.firmware.state import pack, unpack
from sim import board
from sim.firmware import Firmware, Storage

from .trained_firmware import lockstep, needs_gcc, predicted, trained
from .trained_networks import DIGITS, EVERY_KIND, PARTS, drawn, weights_of

SETTINGS = {
    "plain": dict(lr=0.05, batch=4, standardize=False),
    "fixed": dict(lr=0.01, batch=1, moving_errors=False, floor_errors=True),
    "partial": dict(lr=0.01, batch=4, lmin=80, lmax=200)}


def loss_of(layers):
    return lambda state, x, label: head_error(logits(layers, state, x), label)[0]


@needs_gcc
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("layers", [EVERY_KIND, PARTS], ids=["every kind", "parts"])
def test_equal(tmp_path, digits, layers, name, mode):
    lockstep(layers, init(layers, *weights_of(layers), mode), Settings(**SETTINGS[name]),
             digits.x_train[:80], digits.y_train[:80], tmp_path, loss_of(layers))


@needs_gcc
@pytest.mark.parametrize("number", range(12))
def test_random_networks(tmp_path, number, request):
    """Also with weights and learning rates with which everything saturates."""
    rng = np.random.default_rng([request.config.getoption("seed"), number])
    layers, x, y = drawn(rng)
    settings = Settings(
        lr=float(rng.choice([1e-3, 0.1, 1000])), batch=int(rng.choice([1, 4])),
        standardize=bool(rng.random() < 0.5), moving_errors=bool(rng.random() < 0.5),
        floor_errors=bool(rng.random() < 0.5), lmin=int(rng.choice([0, 128, 256])))
    weights = weights_of(layers, number, float(rng.choice([0.1, 6, 1e6])))
    lockstep(layers, init(layers, *weights, MODES[number % 3]), settings, x, y, tmp_path,
             loss_of(layers))


@needs_gcc
@pytest.mark.parametrize("mode", MODES)
def test_no_undefined_behaviour(tmp_path, digits, monkeypatch, mode):
    """The sanitizers of the compiler end the program where it leaves its memory or the standard."""
    state = init(EVERY_KIND, *weights_of(EVERY_KIND), mode)
    settings = Settings(**SETTINGS["partial"])
    generate(EVERY_KIND, state, tmp_path, settings=settings)
    monkeypatch.setenv("CFLAGS", "-O1 -g -fsanitize=address,undefined,float-cast-overflow "
                                 "-fno-sanitize-recover=all")
    done = board.run(tmp_path, "host", digits.x_train[:50], digits.y_train[:50], range(50),
                     range(20))
    state = trained(EVERY_KIND, state, settings, digits.x_train[:50], digits.y_train[:50])
    assert done.state == pack(EVERY_KIND, state)
    np.testing.assert_array_equal(done.classes, predicted(EVERY_KIND, state, digits.x_train[:20]))


@needs_gcc
@pytest.mark.parametrize("mode", MODES)
def test_save_and_load(tmp_path, digits, mode):
    """In the middle of a batch: its gradient is not saved, and begins anew."""
    state = init(DIGITS, *weights_of(DIGITS), mode)
    settings = Settings(lr=0.01, batch=4)
    generate(DIGITS, state, tmp_path, settings=settings)
    firmware, x, y = Firmware(tmp_path), digits.x_train, digits.y_train
    storage = Storage(len(firmware.state()) + 20)
    for n in range(6):
        firmware.train_step(x[n], y[n])
    assert firmware.save(storage) == 0
    firmware.reset()
    assert firmware.state() == pack(DIGITS, state)
    firmware.train_step(x[0], y[0])
    assert firmware.load(storage) == 0
    state = unpack(DIGITS, state, firmware.state())
    assert state.samples == 6 and pack(DIGITS, state) == firmware.state()
    for n in range(6, 9):
        firmware.train_step(x[n], y[n])
        state = trained(DIGITS, state, settings, x[n:n + 1], y[n:n + 1])
        assert firmware.state() == pack(DIGITS, state)
    firmware.reset()
    assert firmware.state() == pack(DIGITS, init(DIGITS, *weights_of(DIGITS), mode))


def test_a_folder_holds_one_arithmetic(tmp_path):
    """Sources of the one before are gone, and settings of the other one are refused."""
    weights = weights_of(DIGITS)
    generate(DIGITS, integer.init(DIGITS, *weights), tmp_path)
    told = generate(DIGITS, init(DIGITS, *weights, "mixed"), tmp_path)
    assert not (tmp_path / "training.c").exists() and (tmp_path / "paper.c").exists()
    assert told["gradient_bytes"] == 4 * (65 * 32 + 33 * 10)
    generate(DIGITS, integer.init(DIGITS, *weights), tmp_path)
    assert (tmp_path / "training.c").exists() and not (tmp_path / "paper.c").exists()
    with pytest.raises(ValueError, match=r"settings of firmware_models.fqt.paper; this state needs "
                                         r"those of firmware_models.fqt.integer"):
        generate(DIGITS, integer.init(DIGITS, *weights), tmp_path, settings=Settings())

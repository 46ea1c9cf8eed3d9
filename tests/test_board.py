"""Generated firmware on emulated boards: the same state as the golden model's, and its cost."""
import numpy as np
import pytest

from firmware_models.fqt import paper
from firmware_models.fqt.integer import Settings
from firmware_models.fqt.layers import dense, sequential
from hwgen.firmware import example, generate
from hwgen.firmware.state import pack
from sim import board
from sim.errors import SimulationError

from .test_firmware import SETTINGS, started
from .trained_firmware import predicted, trained
from .trained_networks import EVERY_KIND, weights_of

LACKING = board.missing("m4")
needs_boards = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))


def equal(folder, core, state, settings, x, y, n):
    """A board that learns from the first n samples and classifies the rest is the golden model."""
    generate(EVERY_KIND, state, folder, settings=settings)
    done = board.run(folder, core, x, y, range(n), range(n, len(x)))
    state = trained(EVERY_KIND, state, settings, x[:n], y[:n])
    assert done.state == pack(EVERY_KIND, state)
    np.testing.assert_array_equal(done.classes, predicted(EVERY_KIND, state, x[n:]))
    return done


@needs_boards
@pytest.mark.parametrize("core", board.MACHINES)
def test_equal(tmp_path, digits, core):
    """Every kind of layer, partial updates, standardization, skipped samples, decay."""
    settings = Settings(**SETTINGS["all"])
    state = started(EVERY_KIND, mean=digits.x_train.mean(0))
    done = equal(tmp_path, core, state, settings, digits.x_train[:300], digits.y_train[:300], 260)
    assert len(done.losses) == 260 and done.losses.min() >= 0


@needs_boards
@pytest.mark.parametrize("core", board.MACHINES)
def test_equal_in_floats(tmp_path, digits, core):
    """Mode mixed has layers of bytes and of floats: with a floating-point unit, and without."""
    settings = paper.Settings(lr=0.01, batch=8, lmin=80)
    state = paper.init(EVERY_KIND, *weights_of(EVERY_KIND), "mixed")
    equal(tmp_path, core, state, settings, digits.x_train[:30], digits.y_train[:30], 20)


@needs_boards
def test_a_step_too_long_to_count(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(board, "ICOUNT_SHIFT", 10)
    layers = sequential((8, 8, 1), dense(1200), dense(10))
    generate(layers, started(layers), tmp_path)
    with pytest.raises(SimulationError, match="a sample takes more ticks than the counter's 24"):
        board.run(tmp_path, "m4", digits.x_train[:1], digits.y_train[:1], [0], [])


@needs_boards
@pytest.mark.parametrize("core, instructions", [("m0plus", 120_000), ("m4", 45_000)])
def test_digits_from_scratch(tmp_path, core, instructions):
    """Three epochs, each sample by itself: accuracy, instructions a step, bytes."""
    task = example.task("digits")
    x, y = example.stream("digits", task.samples, 1)
    x_test, y_test = example.test_split("digits")
    generate(task.layers, example.start("digits", 1), tmp_path, settings=task.settings)
    done = board.run(tmp_path, core, np.concatenate([x, x_test]), np.append(y, y_test),
                     range(len(x)), range(len(x), len(x) + len(x_test)))
    assert example.accuracy(done.classes, y_test, False) >= 96.2
    assert 0 < done.train_instructions <= instructions
    assert 0 < done.test_instructions < done.train_instructions
    assert done.ram_bytes + done.stack_bytes <= 8192


def test_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(board.shutil, "which", lambda name: None if "arm" in name else name)
    with pytest.raises(SimulationError, match="arm-none-eabi-gcc is missing; on Debian and "
                                              "Ubuntu: apt install gcc-arm-none-eabi"):
        board.build(tmp_path, "m7")


@needs_boards
def test_firmware_that_fails(tmp_path, digits):
    """A sample that is not there, and sources that do not compile."""
    generate(EVERY_KIND, started(EVERY_KIND), tmp_path)
    with pytest.raises(SimulationError, match="samples.bin: there is no sample 5"):
        board.run(tmp_path, "m4", digits.x_train[:5], digits.y_train[:5], [5], [])
    (tmp_path / "training.c").write_text("nonsense")
    with pytest.raises(SimulationError, match="make CORE=m4 failed"):
        board.run(tmp_path, "m4", digits.x_train[:5], digits.y_train[:5], [0], [])

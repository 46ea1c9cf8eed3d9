"""What the tests of the firmware share: C beside its golden model."""
import numpy as np
import pytest

from hwgen.firmware import arithmetic_of, generate
from hwgen.firmware.state import pack
from sim import board
from sim.firmware import Firmware

needs_gcc = pytest.mark.skipif(board.missing("host") is not None, reason=str(board.missing("host")))


def trained(layers, state, settings, x, y):
    """The golden model's state after samples x [n, n_in] of the classes y [n]."""
    for sample, label in zip(x, y, strict=True):
        state = arithmetic_of(state).MODEL.train_step(layers, state, sample, label, settings)
    return state


def predicted(layers, state, x) -> np.ndarray:
    """The golden model's classes [n] of samples x [n, n_in]."""
    return arithmetic_of(state).MODEL.predict(layers, state, x)


def lockstep(layers, state, settings, x, y, folder, loss=None) -> None:
    """Train C and golden model: equal states after every sample, then equal classes.

    loss(state, sample, label), where it is given, is what each step must return.
    """
    generate(layers, state, folder, settings=settings)
    firmware = Firmware(folder)
    assert firmware.state() == pack(layers, state)
    for n, (sample, label) in enumerate(zip(x, y, strict=True)):
        found = firmware.train_step(sample, label)
        assert found >= 0 if loss is None else found == loss(state, sample, label), f"sample {n}"
        state = trained(layers, state, settings, [sample], [label])
        assert firmware.state() == pack(layers, state), f"sample {n}"
    np.testing.assert_array_equal(firmware.predict(x[:50]), predicted(layers, state, x[:50]))

"""Standardized errors: by hand, and the logic against the model for every error."""
import pytest
from amaranth.hdl import Module, Signal

from firmware_models import standardize as model
from rtl.loss import HEAD_ERROR
from rtl.standardize import standardize

from .pysim import simulate


@pytest.mark.parametrize("threshold, errors, signs", [
    (0, [3, -200, 0, 256], [3, -200, 0, 256]),
    (1, [1, -1, 0, 256], [256, -256, 0, 256]),
    (16, [15, 16, -15, -16], [0, 256, 0, -256]),
    (256, [255, 256, -256, -255], [0, 256, -256, 0]),
])
def test_by_hand(threshold, errors, signs):
    assert model.standardize(errors, threshold).tolist() == signs


def test_hardware_equals_model():
    m, error, threshold = Module(), Signal(HEAD_ERROR), Signal(9)
    out = standardize(m, error, threshold)
    m.d.sync += Signal().eq(1)
    errors = range(-256, 257)

    async def bench(ctx):
        for least in (0, 1, 2, 16, 100, 128, 255, 256, 300):
            ctx.set(threshold, least)
            got = []
            for value in errors:
                ctx.set(error, value)
                got.append(ctx.get(out))
            assert got == model.standardize(errors, least).tolist()

    simulate(m, bench, deadline=10)

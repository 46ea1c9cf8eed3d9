# amaranth: UnusedElaboratable=no
"""Assignment between formats: model by hand and against fractions, hardware against the model."""
from fractions import Fraction
from itertools import product
from math import floor

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firmware_models import requantize as model
from firmware_models.formats import OVERFLOWS, ROUNDINGS, Fixed
from rtl.requantize import requantize, saturate
from rtl.shapes import shape_of

MODES = tuple(product(ROUNDINGS, OVERFLOWS))


@pytest.mark.parametrize("rounding, expected", [
    # -1.75 -1.5 -1.25 -1 -0.75 -0.5 -0.25 0 0.25 0.5 0.75 1 1.25 1.5 1.75 2.5
    ("TRN", [-2, -2, -2, -1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 2]),
    ("RND", [-2, -1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3]),
    ("RND_CONV", [-2, -2, -1, -1, -1, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2]),
])
def test_rounding_by_hand(rounding, expected):
    quarters = [*range(-7, 8), 10]
    got = model.requantize(quarters, 2, Fixed(8, 0, True, rounding))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("to, expected", [
    (Fixed(3, 0), [3, -4, -1, 0, 3, -4, -3]),
    (Fixed(3, 0, True, "TRN", "SAT"), [-4, -4, -1, 0, 3, 3, 3]),
    (Fixed(3, 0, False), [3, 4, 7, 0, 3, 4, 5]),
    (Fixed(3, 0, False, "TRN", "SAT"), [0, 0, 0, 0, 3, 4, 5]),
    (Fixed(1, 0), [-1, 0, -1, 0, -1, 0, -1]),
])
def test_overflow_by_hand(to, expected):
    np.testing.assert_array_equal(model.requantize([-5, -4, -1, 0, 3, 4, 5], 0, to), expected)


def test_shifts_by_hand():
    assert model.requantize(5, 0, Fixed(8, 3)) == 40                    # more fraction bits
    assert model.requantize(5, 0, Fixed(5, 3)) == 8                     # which wrap
    assert model.requantize(-100, -2, Fixed(12, 0)) == -400             # binary point outside
    assert model.requantize(7, 0, Fixed(8, -3, True, "RND")) == 1       # 7/8 rounds up
    assert model.requantize(-1, 100, Fixed(8, 0)) == -1                 # floor, however small
    assert model.requantize(2 ** 40, 100, Fixed(8, 0, True, "RND")) == 0
    # Rounding can leave the range that the code itself was in.
    assert model.requantize(7, 1, Fixed(3, 0, True, "RND")) == -4
    assert model.requantize(7, 1, Fixed(3, 0, True, "RND", "SAT")) == 3
    with pytest.raises(ValueError, match="60 more fraction bits do not fit 62 bits"):
        model.requantize([4, -4], 0, Fixed(8, 60))


def exact(code: int, frac: int, to: Fixed) -> int:
    """The assignment in rational numbers; Python rounds fractions half to even."""
    scaled = Fraction(code) * Fraction(2) ** (to.frac - frac)
    y = {"TRN": floor, "RND": lambda v: floor(v + Fraction(1, 2)), "RND_CONV": round}[
        to.rounding](scaled)
    if to.overflow == "SAT":
        return min(max(y, to.min), to.max)
    return (y - to.min) % (1 << to.width) + to.min


formats = st.builds(Fixed, st.integers(1, 12), st.integers(-4, 14), st.booleans(),
                    st.sampled_from(ROUNDINGS), st.sampled_from(OVERFLOWS))


@given(formats, formats)
def test_model_equals_fractions(source, to):
    codes = model.boundary_codes(source, to)
    np.testing.assert_array_equal(model.requantize(codes, source.frac, to),
                                  [exact(code, source.frac, to) for code in codes])


@settings(max_examples=30)
@given(source=formats, width=st.integers(1, 10), frac=st.integers(-4, 12))
@example(source=Fixed(12, 6), width=4, frac=2)
@example(source=Fixed(6, 2, False), width=1, frac=-3)           # drops more bits than there are
@example(source=Fixed(3, 0), width=10, frac=4)
def test_hardware_equals_model(source, width, frac):
    """Every mode, signed and unsigned, side by side on one input."""
    targets = [Fixed(width, frac, signed, *modes) for signed in (True, False) for modes in MODES]
    m, value = Module(), Signal(shape_of(source))
    outputs = [requantize(m, value, source.frac, to) for to in targets]
    assert [out.shape() for out in outputs] == [shape_of(to) for to in targets]
    codes = sorted({code for to in targets for code in model.boundary_codes(source, to)})
    got = []

    async def bench(ctx):
        for code in codes:
            ctx.set(value, code)
            got.append([ctx.get(out) for out in outputs])

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()
    expected = [model.requantize(codes, source.frac, to) for to in targets]
    for to, have, want in zip(targets, np.transpose(got), expected, strict=True):
        np.testing.assert_array_equal(have, want, f"{source} to {to}: codes {codes}")


@pytest.mark.parametrize("to", [Fixed(4, 0), Fixed(4, 0, signed=False), Fixed(1, 0)])
@pytest.mark.parametrize("source", [Fixed(6, 0), Fixed(6, 0, signed=False), Fixed(2, 0)])
def test_saturate_every_code(source, to):
    m, value = Module(), Signal(shape_of(source))
    out = saturate(m, value, to)
    got = {}

    async def bench(ctx):
        for code in range(source.min, source.max + 1):
            ctx.set(value, code)
            got[code] = ctx.get(out)

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()
    assert got == {code: min(max(code, to.min), to.max) for code in got}

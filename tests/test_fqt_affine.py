"""Scales, zero points and the softmax in float32 against numbers worked out by hand."""
import numpy as np
import pytest

from firmware_models.fqt.affine import (
    LIMIT,
    F,
    clipped,
    follow,
    quantize,
    round_half_up,
    scale_of,
    span,
    total,
    whole,
)
from firmware_models.fqt.softmax import LOSS_MAX, exp2_negative, head_error


@pytest.mark.parametrize("low, high, scale, zero", [
    (0, 255, 1, 0), (-255, 0, 1, 255), (-63.75, 191.25, 1, 63), (-1, 1, F(2) / F(255), 127),
    (-127 / 128, 1, 1 / 128, 127), (0, 0, F(2 ** -16) / F(255), 0)])
def test_ranges(low, high, scale, zero):
    found = scale_of(F(low), F(high))
    assert found == (F(scale), zero) and found[0].dtype == np.float32


def test_codes():
    """Both sides of ties, and both ends: -63.75 is -64 + 63 below the first code."""
    x = np.array([-63.75, -62.5, -62.51, -0.5, -0.51, 0, 0.49, 0.5, 191.4, 191.5, 300], F)
    np.testing.assert_array_equal(quantize(x, F(1), 63), [0, 1, 0, 63, 62, 63, 63, 64, 254, 255,
                                                         255])
    np.testing.assert_array_equal(clipped(np.array([-1e9, -1, 0, 1e9], F), 63), [0, 62, 63, 255])


def test_a_range_begins_where_its_weights_do():
    """The smallest weight is code 0 and the largest 255."""
    w = np.array([-127, 0, 64, 128], F) / F(128)
    assert span(w) == (w[0], w[3])
    np.testing.assert_array_equal(quantize(w, *scale_of(*span(w))), [0, 127, 191, 255])
    assert span(w[2:]) == (0, w[3]) and span(w[:1]) == (w[0], 0)


def test_rounding():
    np.testing.assert_array_equal(round_half_up(np.array([-1.5, -0.5, 0.5, 1.5, 2.4], F)),
                                  [-1, 0, 1, 2, 2])
    np.testing.assert_array_equal(whole(np.array([-2.0 ** 40, -2.5, 2.5, 2.0 ** 40], F), 1 << 30),
                                  [-(1 << 30), -2, 3, 1 << 30])


def test_sums_go_one_by_one():
    """2**24 + 1 is 2**24 in float32, also the second time; the other way round it is 2**24 + 2."""
    terms = np.array([[2 ** 24, 1, 1], [1, 1, 2 ** 24]], F)
    np.testing.assert_array_equal(total(terms, 1), [2 ** 24, 2 ** 24 + 2])
    zero = total(np.array([-0.0, -0.0], F), 0)
    assert zero == 0 and not np.signbit(zero)


def test_moving_average():
    assert follow(F(1), F(2)) == F(1) + F(0.1)
    assert follow(F(0), F(1e30)) == F(0.1) * LIMIT


def test_powers_of_two():
    d = np.linspace(-60, 0, 100_001, dtype=F)
    exact = 2.0 ** d.astype(float)
    assert np.abs(exp2_negative(d) / exact - 1).max() < 4e-7
    np.testing.assert_array_equal(exp2_negative(np.array([0, -1, -3, -64, -1e6], F)),
                                  [1, 0.5, 0.125, 2.0 ** -64, 2.0 ** -64])


def test_softmax():
    """Equal logits lose a bit; one that is far below the other loses all that can be told."""
    loss, errors = head_error(np.array([3, 3], F), 1)
    assert loss == 256
    np.testing.assert_array_equal(errors, F([0.5, -0.5]))
    assert head_error(np.array([0, 1e6], F), 0)[0] == LOSS_MAX
    loss, errors = head_error(np.array([0, 1e6], F), 1)
    assert loss == 0 and errors[1] == 0 and errors.dtype == np.float32

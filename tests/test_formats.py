"""Number formats by hand."""
import numpy as np
import pytest

from firmware_models.formats import Fixed


@pytest.mark.parametrize("fmt, low, high, text", [
    (Fixed(8, 6), -128, 127, "fixed<8,2>"),
    (Fixed(8, 8, signed=False), 0, 255, "ufixed<8,0>"),
    (Fixed(1, 0), -1, 0, "fixed<1,1>"),
    (Fixed(1, 0, signed=False), 0, 1, "ufixed<1,1>"),
    (Fixed(6, -2, True, "RND", "SAT"), -32, 31, "fixed<6,8,RND,SAT>"),
    (Fixed(4, 7, True, "RND_CONV"), -8, 7, "fixed<4,-3,RND_CONV,WRAP>"),
    (Fixed(62, 0), -2 ** 61, 2 ** 61 - 1, "fixed<62,62>"),
])
def test_range_and_name(fmt, low, high, text):
    assert (fmt.min, fmt.max, str(fmt)) == (low, high, text)
    np.testing.assert_array_equal(fmt.check([low, high]), [low, high])
    for outside in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"^{outside} is not a code of u?fixed<"):
            fmt.check(np.array([low, outside, high]))


def test_check_returns_int64_and_refuses_floats():
    assert Fixed(8, 6).check(np.int8(3)).dtype == np.int64
    with pytest.raises(ValueError, match="codes are integers, not float64"):
        Fixed(8, 6).check([0.5])


@pytest.mark.parametrize("arguments, message", [
    ((0, 0), "width must be 1 to 62 bits, not 0"),
    ((63, 0), "width must be 1 to 62 bits, not 63"),
    ((8, 0, True, "ROUND"), "rounding must be one of .* not 'ROUND'"),
    ((8, 0, True, "TRN", "SAT_SYM"), "overflow must be one of .* not 'SAT_SYM'"),
])
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        Fixed(*arguments)

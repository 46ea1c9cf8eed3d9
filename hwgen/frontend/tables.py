"""Tables of sigmoid, tanh and softmax, as hls4ml's C++ fills them when it starts.

The C++ calls single precision functions of the C library, whose last bit is the library's own
affair; so they are called here, too. A network keeps the codes, not the function.
"""
import ctypes
import math
from fractions import Fraction

import numpy as np

from firmware_models.activation import SPANS
from firmware_models.formats import Fixed
from firmware_models.requantize import requantize
from firmware_models.softmax import top_bits


def entries(function: str, size: int, of: Fixed) -> np.ndarray:
    """Codes [size] of a table of "sigmoid" or "tanh" in format `of`.

    Source: hls4ml 1.3.0, nnet_activation.h, init_sigmoid_table and init_tanh_table.
    """
    x = [SPANS[function] * (k / size - 0.5) for k in range(size)]
    if function == "sigmoid":
        exp = _called("expf", [-v for v in x])
        values = np.float32(1.0 / np.float64(np.float32(1) + exp))
    else:
        values = _called("tanhf", x)
    # 24 bits behind at most 13 zeros: nothing is lost.
    return requantize(np.int64(np.float64(values) * 2.0 ** 40), 40, of)


def exponentials(size: int, index: Fixed, of: Fixed, scale: float) -> np.ndarray:
    """Codes [size] of exp(scale * x) in format `of`, at the upper bits of x in format `index`.

    Source: hls4ml 1.3.0, nnet_activation.h, init_exp_table.
    """
    with np.errstate(over="ignore"):
        return _assigned(_called("expf", _values(size, index) * np.float32(scale)), of)


def inverses(size: int, index: Fixed, of: Fixed) -> np.ndarray:
    """Codes [size] of 1 / x in format `of`, at the upper bits of x in format `index`.

    Source: hls4ml 1.3.0, nnet_activation.h, init_invert_table.
    """
    with np.errstate(divide="ignore", over="ignore"):
        return _assigned(np.float32(1) / _values(size, index), of)


def _called(function: str, x) -> np.ndarray:
    """A function of the C library, from single precision to single precision."""
    called = getattr(ctypes.CDLL(None), function)
    called.argtypes, called.restype = [ctypes.c_float], ctypes.c_float
    return np.float32([called(float(v)) for v in x])


def _values(size: int, index: Fixed) -> np.ndarray:
    """The values whose upper bits are 0 to size - 1 and whose other bits are 0."""
    codes = requantize(np.arange(size) << index.width - top_bits(size), index.frac,
                       Fixed(index.width, index.frac, index.signed))
    return np.float32(np.ldexp(np.float64(codes), -index.frac))


def _assigned(values, of: Fixed) -> np.ndarray:
    """Codes of floating point numbers in format `of`; infinity is a power of two beyond all."""
    codes = []
    for value in values:
        value = float(value) if np.isfinite(value) else math.copysign(2.0 ** 1023, value)
        exact = Fraction(value) * Fraction(2) ** of.frac
        match of.rounding:
            case "TRN":
                code = math.floor(exact)
            case "RND":
                code = math.floor(exact + Fraction(1, 2))
            case _:
                code = round(exact)             # half to even
        if of.overflow == "SAT":
            code = min(max(code, of.min), of.max)
        codes.append((code - of.min) % (1 << of.width) + of.min)
    return np.array(codes, np.int64)

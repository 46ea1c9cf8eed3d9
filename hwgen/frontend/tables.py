"""Tables of sigmoid and tanh, as hls4ml's C++ fills them when it starts."""
import ctypes

import numpy as np

from firmware_models.activation import SPANS
from firmware_models.formats import Fixed
from firmware_models.requantize import requantize


def entries(function: str, size: int, of: Fixed) -> np.ndarray:
    """Codes [size] of a table in format `of`.

    The C++ calls single precision functions of the C library, whose last bit is the library's own
    affair; so they are called here, too. A network keeps the codes, not the function.

    Source: hls4ml 1.3.0, nnet_activation.h, init_sigmoid_table and init_tanh_table.
    """
    library = ctypes.CDLL(None)
    exp, tanh = library.expf, library.tanhf
    for called in (exp, tanh):
        called.argtypes, called.restype = [ctypes.c_float], ctypes.c_float
    x = [SPANS[function] * (k / size - 0.5) for k in range(size)]
    if function == "sigmoid":
        values = np.float32(1.0 / np.float64(np.float32(1) + np.float32([exp(-v) for v in x])))
    else:
        values = np.float32([tanh(v) for v in x])
    # 24 bits behind at most 13 zeros: nothing is lost.
    return requantize(np.int64(np.float64(values) * 2.0 ** 40), 40, of)

"""What a generated network begins with, as C initialisers and as bytes."""
from dataclasses import dataclass

import numpy as np

WIDTH = 96


@dataclass
class Values:
    """Weights and biases of a layer, their C types, the weights' field in layer_t, and its range.

    Parameters
    ----------
    weights, biases : array of numbers
    weight_type, bias_type : str
    field : str
    range : dict
        The members of the layer's range_t.
    """
    weights: np.ndarray
    weight_type: str
    field: str
    biases: np.ndarray
    bias_type: str
    range: dict


def literal(number) -> str:
    """A number in C; a float in hexadecimal, which loses no bit."""
    if isinstance(number, float | np.floating):
        return float(np.float32(number)).hex() + "f"
    return str(int(number))


def rows_of(numbers) -> str:
    """Numbers as lines of a C initialiser."""
    lines, line = [], ""
    for number in np.asarray(numbers).ravel():
        text = f"{literal(number)},"
        if len(line) + len(text) > WIDTH:
            lines.append(line)
            line = ""
        line += text
    return "\n".join([*lines, line])


def joined(parts) -> bytes:
    """The bytes of arrays, and zeros up to a whole word."""
    packed = b"".join(part.tobytes() for part in parts)
    return packed + bytes(-len(packed) % 4)


class Reader:
    """Arrays from packed bytes, one call after the other; integers become int64."""

    def __init__(self, packed: bytes):
        self._packed, self._at = packed, 0

    def __call__(self, dtype, shape) -> np.ndarray:
        found = np.frombuffer(self._packed, dtype, int(np.prod(shape)), self._at).reshape(shape)
        self._at += found.nbytes
        return found.astype(np.int64) if found.dtype.kind in "iu" else found.copy()

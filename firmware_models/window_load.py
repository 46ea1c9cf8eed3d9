"""Golden model of masters that the host writes: what it may write, and where that is in memory.

A write changes one master and nothing else: updates of rule "np" that are on their way, node
errors, populations and counters stay. A value that does not fit is refused here; the hardware
stores its low bits.
"""
from typing import NamedTuple

import numpy as np

from .formats import Fixed


class Masters(NamedTuple):
    """Masters of a trainable stage, weights or biases.

    Parameters
    ----------
    what : str
        Name for messages.
    shape : tuple of int
        (n_out, n_in) of weights, (n_out,) of biases.
    width : int
        Bits of a master, residual bits included.
    words, first_word : int
        Memory words over which they are spread, and the first of them.
    """
    what: str
    shape: tuple[int, ...]
    width: int
    words: int
    first_word: int

    def checked(self, values) -> np.ndarray:
        """`values` as a fresh int64 array; ValueError for a shape or value that cannot be."""
        values = np.asarray(values)
        if values.shape != self.shape:
            raise ValueError(f"masters of {self.what} have shape {values.shape}, not {self.shape}")
        return self._codes(values)

    def element(self, at: tuple[int, ...], value: int) -> int:
        """A single master, or ValueError for an index outside the shape, or a value too large."""
        if len(at) != len(self.shape) or not all(
                0 <= k < size for k, size in zip(at, self.shape, strict=True)):
            raise ValueError(f"{self.what} have shape {self.shape}; there is no {at}")
        return int(self._codes(np.asarray(value)))

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Memory word and lane of each master, of `shape`.

        Flat weight k of the [n_out, n_in] matrix is lane k // words of word k % words, as in
        hls4ml's block layout, and so is bias k of its own words.
        """
        flat = np.arange(int(np.prod(self.shape))).reshape(self.shape)
        return self.first_word + flat % self.words, flat // self.words

    def _codes(self, values):
        try:
            return Fixed(self.width, 0).check(values)
        except ValueError as error:
            raise ValueError(f"masters of {self.what}: {error}") from None


def masters(name: str, n_out: int, n_in: int, words: int, drain_words: int, width: int,
            bias_width: int) -> dict[str, Masters]:
    """Both kinds of a stage: "weights" and "biases", which lie behind the weights.

    Parameters
    ----------
    words, drain_words : int
        Memory words of weights (the reuse factor) and of biases.
    width, bias_width : int
        Bits of their masters.
    """
    return {"weights": Masters(f"{name}'s weights", (n_out, n_in), width, words, 0),
            "biases": Masters(f"{name}'s biases", (n_out,), bias_width, drain_words, words)}


def loaded(known: dict[int, dict[str, Masters]], **given) -> dict[str, dict[int, np.ndarray]]:
    """Checked masters to write.

    Parameters
    ----------
    known : dict of stage index to what :func:`masters` returns
        The trainable stages.
    given : dicts of stage index to masters, by "weights" and "biases"

    Raises
    ------
    ValueError
        For a stage that is not trainable, and for masters of another shape or width.
    """
    return {kind: {index: of_stage(known, index)[kind].checked(values)
                   for index, values in arrays.items()} for kind, arrays in given.items()}


def of_stage(known: dict[int, dict[str, Masters]], index: int) -> dict[str, Masters]:
    """The masters of a stage, or ValueError if it has none."""
    if index not in known:
        raise ValueError(f"stage {index} is not trainable; stages {tuple(known)} are")
    return known[index]


def target(output: int, input: int | None) -> tuple[str, tuple[int, ...]]:
    """Kind and index of a master: of the weight from `input` to `output`, or of the bias."""
    return ("biases", (output,)) if input is None else ("weights", (output, input))

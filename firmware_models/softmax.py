"""Golden model of a softmax behind the logits, as hls4ml's C++ computes it.

Loss and learning see the logits; a softmax changes only what a core delivers. The class is that of
the largest logit, with and without one.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .formats import Fixed
from .requantize import requantize

IMPLEMENTATIONS = ("stable", "latency", "argmax")
MAX_TABLE = 1 << 16
BEAT_WIDTH = 32             # of m_axis


@dataclass(frozen=True, kw_only=True, eq=False)
class Softmax:
    """Outputs y of n logits x, by two tables and without a division.

        e_i = (accum)exp[top bits of (inp_norm)(max x - x_i)]           stable
        e_i = (accum)exp[top bits of x_i]                               latency
        y_i = (result)(e_i * inv[top bits of (inv_inp)(accum)(sum of e)])
        y_i = (result)1 for the first largest logit, else 0             argmax

    Parameters
    ----------
    name : str
    n : int
        Classes.
    result : Fixed
    implementation : {"stable", "latency", "argmax"}
        The others have no use in the last one.
    exp_table, inv_table : Fixed
        Formats of the tables' entries.
    exp_size, inv_size : int
        Entries, powers of two from 2.
    exp_codes, inv_codes : array of int64 [size]
        The entries, as the C++ has them: see ``hwgen/frontend/tables.py``.
    inp_norm : Fixed
        Of "stable": format of the distance from the largest logit.
    accum : Fixed
        Format of an exponential, and of their sum. It may saturate where no entry is below 0: then
        the order of the terms does not matter.
    inv_inp : Fixed
        Format of the sum that is looked up.

    Raises
    ------
    ValueError
        For tables and formats that do not fit together.
    """
    name: str
    n: int
    result: Fixed
    implementation: str
    exp_table: Fixed | None = None
    exp_size: int = 0
    exp_codes: np.ndarray = ()
    inv_table: Fixed | None = None
    inv_size: int = 0
    inv_codes: np.ndarray = ()
    inp_norm: Fixed | None = None
    accum: Fixed | None = None
    inv_inp: Fixed | None = None

    def __post_init__(self):
        if self.implementation not in IMPLEMENTATIONS:
            raise ValueError(f"{self.name}: softmax {self.implementation!r} is not one of "
                             f"{', '.join(IMPLEMENTATIONS)}")
        if self.result.width + (not self.result.signed) > BEAT_WIDTH:
            raise ValueError(f"{self.name}: result {self.result} and its sign do not fit a beat "
                             f"of {BEAT_WIDTH} bits; narrow it")
        for table in ("exp", "inv"):
            codes, size = (getattr(self, f"{table}_{what}") for what in ("codes", "size"))
            codes = np.asarray(codes, np.int64)
            if codes.shape != (size,):
                raise ValueError(f"{self.name}: {table} codes have shape {codes.shape}, "
                                 f"not ({size},)")
            if self.tables:
                codes = getattr(self, f"{table}_table").check(codes)
            object.__setattr__(self, f"{table}_codes", codes)
        if self.tables:
            check_table(self.name, self.inv_size, self.inv_inp)
            if self.accum.overflow == "SAT" and (self.exponentials < 0).any():
                raise ValueError(f"{self.name}: accumulator {self.accum} saturates and the table "
                                 "has entries below 0, so that the order of the terms would "
                                 "matter; let accum wrap, or exp_table saturate")

    @property
    def tables(self) -> bool:
        """Whether exponentials are looked up, summed and inverted."""
        return self.implementation != "argmax"

    @property
    def exponentials(self) -> np.ndarray:
        """Entries [exp_size] of the first table as codes of the accumulator, in which they are
        used."""
        return requantize(self.exp_codes, self.exp_table.frac, self.accum)

    def casts(self, source: Fixed) -> Iterator[tuple[str, int, int, Fixed]]:
        """Of each cast: the type's name, width and fraction bits of the values, the type."""
        if not self.tables:
            yield "result", 32, 0, self.result              # an int of the C++
            return
        if self.inp_norm is not None:
            yield "inp_norm", source.width + 1, source.frac, self.inp_norm
        yield "accum", self.exp_table.width, self.exp_table.frac, self.accum
        yield "accum", self.accum.width + self.n.bit_length(), self.accum.frac, self.accum
        yield "inv_inp", self.accum.width, self.accum.frac, self.inv_inp
        yield ("result", self.accum.width + self.inv_table.width,
               self.accum.frac + self.inv_table.frac, self.result)

    def check(self, source: Fixed) -> None:
        """Raise ValueError if it cannot follow logits of format `source`."""
        if self.tables:
            check_table(self.name, self.exp_size, self.inp_norm or source)
        for what, width, frac, to in self.casts(source):
            width += max(to.frac - frac, 0)
            if width > 62:
                raise ValueError(f"{self.name}: its numbers need {width} bits before the cast to "
                                 f"{what}, 62 are possible; narrow its types")


def check_table(name: str, size: int, index: Fixed) -> None:
    """Raise ValueError if the upper bits of codes of format `index` cannot address a table."""
    if size & size - 1 or not 2 <= size <= MAX_TABLE:
        raise ValueError(f"{name}: table of {size} entries, needs a power of two from 2 to "
                         f"{MAX_TABLE}")
    if 1 << index.width < size:
        raise ValueError(f"{name}: table of {size} entries, indexed by {index}; needs a smaller "
                         "table or a wider type")


def top_bits(size: int) -> int:
    """How many of the upper bits of a code are the index into a table of `size` entries."""
    return size.bit_length() - 1


def softmax(layer: Softmax, logits, source: Fixed) -> np.ndarray:
    """Output codes [..., n] for logit codes [..., n] of format `source`.

    Source: hls4ml 1.3.0, nnet_activation.h, softmax_stable, softmax_latency and softmax_argmax.
    """
    x = np.asarray(logits, np.int64)
    if not layer.tables:
        first_largest = np.arange(layer.n) == x.argmax(-1)[..., None]
        return requantize(first_largest, 0, layer.result)
    if layer.inp_norm is not None:
        x = requantize(x.max(-1, keepdims=True) - x, source.frac, layer.inp_norm)
    e = layer.exponentials[_index(x, layer.inp_norm or source, layer.exp_size)]
    total = requantize(e.sum(-1, keepdims=True), layer.accum.frac, layer.accum)
    total = requantize(total, layer.accum.frac, layer.inv_inp)
    inverse = layer.inv_codes[_index(total, layer.inv_inp, layer.inv_size)]
    return requantize(e * inverse, layer.accum.frac + layer.inv_table.frac, layer.result)


def _index(codes, of: Fixed, size: int) -> np.ndarray:
    """The upper bits of codes, whatever their sign."""
    return (codes & (1 << of.width) - 1) >> of.width - top_bits(size)


def readout(network, logits) -> np.ndarray:
    """What a core delivers behind its predictions for logit codes [..., n_classes].

    Codes of format ``network.output``: the softmax's if the network has one, else the logits.
    """
    if network.softmax is None:
        return logits
    return softmax(network.softmax, logits, network.stages[-1].result)

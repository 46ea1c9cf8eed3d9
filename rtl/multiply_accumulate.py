"""Multipliers and accumulators of a Dense layer."""
from collections.abc import Iterator

from amaranth import *

from firmware_models.network import Stage

from .requantize import requantize
from .shapes import lane, shape_of

__all__ = ["multiply_accumulate"]


def multiply_accumulate(m: Module, stage: Stage, x, w, *, first, valid,
                        start=None) -> Iterator[Value]:
    """Sums of a pass, output after output, without the bias.

    Latency: 1 cycle from a word to the sums that it is part of. Throughput: a word per cycle.

    Parameters
    ----------
    m : Module
        Receives the statements.
    stage : Stage
    x, w : Value
        A word of inputs and the word of weights that it meets.
    first, valid : Value
        A cycle after them: the word is the first of a pass; it counts.
    start : list of Value, optional
        What the sums start from, one per output; 0 without.
    """
    dense, per_word = stage.dense, stage.dense.inputs_per_word
    for j in range(dense.n_out):
        acc = Signal(shape_of(dense.accum), name=f"acc{j}")
        total = Mux(first, start[j] if start else 0, acc)
        for k in range(per_word):
            exact = lane(x, k, stage.source) * lane(w, j * per_word + k, dense.weight)
            product = Signal(exact.shape(), name=f"product{j}_{k}")
            m.d.sync += product.eq(exact)
            # Every product is cast to the accumulator before it is added, as in the C++.
            total = total + requantize(
                m, product, stage.source.frac + dense.weight.frac, dense.accum)
        with m.If(valid):
            m.d.sync += acc.eq(total)
        yield total

"""Read-back of masters on the way of the sums, instead of a multiplexer over all lanes."""
from typing import NamedTuple

from amaranth import *

from .select import select
from .shapes import address

__all__ = ["ReadBack", "read_back"]


class ReadBack(NamedTuple):
    """What the sum of each output starts from; drained word and drain lane of the window's lane."""
    start: list
    word: Value
    drain_lane: Value


def read_back(m, engine, x) -> ReadBack:
    """sum_j = M_j + 0 * w:  with ``window_en`` sums start from the masters of the word that is read

    Adder and selection of the drain are there for the sums already: a start other than 0 is one
    more input of a LUT that has some to spare.

    Latency: the sums 1 cycle after ``w_data``, from 2 cycles after ``window_en`` on.

    Parameters
    ----------
    m : Module
    engine : DenseEngine
        Without a pass inside. Between passes its word counts as a first one, so that sums start.
    x : Signal
        Its register of features: cleared.
    """
    dense, words = engine.stage.dense, engine.stage.drain_words
    per_word, residual = dense.inputs_per_word, engine.residual
    with m.If(engine.window_en):
        m.d.sync += x.eq(0)
    masters = [Cat(engine.w_residue.word_select(lane, residual),
                   engine.w_data.word_select(lane, dense.weight.width))
               for lane in range(dense.lanes)]
    places = [(lane % per_word, lane // per_word % words, lane // per_word // words)
              for lane in range(dense.lanes)]
    k, word, drain_lane = (_looked_up(table, engine.window_lane)
                           for table in zip(*places, strict=True))
    start = []
    for j in range(dense.n_out):
        master = select(m, f"start{j}", masters[j * per_word:(j + 1) * per_word], k)
        start.append(Mux(engine.window_en, master, 0).as_signed())
    return ReadBack(start, word, drain_lane)


def _looked_up(table, index):
    """``table[index]``, wires alone where that is the index."""
    index = index[:address(len(table)).width]
    same = list(table) == list(range(len(table)))
    return index if same else Value.cast(Array(table)[index])

"""One word of many, four at a time."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .shapes import address

__all__ = ["Select", "select"]


class Select(wiring.Component):
    """word = words[index]

    Each level of the tree chooses between four words and is a module of its own: synthesis that
    keeps the hierarchy maps it to one LUT6 for four bits, where Yosys takes half as many again for
    the tree as one expression.

    Latency: combinational. An index without a word gives one of the words.

    Parameters
    ----------
    count : int
        Words, at least 2.
    width : int
        Bits of each.

    Members
    -------
    words : ``In(width)``, `count` of them; index : ``In``; word : ``Out(width)``
    """

    def __init__(self, count: int, width: int):
        self.count, self.width = count, width
        super().__init__({"words": In(width).array(count), "index": In(address(count)),
                          "word": Out(width)})

    def elaborate(self, platform):
        m = Module()

        low, chosen = self.index[:2], []
        for first in range(0, self.count, 4):
            four = [self.words[min(first + k, self.count - 1)] for k in range(4)]
            chosen.append(Mux(low[0], four[1], four[0]) if len(low) == 1 else
                          Mux(low[1], Mux(low[0], four[3], four[2]), Mux(low[0], four[1], four[0])))
        m.d.comb += self.word.eq(select(m, "level", chosen, self.index[2:]))
        return m


def select(m, name: str, words, index) -> Value:
    """``words[index]``, through a :class:`Select` as submodule `name` if there are several.

    Of the index only the bits count that so many words need.
    """
    if len(words) == 1:
        return words[0]
    m.submodules[name] = unit = Select(len(words), len(words[0]))
    m.d.comb += [unit.index.eq(index[:len(unit.index)]),
                 *[to.eq(word) for to, word in zip(unit.words, words, strict=True)]]
    return unit.word

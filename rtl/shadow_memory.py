"""A second memory behind one of weights or biases: its words as they were."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .shapes import address

__all__ = ["ShadowMemory"]


class ShadowMemory(wiring.Component):
    """Copy a memory's words here, or back: S[a] = M[a] or M[a] = S[a], a = 0, 1, ...

    Memories of all stages are copied at once under one counter: addresses beyond this memory's
    depth change nothing.

    Latency: a word is written 1 cycle after its address. Throughput: a word per cycle.

    Parameters
    ----------
    depth, width : int
        Words, and bits of one.
    words : int
        Addresses that the counter goes through, at least `depth`.

    Members
    -------
    addr : ``In``; take, restore : ``In(1)``
        Copy this word here, or back; not both at once.
    data : ``In(width)``
        The word of the memory, 1 cycle after its address.
    w_en : ``Out(1)``; w_addr, w_data : ``Out``
        What to write to the memory.
    """

    def __init__(self, depth: int, width: int, *, words: int):
        if words < depth:
            raise ValueError(f"{words} addresses do not reach all of {depth} words")
        self.depth, self.width = depth, width
        super().__init__({
            "addr": In(address(words)), "take": In(1), "restore": In(1), "data": In(width),
            "w_en": Out(1), "w_addr": Out(address(depth)), "w_data": Out(width),
        })

    def elaborate(self, platform):
        m = Module()

        m.submodules.words = words = memory.Memory(
            shape=unsigned(self.width), depth=max(self.depth, 2), init=[])
        read, write = words.read_port(), words.write_port()
        taken, there_is = Signal(), Signal()
        m.d.comb += [
            there_is.eq(self.addr < self.depth),
            read.addr.eq(self.addr),
            write.addr.eq(self.w_addr), write.data.eq(self.data), write.en.eq(taken),
            self.w_data.eq(read.data),
        ]
        m.d.sync += [
            self.w_addr.eq(self.addr),
            taken.eq(self.take & there_is), self.w_en.eq(self.restore & there_is),
        ]

        return m

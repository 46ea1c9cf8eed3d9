"""A ring of vectors between two engines."""
from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .shapes import address

__all__ = ["VectorBuffer"]


class VectorBuffer(wiring.Component):
    """Keep up to `slots` vectors, each with its tag, in the order in which they were reserved.

    The writer reserves a slot before it starts to compute, so that a result always finds room and
    no engine ever has to stop halfway. The reader takes a vector when it starts on it, so that the
    next one is offered while it still reads, and releases it when its slot may be written again. It
    may walk over a vector several times before it takes and releases it: so probe passes re-enter.

    Latency: a committed vector is offered in the next cycle; ``r_data`` follows ``r_addr`` by 1.
    Throughput: a word in and a word out per cycle.

    Parameters
    ----------
    lanes, element_width : int
        Elements in a word and bits of an element.
    depth : int
        Words in a vector.
    tag : data.StructLayout
        What is kept beside each vector.
    slots : int
        Vectors; a power of two, at least 2.

    Members
    -------
    room : ``Out(1)``
        A slot may be reserved in this cycle.
    reserve, commit : ``In(1)``
        Reserve a slot; the oldest reserved slot has been written and is offered with ``w_tag``.
    w_en : ``In(lanes)``
        Which elements of word ``w_addr`` are written.
    w_addr, w_data, w_tag : ``In``
    valid, tag : ``Out``; take : ``In(1)``
        Whether a vector is offered, and its tag; the next cycle offers the one after it.
    r_addr : ``In``
    r_data : ``Out(lanes * element_width)``
    release : ``In(1)``
        The vector being read is not needed any more; taken before or in this cycle.
    """

    def __init__(self, lanes: int, element_width: int, *, depth: int, tag: data.StructLayout,
                 slots: int = 4):
        if slots < 2 or slots & slots - 1:
            raise ValueError(f"slots must be a power of two, not {slots}")
        self.lanes, self.element_width, self.depth, self.slots = lanes, element_width, depth, slots
        super().__init__({
            "room": Out(1), "reserve": In(1), "commit": In(1),
            "w_en": In(lanes), "w_addr": In(address(depth)), "w_data": In(lanes * element_width),
            "w_tag": In(tag),
            "valid": Out(1), "tag": Out(tag), "take": In(1),
            "r_addr": In(address(depth)), "r_data": Out(lanes * element_width), "release": In(1),
        })

    def elaborate(self, platform):
        m = Module()

        slot_bits, addr_bits = ceil_log2(self.slots), ceil_log2(self.depth)
        m.submodules.words = words = memory.Memory(
            shape=unsigned(self.lanes * self.element_width), depth=self.slots << addr_bits, init=[])
        m.submodules.tags = tags = memory.Memory(
            shape=unsigned(Shape.cast(self.tag.shape()).width), depth=self.slots, init=[])
        write = words.write_port(granularity=self.element_width)
        read = words.read_port()
        tag_write, tag_read = tags.write_port(), tags.read_port(domain="comb")

        w_slot, t_slot, r_slot = Signal(slot_bits), Signal(slot_bits), Signal(slot_bits)
        reserved, offered = Signal(range(self.slots + 1)), Signal(range(self.slots + 1))
        m.d.comb += [
            self.room.eq(reserved != self.slots),
            self.valid.eq(offered != 0),
            write.addr.eq(Cat(self.w_addr[:addr_bits], w_slot)),
            write.data.eq(self.w_data),
            write.en.eq(self.w_en),
            read.addr.eq(Cat(self.r_addr[:addr_bits], r_slot)),
            self.r_data.eq(read.data),
            tag_write.addr.eq(w_slot),
            tag_write.data.eq(self.w_tag),
            tag_write.en.eq(self.commit),
            tag_read.addr.eq(t_slot),
            Value.cast(self.tag).eq(tag_read.data),
        ]
        m.d.sync += [
            reserved.eq(reserved + self.reserve - self.release),
            offered.eq(offered + self.commit - self.take),
            w_slot.eq(w_slot + self.commit),
            t_slot.eq(t_slot + self.take),
            r_slot.eq(r_slot + self.release),
        ]
        return m

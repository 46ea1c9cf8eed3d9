"""Weights of a frozen layer."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.network import Stage

from .shapes import address

__all__ = ["WeightRom", "pack_words"]


def pack_words(rows, width: int) -> list[int]:
    """Rows of codes as memory words, lane 0 lowest, `width` bits each."""
    mask = (1 << width) - 1
    return [sum((int(code) & mask) << width * lane for lane, code in enumerate(row))
            for row in rows]


class WeightRom(wiring.Component):
    """Serve the weight words and bias words of a frozen layer.

    Latency: 2 cycles from either address (memory, then its output register). Throughput: a weight
    word and a bias word per cycle.

    Parameters
    ----------
    stage : Stage
        Word layout: :meth:`firmware_models.network.Dense.words`; bias word s, lane c belongs to
        output ``s + drain_words * c``.

    Members
    -------
    addr : ``In(range(reuse_factor))``
    data : ``Out(lanes * weight.width)``
    bias_addr : ``In(range(drain_words))``
    bias_data : ``Out(drain_lanes * bias.width)``
    """

    def __init__(self, stage: Stage):
        dense = stage.dense
        self.stage = stage
        super().__init__({
            "addr": In(address(dense.reuse_factor)),
            "data": Out(dense.lanes * dense.weight.width),
            "bias_addr": In(address(stage.drain_words)),
            "bias_data": Out(stage.drain_lanes * dense.bias.width),
        })

    def elaborate(self, platform):
        m = Module()

        stage, dense = self.stage, self.stage.dense
        weight_words = pack_words(dense.words(dense.weight_codes), dense.weight.width)
        bias_words = pack_words(dense.bias_codes.reshape(stage.drain_lanes, stage.drain_words).T,
                                dense.bias.width)
        for name, rows, addr, out in (("weights", weight_words, self.addr, self.data),
                                      ("biases", bias_words, self.bias_addr, self.bias_data)):
            m.submodules[name] = rom = memory.Memory(
                shape=unsigned(len(out)), depth=max(len(rows), 2), init=rows)
            read = rom.read_port()
            m.d.comb += read.addr.eq(addr)
            m.d.sync += out.eq(read.data)

        return m

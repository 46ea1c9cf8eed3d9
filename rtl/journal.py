"""The journal: what each pair contributed to the last updates, in a ring in block RAM."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.journal import LAST_BIT, LAYERS_LSB, check_size
from firmware_models.network import Network
from firmware_models.noise import BITS
from firmware_models.rules.es import COEFFICIENT_WIDTH

from .shapes import address

__all__ = ["Journal"]


class Journal(wiring.Component):
    """Ring of the last `depth` records (seed, coefficient, last of its update, layers)

    Record number k stands in slot k modulo `depth`. Seed, coefficient and layers are all that an
    update depends on: whoever has the start weights and every record has the weights.

    A reset starts the count over, while the weights stay: ``lost`` then says that the records no
    longer lead to these weights.

    Latency: ``r_data`` 1 cycle. Throughput: a record per cycle. Back-pressure: none; the oldest
    record is overwritten.

    Bit-exact with ``records`` and ``written`` of :class:`firmware_models.learner.State`, packed as
    by :mod:`firmware_models.journal`.

    Parameters
    ----------
    network : Network
    depth : int
        Records, a power of two, 16 to 4096.

    Members
    -------
    w_en, w_last : ``In(1)``; seed : ``In(32)``; coefficient : ``In(signed(8))``
        Write a record; it closes its update.
    layers : ``In``, one bit per trainable stage
        Of the update.
    written : ``Out(32)``
        Records written since reset; wraps.
    r_slot : ``In``; r_lane : ``In(1)``; r_data : ``Out(32)``
        Read-back while nothing is written: the seed, or coefficient (7:0), last (8) and layers
        (from 16 on, one bit per stage). The lane has to be held.
    lost : ``Out(1)``; lost_clear : ``In(1)``
        The count started over after an update; stays through resets until cleared.
    """

    latency_cycles = 1

    def __init__(self, network: Network, *, depth: int):
        self.network, self.depth = network, check_size(depth)
        super().__init__({
            "w_en": In(1), "w_last": In(1), "seed": In(BITS),
            "coefficient": In(signed(COEFFICIENT_WIDTH)), "layers": In(len(network.trainable)),
            "written": Out(32), "r_slot": In(address(depth)), "r_lane": In(1), "r_data": Out(32),
            "lost": Out(1), "lost_clear": In(1),
        })

    def elaborate(self, platform):
        m = Module()

        record = Cat(self.seed, self.coefficient, self.w_last, self.layers)
        m.submodules.records = records = memory.Memory(
            shape=unsigned(len(record)), depth=self.depth, init=[])
        # What is read while a record is written is not used: a block RAM needs no bypass.
        read, write = records.read_port(), records.write_port()
        seed, rest = read.data[:BITS], read.data[BITS:]
        layers = rest[LAST_BIT + 1:]
        m.d.comb += [
            write.addr.eq(self.written), write.data.eq(record), write.en.eq(self.w_en),
            read.addr.eq(self.r_slot), self.r_data.eq(seed),
        ]
        with m.If(self.r_lane):
            m.d.comb += self.r_data.eq(rest[:LAST_BIT + 1])
            for position, stage in enumerate(self.network.trainable):
                m.d.comb += self.r_data[LAYERS_LSB + stage].eq(layers[position])
        with m.If(self.w_en):
            m.d.sync += self.written.eq(self.written + 1)

        # A reset does not clear these: only so can it be noticed. Records of an update that never
        # was closed changed no weight, and may be forgotten.
        begun, lost = Signal(reset_less=True), Signal(reset_less=True)
        over = begun & (self.written == 0)
        with m.If(self.w_en & self.w_last):
            m.d.sync += begun.eq(1)
        with m.Elif(over):
            m.d.sync += begun.eq(0)
        with m.If(over):
            m.d.sync += lost.eq(1)
        with m.Elif(self.lost_clear):
            m.d.sync += lost.eq(0)
        m.d.comb += self.lost.eq(lost)

        return m

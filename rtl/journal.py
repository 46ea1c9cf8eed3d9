"""The journal: what each pair contributed to the last updates, in a ring in block RAM."""
from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.journal import FIELDS, LANES, LAST_BIT, LAYERS_LSB, check_size
from firmware_models.network import Network
from firmware_models.noise import BITS
from firmware_models.rules.es import COEFFICIENT_WIDTH, VOTE_WIDTH

from .directions import settings_members
from .shapes import address

__all__ = ["Journal"]


class Journal(wiring.Component):
    """Ring of the last `depth` records (seed, coefficient, last of its update, layers, settings)

    Record number k stands in slot k modulo `depth`. It holds all that an update depends on: whoever
    has the start weights and every record has the weights.

    A reset starts the count over while the weights stay, and other hands may write weights:
    ``lost`` then says that the records no longer lead to these weights.

    Latency: ``r_data`` 1 cycle. Throughput: a record per cycle. Back-pressure: none; the oldest
    record is overwritten.

    Bit-exact with ``records`` and ``written`` of :class:`firmware_models.learner.State`, packed as
    by :mod:`firmware_models.journal`.

    Parameters
    ----------
    network : Network
    depth : int
        Records, a power of two, 16 to 4096.
    options : tuple of str
        Of the core: which settings a record has.

    Members
    -------
    w_en, w_last : ``In(1)``; seed : ``In(32)``; coefficient : ``In(signed(8))``
        Write a record; it closes its update.
    layers : ``In``, one bit per trainable stage
        Of the update.
    sparse : ``In(2)``; rank1, kernel : ``In(1)``; vote : ``In(14)``
        With the option of this name: the setting that the update is made with.
    written : ``Out(32)``
        Records written since reset; wraps.
    r_slot : ``In``; r_lane : ``In(2)``; r_data : ``Out(32)``
        Read-back while nothing is written, in the words of :mod:`firmware_models.journal`. The lane
        has to be held.
    overwritten : ``In(1)``
        Something else than an update writes weights.
    lost : ``Out(1)``; lost_clear : ``In(1)``
        It did, or the count started over after an update; stays through resets until cleared.
    """

    latency_cycles = 1

    def __init__(self, network: Network, *, depth: int, options: tuple[str, ...] = ()):
        self.network, self.depth = network, check_size(depth)
        widths = {"rounding": 3, "vote": VOTE_WIDTH}
        self.settings = settings_members(options) | {
            name: In(width) for name, width in widths.items() if name in options}
        super().__init__(self.settings | {
            "w_en": In(1), "w_last": In(1), "seed": In(BITS),
            "coefficient": In(signed(COEFFICIENT_WIDTH)), "layers": In(len(network.trainable)),
            "written": Out(32), "r_slot": In(address(depth)),
            "r_lane": In(range(LANES)), "r_data": Out(32),
            "overwritten": In(1), "lost": Out(1), "lost_clear": In(1),
        })

    def elaborate(self, platform):
        m = Module()

        names = ("seed", "coefficient", "w_last", "layers", *self.settings)
        layout = data.StructLayout({name: getattr(self, name).shape() for name in names})
        m.submodules.records = records = memory.Memory(shape=layout, depth=self.depth, init=[])
        # What is read while a record is written is not used: a block RAM needs no bypass.
        read, write = records.read_port(), records.write_port()
        record = read.data
        m.d.comb += [
            write.addr.eq(self.written), write.en.eq(self.w_en), read.addr.eq(self.r_slot),
            *[getattr(write.data, name).eq(getattr(self, name)) for name in names],
        ]
        with m.Switch(self.r_lane):
            with m.Case(0):
                m.d.comb += self.r_data.eq(record.seed)
            with m.Case(1):
                m.d.comb += [self.r_data[:LAST_BIT].eq(record.coefficient),
                             self.r_data[LAST_BIT].eq(record.w_last)]
                for name, (lsb, _) in FIELDS.items():
                    if name in self.settings:
                        m.d.comb += self.r_data[lsb:lsb + len(record[name])].eq(record[name])
                for position, stage in enumerate(self.network.trainable):
                    m.d.comb += self.r_data[LAYERS_LSB + stage].eq(record.layers[position])
            with m.Case(2):
                if "vote" in self.settings:
                    m.d.comb += self.r_data.eq(record.vote)
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
        with m.If(over | self.overwritten):
            m.d.sync += lost.eq(1)
        with m.Elif(self.lost_clear):
            m.d.sync += lost.eq(0)
        m.d.comb += self.lost.eq(lost)

        return m

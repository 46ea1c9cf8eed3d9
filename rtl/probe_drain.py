"""When an engine drains its sums once more, with the noise of a node probe."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.rules.node_probe import MAX_PROBES

__all__ = ["ProbeDrain"]


class ProbeDrain(wiring.Component):
    """Follow the base drain of a pass by `count` more, and keep the next sums off meanwhile.

    A pass's sums replace those before 3 cycles after its last word was read. So its last word waits
    until the last probe of the pass before is so far that its sums will have been read by then.

    Latency: a probe's drain starts right behind the drain before, if there is room behind.
    Back-pressure: drains wait for room; the pass behind them waits for the drains.

    Parameters
    ----------
    cycles : int
        Of a drain, at least 3.

    Members
    -------
    count : ``In``
        Probes of each pass, 0 to 32.
    own, last_read : ``In(1)``
        The pass being read is a base pass to be probed; its last word is read in this cycle.
    summed : ``In(1)``
        Sums are complete; their base drain starts in the next cycle.
    draining, word : ``In``
    may_start : ``In(1)``; start : ``Out(1)``
        There is room for one more; a drain starts in the next cycle and has reserved its room.
    hold_last : ``Out(1)``
        The last word of the pass being read has to wait.
    pending : ``Out(1)``
        Drains are still to start.
    again : ``Out(1)``; k : ``Out``
        The drain under way is of a probe, the k-th. Both 1 cycle late: beside the sums.
    probe : ``Out(1)``
        ``again`` without delay.
    draws : ``Out(1)``
        The word that leaves is of a base pass that will be probed.
    """

    def __init__(self, cycles: int):
        self.cycles = cycles
        super().__init__({
            "count": In(range(MAX_PROBES + 1)), "own": In(1), "last_read": In(1), "summed": In(1),
            "draining": In(1), "word": In(range(cycles)), "may_start": In(1), "start": Out(1),
            "hold_last": Out(1), "pending": Out(1), "again": Out(1), "k": Out(range(MAX_PROBES)),
            "probe": Out(1), "draws": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        coming = Signal(3)                      # read to the end, not yet summed up
        left, k = Signal.like(self.count), Signal(range(MAX_PROBES))
        draws = Signal(3)
        early = self.word < self.cycles - 4 if self.cycles > 4 else 0
        m.d.comb += [
            self.pending.eq(left.any()),
            self.start.eq(self.pending & self.may_start
                          & (~self.draining | (self.word == self.cycles - 1))),
            self.hold_last.eq(coming.any() | self.pending | self.draining & early),
            self.draws.eq(draws[2]),
        ]
        m.d.sync += [
            self.again.eq(self.probe), self.k.eq(k),
            draws.eq(Cat(self.draining & ~self.probe & self.pending, draws)),
        ]
        m.d.sync += coming.eq(Cat(self.last_read & self.own & self.count.any(), coming))
        with m.If(self.summed):
            m.d.sync += [left.eq(Mux(coming[2], self.count, 0)), self.probe.eq(0)]
        with m.If(self.start):
            m.d.sync += [left.eq(left - 1), self.probe.eq(1), k.eq(Mux(self.probe, k + 1, 0))]
        return m

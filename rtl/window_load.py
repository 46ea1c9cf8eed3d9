"""Writes of the host through the window: which of them may be, and when."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.network import Network

__all__ = ["WindowLoad"]


class WindowLoad(wiring.Component):
    """One master becomes what the host writes, while nothing else runs.

    A request is refused at once where the window points at no master. Otherwise it waits until the
    window has read the word; the stage's memory then writes it back with one lane replaced, which
    leaves nothing of the word to keep here.

    Latency: ``ready`` 1 cycle after ``write``, which comes with ``settled``; a refusal is
    combinational. So a read that begins when the answer is seen finds the new master.

    Bit-exact with :meth:`firmware_models.learner.Learner.write_master`.

    Parameters
    ----------
    network : Network

    Members
    -------
    request : ``In(1)``
        Held until ``ready`` or ``refused``.
    space, word, lane : ``In``
        Of the window, stable meanwhile.
    settled : ``In(1)``
        No pass is under way, and the memories show what the window points at.
    waits : ``Out(1)``
        No pass may start.
    write : ``Out``, one bit per trainable stage
        Its memory replaces the lane (a pulse).
    ready, refused : ``Out(1)``
        It is done; there is no master.
    """

    def __init__(self, network: Network):
        self.network = network
        super().__init__({
            "request": In(1), "space": In(4), "word": In(16), "lane": In(12), "settled": In(1),
            "waits": Out(1), "write": Out(len(network.trainable)), "ready": Out(1),
            "refused": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        here, there_is = Signal.like(self.write), Signal()
        for position, index in enumerate(self.network.trainable):
            stage, dense = self.network.parts[index], self.network.parts[index].dense
            m.d.comb += here[position].eq(self.space == index)
            with m.If(self.space == index):
                m.d.comb += there_is.eq(Mux(
                    self.word < dense.reuse_factor, self.lane < dense.lanes,
                    (self.word < dense.reuse_factor + stage.drain_words)
                    & (self.lane < stage.drain_lanes)))

        go = Signal()
        m.d.comb += [
            self.refused.eq(~there_is),
            self.waits.eq(self.request & there_is),
            go.eq(self.waits & self.settled & ~self.ready),
            self.write.eq(here & go.replicate(len(here))),
        ]
        m.d.sync += self.ready.eq(go)

        return m

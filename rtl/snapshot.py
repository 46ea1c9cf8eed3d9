"""When the weights of all trainable stages are copied aside, and back."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.network import Network
from firmware_models.snapshot import copy_words

from .shapes import address

__all__ = ["Snapshot"]


class Snapshot(wiring.Component):
    """take: S = M, restore: M = S, word by word in every :class:`rtl.shadow_memory.ShadowMemory`

    A request is kept until no pass is under way. If both are there, the snapshot is taken first. A
    restore without a snapshot is dropped.

    Latency: :func:`firmware_models.snapshot.copy_cycles` from ``quiet`` until ``waits`` falls.
    Throughput: a word per cycle in each memory.

    Bit-exact with :class:`firmware_models.snapshot.Snapshot`.

    Parameters
    ----------
    network : Network

    Members
    -------
    take, restore, forget : ``In(1)``
        Pulses: what the host asks for; a snapshot that is forgotten cannot be restored.
    quiet : ``In(1)``
        No pass is under way.
    waits : ``Out(1)``
        No pass may start.
    taking, restoring : ``Out(1)``
        The request is not done yet.
    addr : ``Out``; copy_take, copy_restore : ``Out(1)``
        Word that is copied in this cycle, and in which direction.
    copying : ``Out(1)``
        The memories are in use.
    valid : ``Out(1)``
        There is a snapshot. It outlives a reset, which does not clear memories; one that a reset
        cut in two is none.
    torn : ``Out(1)``; torn_clear : ``In(1)``
        A reset cut a restore in two.
    """

    def __init__(self, network: Network):
        self.words = copy_words(network)
        super().__init__({
            "take": In(1), "restore": In(1), "forget": In(1), "quiet": In(1), "waits": Out(1),
            "taking": Out(1), "restoring": Out(1), "addr": Out(address(self.words)),
            "copy_take": Out(1), "copy_restore": Out(1), "copying": Out(1), "valid": Out(1),
            "torn": Out(1), "torn_clear": In(1),
        })

    def elaborate(self, platform):
        m = Module()

        # What a reset must not clear: what is in the memories.
        valid, changing, cut = (Signal(reset_less=True) for _ in range(3))
        back = Signal()                         # the copy under way is a restore
        m.d.comb += [
            self.waits.eq(self.taking | self.restoring & (valid | self.copying)),
            self.valid.eq(valid), self.torn.eq(cut),
        ]
        with m.If(self.forget):
            m.d.sync += valid.eq(0)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [self.addr.eq(0), back.eq(~self.taking)]
                with m.If(self.waits & self.quiet):
                    m.next = "COPY"
                with m.Elif(~self.waits):
                    m.d.sync += self.restoring.eq(0)
            # COPY: S[a] = M[a] or M[a] = S[a]
            with m.State("COPY"):
                m.d.comb += [self.copy_take.eq(~back), self.copy_restore.eq(back)]
                m.d.sync += self.addr.eq(self.addr + 1)
                with m.If(~back):
                    m.d.sync += valid.eq(0)
                with m.If(self.addr == self.words - 1):
                    m.next = "LAST_WRITE"
            with m.State("LAST_WRITE"):
                with m.If(back):
                    m.d.sync += self.restoring.eq(0)
                with m.Else():
                    m.d.sync += [self.taking.eq(0), valid.eq(1)]
                m.next = "IDLE"
        m.d.comb += self.copying.eq(~fsm.ongoing("IDLE"))
        with m.If(self.take):
            m.d.sync += self.taking.eq(1)
        with m.If(self.restore):
            m.d.sync += self.restoring.eq(1)

        # A restore that a reset cut in two must not go unnoticed.
        m.d.sync += changing.eq(self.copy_restore)
        with m.If(changing & fsm.ongoing("IDLE")):
            m.d.sync += cut.eq(1)
        with m.Elif(self.torn_clear):
            m.d.sync += cut.eq(0)

        return m

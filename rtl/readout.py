"""Predictions, and logits where asked, to AXI4-Stream."""
from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.formats import Fixed
from firmware_models.requantize import requantize
from firmware_models.softmax import Softmax

from .shapes import LABEL_WIDTH, address, shape_of
from .softmax import SoftmaxUnit
from .vector_buffer import VectorBuffer

__all__ = ["Readout"]


class Readout(wiring.Component):
    """Keep the logits of unperturbed passes, find the largest, send packets.

    Beat 0: index of the largest logit (the first of equal ones). With ``logits`` set, a beat per
    logit follows, sign-extended to 32 bits; of a network with a softmax, a beat per output of it.

    Latency: the first beat is offered 1 cycle after the last logit. Throughput: a beat per cycle,
    but for the cycles of :class:`rtl.softmax.SoftmaxUnit` behind the first.
    Back-pressure: packets wait in a ring; ``room`` falls when it is full.

    Bit-exact with :func:`firmware_models.softmax.readout`.

    Parameters
    ----------
    n_classes : int
    fmt : Fixed
        Format of the logits.
    softmax : Softmax, optional

    Members
    -------
    room : ``Out(1)``; reserve : ``In(1)``
    en, addr, payload, commit : ``In``
        Logits of a pass, one per cycle.
    kept : ``In(1)``
        The pass is unperturbed, and has reserved: of others nothing is kept.
    larger : ``Out(1)``
        The logit is larger than all before it in its pass.
    logits : ``In(1)``
    tdata, tvalid, tlast : ``Out``; tready : ``In(1)``
    samples : ``Out(32)``
        Vectors committed.
    """

    def __init__(self, n_classes: int, fmt: Fixed, softmax: Softmax | None = None):
        self.n_classes, self.fmt, self.softmax = n_classes, fmt, softmax
        super().__init__({
            "room": Out(1), "reserve": In(1),
            "en": In(1), "addr": In(address(n_classes)), "payload": In(fmt.width), "commit": In(1),
            "kept": In(1), "larger": Out(1), "logits": In(1),
            "tdata": Out(32), "tvalid": Out(1), "tready": In(1), "tlast": Out(1),
            "samples": Out(32),
        })

    def elaborate(self, platform):
        m = Module()

        # The mode is kept with the packet, so that it cannot change while one waits.
        walks = self.softmax is not None and self.softmax.tables
        tag = data.StructLayout({"prediction": LABEL_WIDTH, "logits": 1}
                                | ({"largest": shape_of(self.fmt)} if walks else {}))
        m.submodules.ring = ring = VectorBuffer(
            1, self.fmt.width, depth=self.n_classes, tag=tag)

        logit = Signal(shape_of(self.fmt))
        best, best_index = Signal.like(logit), Signal(LABEL_WIDTH)
        larger, commit = self.larger, self.commit & self.kept
        m.d.comb += [
            logit.eq(self.payload),
            larger.eq((self.addr == 0) | (logit > best)),
            self.room.eq(ring.room),
            ring.reserve.eq(self.reserve),
            ring.commit.eq(commit),
            ring.w_en.eq(self.en & self.kept),
            ring.w_addr.eq(self.addr),
            ring.w_data.eq(self.payload),
            ring.w_tag.prediction.eq(Mux(larger, self.addr, best_index)),
            ring.w_tag.logits.eq(self.logits),
        ]
        with m.If(self.en & larger):
            m.d.sync += [best.eq(logit), best_index.eq(self.addr)]
        m.d.sync += self.samples.eq(self.samples + commit)

        # Beat b carries code b - 1; a logit is read in the cycle before.
        beat, next_beat = Signal(range(self.n_classes + 1)), Signal(range(self.n_classes + 1))
        stored = Signal(shape_of(self.fmt))
        offered, code = ring.valid, stored
        if walks:           # it reads the logits, and its outputs come when they are ready
            m.submodules.softmax = unit = SoftmaxUnit(self.softmax, self.fmt)
            m.d.comb += [
                ring.w_tag.largest.eq(Mux(larger, logit, best)),
                unit.start.eq(ring.valid & ring.tag.logits),
                unit.largest.eq(ring.tag.largest),
                unit.logit.eq(stored),
                unit.take.eq(self.tvalid & self.tready & (beat != 0)),
            ]
            offered, code = ring.valid & ((beat == 0) | unit.valid), unit.output
        elif self.softmax is not None:
            one = int(requantize(1, 0, self.softmax.result))
            code = Mux(beat - 1 == ring.tag.prediction, one, 0)
        m.d.comb += [
            stored.eq(ring.r_data),
            self.tvalid.eq(offered),
            self.tdata.eq(Mux(beat == 0, ring.tag.prediction, code)),
            self.tlast.eq(~ring.tag.logits | (beat == self.n_classes)),
            ring.release.eq(self.tvalid & self.tready & self.tlast),
            ring.take.eq(ring.release),
            next_beat.eq(beat),
            ring.r_addr.eq(unit.addr if walks else next_beat - 1),
        ]
        with m.If(self.tvalid & self.tready):
            m.d.comb += next_beat.eq(Mux(self.tlast, 0, beat + 1))
        m.d.sync += beat.eq(next_beat)

        return m

"""A softmax over the logits that the readout keeps: two walks, two tables, one multiplier."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.formats import Fixed
from firmware_models.softmax import Softmax, top_bits

from .requantize import requantize
from .shapes import address, shape_of

__all__ = ["SoftmaxUnit"]


class SoftmaxUnit(wiring.Component):
    """Read the logits of a packet once for the sum of their exponentials, once for the outputs.

    y_i = (result)(e_i * inv[top bits of (inv_inp)(accum)(sum of e)])
    e_i = (accum)exp[top bits of (inp_norm)(largest - x_i)], or of x_i itself with "latency"

    Latency: n + 4 cycles from ``start`` until the first output is offered. Throughput: then an
    output per cycle. Back-pressure: an output waits, unchanged, until it is taken, and all behind
    it wait.

    Bit-exact with :func:`firmware_models.softmax.softmax`, "stable" and "latency".

    Source: hls4ml 1.3.0, ``nnet_activation.h``.

    Parameters
    ----------
    layer : Softmax
    source : Fixed
        Format of the logits.

    Members
    -------
    start : ``In(1)``
        A packet is offered, until its last output is taken; no logit is read before the next cycle.
    largest : ``In``
        The largest of them.
    addr : ``Out``; logit : ``In``, 1 cycle later
    valid : ``Out(1)``; output : ``Out``; take : ``In(1)``
        Outputs in order; ``take`` only while ``valid``.
    """

    def __init__(self, layer: Softmax, source: Fixed):
        self.layer, self.source = layer, source
        super().__init__({
            "start": In(1), "largest": In(shape_of(source)),
            "addr": Out(address(layer.n)), "logit": In(shape_of(source)),
            "valid": Out(1), "output": Out(shape_of(layer.result)), "take": In(1),
        })

    @property
    def latency_cycles(self) -> int:
        return self.layer.n + 4

    def elaborate(self, platform):
        m = Module()

        layer, accum = self.layer, self.layer.accum

        def table(name, codes, of, index, en=1):
            """The entry at the upper bits of a code, 1 cycle later."""
            m.submodules[name] = rom = memory.Memory(shape=shape_of(of), depth=len(codes),
                                                     init=codes.tolist())
            read = rom.read_port()
            m.d.comb += [read.addr.eq(index[len(index) - top_bits(len(codes)):]), read.en.eq(en)]
            return read.data

        # The output register holds what is not taken, and everything before it stands still.
        move = Signal()
        m.d.comb += move.eq(~self.valid | self.take)

        # EXP: e_i, a cycle after the logit at index `at` has come.
        index = self.logit
        if layer.inp_norm is not None:
            index = requantize(m, self.largest - self.logit, self.source.frac, layer.inp_norm)
        exp = table("exp", layer.exponentials, accum, index, en=move)

        # SUM: of the first walk; its inverse is there when the second walk needs it.
        total, adding = Signal(shape_of(accum)), Signal()
        with m.If(adding):
            m.d.sync += total.eq(requantize(m, total + exp, accum.frac, accum))
        inverse = table("inv", layer.inv_codes, layer.inv_table,
                        requantize(m, total, accum.frac, layer.inv_inp))

        # MULTIPLY: of the second walk.
        product = Signal((exp * inverse).shape())
        feeding, fed = Signal(), Signal()
        with m.If(move):
            m.d.sync += [fed.eq(feeding), self.valid.eq(fed), product.eq(exp * inverse)]
        m.d.comb += self.output.eq(requantize(m, product, accum.frac + layer.inv_table.frac,
                                              layer.result))

        # Addressed a cycle ahead, so that `logit` is always the one at `at`.
        at = Signal(address(layer.n))
        last = at == layer.n - 1
        m.d.comb += self.addr.eq(at)
        m.d.sync += [at.eq(self.addr), adding.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.addr.eq(0)
                m.d.sync += total.eq(0)
                with m.If(self.start):
                    m.next = "SUM"
            with m.State("SUM"):
                m.d.comb += self.addr.eq(at + 1)
                m.d.sync += adding.eq(1)
                with m.If(last):
                    m.next = "LAST_SUM"
            with m.State("LAST_SUM"):
                m.d.comb += self.addr.eq(0)
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.comb += feeding.eq(1)
                with m.If(move):
                    m.d.comb += self.addr.eq(at + 1)
                    with m.If(last):
                        m.next = "LAST_OUTPUT"
            with m.State("LAST_OUTPUT"):
                with m.If(self.take & ~fed):
                    m.next = "IDLE"

        return m

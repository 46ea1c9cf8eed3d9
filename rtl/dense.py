"""The engine of a Dense layer and the ReLU behind it."""
from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.network import Stage

from .requantize import requantize
from .shapes import address, assign_tag, shape_of

__all__ = ["DenseEngine"]


class DenseEngine(wiring.Component):
    """Take a pass, walk over its vector and the weight memory, drain the outputs.

    y = activation((result)(accum)(bias + sum (accum)(x * weight)))

    A pass reads one word a cycle: ``inputs_per_word`` features against ``lanes`` weights. When its
    sums are complete they are copied aside and drained in the words that the next stage will read,
    through ``drain_lanes`` bias adders and casts, while the next pass is already being read.

    Latency: reuse_factor + drain_words + 7 cycles from the acceptance of a pass until its vector is
    offered by the buffer behind. Throughput: a pass per ``interval_cycles``. Back-pressure: a pass
    starts only when its result has a slot reserved behind; from then on it never stops.

    Bit-exact with :func:`firmware_models.dense.accumulate` and ``activate``.

    Source: hls4ml 1.3.0, ``nnet_dense_resource.h``, reuse factor up to n_in.

    Parameters
    ----------
    stage : Stage
    tag, next_tag : data.StructLayout
        Tags of its passes and of what it delivers.

    Members
    -------
    pass_valid, pass_tag : ``In``; pass_ready : ``Out(1)``
    x_addr : ``Out``; x_data : ``In``, 1 cycle later
    w_addr : ``Out``; w_data : ``In``, 2 cycles later
    w_en, w_first : ``Out(1)``
        A weight word is being addressed; it is the first of the pass.
    w_tag : ``Out(tag)``
        Tag of the pass that addresses.
    x_last : ``Out(1)``
        The last word of the pass is being addressed.
    bias_addr : ``Out``; bias_data : ``In``, 2 cycles later
    bias_tag : ``Out(tag)``
        Tag of the pass that is being drained.
    room : ``In(1)``; reserve : ``Out(1)``
        Slot behind.
    o_en, o_commit : ``Out(1)``; o_addr, o_data, o_tag : ``Out``
        Drained words.
    idle : ``Out(1)``
        No pass inside.
    """

    def __init__(self, stage: Stage, *, tag: data.StructLayout, next_tag: data.StructLayout):
        dense = stage.dense
        self.stage = stage
        super().__init__({
            "pass_valid": In(1), "pass_ready": Out(1), "pass_tag": In(tag),
            "x_addr": Out(address(dense.reuse_factor)),
            "x_data": In(dense.inputs_per_word * stage.source.width),
            "w_addr": Out(address(dense.reuse_factor)), "w_en": Out(1), "w_first": Out(1),
            "w_tag": Out(tag), "x_last": Out(1),
            "w_data": In(dense.lanes * dense.weight.width),
            "bias_addr": Out(address(stage.drain_words)), "bias_tag": Out(tag),
            "bias_data": In(stage.drain_lanes * dense.bias.width),
            "room": In(1), "reserve": Out(1),
            "o_en": Out(1), "o_addr": Out(address(stage.drain_words)), "o_commit": Out(1),
            "o_data": Out(stage.drain_lanes * stage.result.width), "o_tag": Out(next_tag),
            "idle": Out(1),
        })

    @property
    def interval_cycles(self) -> int:
        """Cycles between two passes; 3 keep a tag alive until the multipliers have seen it."""
        return max(self.stage.dense.reuse_factor, self.stage.drain_words, 3)

    def elaborate(self, platform):
        m = Module()

        stage, dense = self.stage, self.stage.dense
        words, drain_words = dense.reuse_factor, stage.drain_words
        per_word = dense.inputs_per_word

        # READ: one word per cycle, from the cycle after the pass is accepted.
        running = Signal()
        count = Signal(address(self.interval_cycles))
        accept, last_cycle = Signal(), Signal()
        m.d.comb += [
            last_cycle.eq(count == self.interval_cycles - 1),
            self.pass_ready.eq((~running | last_cycle) & self.room),
            accept.eq(self.pass_valid & self.pass_ready),
            self.reserve.eq(accept),
            self.w_en.eq(running & (count < words)),
            self.w_first.eq(count == 0),
            self.x_last.eq(running & (count == words - 1)),
            self.w_addr.eq(count),
            self.x_addr.eq(count),
        ]
        m.d.sync += count.eq(count + 1)
        with m.If(accept):
            m.d.sync += [running.eq(1), count.eq(0), self.w_tag.eq(self.pass_tag)]
        with m.Elif(last_cycle):
            m.d.sync += running.eq(0)

        # FETCH, MULTIPLY, ACCUMULATE: bit k of these follows the word through the pipeline.
        valid, first, last = Signal(3), Signal(3), Signal(3)
        m.d.sync += [
            valid.eq(Cat(self.w_en, valid)),
            first.eq(Cat(self.w_first, first)),
            last.eq(Cat(self.x_last, last)),
        ]
        x = Signal.like(self.x_data)
        m.d.sync += x.eq(self.x_data)

        def lane(vector, index, fmt):
            field = vector.word_select(index, fmt.width)
            return field.as_signed() if fmt.signed else field

        total = []
        hold = [Signal(shape_of(dense.accum), name=f"hold{j}") for j in range(dense.n_out)]
        for j in range(dense.n_out):
            acc = Signal(shape_of(dense.accum), name=f"acc{j}")
            sum_j = Mux(first[2], 0, acc)
            for k in range(per_word):
                exact = lane(x, k, stage.source) * lane(self.w_data, j * per_word + k, dense.weight)
                product = Signal(exact.shape(), name=f"product{j}_{k}")
                m.d.sync += product.eq(exact)
                # Every product is cast to the accumulator before it is added, as in the C++.
                sum_j = sum_j + requantize(
                    m, product, stage.source.frac + dense.weight.frac, dense.accum)
            total.append(sum_j)
            with m.If(valid[2]):
                m.d.sync += acc.eq(sum_j)
            with m.If(last[2]):
                m.d.sync += hold[j].eq(sum_j)

        # The tag stays one step ahead of what overwrites it: three passes can be inside at once.
        mac_tag = Signal(self.pass_tag.shape())
        with m.If(valid[1] & first[1]):
            m.d.sync += mac_tag.eq(self.w_tag)
        with m.If(last[2]):
            m.d.sync += self.bias_tag.eq(mac_tag)

        # DRAIN: word s holds outputs s + drain_words * c; + bias, cast, ReLU.
        draining = Signal()
        with m.If(last[2]):
            m.d.sync += [draining.eq(1), self.bias_addr.eq(0)]
        with m.Elif(self.bias_addr == drain_words - 1):
            m.d.sync += draining.eq(0)
        with m.Else():
            m.d.sync += self.bias_addr.eq(self.bias_addr + 1)

        drained = Signal(3)
        addr = [self.bias_addr] + [Signal(address(drain_words), name=f"addr{k}") for k in (1, 2, 3)]
        m.d.sync += drained.eq(Cat(draining, drained))
        m.d.sync += [after.eq(before) for before, after in zip(addr, addr[1:], strict=False)]
        for c in range(stage.drain_lanes):
            chain = Array(hold[c * drain_words:(c + 1) * drain_words])
            picked, held = Signal(shape_of(dense.accum)), Signal(shape_of(dense.accum))
            pre = Signal(shape_of(dense.accum), name=f"pre{c}")
            bias = requantize(m, lane(self.bias_data, c, dense.bias), dense.bias.frac, dense.accum)
            m.d.sync += [picked.eq(chain[self.bias_addr]), held.eq(picked), pre.eq(held + bias)]
            y = requantize(m, pre, dense.accum.frac, dense.result)
            if stage.relu:
                y = requantize(m, Mux(y > 0, y, 0), dense.result.frac, stage.relu.result)
            m.d.comb += self.o_data.word_select(c, stage.result.width).eq(y)
        with m.If(drained[1] & (addr[2] == 0)):
            m.d.sync += assign_tag(self.o_tag, self.bias_tag)
        m.d.comb += [
            self.o_en.eq(drained[2]),
            self.o_addr.eq(addr[3]),
            self.o_commit.eq(drained[2] & (addr[3] == drain_words - 1)),
            self.idle.eq(~(running | valid.any() | draining | drained.any())),
        ]
        return m

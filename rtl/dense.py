"""The engine of a Dense layer and the elementwise layers behind it."""
from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.branches import Add
from firmware_models.network import Stage
from firmware_models.rules.node_probe import MAX_PROBES, amplitude_shift

from .activation import activate
from .branches import Branches, add
from .constant_product import ConstantProduct
from .multiply_accumulate import multiply_accumulate
from .node_noise import NODE_NOISE
from .probe_drain import ProbeDrain
from .read_back import read_back
from .requantize import requantize
from .select import select
from .shapes import address, assign_tag, field_of, lane, shape_of

__all__ = ["DenseEngine"]


class DenseEngine(wiring.Component):
    """Take a pass, walk over its vector and the weight memory, drain the outputs.

    y = activation((result)(accum)(bias + sum (accum)(x * weight)))

    With `probes`, the sums of a base pass are drained again and again with node noise added where
    the bias is: each such probe costs the stages behind, not this one. The sums of the next pass
    wait before their last word until the drains are done.

    A pass reads one word a cycle: ``inputs_per_word`` features against ``lanes`` weights. When its
    sums are complete they are copied aside and drained in the words that the next stage will read,
    through ``drain_lanes`` bias adders and casts, while the next pass is already being read.
    A layer that is constant reads no weights: adders that know them give its sums with the bias.

    Latency: reuse_factor + drain_words + 7 cycles, and those of constant logic and of the
    activation, from the acceptance of a pass until its vector is offered by the buffer behind.
    Throughput: a pass per ``interval_cycles``. Back-pressure: a pass starts only when its result
    has a slot reserved behind; from then on it never stops.

    Bit-exact with :func:`firmware_models.dense.accumulate` and ``activate``.

    Source: hls4ml 1.3.0, ``nnet_dense_resource.h``, reuse factor up to n_in.

    Parameters
    ----------
    stage : Stage
    tag, next_tag : data.StructLayout
        Tags of its passes and of what it delivers.
    line_rate : bool
        The stage learns from its base passes (rule "np").
    probes : int
        Position of the stage among those with node probes; None without.
    residual : int
        Residual bits below each weight, if masters are read back through the sums; None without.

    Members
    -------
    pass_valid, pass_tag : ``In``; pass_ready : ``Out(1)``
    x_addr : ``Out``; x_data : ``In``, 1 cycle later
        A word of the frame: what is multiplied lies lowest.
    w_addr : ``Out``; w_data : ``In``, 2 cycles later, unless the layer is constant
    w_en, w_first : ``Out(1)``
        A weight word is being addressed; it is the first of the pass.
    w_next : ``Out``; w_started : ``Out(1)``
        ``w_addr`` of the next cycle; a pass was accepted in the cycle before.
    w_tag : ``Out(tag)``
        Tag of the pass that addresses.
    x_last : ``Out(1)``
        The last word of the pass is being addressed.
    bias_addr : ``Out``; bias_data : ``In``, 2 cycles later, unless the layer is constant
    bias_tag : ``Out(tag)``
        Tag of the pass that is being drained.
    room : ``In(1)``; reserve : ``Out(1)``
        Slot behind.
    o_en, o_commit : ``Out(1)``; o_addr, o_data, o_tag : ``Out``
        Drained words: outputs, or of the next stage's frame.
    idle : ``Out(1)``
        No pass inside.
    bias_en, bias_last : ``Out(1)``
        `line_rate`: ``bias_addr`` is a word of a base pass, its last.
    count : ``In``
        `probes`: probes of each base pass whose tag asks for them.
    noise_en : ``Out(1)``; noise_addr, noise_k : ``Out``; noise : ``In``, one per drain lane
        `probes`: word and probe, and what to add, in steps of the smallest amplitude.
    drawn : ``Out(1)``; active : ``Out(drain_lanes)``; drawn_addr : ``Out``; drawn_last : ``Out(1)``
        `probes`: a word of a base pass that will be probed, its active nodes, and whether it is the
        last. If the activation takes no cycles, it is the word on the output.
    w_residue : ``In``, with ``w_data``; window_en, window_lane : ``In``; window : ``Out``
        `residual`: with no pass inside, the master in this lane of the word on ``w_data``, 1 cycle
        later; see :mod:`rtl.read_back`.
    """

    def __init__(self, stage: Stage, *, tag: data.StructLayout, next_tag: data.StructLayout,
                 line_rate: bool = False, probes: int | None = None,
                 residual: int | None = None):
        dense = stage.dense
        self.stage, self.line_rate, self.probes, self.residual = stage, line_rate, probes, residual
        members = {"bias_en": Out(1), "bias_last": Out(1)} if line_rate else {}
        if residual is not None:
            members |= {
                "w_residue": In(max(1, dense.lanes * residual)), "window_en": In(1),
                "window_lane": In(12), "window": Out(signed(dense.weight.width + residual)),
            }
        if probes is not None:
            members |= {
                "count": In(range(MAX_PROBES + 1)),
                "noise_en": Out(1), "noise_addr": Out(address(stage.drain_words)),
                "noise_k": Out(range(MAX_PROBES)),
                "noise": In(NODE_NOISE).array(stage.drain_lanes),
                "drawn": Out(1), "active": Out(stage.drain_lanes),
            }
            if stage.delay_cycles:
                members |= {"drawn_addr": Out(address(stage.drain_words)), "drawn_last": Out(1)}
        super().__init__(members | {
            "pass_valid": In(1), "pass_ready": Out(1), "pass_tag": In(tag),
            "x_addr": Out(address(dense.reuse_factor)),
            "x_data": In(stage.frame_width),
            "w_addr": Out(address(dense.reuse_factor)), "w_en": Out(1), "w_first": Out(1),
            "w_next": Out(address(dense.reuse_factor)), "w_started": Out(1),
            "w_tag": Out(tag), "x_last": Out(1),
            **({} if dense.constant else {
                "w_data": In(dense.lanes * dense.weight.width),
                "bias_data": In(stage.drain_lanes * dense.bias.width)}),
            "bias_addr": Out(address(stage.drain_words)), "bias_tag": Out(tag),
            "room": In(1), "reserve": Out(1),
            "o_en": Out(1), "o_addr": Out(address(stage.drain_words)), "o_commit": Out(1),
            "o_data": Out(stage.leaving_width), "o_tag": Out(next_tag),
            "idle": Out(1),
        })
        if probes is not None and not stage.delay_cycles:
            self.drawn_addr, self.drawn_last = self.o_addr, self.o_commit

    @property
    def interval_cycles(self) -> int:
        """Cycles between two passes; 3 keep a tag alive until the multipliers have seen it."""
        return max(self.stage.dense.reuse_factor, self.stage.drain_words, 3)

    @property
    def drain_cycles(self) -> int:
        """Cycles between two drains of the same sums; 3 let an updated bias be written first."""
        return self.stage.drain_words if self.probes is None else max(self.stage.drain_words, 3)

    def elaborate(self, platform):
        m = Module()

        stage, dense = self.stage, self.stage.dense
        words, drain_words = dense.reuse_factor, stage.drain_words

        # READ: one word per cycle, from the cycle after the pass is accepted. Between passes the
        # count is 0, so that the next one starts there without a path from its acceptance.
        running, wait = Signal(), Signal()
        count = Signal(address(self.interval_cycles))
        next_count = Signal.like(count)
        accept, at_end, last_cycle, at_last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            at_end.eq(count == self.interval_cycles - 1),
            last_cycle.eq(at_end & ~wait),
            self.pass_ready.eq((~running | last_cycle) & self.room),
            accept.eq(self.pass_valid & self.pass_ready),
            self.reserve.eq(accept),
            at_last.eq(running & (count == words - 1)),
            self.w_en.eq(running & (count < words) & ~wait),
            self.w_first.eq(count == 0),
            self.x_last.eq(at_last & ~wait),
            self.w_addr.eq(count),
            self.x_addr.eq(count),
            # Only the last word waits: a constant there, and no carry behind the wait.
            next_count.eq(Mux(wait, words - 1, Mux(running & ~at_end, count + 1, 0))),
            self.w_next.eq(next_count),
        ]
        m.d.sync += [count.eq(next_count), self.w_started.eq(accept)]
        with m.If(accept):
            m.d.sync += [running.eq(1), self.w_tag.eq(self.pass_tag)]
        with m.Elif(last_cycle):
            m.d.sync += running.eq(0)

        # FETCH, MULTIPLY, ACCUMULATE: bit k of these follows the word through the pipeline.
        summed = 2 + stage.sum_delay_cycles     # bit of the word whose sums are there
        valid, first, last = Signal(summed + 1), Signal(summed + 1), Signal(summed + 1)
        m.d.sync += [
            valid.eq(Cat(self.w_en, valid)),
            first.eq(Cat(self.w_first, first)),
            last.eq(Cat(self.x_last, last)),
        ]
        x = Signal.like(self.x_data)
        m.d.sync += x.eq(self.x_data)

        word = Signal(address(self.drain_cycles))
        start, picked_word, complete, width = None, word, last[summed], dense.accum.width
        if self.residual is not None:
            start, window_word, window_lane = read_back(m, self, x)
            picked_word = Mux(self.window_en, window_word, word)
            complete, width = complete | self.window_en, max(width, len(self.window))
        hold = [Signal(signed(width), name=f"hold{j}") for j in range(dense.n_out)]
        if dense.constant:
            m.submodules.product = product = ConstantProduct(stage)
            m.d.comb += product.x.eq(x)
            totals = product.totals
        else:
            totals = multiply_accumulate(
                m, stage, x, self.w_data, first=first[2], valid=valid[2], start=start)
        for kept, total in zip(hold, totals, strict=True):
            with m.If(complete):
                m.d.sync += kept.eq(total)

        # The tag stays one step ahead of what overwrites it: three passes can be inside at once.
        mac_tag = Signal(self.pass_tag.shape())
        with m.If(valid[1] & first[1]):
            m.d.sync += mac_tag.eq(self.w_tag)
        for k in range(stage.sum_delay_cycles):
            before, mac_tag = mac_tag, Signal(self.pass_tag.shape(), name=f"mac_tag{k}")
            m.d.sync += mac_tag.eq(before)
        with m.If(last[summed]):
            m.d.sync += self.bias_tag.eq(mac_tag)

        # DRAIN: word s holds outputs s + drain_words * c; + bias, cast, activation.
        draining = Signal()
        last_word = word == self.drain_cycles - 1
        of_sums = draining & (word < drain_words if self.drain_cycles > drain_words else 1)
        m.d.comb += self.bias_addr.eq(word)
        with m.If(last[summed]):
            m.d.sync += [draining.eq(1), word.eq(0)]
        with m.Elif(last_word):
            m.d.sync += draining.eq(0)
        with m.Else():
            m.d.sync += word.eq(word + 1)
        is_probe, noise, probe_tag = 0, [0] * stage.drain_lanes, {}
        if self.probes is not None:
            m.submodules.probes = probes = ProbeDrain(self.drain_cycles)
            m.d.comb += [
                probes.count.eq(self.count), probes.summed.eq(last[summed]),
                probes.own.eq(self.w_tag.train[self.probes] & ~field_of(self.w_tag, "probe")),
                probes.last_read.eq(self.x_last), wait.eq(at_last & probes.hold_last),
                probes.draining.eq(draining), probes.word.eq(word),
                # A pass that is accepted in this cycle takes the room.
                probes.may_start.eq(self.room & ~accept),
            ]
            with m.If(probes.start):
                m.d.comb += self.reserve.eq(1)
                m.d.sync += [draining.eq(1), word.eq(0)]
            is_probe = probes.probe
            noise = [value << amplitude_shift(dense.accum, 0) for value in self.noise]
            probe_tag = {
                "probe": is_probe | field_of(self.bias_tag, "probe"),
                "more": probes.pending | field_of(self.bias_tag, "more"),
                "layer": Mux(is_probe, self.probes, field_of(self.bias_tag, "layer")),
            }

        end = 3 + stage.delay_cycles            # cycles from a drained word to its outputs
        drained = Signal(end)
        addr = [self.bias_addr] + [Signal(address(drain_words), name=f"addr{k}")
                                   for k in range(1, end + 1)]
        m.d.sync += drained.eq(Cat(of_sums, drained))
        m.d.sync += [after.eq(before) for before, after in zip(addr, addr[1:], strict=False)]
        outputs, branches = self.o_data, None
        if stage.branches:
            m.submodules.branches = branches = Branches(stage)
            outputs = branches.outputs
            for k in range(stage.sum_delay_cycles):
                before, x = x, Signal.like(x, name=f"x{k}")
                m.d.sync += x.eq(before)
            m.d.comb += [
                branches.x.eq(x), branches.en.eq(valid[summed]), branches.last.eq(last[summed]),
                branches.addr.eq(self.bias_addr), branches.o_addr.eq(self.o_addr),
                self.o_data.eq(branches.o_data),
            ]
        sums = [select(m, f"sums{c}", hold[c * drain_words:(c + 1) * drain_words], picked_word)
                for c in range(stage.drain_lanes)]
        if self.residual is not None:
            m.d.comb += self.window.eq(select(m, "window_sums", sums, window_lane))
        for c in range(stage.drain_lanes):
            picked, held = Signal(shape_of(dense.accum)), Signal(shape_of(dense.accum))
            pre = Signal(shape_of(dense.accum), name=f"pre{c}")
            # Sums of constant logic have their bias.
            bias = 0 if dense.constant else requantize(
                m, lane(self.bias_data, c, dense.bias), dense.bias.frac, dense.accum)
            m.d.sync += [picked.eq(sums[c]), held.eq(picked + noise[c]),
                         pre.eq(held + bias)]
            y = requantize(m, pre, dense.accum.frac, dense.result)
            source, at = dense.result, 3
            for n, layer in enumerate(stage.activation):
                if isinstance(layer, Add):
                    of = branches.received[layer.other].of
                    y = add(m, layer, y, source, lane(getattr(branches, f"other{n}"), c, of), of)
                else:
                    y = activate(m, layer, y, source, word=addr[at],
                                 nodes=range(c * drain_words, (c + 1) * drain_words))
                source, at = layer.result, at + layer.delay_cycles
            m.d.comb += outputs.word_select(c, stage.result.width).eq(y)
        # A pass later bias_tag is another one, so the tag waits here for the activation.
        tags = [*[Signal(self.o_tag.shape(), name=f"tag{k}") for k in range(stage.delay_cycles)],
                self.o_tag]
        with m.If(drained[1] & (addr[2] == 0)):
            m.d.sync += assign_tag(tags[0], self.bias_tag, **probe_tag)
        m.d.sync += [after.eq(before) for before, after in zip(tags, tags[1:], strict=False)]
        m.d.comb += [
            self.o_en.eq(drained[-1]),
            self.o_addr.eq(addr[-1]),
            self.o_commit.eq(drained[-1] & (addr[-1] == drain_words - 1)),
            self.idle.eq(~(running | valid.any() | draining | drained.any())),
        ]
        if self.line_rate:
            base = self.bias_tag.train.any() & ~field_of(self.bias_tag, "probe") & ~is_probe
            m.d.comb += [
                self.bias_en.eq(of_sums & base),
                self.bias_last.eq(self.bias_en & (word == drain_words - 1)),
            ]
        if self.probes is not None:
            # The probes' drains read the signs soon after: they do not wait for the activation.
            if stage.delay_cycles:
                m.d.comb += [self.drawn_addr.eq(addr[3]),
                             self.drawn_last.eq(addr[3] == drain_words - 1)]
            nodes = [outputs.word_select(c, stage.result.width) for c in range(stage.drain_lanes)]
            m.d.comb += [
                self.noise_en.eq(probes.again), self.noise_addr.eq(addr[1]),
                self.noise_k.eq(probes.k),
                self.drawn.eq(drained[2] & probes.draws),
                self.active.eq(Cat(y.any() for y in nodes) if stage.gated else -1),
            ]
            with m.If(probes.pending):
                m.d.comb += self.idle.eq(0)
        return m

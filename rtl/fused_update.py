"""Fused sweep of a trainable stage: coefficients, kept inputs, and the step of each word."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.fused_update import DELAY, MEAN_FRAC, MEAN_SHIFT, step_of
from firmware_models.network import Stage

from .shapes import address, shape_of

__all__ = ["FusedUpdate"]


class FusedUpdate(wiring.Component):
    """u_i = rnd((x_i - m_i) * 2**-shift) for the word that a base pass is about to read

    x is the input of two learning samples ago. The memory holds, for each word, the inputs of the
    last two learning samples and the running mean: one read and one write per word, in place, make
    it a delay line of exactly two samples.

    Coefficients arrive node by node in a chain of registers and are copied aside when a pass starts
    to use them. ``ready`` says that they are those which the next learning sample's base pass must
    use; it starts with two, which are 0.

    Latency: ``step`` is for the word that was addressed in the cycle before. Throughput: a word per
    cycle.

    Bit-exact with :mod:`firmware_models.fused_update`.

    Parameters
    ----------
    stage : Stage
    residual : int
    bits : int
        Of a coefficient's magnitude: 1, or 4 for lanes with multipliers.

    Members
    -------
    accepted, started : ``In(1)``
        A base pass of a learning sample has been accepted; the same, one cycle later.
    next_addr, addr : ``In``; en : ``In(1)``
        Word that will be read in the next cycle, word being read; this is one of that pass.
    x : ``In``
        Input word ``addr`` of that pass, one cycle later.
    step, back : ``Out`` signed, one per input of a word
        u and -u, so that a lane only has to choose; 0 without ``en``. With multipliers ``step`` is
        the centred input.
    fired : ``Out(n_out * bits)``; negative : ``Out(n_out)``
        Coefficients of the pass, magnitude and sign.
    shift : ``In(1)``; fired_in : ``In(bits)``; negative_in : ``In(1)``; w_word, w_lane : ``In``
        Next node's coefficient, and where its bias is.
    loaded : ``In(1)``
        That was the last one.
    ready, spent : ``Out(1)``
        The next pass may start; every pass with known coefficients has started.
    bias_addr : ``In``; bias_last : ``In(1)``; bias_fired, bias_negative : ``Out``
        Coefficients of a bias word, one cycle later; last word of this base pass.
    restart : ``In(1)``
        Drop coefficients.
    """

    def __init__(self, stage: Stage, *, residual: int, bits: int = 1):
        dense = stage.dense
        self.stage, self.model, self.bits = stage, step_of(stage, residual, bits), bits
        word = address(dense.reuse_factor)
        step = signed(self.model.width if bits == 1 else self.model.input_width)
        super().__init__({
            "accepted": In(1), "started": In(1), "next_addr": In(word), "addr": In(word),
            "en": In(1), "x": In(dense.inputs_per_word * stage.source.width),
            "step": Out(step).array(dense.inputs_per_word),
            "back": Out(step).array(dense.inputs_per_word),
            "fired": Out(dense.n_out * bits), "negative": Out(dense.n_out),
            "shift": In(1), "fired_in": In(bits), "negative_in": In(1), "loaded": In(1),
            "w_word": In(address(stage.drain_words)), "w_lane": In(address(stage.drain_lanes)),
            "ready": Out(1), "spent": Out(1),
            "bias_addr": In(address(stage.drain_words)), "bias_last": In(1),
            "bias_fired": Out(stage.drain_lanes * bits), "bias_negative": Out(stage.drain_lanes),
            "restart": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        self._coefficients(m)
        self._biases(m)
        self._steps(m)
        return m

    def _coefficients(self, m):
        n_out = self.stage.dense.n_out
        fired, negative = Signal(n_out * self.bits), Signal(n_out)
        left = Signal(range(DELAY + 1), init=DELAY)
        m.d.comb += [self.ready.eq(left != 0), self.spent.eq(left == 0)]
        m.d.sync += left.eq(left + self.loaded - self.accepted)
        with m.If(self.shift):
            m.d.sync += [fired.eq(Cat(fired[self.bits:], self.fired_in)),
                         negative.eq(Cat(negative[1:], self.negative_in))]
        # Not in the cycle of acceptance: the pass before may still need its own for its last word.
        with m.If(self.started):
            m.d.sync += [self.fired.eq(fired), self.negative.eq(negative)]
        with m.If(self.restart):
            m.d.sync += [fired.eq(0), left.eq(DELAY)]

    def _biases(self, m):
        """Bias words are read later than weight words, when the next coefficients may be here."""
        words, lanes, bits = self.stage.drain_words, self.stage.drain_lanes, self.bits
        addr_bits = (words - 1).bit_length()
        m.submodules.codes = codes = memory.Memory(
            shape=unsigned((bits + 1) * lanes), depth=2 << addr_bits, init=[])
        write, read = codes.write_port(granularity=1), codes.read_port(domain="comb")
        w_slot, r_slot, valid = Signal(), Signal(), Signal(2)
        lane = Signal(lanes)
        m.d.comb += [
            lane.eq(1 << self.w_lane),
            write.addr.eq(Cat(self.w_word[:addr_bits], w_slot)),
            write.data.eq(Cat(self.fired_in.replicate(lanes), self.negative_in.replicate(lanes))),
            write.en.eq(Cat(*(bit.replicate(bits) for bit in lane), lane)
                        & self.shift.replicate((bits + 1) * lanes)),
            read.addr.eq(Cat(self.bias_addr[:addr_bits], r_slot)),
        ]
        with m.If(self.loaded):
            m.d.sync += [w_slot.eq(~w_slot), valid.eq(valid | (1 << w_slot))]
        with m.If(self.bias_last):
            m.d.sync += r_slot.eq(~r_slot)
        with m.If(self.restart):
            m.d.sync += [w_slot.eq(0), r_slot.eq(0), valid.eq(0)]
        m.d.sync += [
            self.bias_fired.eq(read.data[:bits * lanes]
                               & valid.bit_select(r_slot, 1).replicate(bits * lanes)),
            self.bias_negative.eq(read.data[bits * lanes:]),
        ]

    def _steps(self, m):
        stage, model = self.stage, self.model
        inputs, x_shape, width = (
            stage.dense.inputs_per_word, shape_of(stage.source), stage.source.width)
        mean_shape = shape_of(model.mean)
        layout = width * DELAY + (mean_shape.width if model.centred else 0)
        m.submodules.inputs = kept = memory.Memory(
            shape=unsigned(layout * inputs), depth=max(stage.dense.reuse_factor, 2), init=[])
        read, write = kept.read_port(), kept.write_port()
        addr, en = Signal.like(self.addr), Signal()
        m.d.comb += read.addr.eq(self.next_addr)
        m.d.sync += [addr.eq(self.addr), en.eq(self.en)]
        m.d.comb += [write.addr.eq(addr), write.en.eq(en)]
        half = 1 << model.shift >> 1
        for k in range(inputs):
            word = read.data.word_select(k, layout)
            older, newer = Signal(x_shape, name=f"older{k}"), word[width:2 * width]
            m.d.comb += older.eq(word[:width])
            kept_newer = Signal(width, name=f"newer{k}")
            m.d.sync += kept_newer.eq(newer)
            x, written = older, [kept_newer, self.x.word_select(k, width)]
            if model.centred:
                mean, after = (Signal(mean_shape, name=f"{what}{k}") for what in ("mean", "after"))
                m.d.comb += mean.eq(word[2 * width:])
                m.d.sync += after.eq(mean + (((older << MEAN_FRAC) - mean) >> MEAN_SHIFT))
                x = older - (mean >> MEAN_FRAC)
                written.append(after)
            step = Signal.like(self.step[k], name=f"step{k}_now")
            m.d.comb += step.eq((x + half) >> model.shift if self.bits == 1 else x)
            m.d.sync += [self.step[k].eq(Mux(self.en, step, 0)),
                         self.back[k].eq(Mux(self.en, -step, 0))]
            m.d.comb += write.data.word_select(k, layout).eq(Cat(written))

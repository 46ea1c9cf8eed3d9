"""Weights of a trainable layer: words with noise on read, update sweep, read-back."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.formats import Fixed
from firmware_models.network import Stage
from firmware_models.noise import BITS, generators
from firmware_models.rules.es import COEFFICIENT_WIDTH
from firmware_models.weight_memory import to_master

from .noise import NoiseGenerator, start_state
from .requantize import saturate
from .shapes import address, tag_layout
from .weight_rom import pack_words

__all__ = ["WeightMemory"]


class WeightMemory(wiring.Component):
    """Serve a layer's weights like :class:`rtl.weight_rom.WeightRom`, with noise, and update them.

    read:   w = M >> R;  with a probe  w = clip(w +- z * 2**sigma)
    sweep:  V = sum over pairs of c_i z_i;  M = clip(M - V), word by word, then the biases

    The weight-update buffer is one V per lane: it holds the sum for one memory word while the
    pairs' seeds are replayed, so nothing the size of the layer is ever stored.

    Latency: read 2 cycles. Sweep :attr:`sweep_cycles` from ``sweep`` to ``sweep_done``.
    Throughput: a word per cycle; sweep one word per `pairs` cycles.

    Bit-exact with :mod:`firmware_models.weight_memory` and :mod:`firmware_models.noise`.

    Source: AbdulQader et al. 2021, arXiv 2103.14007 (seed replay); error feedback as in Quantized
    Evolution Strategies, arXiv 2602.03120.

    Parameters
    ----------
    stage : Stage
    residual : int
        Residual bits R below each weight.
    first_generator, max_pairs : int

    Members
    -------
    addr, en, first : ``In``; data : ``Out``
        Weight word, while a pass (of tag ``pass_tag``) reads it; ``first`` starts its noise.
    bias_addr : ``In``; bias_data : ``Out``
        Bias word of the pass with tag ``bias_tag``.
    selected : ``In(1)``; sigma : ``In(3)``
        Probes perturb this layer, by 2**sigma.
    sweep : ``In(1)``; sweep_done : ``Out(1)``
        Start, end (pulses).
    accumulate : ``Out(1)``
        The memory takes ``pair``, ``seed``, ``coefficient``, ``last_pair`` in this cycle.
    clipped : ``Out(1)``
        A commit of this cycle clipped a lane.
    window_word, window_lane : ``In``; window_en : ``In(1)``; window_data : ``Out``
        Read-back of a master while nothing else runs, 1 cycle late; biases follow the weights.
    """

    def __init__(self, stage: Stage, *, residual: int, first_generator: int, max_pairs: int):
        dense = stage.dense
        self.stage, self.residual = stage, residual
        self.first_generator, self.max_pairs = first_generator, max_pairs
        self.master = Fixed(dense.weight.width + residual, 0)
        self.bias_master = Fixed(dense.bias.width + residual, 0)
        tag = tag_layout(probes=True, seeds=True)
        super().__init__({
            "addr": In(address(dense.reuse_factor)), "en": In(1), "first": In(1),
            "pass_tag": In(tag),
            "data": Out(dense.lanes * dense.weight.width),
            "bias_addr": In(address(stage.drain_words)), "bias_tag": In(tag),
            "bias_data": Out(stage.drain_lanes * dense.bias.width),
            "selected": In(1), "sigma": In(3),
            "sweep": In(1), "sweep_done": Out(1), "accumulate": Out(1),
            "pair": In(address(max_pairs)), "seed": In(BITS), "last_pair": In(1),
            "coefficient": In(signed(COEFFICIENT_WIDTH)), "clipped": Out(1),
            "window_en": In(1), "window_word": In(16), "window_lane": In(12),
            "window_data": Out(signed(max(self.master.width, self.bias_master.width))),
        })

    def sweep_cycles(self, pairs: int) -> int:
        """Cycles from the one after ``sweep`` to ``sweep_done``, both counted."""
        return (self.stage.dense.reuse_factor + 1) * pairs + self.stage.drain_words + 2

    def elaborate(self, platform):
        m = Module()

        stage, dense, residual = self.stage, self.stage.dense, self.residual
        words, lanes, drain_words = dense.reuse_factor, dense.lanes, stage.drain_words
        master, bias_master = self.master, self.bias_master

        m.submodules.weights = weights = memory.Memory(
            shape=unsigned(lanes * master.width), depth=max(words, 2), init=pack_words(
                to_master(dense.words(dense.weight_codes), residual), master.width))
        m.submodules.biases = biases = memory.Memory(
            shape=unsigned(stage.drain_lanes * bias_master.width), depth=max(drain_words, 2),
            init=pack_words(to_master(dense.bias_codes, residual).reshape(
                stage.drain_lanes, drain_words).T, bias_master.width))
        read, write = weights.read_port(), weights.write_port()
        bias_read, bias_write = biases.read_port(), biases.write_port()
        m.submodules.noise = noise = NoiseGenerator(
            lanes, first_generator=self.first_generator, slots=self.max_pairs)

        # SWEEP: ACCUMULATE V for a word over all pairs, commit it two cycles later; the bias word
        # comes last, and its V is committed in the small words of the bias memory.
        word = Signal(range(words + 1))
        bias_word = word == words
        drain = Signal(address(drain_words))
        bias_commit = Signal()
        with m.FSM():
            with m.State("READ"):
                m.d.sync += [word.eq(0), drain.eq(0)]
                with m.If(self.sweep):
                    m.next = "ACCUMULATE"
            with m.State("ACCUMULATE"):
                m.d.comb += self.accumulate.eq(1)
                with m.If(self.last_pair):
                    m.d.sync += word.eq(word + 1)
                    with m.If(bias_word):
                        m.next = "BIAS_WAIT"
            with m.State("BIAS_WAIT"):
                m.next = "BIAS_COMMIT"
            with m.State("BIAS_COMMIT"):
                m.d.comb += bias_commit.eq(1)
                m.d.sync += drain.eq(drain + 1)
                with m.If(drain == drain_words - 1):
                    m.next = "LAST_WRITE"
            with m.State("LAST_WRITE"):
                m.d.comb += self.sweep_done.eq(1)
                m.next = "READ"

        # Noise word k of a pass, and of a replay, is k + 1 steps from the seed; the bias word's
        # noise is the start state itself.
        m.d.comb += [
            noise.en.eq(self.en | self.accumulate),
            noise.slot.eq(Mux(self.accumulate, self.pair, 0)),
            noise.seed.eq(Mux(self.accumulate, self.seed, self.pass_tag.seed)),
            noise.load.eq(Mux(self.accumulate, (word == 0) | bias_word, self.first)),
            noise.step.eq(~self.accumulate | ~bias_word),
        ]

        adding, first_pair, last_pair, is_bias = Signal(), Signal(), Signal(), Signal()
        coefficient = Signal.like(self.coefficient)
        sweep_word, commit_word = Signal(range(words + 1)), Signal(address(words))
        commit = Signal()
        m.d.sync += [
            adding.eq(self.accumulate), first_pair.eq(self.pair == 0),
            coefficient.eq(self.coefficient), last_pair.eq(self.last_pair),
            sweep_word.eq(word), is_bias.eq(bias_word),
            commit.eq(adding & last_pair & ~is_bias), commit_word.eq(sweep_word),
        ]
        v_shape = signed(COEFFICIENT_WIDTH + (self.max_pairs - 1).bit_length())
        v = [Signal(v_shape, name=f"v{lane}") for lane in range(lanes)]
        with m.If(adding):
            for lane in range(lanes):
                # Conditional negation folds into the adder: -c = ~c + 1.
                sign = noise.bits[lane]
                term = Mux(sign, ~coefficient, coefficient)
                m.d.sync += v[lane].eq(Mux(first_pair, 0, v[lane]) + term + sign)

        def commit_lanes(data, new, changes, fmt):
            """Write clip(M - V) of every lane to `new`; return whether a lane was clipped."""
            clips = []
            for lane, change in enumerate(changes):
                raw = data.word_select(lane, fmt.width).as_signed() - change
                above = raw[fmt.width - 1:]
                clips.append(above.any() & ~above.all())
                m.d.comb += new.word_select(lane, fmt.width).eq(saturate(m, raw, fmt))
            return Cat(clips).any()

        m.d.comb += [
            read.addr.eq(Mux(self.en, self.addr, Mux(adding, sweep_word, self.window_word))),
            write.addr.eq(commit_word),
            write.en.eq(commit),
        ]
        weight_clips = commit_lanes(read.data, write.data, v, master)

        drain_late, bias_write_en = Signal(address(drain_words)), Signal()
        m.d.sync += [drain_late.eq(drain), bias_write_en.eq(bias_commit)]
        m.d.comb += [
            bias_read.addr.eq(Mux(bias_commit, drain, Mux(
                self.window_en, self.window_word - words, self.bias_addr))),
            bias_write.addr.eq(drain_late),
            bias_write.en.eq(bias_write_en),
        ]
        bias_v = [Array(v[c * drain_words:(c + 1) * drain_words])[drain_late]
                  for c in range(stage.drain_lanes)]
        bias_clips = commit_lanes(bias_read.data, bias_write.data, bias_v, bias_master)
        m.d.comb += self.clipped.eq(commit & weight_clips | bias_write_en & bias_clips)

        # READ: noise on the way out. Flags are registered beside the memory's address.
        plus, minus, negative = Signal(signed(9)), Signal(signed(9)), Signal()
        with m.If(self.pass_tag.probe & self.selected):
            m.d.sync += [plus.eq(1 << self.sigma), minus.eq(-(1 << self.sigma))]
        with m.Else():
            m.d.sync += [plus.eq(0), minus.eq(0)]
        m.d.sync += negative.eq(self.pass_tag.negative)
        for lane in range(lanes):
            code = read.data.word_select(lane, master.width)[residual:].as_signed()
            change = Mux(noise.bits[lane] ^ negative, minus, plus)
            m.d.sync += self.data.word_select(lane, dense.weight.width).eq(
                saturate(m, code + change, dense.weight))

        starts = Cat(start_state(self.bias_tag.seed, self.first_generator + g)
                     for g in range(generators(lanes)))
        bias_plus, bias_minus = Signal(signed(9)), Signal(signed(9))
        with m.If(self.bias_tag.probe & self.selected):
            m.d.sync += [bias_plus.eq(1 << self.sigma), bias_minus.eq(-(1 << self.sigma))]
        with m.Else():
            m.d.sync += [bias_plus.eq(0), bias_minus.eq(0)]
        for c in range(stage.drain_lanes):
            chain = Array(starts[c * drain_words:(c + 1) * drain_words])
            sign = Signal(name=f"bias_sign{c}")
            m.d.sync += sign.eq(chain[self.bias_addr] ^ self.bias_tag.negative)
            code = bias_read.data.word_select(c, bias_master.width)[residual:].as_signed()
            m.d.sync += self.bias_data.word_select(c, dense.bias.width).eq(
                saturate(m, code + Mux(sign, bias_minus, bias_plus), dense.bias))

        # Read-back: one master, sign-extended.
        def selected(data, count, width):
            """Lane `window_lane` of a word; only the bits of the index that lanes need count."""
            masters = Array(data.word_select(i, width).as_signed() for i in range(count))
            return masters[self.window_lane[:address(count).width]]

        m.d.comb += self.window_data.eq(Mux(
            self.window_word < words,
            selected(read.data, lanes, master.width),
            selected(bias_read.data, stage.drain_lanes, bias_master.width)))

        return m

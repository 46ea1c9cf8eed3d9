"""The weight-update buffer: replays a population's seeds and sums up each weight's change."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.momentum import COUNTER_WIDTH
from firmware_models.network import Stage
from firmware_models.noise import BITS, generators
from firmware_models.rounding import FRACTION, slots
from firmware_models.rules.es import COEFFICIENT_WIDTH

from .directions import SIGN_FORMS, Directions, row_coefficient, row_shifts, settings_members
from .momentum import Momentum
from .noise import NoiseGenerator
from .shapes import address

__all__ = ["UpdateSweep"]


class UpdateSweep(wiring.Component):
    """V = sum over pairs of c_i z_i, word by word, then the biases

    One V per lane: it holds the sum for one memory word while the pairs' seeds are replayed, so
    nothing the size of the layer is ever stored. The noise generator also serves the passes.

    Latency: see :func:`firmware_models.cycles.sweep_cycles`. Throughput: a word per `pairs` cycles.

    Bit-exact with :mod:`firmware_models.noise` and :class:`firmware_models.learner.Learner`.

    Source: AbdulQader et al. 2021, arXiv 2103.14007 (seed replay).

    Parameters
    ----------
    stage : Stage
    first_generator, max_pairs : int
    options : tuple of str
        Of these, "rounding", "replay", and those of :class:`rtl.directions.Directions`.

    Members
    -------
    en, first : ``In(1)``; pass_seed : ``In(32)``; bits : ``Out(lanes)``
        A pass reads a word, its first; noise of that word, 1 cycle later.
    sparse, rank1, kernel : ``In``; active : ``Out(lanes)``
        With the options of these names: settings; lanes with noise ("sparse").
    momentum : ``In(1)``; addr : ``In``; counters : ``Out(3 * lanes)``
        With option "momentum": a setting; the word that a pass or the host reads; its counters,
        1 cycle later.
    sweep : ``In(1)``; sweep_done : ``Out(1)``
        Start, end (pulses).
    accumulate : ``Out(1)``; pair, seed, coefficient, last_pair : ``In``
        Taken in cycles with ``accumulate``.
    oldest : ``In(1)``
        Option "replay", likewise: this is the sweep's first pair. What the pairs before pair 0 add
        up to counts by its low bits only: the residual that their updates left.
    random : ``Out(32 * generators)``
        Option "rounding": noise of the last pair that was added, while ``v`` is committed.
    adding : ``Out(1)``; word : ``Out``
        The weight word that will be committed 1 cycle after its last pair was added.
    commit : ``Out(1)``; commit_word : ``Out``; v : ``Out``, one per lane
        Subtract ``v`` from this word, which was read in the cycle before.
    bias_read, bias_commit : ``Out(1)``; bias_word, bias_commit_word : ``Out``
        Bias word to read; bias word to subtract from, one cycle later.
    """

    def __init__(self, stage: Stage, *, first_generator: int, max_pairs: int,
                 options: tuple[str, ...] = ()):
        self.stage, self.forms = stage, settings_members(options)
        self.masked, self.by_bits = "sparse" in options, bool(SIGN_FORMS & set(options))
        self.rounds, self.replays = "rounding" in options, "replay" in options
        self.first_generator, self.max_pairs = first_generator, max_pairs
        word, bias = address(stage.dense.reuse_factor), address(stage.drain_words)
        v = signed(COEFFICIENT_WIDTH + (max_pairs - 1).bit_length())
        active = {"active": Out(stage.dense.lanes)} if self.masked else {}
        if "momentum" in options:
            active |= {"addr": In(word), "counters": Out(COUNTER_WIDTH * stage.dense.lanes)}
        if self.rounds:
            active |= {"random": Out(BITS * generators(stage.dense.lanes))}
        if self.replays:
            active |= {"oldest": In(1)}
        super().__init__(self.forms | active | {
            "en": In(1), "first": In(1), "pass_seed": In(BITS), "bits": Out(stage.dense.lanes),
            "sweep": In(1), "sweep_done": Out(1), "accumulate": Out(1),
            "pair": In(address(max_pairs)), "seed": In(BITS), "last_pair": In(1),
            "coefficient": In(signed(COEFFICIENT_WIDTH)),
            "adding": Out(1), "word": Out(range(stage.dense.reuse_factor + 1)),
            "commit": Out(1), "commit_word": Out(word), "v": Out(v).array(stage.dense.lanes),
            "bias_read": Out(1), "bias_word": Out(bias), "bias_commit": Out(1),
            "bias_commit_word": Out(bias),
        })

    def elaborate(self, platform):
        m = Module()

        words, lanes = self.stage.dense.reuse_factor, self.stage.dense.lanes
        m.submodules.noise = noise = NoiseGenerator(
            BITS * generators(lanes) if self.by_bits or self.rounds else lanes,
            first_generator=self.first_generator,
            slots=slots(self.max_pairs) if self.replays else self.max_pairs)
        bits, active = noise.bits[:lanes] if self.rounds else noise.bits, None

        # ACCUMULATE V for a word over all pairs, commit it two cycles later; the bias word comes
        # last, and its V is committed in the small words of the bias memory.
        word = Signal(range(words + 1))
        is_bias = word == words
        with m.FSM():
            with m.State("READ"):
                m.d.sync += [word.eq(0), self.bias_word.eq(0)]
                with m.If(self.sweep):
                    m.next = "ACCUMULATE"
            with m.State("ACCUMULATE"):
                m.d.comb += self.accumulate.eq(1)
                with m.If(self.last_pair):
                    m.d.sync += word.eq(word + 1)
                    with m.If(is_bias):
                        m.next = "BIAS_WAIT"
            with m.State("BIAS_WAIT"):
                m.next = "BIAS_COMMIT"
            with m.State("BIAS_COMMIT"):
                m.d.comb += self.bias_read.eq(1)
                m.d.sync += self.bias_word.eq(self.bias_word + 1)
                with m.If(self.bias_word == self.stage.drain_words - 1):
                    m.next = "LAST_WRITE"
            with m.State("LAST_WRITE"):
                m.d.comb += self.sweep_done.eq(1)
                m.next = "READ"

        if self.by_bits:
            bits, active = self._directions(m, noise, word, is_bias)

        # Noise word k of a pass, and of a replay, is k + 1 steps from the seed; the bias word's
        # noise is the start state itself.
        m.d.comb += [
            noise.en.eq(self.en | self.accumulate),
            noise.slot.eq(Mux(self.accumulate, self.pair, 0)),
            noise.seed.eq(Mux(self.accumulate, self.seed, self.pass_seed)),
            noise.load.eq(Mux(self.accumulate, (word == 0) | is_bias, self.first)),
            noise.step.eq(~self.accumulate | ~is_bias),
            self.bits.eq(bits),
        ]

        first_pair, last_pair, was_bias = Signal(), Signal(), Signal()
        coefficients = {shift: Signal.like(self.coefficient, name="coefficient" + f"{shift or ''}")
                        for shift in sorted(set(row_shifts(self.stage, tuple(self.forms))))}
        m.d.sync += [
            self.adding.eq(self.accumulate), first_pair.eq(self._first_pair()),
            *[c.eq(row_coefficient(self.coefficient, shift, getattr(self, "kernel", None)))
              for shift, c in coefficients.items()],
            last_pair.eq(self.last_pair),
            self.word.eq(word), was_bias.eq(is_bias),
            self.commit.eq(self.adding & last_pair & ~was_bias), self.commit_word.eq(self.word),
            self.bias_commit.eq(self.bias_read), self.bias_commit_word.eq(self.bias_word),
        ]
        if self.rounds:
            with m.If(self.adding & last_pair):
                m.d.sync += self.random.eq(noise.bits)
        if self.replays:
            own_first = Signal()
            m.d.sync += own_first.eq(self.pair == 0)
        with m.If(self.adding):
            for lane in range(lanes):
                # Conditional negation folds into the adder: -c = ~c + 1.
                sign, c = bits[lane], self._of_rows(lane, coefficients, was_bias)
                term = Mux(sign, ~c, c)
                if self.masked:
                    sign, term = sign & active[lane], Mux(active[lane], term, 0)
                v = self.v[lane]
                if self.replays:
                    v = Mux(own_first, v[:FRACTION].as_signed(), v)
                m.d.sync += self.v[lane].eq(Mux(first_pair, 0, v) + term + sign)

        return m

    def _first_pair(self):
        """Whether a word's first pair is being added."""
        return self.oldest if self.replays else self.pair == 0

    def _of_rows(self, lane, coefficients, was_bias):
        """Coefficient of a lane's row; in the word of the biases, lane j is output j."""
        shifts = row_shifts(self.stage, tuple(self.forms))
        of = coefficients[shifts[lane // self.stage.dense.inputs_per_word]]
        of_bias = coefficients[shifts[lane]] if lane < len(shifts) else of
        return of if of is of_bias else Mux(was_bias, of_bias, of)

    def _directions(self, m, noise, word, is_bias):
        """Sign and activity of every lane from the word of the noise generator."""
        m.submodules.directions = directions = Directions(
            self.stage, first_generator=self.first_generator, options=tuple(self.forms))
        m.d.comb += [
            directions.state.eq(noise.bits),
            *[getattr(directions, name).eq(getattr(self, name)) for name in self.forms
              if name in SIGN_FORMS],
        ]
        m.d.sync += directions.bias.eq(self.accumulate & is_bias)
        if "rank1" in self.forms:
            m.d.comb += directions.seed.eq(noise.seed)
        if "momentum" in self.forms:
            m.submodules.momentum = counters = Momentum(self.stage, width=len(self.v[0]))
            m.d.comb += [
                counters.addr.eq(Mux(self.accumulate, word, self.addr)),
                counters.commit.eq(self.commit & self.momentum),
                counters.commit_word.eq(self.commit_word),
                *[to.eq(v) for to, v in zip(counters.v, self.v, strict=True)],
                directions.counters.eq(counters.counters), self.counters.eq(counters.counters),
            ]
        if not self.masked:
            return directions.sign, None
        # A sweep stays with a word for all pairs; what they share moves on with the first one.
        m.d.comb += [
            directions.en.eq(self.en | self.accumulate & self._first_pair()),
            directions.first.eq(Mux(self.accumulate, word == 0, self.first)),
            self.active.eq(directions.active),
        ]
        return directions.sign, directions.active

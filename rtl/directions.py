"""Perturbation directions of a layer: which lanes a word of noise moves, and which way."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models import directions, noise
from firmware_models.directions import MASK_BITS, SPARSE, STATIC_START
from firmware_models.momentum import COUNTER_WIDTH
from firmware_models.network import Stage
from firmware_models.noise import BITS, NOISE_SHIFTS, generators

from .momentum import guided
from .noise import start_state, xorshift

__all__ = ["Directions", "SIGN_FORMS", "held_settings", "row_coefficient", "row_shifts",
           "row_sigma", "settings_members"]

SIGN_FORMS = frozenset({"sparse", "rank1", "momentum"})     # options that Directions is for


def settings_members(options: tuple[str, ...] | frozenset[str]) -> dict:
    """Settings of the directions that cores with `options` have: members by register field."""
    widths = {"sparse": 2, "rank1": 1, "kernel": 1, "momentum": 1}
    return {name: In(width) for name, width in widths.items() if name in options}


def held_settings(m, registers, options: tuple[str, ...], idle) -> dict:
    """Register fields by name as they were when the last sample started.

    All passes of a sample and its update take the same directions.
    """
    held = {}
    for name, member in settings_members(options).items():
        held[name] = Signal(member.shape, name=f"held_{name}")
        with m.If(idle):
            m.d.sync += held[name].eq(getattr(registers, f"rule_{name}"))
    return held


def row_shifts(stage: Stage, options: tuple[str, ...]) -> list[int]:
    """d of each output's row: constants, which lanes pick their amplitude and coefficient by."""
    return directions.row_shifts(stage.dense, "kernel" in options).tolist()


def row_sigma(sigma, shift: int, kernel):
    """sigma of rows with this d: max(sigma - d, 0) while `kernel` is on."""
    if not shift:
        return sigma
    return Mux(kernel, Mux(sigma > shift, (sigma - shift)[:len(sigma)], 0), sigma)


def row_coefficient(c, shift: int, kernel):
    """Coefficient of rows with this d: sgn(c) * (|c| >> d) while `kernel` is on."""
    if not shift:
        return c
    # Shifting rounds down; all ones below make it round towards 0 for negative ones.
    return Mux(kernel, (c + Mux(c[-1], (1 << shift) - 1, 0)) >> shift, c)


class Directions(wiring.Component):
    """z_l = 0 where lane l is not active, else 1 - 2 sign_l

    rank1:   sign_l = A_i ^ B_j instead of s[l], A_i = s[i % 32], B_j the sign of bias j
    momentum: signs that lean to counters m_l, see :func:`rtl.momentum.guided`
    sparse:  active_l = 1 | s[l + 11] & s[l + 19] | m[l + 11] & m[l + 19] | 0

    s is the noise generator's word, m the static mask's own generator, which starts each pass and
    each sweep from a constant; bits count within the 32 of a generator. Six inputs a lane: a LUT.
    Lane l meets input i of the word and output j. The biases keep their own signs and take part.

    Latency: combinational from ``state``; the mask's words follow ``en``, and B ``seed``, by 1
    cycle, as the words of the noise generator do. Throughput: a word per cycle.

    Bit-exact with :func:`firmware_models.directions.probe`.

    Source: Liu et al. 2024, Sparse MeZO, arXiv 2402.15751; Sarkar et al. 2025, EGGROLL,
    arXiv 2511.16652.

    Parameters
    ----------
    stage : Stage
    first_generator : int
        Number of the layer's first noise generator in the core.
    options : tuple of str
        "sparse", "rank1", "momentum"; others are not looked at.

    Members
    -------
    en, first : ``In(1)``
        "sparse": the next weight word comes, the first.
    seed : ``In(32)``
        "rank1": seed of the next word.
    state : ``In(32 * generators)``
        Noise of the word, 1 cycle later.
    bias : ``In(1)``
        It is that of the biases.
    sparse : ``In(2)``
        "sparse": position in :data:`firmware_models.directions.SPARSE`.
    rank1 : ``In(1)``
        "rank1": whether signs are products.
    momentum : ``In(1)``; counters : ``In(3 * lanes)``
        "momentum": whether signs lean to these counters of the word.
    sign : ``Out(lanes)``
        1 means -1.
    active : ``Out(lanes)``
        "sparse": 0 means 0.
    """

    latency_cycles = 1

    def __init__(self, stage: Stage, *, first_generator: int, options: tuple[str, ...]):
        self.stage, self.options = stage, options
        self.first_generator, self.count = first_generator, generators(stage.dense.lanes)
        lanes = stage.dense.lanes
        members = settings_members(SIGN_FORMS & set(options))
        if "sparse" in options:
            members |= {"en": In(1), "first": In(1), "active": Out(lanes)}
        if "rank1" in options:
            members |= {"seed": In(BITS)}
        if "momentum" in options:
            members |= {"counters": In(COUNTER_WIDTH * lanes)}
        super().__init__(members | {
            "state": In(BITS * self.count), "bias": In(1), "sign": Out(lanes)})

    def elaborate(self, platform):
        m = Module()

        lanes = self.stage.dense.lanes
        sign = self.state[:lanes]
        if "rank1" in self.options:
            sign = Mux(self.rank1 & ~self.bias, self._products(m, lanes), sign)
        if "momentum" in self.options:
            sign = guided(sign, self.state, self.counters, self.momentum & ~self.bias)
        m.d.comb += self.sign.eq(sign)
        if "sparse" in self.options:
            self._sparse(m, lanes)
        return m

    def _products(self, m, lanes):
        """Signs of a direction of rank one."""
        rows, per_word = Signal(self.stage.dense.n_out), self.stage.dense.inputs_per_word
        m.d.sync += rows.eq(Cat(start_state(self.seed, self.first_generator + g)
                                for g in range(self.count)))
        return Cat(rows[lane // per_word] ^ self.state[lane % per_word % BITS]
                   for lane in range(lanes))

    def _sparse(self, m, lanes):
        """Active lanes of this word."""
        static = [Signal(BITS, name=f"static{g}") for g in range(self.count)]
        with m.If(self.en):
            for g, state in enumerate(static):
                start = noise.start_state(STATIC_START, self.first_generator + g)
                m.d.sync += state.eq(Mux(self.first, start, xorshift(m, state, NOISE_SHIFTS)))

        # What counts, in two bits: nothing, the hash, the static mask, every lane.
        choice, biases_only = Signal(2), self.sparse == SPARSE.index("biases")
        m.d.comb += choice.eq(Mux(self.bias | (self.sparse == SPARSE.index("off")), 3,
                                  Mux(biases_only, 0, self.sparse)))

        def both(words, lane):
            word = words.word_select(lane // BITS, BITS)
            return Cat(word[(lane + shift) % BITS] for shift in MASK_BITS).all()

        m.d.comb += self.active.eq(Cat(
            choice.all() | choice[0] & both(self.state, lane) | choice[1] & both(Cat(static), lane)
            for lane in range(lanes)))

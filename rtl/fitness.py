"""Fitness of a population: loss differences to coefficients."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.rounding import FRACTION
from firmware_models.rules.es import COEFFICIENT_WIDTH, FITNESSES, RATE_BITS, SHAPED

from .rounding import is_kind
from .shapes import address
from .shaping import DELTA_WIDTH, Shaping

__all__ = ["DELTA_WIDTH", "FitnessUnit", "rate"]


def rate(m, lr_shift, decays, rounding=None):
    """Shift of the coefficients, 15 at most; for those of 2**-4 master steps 4 less.

    Bit-exact with :func:`firmware_models.rules.es.rate`.
    """
    decayed = Signal(5)
    m.d.comb += decayed.eq(lr_shift + decays)
    shift = Mux(decayed > 15, 15, decayed)
    if rounding is None:
        return shift
    fine = Mux(shift > FRACTION, (shift - FRACTION)[:4], 0)
    return Mux(is_kind(rounding, "feedback"), shift, fine)


class FitnessUnit(wiring.Component):
    """c_i = clip(rnd(F_i * 2**7, lr_shift)), F_i = sgn(D_i), or rank: sum_k sgn(D_i - D_k)

    One comparator walks over the stored differences: 3 cycles a pair for the sign,
    pairs + 2 for the rank. With option "shaping" also, 4 cycles a pair, as
    :class:`rtl.shaping.Shaping` walks over them first,

    zscore: F_i = D_i / 2**s;  best: F_i = sgn(D_i) of the largest abs(D_i), else 0

    Bit-exact with :func:`firmware_models.rules.es.coefficients`.

    Source: Salimans et al. 2017, arXiv 1703.03864, section 2.1 (rank shaping).

    Parameters
    ----------
    max_pairs : int
    options : tuple of str
        "rank", "shaping": the sign alone without them; it also stands for a kind left out.

    Members
    -------
    start : ``In(1)``; done : ``Out(1)``
        Pulses; :meth:`cycles` from the one after start to done, both counted.
    pairs : ``In``; kind : ``In(2)``; lr_shift : ``In(4)``
        Settings; the kind is the position in :data:`firmware_models.rules.es.FITNESSES`.
    r_pair : ``Out``; delta : ``In(signed(24))``
        Read port of the differences, combinational.
    w_en : ``Out(1)``; w_pair : ``Out``; coefficient : ``Out(signed(8))``
        Write port of the coefficients.
    """

    def __init__(self, max_pairs: int, options: tuple[str, ...] = ("rank",)):
        self.max_pairs, self.options = max_pairs, options
        super().__init__({
            "start": In(1), "done": Out(1),
            "pairs": In(range(max_pairs + 1)), "kind": In(2), "lr_shift": In(4),
            "r_pair": Out(address(max_pairs)), "delta": In(signed(DELTA_WIDTH)),
            "w_en": Out(1), "w_pair": Out(address(max_pairs)),
            "coefficient": Out(signed(COEFFICIENT_WIDTH)),
        })

    @staticmethod
    def cycles(pairs: int, kind: str) -> int:
        return pairs * (pairs + 2 if kind == "rank" else 4 if kind in SHAPED else 3)

    def elaborate(self, platform):
        m = Module()

        i, k = Signal(address(self.max_pairs)), Signal(address(self.max_pairs))
        mine = Signal(signed(DELTA_WIDTH))
        # A z-score has bits below 1, of which lr_shift = 0 brings 8 into the rounding.
        shaping = "shaping" in self.options
        width = (self.max_pairs - 1).bit_length() + 2 if shaping else \
            self.max_pairs.bit_length() + 1
        fraction = RATE_BITS + 1 if shaping else 0
        fitness = Signal(signed(width + fraction))
        one = 1 << fraction
        rank = self.kind == FITNESSES.index("rank") if "rank" in self.options else Const(0)
        other = Mux(rank, self.delta, 0)

        # F << 7, rounded half up by lr_shift, clipped symmetrically.
        limit = (1 << COEFFICIENT_WIDTH - 1) - 1
        rounded = Signal(signed(width + RATE_BITS + 1))
        m.d.comb += [
            # One bit more is kept through the shift: adding 1 to it rounds half up.
            rounded.eq((((fitness << RATE_BITS + 1 - fraction) >> self.lr_shift) + 1) >> 1),
            self.coefficient.eq(Mux(rounded > limit, limit,
                                    Mux(rounded < -limit, -limit, rounded))),
            self.w_pair.eq(i),
        ]

        if shaping:
            zscore, best = (self.kind == FITNESSES.index(name) for name in SHAPED)
            m.submodules.shaping = walk = Shaping(self.max_pairs)
            m.d.comb += [walk.pairs.eq(self.pairs), walk.start.eq(self.start),
                         walk.pair.eq(k), walk.delta.eq(self.delta)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += i.eq(0)
                with m.If(self.start):
                    m.next = "LOAD"
                if shaping:
                    m.d.sync += k.eq(0)
                    with m.If(self.start & (zscore | best)):
                        m.next = "WALK"
            if shaping:
                with m.State("WALK"):
                    m.d.comb += [walk.en.eq(1), self.r_pair.eq(k)]
                    m.d.sync += k.eq(k + 1)
                    with m.If(k == self.pairs - 1):
                        m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.r_pair.eq(i)
                m.d.sync += [mine.eq(self.delta), fitness.eq(0), k.eq(0)]
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.comb += self.r_pair.eq(k)
                m.d.sync += k.eq(k + 1)
                with m.If(mine > other):
                    m.d.sync += fitness.eq(fitness + one)
                with m.Elif(mine < other):
                    m.d.sync += fitness.eq(fitness - one)
                if shaping:
                    # Cutting here and again by the rate is one cut: only bits below get lost.
                    with m.If(zscore):
                        m.d.sync += fitness.eq((mine << fraction) >> walk.shift)
                    with m.If(best & (i != walk.best)):
                        m.d.sync += fitness.eq(0)
                with m.If(~rank | (k == self.pairs - 1)):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += self.w_en.eq(1)
                m.d.sync += i.eq(i + 1)
                m.next = "LOAD"
                with m.If(i == self.pairs - 1):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

        return m

"""Fitness of a population: loss differences to coefficients."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.rules.es import COEFFICIENT_WIDTH, FITNESSES, RATE_BITS

from .shapes import address

__all__ = ["DELTA_WIDTH", "FitnessUnit"]

DELTA_WIDTH = 24        # 14-bit losses, two signs, up to 256 samples


class FitnessUnit(wiring.Component):
    """c_i = clip(rnd(F_i * 2**7, lr_shift)), F_i = sgn(D_i), or rank: sum_k sgn(D_i - D_k)

    One comparator walks over the stored differences: 3 cycles a pair for the sign,
    pairs + 2 for the rank.

    Bit-exact with :func:`firmware_models.rules.es.fitness` and ``coefficient``.

    Source: Salimans et al. 2017, arXiv 1703.03864, section 2.1 (rank shaping).

    Parameters
    ----------
    max_pairs : int
    options : tuple of str
        "rank": the sign alone without it.

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
        return pairs * (pairs + 2 if kind == "rank" else 3)

    def elaborate(self, platform):
        m = Module()

        i, k = Signal(address(self.max_pairs)), Signal(address(self.max_pairs))
        mine = Signal(signed(DELTA_WIDTH))
        fitness = Signal(signed(self.max_pairs.bit_length() + 1))
        rank = self.kind == FITNESSES.index("rank") if "rank" in self.options else Const(0)
        other = Mux(rank, self.delta, 0)

        # F << 7, rounded half up by lr_shift, clipped symmetrically.
        limit = (1 << COEFFICIENT_WIDTH - 1) - 1
        rounded = Signal(signed(len(fitness) + RATE_BITS + 1))
        m.d.comb += [
            # One bit more is kept through the shift: adding 1 to it rounds half up.
            rounded.eq((((fitness << RATE_BITS + 1) >> self.lr_shift) + 1) >> 1),
            self.coefficient.eq(Mux(rounded > limit, limit,
                                    Mux(rounded < -limit, -limit, rounded))),
            self.w_pair.eq(i),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += i.eq(0)
                with m.If(self.start):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.r_pair.eq(i)
                m.d.sync += [mine.eq(self.delta), fitness.eq(0), k.eq(0)]
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.comb += self.r_pair.eq(k)
                m.d.sync += k.eq(k + 1)
                with m.If(mine > other):
                    m.d.sync += fitness.eq(fitness + 1)
                with m.Elif(mine < other):
                    m.d.sync += fitness.eq(fitness - 1)
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

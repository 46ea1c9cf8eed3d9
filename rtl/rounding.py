"""Rounding of an update from 2**-4 master steps to whole ones."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.noise import BITS, generators
from firmware_models.rounding import ALL, FRACTION, HALF, RANDOM_BITS, ROUNDINGS

__all__ = ["Rounding", "is_kind"]


def is_kind(register, kind: str):
    """Whether the setting is this one."""
    return register == ROUNDINGS.index(kind)


class Rounding(wiring.Component):
    """change = V with "feedback", else (V + a) >> 4

    nearest, replay:  a = 8
    stochastic:       a = s[l + 3] + 2 s[l + 9] + 4 s[l + 15] + 8 s[l + 22]
    pseudo:           a = 15 if V[3:2] > V[1:0] else 0

    s is a word of the noise generators, l the lane; bits count within the 32 of a generator. What
    is added has 4 bits, so that a lane takes one carry chain and nothing is compared but 2 bits.

    Latency: combinational.

    Bit-exact with :func:`firmware_models.rounding.rounded`.

    Source: Wang et al. 2020, NITI, arXiv 2009.13108 (pseudo-stochastic rounding).

    Parameters
    ----------
    lanes : int
    width : int
        Bits of V, sign included.

    Members
    -------
    kind : ``In(3)``
        Position in :data:`firmware_models.rounding.ROUNDINGS`; others are as "nearest".
    random : ``In(32 * generators)``
        Noise of the lanes' word.
    v : ``In(signed(width))``, one per lane
    change : ``Out(signed(width))``, one per lane
        In master steps, for votes and commit.
    """

    latency_cycles = 0

    def __init__(self, lanes: int, *, width: int):
        if width <= FRACTION:
            raise ValueError(f"width must be more than {FRACTION} bits, not {width}")
        self.lanes = lanes
        super().__init__({
            "kind": In(range(len(ROUNDINGS))), "random": In(BITS * generators(lanes)),
            "v": In(signed(width)).array(lanes), "change": Out(signed(width)).array(lanes),
        })

    def elaborate(self, platform):
        m = Module()

        feedback, stochastic, pseudo = (
            is_kind(self.kind, kind) for kind in ("feedback", "stochastic", "pseudo"))
        for lane in range(self.lanes):
            v = self.v[lane]
            word = self.random.word_select(lane // BITS, BITS)
            noise = Cat(word[(lane + shift) % BITS] for shift in RANDOM_BITS)
            add = Signal(FRACTION, name=f"add{lane}")
            with m.If(stochastic):
                m.d.comb += add.eq(noise)
            with m.Elif(pseudo):
                m.d.comb += add.eq(Mux(v[2:4] > v[0:2], ALL, 0))
            with m.Else():
                m.d.comb += add.eq(HALF)
            m.d.comb += self.change[lane].eq(Mux(feedback, v, (v + add) >> FRACTION))

        return m

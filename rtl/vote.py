"""An update by votes: which masters move by a whole weight step."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.rules.es import VOTE_WIDTH

__all__ = ["Vote"]


class Vote(wiring.Component):
    """change = sgn(V) * 2**R where abs(V) > threshold, else 0; V itself while the threshold is 0

    One carry chain per lane decides: threshold - abs(V) is below 0.

    Latency: combinational.

    Bit-exact with :func:`firmware_models.rules.es.voted`.

    Source: Sarkar et al. 2025, EGGROLL, arXiv 2511.16652 (update of integer weights).

    Parameters
    ----------
    lanes : int
    width : int
        Bits of V, sign included, up to 14.
    residual : int
        R.

    Members
    -------
    threshold : ``In(14)``
        In master steps.
    v : ``In(signed(width))``, one per lane
    change : ``Out(signed)``, one per lane
        To subtract from the master.
    """

    latency_cycles = 0

    def __init__(self, lanes: int, *, width: int, residual: int):
        if not 1 <= width <= VOTE_WIDTH:
            raise ValueError(f"width must be 1 to {VOTE_WIDTH} bits, not {width}")
        self.lanes, self.residual = lanes, residual
        super().__init__({
            "threshold": In(VOTE_WIDTH), "v": In(signed(width)).array(lanes),
            "change": Out(signed(max(width, residual + 2))).array(lanes),
        })

    def elaborate(self, platform):
        m = Module()

        votes = Signal()
        m.d.comb += votes.eq(self.threshold.any())
        for lane in range(self.lanes):
            v = self.v[lane]
            negative = v[-1]
            # Conditional negation folds into the adder: -v = ~v + 1.
            left = Signal(signed(VOTE_WIDTH + 1), name=f"left{lane}")
            m.d.comb += left.eq(self.threshold + Mux(negative, v, ~v) + ~negative)
            with m.If(~votes):
                m.d.comb += self.change[lane].eq(v)
            with m.Elif(left < 0):
                step = 1 << self.residual
                m.d.comb += self.change[lane].eq(Mux(negative, -step, step))

        return m

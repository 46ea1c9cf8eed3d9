"""Which masters of a word move."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.fused_update import EDGE_BITS

__all__ = ["CommitGuard"]


class CommitGuard(wiring.Component):
    """go_k = fired_k  unless master k is in the outer sixteenth of its range and would leave it

    The look at the upper bits is a module of its own, as the levels of :class:`rtl.select.Select`
    are: a LUT for it and one for the rest, where Yosys takes three for them as one expression.

    Latency: combinational.

    Bit-exact with :func:`firmware_models.fused_update.apply`.

    Parameters
    ----------
    lanes : int

    Members
    -------
    top : ``In(5)``, `lanes` of them
        Upper bits of the masters.
    fired, negative, step_negative : ``In(lanes)``
        Whether there is a coefficient, its sign, the sign of the step.
    go : ``Out(lanes)``
    """

    def __init__(self, lanes: int):
        self.lanes = lanes
        super().__init__({
            "top": In(EDGE_BITS).array(lanes), "fired": In(lanes), "negative": In(lanes),
            "step_negative": In(lanes), "go": Out(lanes),
        })

    def elaborate(self, platform):
        m = Module()

        m.submodules.edges = edges = Edges(self.lanes)
        m.d.comb += [inner.eq(top) for inner, top in zip(edges.top, self.top, strict=True)]
        signs = Cat(top[-1] for top in self.top)
        outwards = self.negative ^ self.step_negative ^ signs
        m.d.comb += self.go.eq(self.fired & ~(edges.near & outwards))
        return m


class Edges(wiring.Component):
    """near_k: the upper bits of master k below its sign all differ from the sign."""

    def __init__(self, lanes: int):
        super().__init__({"top": In(EDGE_BITS).array(lanes), "near": Out(lanes)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.near.eq(Cat(
            top[:-1] == (~top[-1]).replicate(EDGE_BITS - 1) for top in self.top))
        return m

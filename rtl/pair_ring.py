"""Where a population stands in the ring of the pairs that are kept to be replayed."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.rounding import slots

from .shapes import address

__all__ = ["PairRing"]


class PairRing(wiring.Component):
    """A population starts where the last one ended; before it stand the pairs of earlier updates.

    base += pairs of the last population;  older = min(older + those, slots - pairs of the new one)

    A population that was dropped before its update gives its slots to the next one. What is read
    while one is under evaluation or after its update stays in place until the next one opens.

    Latency: 1 cycle.

    Bit-exact with ``past`` of :class:`firmware_models.evolution.Evolution`.

    Source: Quantized Evolution Strategies, arXiv 2602.03120, replays a window of seeds.

    Parameters
    ----------
    max_pairs : int
        Of a population; the ring has :func:`firmware_models.rounding.slots` of it.

    Members
    -------
    open : ``In(1)``; pairs : ``In(range(max_pairs + 1))``
        A population of so many pairs starts.
    updated : ``In(1)``; made : ``In(range(max_pairs + 1))``
        The one of so many pairs has made its update.
    restart : ``In(1)``
        Forget all pairs.
    base, older : ``Out(range(slots))``
        Slot of the population's first pair; number of pairs kept before it.
    """

    latency_cycles = 1

    def __init__(self, max_pairs: int):
        self.slots = slots(max_pairs)
        super().__init__({
            "open": In(1), "pairs": In(range(max_pairs + 1)), "updated": In(1),
            "made": In(range(max_pairs + 1)), "restart": In(1),
            "base": Out(address(self.slots)), "older": Out(address(self.slots)),
        })

    def elaborate(self, platform):
        m = Module()

        ended = Signal.like(self.made)          # pairs of a population that has ended, to go past
        kept, room = self.older + ended, self.slots - self.pairs
        with m.If(self.open):
            m.d.sync += [self.base.eq(self.base + ended), ended.eq(0),
                         self.older.eq(Mux(kept > room, room, kept))]
        with m.If(self.updated):
            m.d.sync += ended.eq(self.made)
        with m.If(self.restart):
            m.d.sync += [ended.eq(0), self.older.eq(0)]

        return m

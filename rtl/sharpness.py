"""Sharpness-aware pairs: where a sample's first pair says that the others are measured."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.loss import LOSS_WIDTH
from firmware_models.noise import BITS

__all__ = ["Sharpness"]


class Sharpness(wiring.Component):
    """away = D_0 != 0, down = D_0 < 0, from the end of a sample's first pair to its own

    D_0 = L(w + z_0 * 2**sigma) - L(w - z_0 * 2**sigma) is the difference of this sample alone. All
    passes of the first pair have left the core when it is known and none of the next one has
    entered, so that one flag serves all stages and no pass has to carry it.

    The seed of the first pair is kept beside it: a population's memory of seeds has its one read
    port busy with the seeds of the passes.

    Latency: 1 cycle. No pass may enter from the second pass of pair 0 until ``known``: `wait`.

    Bit-exact with :meth:`firmware_models.evolution.Evolution.evaluate`.

    Source: Feng et al. 2024 (arXiv 2411.04036), sharpness-aware; Foret et al. 2021, arXiv
    2010.01412, for measuring at the neighbour that is uphill.

    Members
    -------
    log2 : ``In(3)``
        Setting `sharp`, held for the sample: 0, or the others are 2**(log2 - 1) steps away.
    first : ``In(1)``; seed : ``In(32)``
        The pass that is accepted belongs to pair 0, of this seed.
    more : ``In(1)``; wait : ``Out(1)``
        Pairs follow this one; after its second pass they have to wait (combinational).
    loss_valid : ``In(1)``; plus, minus : ``In(14)``
        A pair's second loss has come back, and what they are.
    known : ``Out(1)``
        That was what the others wait for: they may enter in the next cycle.
    release : ``In(1)``
        End of the sample.
    away, down : ``Out(1)``; first_seed : ``Out(32)``; rho : ``Out(3)``
        Passes are measured at w + s * 2**rho * z_0 with s = -1 if ``down``, else 1.
    """

    latency_cycles = 1

    def __init__(self):
        super().__init__({
            "log2": In(3), "first": In(1), "seed": In(BITS), "more": In(1), "wait": Out(1),
            "loss_valid": In(1), "plus": In(LOSS_WIDTH), "minus": In(LOSS_WIDTH),
            "known": Out(1), "release": In(1),
            "away": Out(1), "down": Out(1), "first_seed": Out(BITS), "rho": Out(3),
        })

    def elaborate(self, platform):
        m = Module()

        open_ = Signal()                # the first pair's losses are yet to come
        m.d.comb += [
            self.wait.eq((self.log2 != 0) & self.more),
            self.known.eq(open_ & self.loss_valid),
            self.rho.eq(self.log2 - 1),
        ]
        with m.If(self.first):
            m.d.sync += [open_.eq(self.wait), self.first_seed.eq(self.seed)]
        with m.If(self.known):
            m.d.sync += [open_.eq(0), self.away.eq(self.plus != self.minus),
                         self.down.eq(self.plus < self.minus)]
        with m.If(self.release):
            m.d.sync += self.away.eq(0)

        return m

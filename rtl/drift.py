"""The switch of continuous operation: learning is on or off by the running loss."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.drift import DELAY, PERIOD
from firmware_models.loss import AVERAGE_FRAC, LOSS_WIDTH

__all__ = ["Drift"]


class Drift(wiring.Component):
    """Count samples where they enter and where their losses arrive; decide there, switch here

    decided = 1 if average >= start else 0 if average < stop else decided    every 128th loss
    on = decided                                    with the 65th sample after the one that decided

    Samples arrive and losses leave in the same order, and fewer than 64 samples are under way: four
    in each of at most 14 rings, and one for each of the five registers of the loss unit. So a
    decision is always there before it is asked for.

    When learning switches on and `restart_decay` is set, the rate decay has to restart before the
    first sample that is learned from, and after the last update of those before: `hold` keeps that
    sample back until they have ended, which takes no cycle unless the walk over the node errors is
    longer than 128 samples.

    Latency: `active` is combinational; `decided` follows its loss by 2 cycles.

    Bit-exact with :mod:`firmware_models.drift`.

    Members
    -------
    accepted : ``In(1)``; active : ``Out(1)``
        The last beat of a good packet is taken; whether such a packet may be learned from.
    loss_valid : ``In(1)``
        Loss of an unperturbed pass.
    loss_average : ``In(22)``
        With that loss one cycle after it, in 2**-16 bit.
    start, stop, restart_decay, seed_write : ``In``
        Settings; a new seed switches learning on.
    busy : ``In(1)``
        Samples are being learned from.
    on, decided : ``Out(1)``
    restart : ``Out(1)``
        Start the rate decay over (pulse).
    hold : ``Out(1)``
        No sample that is learned from may start.
    """

    def __init__(self):
        super().__init__({
            "accepted": In(1), "active": Out(1), "loss_valid": In(1),
            "loss_average": In(LOSS_WIDTH + AVERAGE_FRAC),
            "start": In(LOSS_WIDTH), "stop": In(LOSS_WIDTH), "restart_decay": In(1),
            "seed_write": In(1), "busy": In(1),
            "on": Out(1, init=1), "decided": Out(1, init=1), "restart": Out(1), "hold": Out(1),
        })

    def elaborate(self, platform):
        m = Module()

        # ENTER: on = decided
        entered = Signal(range(PERIOD))
        m.d.comb += self.active.eq(
            (self.start == 0) | Mux(entered == DELAY, self.decided, self.on))
        with m.If(self.accepted):
            m.d.sync += [entered.eq(entered + 1), self.on.eq(self.active)]

        # DECIDE: in the cycle in which the average has the loss that completes a period.
        counted, complete = Signal(range(PERIOD)), Signal()
        average = self.loss_average[AVERAGE_FRAC:]
        m.d.sync += [
            counted.eq(counted + self.loss_valid),
            complete.eq(self.loss_valid & (counted == PERIOD - 1)),
        ]
        with m.If(complete):
            with m.If(average >= self.start):
                m.d.sync += self.decided.eq(1)
            with m.Elif(average < self.stop):
                m.d.sync += self.decided.eq(0)
        with m.If(self.seed_write):
            m.d.sync += [self.on.eq(1), self.decided.eq(1)]

        # RESTART: decays = 0
        m.d.comb += self.restart.eq(self.hold & ~self.busy)
        with m.If(self.accepted & self.active & ~self.on & self.restart_decay):
            m.d.sync += self.hold.eq(1)
        with m.Elif(self.restart):
            m.d.sync += self.hold.eq(0)

        return m

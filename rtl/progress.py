"""Counters of learning, running loss, and decay of the learning rate."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.loss import AVERAGE_FRAC, AVERAGE_SHIFT, LOSS_WIDTH

__all__ = ["Progress"]


class Progress(wiring.Component):
    """What all rules count: passes, losses of unperturbed passes, updates, saturations, halvings

    average = average + (loss - average) / 64;  after every `lr_decay` updates decays + 1, up to 15.

    Latency: 1 cycle; of `saturations` 2.

    Bit-exact with :func:`firmware_models.loss.running_average` and
    :func:`firmware_models.progress.decay`.

    Parameters
    ----------
    sources : int
        Memories that may clip in the same cycle.

    Members
    -------
    loss_valid, loss, loss_probe : ``In``
    updated : ``In(1)``; clipped : ``In(sources)``
    lr_decay : ``In(16)``; restart : ``In(1)``
        Updates per halving, 0 for never; start the decay over.
    passes, updates, saturations, last_loss, loss_average, decays, decay_count : ``Out``
    """

    def __init__(self, sources: int):
        super().__init__({
            "loss_valid": In(1), "loss": In(LOSS_WIDTH), "loss_probe": In(1),
            "updated": In(1), "clipped": In(sources), "lr_decay": In(16), "restart": In(1),
            "passes": Out(32), "updates": Out(32), "saturations": Out(32),
            "last_loss": Out(LOSS_WIDTH), "loss_average": Out(LOSS_WIDTH + AVERAGE_FRAC),
            "decays": Out(4), "decay_count": Out(16),
        })

    def elaborate(self, platform):
        m = Module()

        # A guard looks at all lanes of a word; a register keeps that out of the counter's carries.
        clipped = Signal.like(self.clipped)
        m.d.sync += [clipped.eq(self.clipped), self.saturations.eq(self.saturations + sum(clipped))]
        with m.If(self.loss_valid):
            m.d.sync += self.passes.eq(self.passes + 1)
            with m.If(~self.loss_probe):
                m.d.sync += [
                    self.last_loss.eq(self.loss),
                    self.loss_average.eq(self.loss_average + (
                        ((self.loss << AVERAGE_FRAC) - self.loss_average) >> AVERAGE_SHIFT)),
                ]
        with m.If(self.updated):
            m.d.sync += self.updates.eq(self.updates + 1)
            with m.If(self.lr_decay != 0):
                m.d.sync += self.decay_count.eq(self.decay_count + 1)
                with m.If(self.decay_count + 1 == self.lr_decay):
                    m.d.sync += [self.decay_count.eq(0),
                                 self.decays.eq(self.decays + (self.decays != 15))]
        with m.If(self.restart):
            m.d.sync += [self.decays.eq(0), self.decay_count.eq(0)]

        return m

"""The pass controller: which passes a sample makes, and the update that follows from them."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.loss import LOSS_WIDTH
from firmware_models.network import Network
from firmware_models.noise import BITS
from firmware_models.rules.es import COEFFICIENT_WIDTH, VOTE_WIDTH

from .fitness import DELTA_WIDTH, rate
from .population import Population
from .rounding import is_kind
from .shapes import address, tag_layout
from .sharpness import Sharpness

__all__ = ["LearnController"]


class LearnController(wiring.Component):
    """Evolutionary strategy and sign-SPSA as a schedule of passes.

    For a sample that may be learned from, at the lowest selected stage:

        base pass; for each pair: pass with +z, pass with -z; wait for the losses
        (option "sharp": after the first pair also, before the others)
        after `batch` samples: fitness, then one update sweep per selected layer; release the sample

    What is known of the pairs is in a :class:`rtl.population.Population`. The stages before the
    lowest selected one work on the next samples meanwhile.

    Bit-exact with :class:`firmware_models.learner.Learner`.
    Cycles: :mod:`firmware_models.cycles`.

    Source: AbdulQader et al. 2021, arXiv 2103.14007; Feng et al. 2024, arXiv 2411.04036.

    Parameters
    ----------
    network : Network
    max_pairs : int
    options : tuple of str

    Members
    -------
    learn, layers, pairs, batch, fitness, sigma_in, lr_shift, decays, seed : ``In``
        Settings; taken over when a sample starts.
    seed_write : ``In(1)``
        A new seed restarts the population.
    hold : ``In(1)``
        Start no sample.
    head_valid, head_learn, head_label : ``In``, one bit or label per trainable part
        What the vector buffer of its stage offers.
    owned : ``Out``, one bit per trainable part
        The passes of its stage come from here.
    pass_valid, pass_tag : ``Out``; pass_ready : ``In(1)``
    release : ``Out(1)``
        The owned vector is done with.
    loss_valid, loss, loss_probe, loss_negative : ``In``
    selected : ``Out``, one bit per trainable part; sigma : ``Out(3)``
    sweep : ``Out``, one bit per trainable part; sweep_done, accumulate : ``In``
    pair, sweep_seed, coefficient, last_pair : ``Out``
        Replay data of the sweep.
    journal_pair : ``In``; journal_seed, journal_delta : ``Out``
        Read-back while idle.
    record, record_last : ``Out(1)``; record_coefficient : ``Out(signed(8))``
        Option "journal": a pair's coefficient is known, the update's last one; its seed is
        ``sweep_seed`` and the update's layers are ``selected`` in this cycle.
    busy, torn : ``Out(1)``; torn_clear : ``In(1)``
    updated : ``Out(1)``
        An update has ended.
    next_seed, batch_index : ``Out``
    sharp : ``In(3)``; away, down, rho, first_seed : ``Out``
        Option "sharp": a setting; :class:`rtl.sharpness.Sharpness`.
    sigma_decay : ``In(1)``
        Option "sigma_decay": ``sigma`` is ``sigma_in`` less the decays, 0 at least.
    vote_in : ``In(14)``; vote : ``Out(14)``
        Option "vote": a setting, and as it was when the sample started.
    rounding_in : ``In(3)``; rounding : ``Out(3)``
        Option "rounding": the same.
    oldest : ``Out(1)``
        Option "replay": the sweep's first pair. Pairs of earlier updates come before pair 0; they
        are counted as what wraps around to it.
    """

    def __init__(self, network: Network, *, max_pairs: int,
                 options: tuple[str, ...] = ("rank",)):
        self.network, self.max_pairs, self.options = network, max_pairs, options
        n = len(network.trainable)
        super().__init__({
            "learn": In(1), "layers": In(n), "pairs": In(range(max_pairs + 1)), "batch": In(9),
            "fitness": In(2), "sigma_in": In(3), "lr_shift": In(4), "decays": In(4),
            "seed": In(BITS), "seed_write": In(1), "hold": In(1),
            "head_valid": In(n), "head_learn": In(n), "head_label": In(8).array(n),
            "owned": Out(n), "pass_valid": Out(1), "pass_ready": In(1),
            "pass_tag": Out(tag_layout(probes=True, seeds=True)), "release": Out(1),
            "loss_valid": In(1), "loss": In(LOSS_WIDTH), "loss_probe": In(1),
            "loss_negative": In(1),
            "selected": Out(n), "sigma": Out(3), "sweep": Out(n), "sweep_done": In(1),
            "accumulate": In(1), "updated": Out(1),
            "pair": Out(address(max_pairs)), "sweep_seed": Out(BITS), "last_pair": Out(1),
            "coefficient": Out(signed(COEFFICIENT_WIDTH)),
            "journal_pair": In(address(max_pairs)), "journal_seed": Out(BITS),
            "journal_delta": Out(signed(DELTA_WIDTH)),
            "busy": Out(1), "torn": Out(1), "torn_clear": In(1),
            "next_seed": Out(BITS), "batch_index": Out(9),
            **({"vote_in": In(VOTE_WIDTH), "vote": Out(VOTE_WIDTH)} if "vote" in options else {}),
            **({"sigma_decay": In(1)} if "sigma_decay" in options else {}),
            **({"sharp": In(3), "away": Out(1), "down": Out(1), "rho": Out(3),
                "first_seed": Out(BITS)} if "sharp" in options else {}),
            **({"rounding_in": In(3), "rounding": Out(3)} if "rounding" in options else {}),
            **({"oldest": Out(1)} if "replay" in options else {}),
            **({"record": Out(1), "record_last": Out(1),
                "record_coefficient": Out(signed(COEFFICIENT_WIDTH))}
               if "journal" in options else {}),
        })

    def elaborate(self, platform):
        m = Module()

        n = len(self.network.trainable)
        replays = "replay" in self.options
        m.submodules.population = population = Population(self.max_pairs, options=self.options)

        # The lowest selected layer is where passes enter (one-hot).
        layers, entry_now = Signal(n), Signal(n)
        lowest = self.layers & (~self.layers + 1)
        if self.network.prompt is not None:     # the last of them enters before all others
            lowest = Mux(self.layers[-1], 1 << n - 1, lowest)
        m.d.comb += entry_now.eq(lowest)
        entry, pairs, batch = Signal(n), population.pairs, Signal.like(self.batch)

        offered = self.head_valid & self.head_learn & entry_now
        m.d.comb += [
            self.owned.eq(Mux(self.busy, entry, self.head_learn & entry_now
                              & self.learn.replicate(n))),
            self.selected.eq(layers),
            self.pass_tag.learn.eq((self.head_learn & entry).any()),
        ]
        for index in range(n):
            with m.If(entry[index]):
                m.d.comb += self.pass_tag.label.eq(self.head_label[index])

        # PASSES: base, then + and - of each pair.
        base, negative, probe = Signal(), Signal(), population.probe
        last_probe = probe == pairs - 1
        m.d.comb += [
            population.fresh.eq(self.batch_index == 0),
            self.pass_tag.probe.eq(~base),
            self.pass_tag.negative.eq(negative),
            self.pass_tag.seed.eq(population.pass_seed),
        ]

        sigma = self.sigma_in
        if "sigma_decay" in self.options:
            less = Mux(self.decays < sigma, (sigma - self.decays)[:len(sigma)], 0)
            sigma = Mux(self.sigma_decay, less, sigma)
        sharpness = None
        if "sharp" in self.options:
            m.submodules.sharpness = sharpness = Sharpness()
        shift = rate(m, self.lr_shift, self.decays, getattr(self, "rounding_in", None))
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [base.eq(1), negative.eq(0), probe.eq(0)]
                with m.If(offered.any() & self.learn & ~self.hold & ~self.seed_write):
                    m.d.sync += [
                        layers.eq(self.layers), entry.eq(entry_now), pairs.eq(self.pairs),
                        batch.eq(self.batch), population.kind.eq(self.fitness),
                        self.sigma.eq(sigma), population.lr_shift.eq(shift),
                    ]
                    if "vote" in self.options:
                        m.d.sync += self.vote.eq(self.vote_in)
                    if sharpness is not None:
                        m.d.sync += sharpness.log2.eq(self.sharp)
                    if "rounding" in self.options:
                        m.d.sync += self.rounding.eq(self.rounding_in)
                    if replays:
                        m.d.comb += population.open.eq(population.fresh)
                    m.next = "PASSES"
            with m.State("PASSES"):
                m.d.comb += self.pass_valid.eq(1)
                with m.If(self.pass_ready):
                    m.d.sync += base.eq(0)
                    with m.If(~base):
                        m.d.sync += negative.eq(~negative)
                        with m.If(negative):
                            m.d.comb += population.draw.eq(1)
                            m.d.sync += probe.eq(probe + 1)
                            with m.If(last_probe):
                                m.next = "LOSSES"
                            if sharpness is not None:
                                with m.Elif((probe == 0) & sharpness.wait):
                                    m.next = "FIRST_LOSSES"
            if sharpness is not None:
                with m.State("FIRST_LOSSES"):       # s = sgn(D_0)
                    with m.If(sharpness.known):
                        m.next = "PASSES"
            with m.State("LOSSES"):
                with m.If(population.complete):
                    m.d.sync += self.batch_index.eq(self.batch_index + 1)
                    m.next = "RELEASE"
                    with m.If(self.batch_index + 1 == batch):
                        m.d.comb += population.start.eq(1)
                        m.d.sync += self.batch_index.eq(0)
                        m.next = "FITNESS"
            with m.State("FITNESS"):
                with m.If(population.done):
                    m.next = "UPDATE"
            # UPDATE: M -= sum_i c_i z_i, one layer after the other.
            todo, updating, replay = Signal(n), population.updating, population.replay
            first = Signal.like(replay) if replays else 0
            if replays:
                m.d.comb += [first.eq(Mux(is_kind(self.rounding, "replay"), -population.older, 0)),
                             self.oldest.eq(replay == first)]
            with m.State("UPDATE"):
                m.d.comb += self.sweep.eq(Mux(updating, todo & (~todo + 1), entry))
                m.d.sync += [updating.eq(1), todo.eq(Mux(updating, todo, layers) & ~self.sweep),
                             replay.eq(first)]
                m.next = "SWEEP"
            with m.State("SWEEP"):
                with m.If(self.accumulate):
                    m.d.sync += replay.eq(Mux(self.last_pair, first, replay + 1))
                with m.If(self.sweep_done):
                    m.next = "UPDATE"
                    with m.If(todo == 0):
                        m.d.sync += updating.eq(0)
                        m.d.comb += self.updated.eq(1)
                        m.next = "RELEASE"
            with m.State("RELEASE"):
                m.d.comb += self.release.eq(1)
                m.next = "IDLE"
        m.d.comb += [
            self.busy.eq(~fsm.ongoing("IDLE")),
            self.pair.eq(replay), self.last_pair.eq(replay == pairs - 1),
            self.sweep_seed.eq(population.kept_seed), self.journal_seed.eq(population.kept_seed),
            population.idle.eq(fsm.ongoing("IDLE")), population.walk.eq(fsm.ongoing("FITNESS")),
            *[getattr(population, name).eq(getattr(self, name)) for name in (
                "seed_write", "seed", "loss_valid", "loss", "loss_probe", "loss_negative",
                "journal_pair")],
            *[getattr(self, name).eq(getattr(population, name)) for name in (
                "next_seed", "coefficient", "journal_delta")],
        ]
        with m.If(self.seed_write):
            m.d.sync += self.batch_index.eq(0)
        if replays:
            m.d.comb += [population.opened.eq(self.pairs), population.updated.eq(self.updated)]
        if "journal" in self.options:
            m.d.comb += [self.record.eq(population.record), self.record_last.eq(population.done),
                         self.record_coefficient.eq(population.record_coefficient)]
        if sharpness is not None:
            m.d.comb += [
                sharpness.first.eq(self.pass_valid & self.pass_ready & ~base & (probe == 0)),
                sharpness.seed.eq(self.pass_tag.seed), sharpness.more.eq(~last_probe),
                sharpness.loss_valid.eq(population.measured), sharpness.plus.eq(population.plus),
                sharpness.minus.eq(self.loss), sharpness.release.eq(self.release),
                *[getattr(self, name).eq(getattr(sharpness, name))
                  for name in ("away", "down", "rho", "first_seed")],
            ]

        # A reset does not clear these: an update that a reset cut in two must not go unnoticed.
        in_update, cut = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(self.sweep.any()):
            m.d.sync += in_update.eq(1)
        with m.Elif(fsm.ongoing("RELEASE") | fsm.ongoing("IDLE")):
            m.d.sync += in_update.eq(0)
        with m.If(fsm.ongoing("IDLE") & in_update):
            m.d.sync += cut.eq(1)
        with m.Elif(self.torn_clear):
            m.d.sync += cut.eq(0)
        m.d.comb += self.torn.eq(cut)

        return m

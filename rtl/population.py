"""The population under evaluation: seeds, loss differences and coefficients of its pairs."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.loss import LOSS_WIDTH
from firmware_models.noise import BITS
from firmware_models.rounding import slots
from firmware_models.rules.es import COEFFICIENT_WIDTH

from .fitness import DELTA_WIDTH, FitnessUnit
from .noise import next_seed
from .pair_ring import PairRing
from .shapes import address

__all__ = ["Population"]


class Population(wiring.Component):
    """D_i = sum over a batch of L(w + z_i) - L(w - z_i), and coefficients c_i from these

    Only (seed, D) of each pair is kept, and c until the update has replayed it. A batch's first
    sample draws the seeds; the others find them. With option "replay" seeds and coefficients stand
    in a ring, behind those of earlier updates.

    Latency: what is looked up is combinational; 1 cycle until what is drawn or counted is there.
    Coefficients take :meth:`rtl.fitness.FitnessUnit.cycles`.

    Bit-exact with :class:`firmware_models.evolution.Evolution`.

    Parameters
    ----------
    max_pairs : int
    options : tuple of str
        Of these, "replay", "journal", and those of :class:`rtl.fitness.FitnessUnit`.

    Members
    -------
    seed_write : ``In(1)``; seed : ``In(32)``; next_seed : ``Out(32)``
        A new seed for the pairs to come, 0 counts as 1; the seed of the next one.
    fresh : ``In(1)``; pairs : ``In``
        The sample is a batch's first one; number of its pairs.
    probe : ``In``; pass_seed : ``Out(32)``; draw : ``In(1)``
        Pair whose passes enter, its seed; the second of them does in this cycle.
    loss_valid, loss, loss_probe, loss_negative : ``In``
        Losses in the order of the passes: base, then + and - of pair after pair.
    measured : ``Out(1)``; plus : ``Out(14)``; complete : ``Out(1)``
        This loss is a pair's second one; the first one. All pairs have both.
    start : ``In(1)``; walk : ``In(1)``; done : ``Out(1)``
        Find coefficients (pulse), held from the next cycle to the pulse done.
    kind : ``In(2)``; lr_shift : ``In(4)``
        As in :class:`rtl.fitness.FitnessUnit`.
    updating : ``In(1)``; replay : ``In``; coefficient : ``Out(signed(8))``
        The update replays this pair; its coefficient.
    idle : ``In(1)``; journal_pair : ``In``; journal_delta : ``Out(signed(24))``
        Between two samples: counts losses anew, and shows this pair.
    kept_seed : ``Out(32)``
        Of the pair that is replayed while ``updating``, shown while ``idle``, else probed.
    record : ``Out(1)``; record_coefficient : ``Out(signed(8))``
        Option "journal": a coefficient is found; ``kept_seed`` is of its pair during the walk.
    open : ``In(1)``; opened : ``In``; updated : ``In(1)``; older : ``Out``
        Option "replay": :class:`rtl.pair_ring.PairRing`. Pairs of earlier updates are counted as
        what wraps around to pair 0.
    """

    def __init__(self, max_pairs: int, *, options: tuple[str, ...] = ("rank",)):
        self.max_pairs, self.options = max_pairs, options
        self.slots = slots(max_pairs) if "replay" in options else max_pairs
        pair, count = address(max_pairs), range(max_pairs + 1)
        coefficient = signed(COEFFICIENT_WIDTH)
        super().__init__({
            "seed_write": In(1), "seed": In(BITS), "next_seed": Out(BITS, init=1),
            "fresh": In(1), "pairs": In(count),
            "probe": In(count), "pass_seed": Out(BITS), "draw": In(1),
            "loss_valid": In(1), "loss": In(LOSS_WIDTH), "loss_probe": In(1),
            "loss_negative": In(1),
            "measured": Out(1), "plus": Out(LOSS_WIDTH), "complete": Out(1),
            "start": In(1), "walk": In(1), "done": Out(1), "kind": In(2), "lr_shift": In(4),
            "updating": In(1), "replay": In(pair), "coefficient": Out(coefficient),
            "idle": In(1), "journal_pair": In(pair), "journal_delta": Out(signed(DELTA_WIDTH)),
            "kept_seed": Out(BITS),
            **({"record": Out(1), "record_coefficient": Out(coefficient)}
               if "journal" in options else {}),
            **({"open": In(1), "opened": In(count), "updated": In(1),
                "older": Out(address(self.slots))} if "replay" in options else {}),
        })

    def elaborate(self, platform):
        m = Module()

        m.submodules.seeds = seeds = memory.Memory(
            shape=unsigned(BITS), depth=max(self.slots, 2), init=[])
        m.submodules.deltas = deltas = memory.Memory(
            shape=signed(DELTA_WIDTH), depth=max(self.max_pairs, 2), init=[])
        m.submodules.coefficients = coefficients = memory.Memory(
            shape=signed(COEFFICIENT_WIDTH), depth=max(self.slots, 2), init=[])
        seed_read, seed_write = seeds.read_port(domain="comb"), seeds.write_port()
        delta_read, delta_write = deltas.read_port(domain="comb"), deltas.write_port()
        c_read, c_write = coefficients.read_port(domain="comb"), coefficients.write_port()
        m.submodules.fitness = fitness = FitnessUnit(self.max_pairs, options=self.options)
        past = self._past(m) if "replay" in self.options else None

        def slot(pair):
            """Where a pair stands, counted from the population's first one."""
            return pair if past is None else pair + past.base

        # SEEDS are drawn one after the other, as the pairs enter.
        draw = Signal()
        m.d.comb += [
            draw.eq(self.draw & self.fresh),
            seed_read.addr.eq(slot(Mux(self.updating, self.replay,
                                       Mux(self.idle, self.journal_pair, self.probe)))),
            self.kept_seed.eq(seed_read.data),
            self.pass_seed.eq(Mux(self.fresh, self.next_seed, seed_read.data)),
            seed_write.addr.eq(slot(self.probe)),
            seed_write.data.eq(self.next_seed),
            seed_write.en.eq(draw),
        ]
        with m.If(self.seed_write):
            m.d.sync += self.next_seed.eq(Mux(self.seed == 0, 1, self.seed))
        with m.Elif(draw):
            m.d.sync += self.next_seed.eq(next_seed(m, self.next_seed))

        # LOSSES: D += L(+) - L(-)
        returned = Signal.like(self.pairs)
        m.d.comb += [
            self.measured.eq(self.loss_valid & self.loss_probe & self.loss_negative),
            self.complete.eq(returned == self.pairs),
            delta_read.addr.eq(Mux(self.idle, self.journal_pair,
                                   Mux(self.walk, fitness.r_pair, returned))),
            delta_write.addr.eq(returned),
            delta_write.data.eq(Mux(self.fresh, 0, delta_read.data) + (self.plus - self.loss)),
            delta_write.en.eq(self.measured),
            self.journal_delta.eq(delta_read.data),
        ]
        with m.If(self.loss_valid):
            m.d.sync += self.plus.eq(self.loss)
        with m.If(self.measured):
            m.d.sync += returned.eq(returned + 1)
        with m.Elif(self.idle):
            m.d.sync += returned.eq(0)

        # COEFFICIENTS
        m.d.comb += [
            fitness.start.eq(self.start), self.done.eq(fitness.done),
            fitness.pairs.eq(self.pairs), fitness.kind.eq(self.kind),
            fitness.lr_shift.eq(self.lr_shift), fitness.delta.eq(delta_read.data),
            c_write.addr.eq(slot(fitness.w_pair)),
            c_write.data.eq(fitness.coefficient),
            c_write.en.eq(fitness.w_en),
            c_read.addr.eq(slot(self.replay)),
            self.coefficient.eq(c_read.data),
        ]
        if "journal" in self.options:
            m.d.comb += [self.record.eq(fitness.w_en),
                         self.record_coefficient.eq(fitness.coefficient)]
            # The port of the seeds has nothing else to do while coefficients are found.
            with m.If(self.walk):
                m.d.comb += seed_read.addr.eq(fitness.w_pair)

        return m

    def _past(self, m):
        """Option "replay": the ring of kept pairs."""
        m.submodules.past = past = PairRing(self.max_pairs)
        m.d.comb += [
            past.open.eq(self.open), past.pairs.eq(self.opened), past.updated.eq(self.updated),
            past.made.eq(self.pairs), past.restart.eq(self.seed_write), self.older.eq(past.older),
        ]
        return past

# amaranth: UnusedElaboratable=no
"""What a population keeps: hardware against a list of pairs, driven as by a controller."""
from typing import NamedTuple

import numpy as np
import pytest

from firmware_models import noise
from firmware_models.rounding import most_older, slots
from firmware_models.rules import es
from rtl.fitness import FitnessUnit
from rtl.population import Population

from .pysim import pauses, simulate, wait

MAX_PAIRS = 5
KINDS = {"rank": ("sign", "rank"), "shaping": ("zscore", "best")}


class Sample(NamedTuple):
    """A sample: what is set for it, and the losses [pairs, 2] of its passes."""
    seed: int | None            # written before it
    fresh: bool
    update: bool                # it is the last one of its batch
    kind: str
    lr_shift: int
    losses: np.ndarray


def samples(rng, options) -> list[Sample]:
    """Batches of all sizes; with a new seed, now and then, the rest of one is dropped."""
    kinds, drawn, seed = sum((KINDS.get(name, ()) for name in options), ()), [], None
    for _ in range(16):
        pairs, batch = (int(rng.integers(1, most + 1)) for most in (MAX_PAIRS, 3))
        kind, lr_shift = str(rng.choice(kinds)), int(rng.integers(0, 16))
        dropped = rng.random() < 0.2
        for n in range(batch):
            losses = rng.integers(0, 1 << 14, (pairs, 2)) if rng.integers(2) \
                else rng.choice([0, 5, (1 << 14) - 1], (pairs, 2))
            last = n == batch - 1
            drawn.append(Sample(seed, n == 0, last and not dropped, kind, lr_shift, losses))
            seed = None
        if dropped:
            seed = int(rng.choice([0, rng.integers(1, 1 << 32)]))
    return drawn


def expected(plan, options) -> list:
    """All that a population says, by a list of its pairs and of those before them."""
    said, seed, past = [], 1, []
    for sample in plan:
        pairs = len(sample.losses)
        if sample.seed is not None:
            seed, past = sample.seed or 1, []
        if sample.fresh:
            seeds, deltas = [], np.zeros(pairs, int)
            for _ in range(pairs):
                seeds.append(seed)
                seed = noise.next_seed(seed)
            past = past[max(len(past) - most_older(MAX_PAIRS, pairs), 0):]
        deltas = deltas + sample.losses[:, 0] - sample.losses[:, 1]
        said += [("passes", [s for s in seeds for _ in range(2)]),
                 ("losses", sample.losses[:, 0].tolist())]
        if sample.update:
            c = es.coefficients(deltas, sample.kind, sample.lr_shift).tolist()
            population = list(zip(seeds, c, strict=True))
            said += [("cycles", FitnessUnit.cycles(pairs, sample.kind))]
            said += [("records", population)] * ("journal" in options)
            older = past if "replay" in options else []
            said += [("update", 2 * (older + population))]
            past = past + population
        said += [("host", list(zip(seeds, deltas.tolist(), strict=True))), ("next seed", seed)]
    return said


class World:
    """What stands around a population: a controller, and a core that returns losses."""

    def __init__(self, dut, plan, stall, rng):
        self.dut, self.plan, self.rng, self.said = dut, plan, rng, []
        self.pass_waits, self.loss_waits = pauses(stall), pauses(stall)

    async def run(self, ctx):
        dut = self.dut
        ctx.set(dut.fresh, 1)
        ctx.set(dut.idle, 1)
        for n, sample in enumerate(self.plan):
            if sample.seed is not None:
                await self.restart(ctx, sample.seed)
            if "replay" in dut.options:
                ctx.set(dut.opened, len(sample.losses))
                ctx.set(dut.open, sample.fresh)
            await ctx.tick()
            if "replay" in dut.options:
                ctx.set(dut.open, 0)
            ctx.set(dut.idle, 0)
            ctx.set(dut.pairs, len(sample.losses))
            ctx.set(dut.kind, es.FITNESSES.index(sample.kind))
            ctx.set(dut.lr_shift, sample.lr_shift)
            await self.evaluate(ctx, sample.losses)
            ctx.set(dut.fresh, sample.update)
            if sample.update:
                await self.coefficients(ctx)
                await self.update(ctx, len(sample.losses))
            await ctx.tick()
            ctx.set(dut.idle, 1)
            await self.look(ctx, len(sample.losses))
            await wait(ctx, n % 3)

    async def restart(self, ctx, seed):
        ctx.set(self.dut.seed, seed)
        ctx.set(self.dut.seed_write, 1)
        await ctx.tick()
        ctx.set(self.dut.seed_write, 0)
        ctx.set(self.dut.fresh, 1)

    async def evaluate(self, ctx, losses):
        """Passes enter, base pass first, and their losses come back in this order."""
        dut, entered, seen = self.dut, [], []
        waiting = [(0, int(self.rng.integers(2)), 3), *(
            (1, negative, int(pair[negative])) for pair in losses for negative in range(2))]
        owed, probe, returned = [], 0, 0
        while waiting or owed:
            ctx.set(dut.probe, probe)
            enters = bool(waiting) and not next(self.pass_waits)
            ctx.set(dut.draw, enters and all(waiting[0][:2]))
            if enters and waiting[0][0]:
                entered.append(ctx.get(dut.pass_seed))
            comes = bool(owed) and not next(self.loss_waits)
            ctx.set(dut.loss_valid, comes)
            if comes:
                for name, value in zip(("loss_probe", "loss_negative", "loss"), owed.pop(0),
                                       strict=True):
                    ctx.set(getattr(dut, name), value)
            if ctx.get(dut.measured):
                seen.append(ctx.get(dut.plus))
            assert ctx.get(dut.complete) == (returned == len(losses))
            returned = len(seen)
            await ctx.tick()
            if enters:
                probe += all(waiting[0][:2])
                owed.append(waiting.pop(0))
        ctx.set(dut.draw, 0)
        ctx.set(dut.loss_valid, 0)
        assert ctx.get(dut.complete)
        self.said += [("passes", entered), ("losses", seen)]

    async def coefficients(self, ctx):
        dut, records, cycles, done = self.dut, [], 0, 0
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.walk, 1)
        while not done:
            if "journal" in dut.options and ctx.get(dut.record):
                records.append((ctx.get(dut.kept_seed), ctx.get(dut.record_coefficient)))
            done = ctx.get(dut.done)
            cycles += 1
            await ctx.tick()
        ctx.set(dut.walk, 0)
        self.said += [("cycles", cycles), *[("records", records)] * ("journal" in dut.options)]

    async def update(self, ctx, pairs):
        """Two words of a sweep."""
        dut, replayed = self.dut, []
        older = ctx.get(dut.older) if "replay" in dut.options else 0
        ctx.set(dut.updating, 1)
        for _ in range(2):
            for pair in range(-older, pairs):
                ctx.set(dut.replay, pair & slots(MAX_PAIRS) - 1)
                await wait(ctx, 1 + next(self.pass_waits))
                replayed.append((ctx.get(dut.kept_seed), ctx.get(dut.coefficient)))
        if "replay" in dut.options:
            ctx.set(dut.updated, 1)
            await ctx.tick()
            ctx.set(dut.updated, 0)
        ctx.set(dut.updating, 0)
        self.said.append(("update", replayed))

    async def look(self, ctx, pairs):
        """As the host does, between two samples."""
        dut, found = self.dut, []
        for pair in range(pairs):
            ctx.set(dut.journal_pair, pair)
            await ctx.tick()
            found.append((ctx.get(dut.kept_seed), ctx.get(dut.journal_delta)))
        self.said += [("host", found), ("next seed", ctx.get(dut.next_seed))]


@pytest.mark.parametrize("stall", ["none", "some", "most", "bursts"])
@pytest.mark.parametrize("options", [
    ("rank",), ("rank", "shaping", "journal"), ("rank", "replay")], ids=" ".join)
def test_unit_equals_model(options, stall, seed):
    rng = np.random.default_rng([seed, len(options), len(stall)])
    dut, plan = Population(MAX_PAIRS, options=options), samples(rng, options)
    world = World(dut, plan, stall, rng)
    simulate(dut, world.run, deadline=20000)
    assert world.said == expected(plan, options)


def test_by_hand():
    """Two pairs, two samples: differences of 3 - 1 + 10 - 5 and 0 - 4 + 7 - 7, signs 1 and -1."""
    dut = Population(2, options=())
    plan = [Sample(9, True, False, "sign", 7, np.array([[3, 1], [0, 4]])),
            Sample(None, False, True, "sign", 7, np.array([[10, 5], [7, 7]]))]
    world, seeds = World(dut, plan, "none", np.random.default_rng(1)), [9, noise.next_seed(9)]
    simulate(dut, world.run, deadline=200)
    assert world.said[2] == ("host", [(seeds[0], 2), (seeds[1], -4)])
    assert world.said[6:] == [
        ("cycles", 6), ("update", 2 * [(seeds[0], 1), (seeds[1], -1)]),
        ("host", [(seeds[0], 7), (seeds[1], -4)]), ("next seed", noise.next_seed(seeds[1]))]


def test_widths():
    dut = Population(5, options=("rank", "journal"))
    assert [len(getattr(dut, name)) for name in (
        "pairs", "probe", "replay", "journal_pair", "plus", "journal_delta", "coefficient",
        "record_coefficient", "kept_seed")] == [3, 3, 3, 3, 14, 24, 8, 8, 32]
    assert [len(Population(n, options=("rank", "replay")).older) for n in (1, 4, 5)] == [1, 2, 3]

# amaranth: UnusedElaboratable=no
"""The pass controller alone: order of passes, replay of the update, resets."""
import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module

from firmware_models import noise
from firmware_models.rounding import ROUNDINGS
from firmware_models.rules import es
from rtl.controller import LearnController

from .networks import small_network
from .pysim import pauses, simulate, until, wait

NETWORK = small_network((6, 5, 4, 3), (1, 2))
WORDS = 3                               # of the bench's weight memories, biases included


def controller(options=("rank",)):
    """A controller of two trainable layers in a clock domain whose reset the bench drives."""
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.dut = dut = LearnController(NETWORK, max_pairs=4, options=options)
    return m, dut, domain


def loss_of(seed: int, negative: int) -> int:
    """Any function will do for a loss; 14 bits."""
    return (seed * 2654435761 >> 7 ^ negative * 5555) % 2 ** 14


class World:
    """What stands around a controller: it takes passes, answers losses, and sweeps."""

    def __init__(self, dut, stall):
        self.dut, self.stall = dut, stall
        self.passes, self.replayed, self.owed, self.releases = [], [], [], 0
        self.sweeping, self.step, self.updates = None, 0, 0

    async def run(self, ctx):
        dut, pause = self.dut, pauses(self.stall)
        while True:
            ctx.set(dut.pass_ready, not next(pause))
            ctx.set(dut.decays, min(self.updates, 15))      # the rate halves every time
            ctx.set(dut.loss_valid, bool(self.owed) and not next(pause))
            if ctx.get(dut.loss_valid):
                loss, probe, negative = self.owed.pop(0)
                ctx.set(dut.loss, loss)
                ctx.set(dut.loss_probe, probe)
                ctx.set(dut.loss_negative, negative)
            accumulating = self.sweeping is not None and self.step < WORDS
            ctx.set(dut.accumulate, accumulating)
            # Two cycles after the last word, the memory is done.
            ctx.set(dut.sweep_done, self.sweeping is not None and self.step == WORDS + 2)
            tag = dut.pass_tag
            (_, _, valid, ready, seed, probe, negative, label, learn, owned, sweep, pair, replay,
             coefficient, last_pair, done, release, updated) = await ctx.tick().sample(
                dut.pass_valid, dut.pass_ready, tag.seed, tag.probe, tag.negative, tag.label,
                tag.learn, dut.owned, dut.sweep, dut.pair, dut.sweep_seed,
                dut.coefficient, dut.last_pair, dut.sweep_done, dut.release, dut.updated)
            self.releases += release
            self.updates += updated
            if valid and ready:
                self.passes.append((owned, label, learn, probe, negative, seed if probe else 0))
                self.owed.append((loss_of(seed if probe else 0, negative), probe, negative))
            if accumulating:
                self.replayed.append((self.sweeping, pair, replay, coefficient))
            self.step += last_pair if accumulating else 1
            if done:
                self.sweeping = None
            if sweep:
                assert self.sweeping is None
                self.sweeping, self.step = sweep, 0


def configure(ctx, dut, **settings):
    for name, value in {"learn": 1, "layers": 0b11, "pairs": 3, "batch": 1, "fitness": 1,
                        "lr_shift": 3, "sigma_in": 2, "seed": 9, **settings}.items():
        ctx.set(getattr(dut, name), value)


async def restart(ctx, dut):
    ctx.set(dut.seed_write, 1)
    await ctx.tick()
    ctx.set(dut.seed_write, 0)


async def offer(ctx, dut, count):
    """Samples to learn from at the first layer, with more and more time between them."""
    ctx.set(dut.head_learn, 0b01)
    for n in range(count):
        await wait(ctx, n)
        ctx.set(dut.head_valid, 0b01)
        await until(ctx, dut.release)
        ctx.set(dut.head_valid, 0)
        await ctx.tick()


@pytest.mark.parametrize("stall", ["none", "some", "most"])
@pytest.mark.parametrize("layers, pairs, batch, rank", [
    (0b11, 3, 1, 1), (0b10, 4, 2, 0), (0b01, 1, 3, 1)])
def test_schedule(layers, pairs, batch, rank, stall):
    m, dut, _ = controller()
    world, count = World(dut, stall), 6
    entry = layers & -layers
    position = entry.bit_length() - 1
    final = {}

    async def bench(ctx):
        configure(ctx, dut, layers=layers, pairs=pairs, batch=batch, fitness=rank)
        await restart(ctx, dut)
        for n in range(count):
            ctx.set(dut.head_label[position], 10 + n)
            ctx.set(dut.head_learn, entry)
            await wait(ctx, n)
            ctx.set(dut.head_valid, entry)
            await until(ctx, dut.release)
            ctx.set(dut.head_valid, 0)
            await ctx.tick()
            assert not ctx.get(dut.busy)
        for name in ("next_seed", "batch_index", "selected"):
            final[name] = ctx.get(getattr(dut, name))

    simulate(m, bench, world.run, deadline=count * 100 * (pairs + 2))
    seed, seeds, passes, replayed, deltas, updates = 9, [], [], [], None, 0
    for n in range(count):
        if n % batch == 0:
            seeds = [seed]
            while len(seeds) < pairs:
                seeds.append(noise.next_seed(seeds[-1]))
            seed, deltas = noise.next_seed(seeds[-1]), np.zeros(pairs, int)
        passes.append((entry, 10 + n, 1, 0, 0, 0))
        for s in seeds:
            passes += [(entry, 10 + n, 1, 1, 0, s), (entry, 10 + n, 1, 1, 1, s)]
        deltas += [loss_of(s, 0) - loss_of(s, 1) for s in seeds]
        if n % batch == batch - 1:
            c = es.coefficient(es.fitness(deltas, es.FITNESSES[rank]), min(3 + updates, 15))
            updates += 1
            for layer in (1, 2):
                if layer & layers:
                    replayed += WORDS * [(layer, k, seeds[k], c[k]) for k in range(pairs)]
    assert world.passes == passes
    assert world.replayed == replayed
    assert world.releases == count
    assert world.updates == updates
    assert final == {"next_seed": seed, "batch_index": 0, "selected": layers}


@pytest.mark.parametrize("fitness", es.FITNESSES)
@pytest.mark.parametrize("pairs, batch", [(1, 1), (3, 2), (4, 1)])
def test_records(pairs, batch, fitness):
    """Option "journal": every pair of an update once, with its seed, before the sweeps."""
    m, dut, _ = controller(("rank", "journal"))
    world, records, count = World(dut, "some"), [], 6

    async def watch(ctx):
        while True:
            _, _, record, *values = await ctx.tick().sample(
                dut.record, dut.sweep_seed, dut.record_coefficient, dut.record_last, dut.selected)
            if record:
                records.append(tuple(values))

    async def bench(ctx):
        configure(ctx, dut, pairs=pairs, batch=batch, fitness=es.FITNESSES.index(fitness))
        await restart(ctx, dut)
        await offer(ctx, dut, count)

    simulate(m, bench, world.run, watch, deadline=count * 100 * (pairs + 2))
    # The bench before says what is replayed: the first layer's first word has every pair once.
    replayed = [one[1:] for one in world.replayed if one[0] == 1]
    updates = [replayed[k:k + pairs] for k in range(0, len(replayed), WORDS * pairs)]
    assert len(updates) == count // batch
    assert records == [(seed, c, pair == pairs - 1, 0b11) for update in updates
                       for pair, seed, c in update]


@pytest.mark.parametrize("stall", ["none", "most"])
@pytest.mark.parametrize("pairs, batch, sharp", [(1, 1, 3), (2, 1, 1), (4, 3, 7), (3, 1, 0)])
def test_sharp(pairs, batch, sharp, stall):
    """The second pair waits for the first one's losses; all later ones find its sign and seed."""
    m, dut, _ = controller(("sharp",))
    world, count, entered = World(dut, stall), 6, []

    async def watch(ctx):
        while True:
            _, _, valid, ready, *found = await ctx.tick().sample(
                dut.pass_valid, dut.pass_ready, dut.pass_tag.probe, dut.pass_tag.seed, dut.away,
                dut.down, dut.first_seed, dut.rho)
            if valid and ready:
                entered.append((found, len(world.owed)))

    async def bench(ctx):
        configure(ctx, dut, pairs=pairs, batch=batch, fitness=0, sharp=sharp)
        await restart(ctx, dut)
        await offer(ctx, dut, count)

    simulate(m, bench, world.run, watch, deadline=count * 100 * (pairs + 2))
    assert len(entered) == count * (2 * pairs + 1)
    for n in range(count):
        of_sample = entered[n * (2 * pairs + 1):(n + 1) * (2 * pairs + 1)]
        seed = of_sample[1][0][1]
        difference = loss_of(seed, 0) - loss_of(seed, 1)
        for k, ((probe, _, away, down, first_seed, rho), owed) in enumerate(of_sample):
            assert probe == (k > 0) and away == (sharp > 0 and k > 2)
            if away:
                assert (down, first_seed, rho) == (difference < 0, seed, sharp - 1)
            if sharp and k == 3:
                assert owed <= 1        # itself, where the world was faster


def test_amplitude_decays():
    """With the setting, the amplitude of a sample is that of the decays when it starts."""
    m, dut, _ = controller(("sigma_decay",))
    world, found = World(dut, "none"), []

    async def bench(ctx):
        configure(ctx, dut, pairs=1, sigma_in=5)
        await restart(ctx, dut)
        ctx.set(dut.head_learn, 0b01)
        for n in range(18):             # an update each: the world's decays are their number
            ctx.set(dut.sigma_decay, n != 3)
            ctx.set(dut.head_valid, 0b01)
            await until(ctx, dut.release)
            found.append(ctx.get(dut.sigma))
            ctx.set(dut.head_valid, 0)
            await ctx.tick()

    simulate(m, bench, world.run, deadline=3000)
    assert found == [5, 4, 3, 5, 1] + 13 * [0]


@pytest.mark.parametrize("stall", ["none", "some"])
@pytest.mark.parametrize("pairs", [1, 3, 4])
def test_replay_of_older_pairs(pairs, stall):
    """Option "replay": sweeps start with what is kept of earlier updates, until a new seed."""
    m, dut, _ = controller(("rank", "rounding", "replay"))
    world, first, expected = World(dut, stall), [], []
    kinds = [*4 * ["replay"], "nearest", *3 * ["replay"]]

    async def watch(ctx):
        while True:
            _, _, accumulate, oldest = await ctx.tick().sample(dut.accumulate, dut.oldest)
            if accumulate:
                first.append(oldest)

    async def bench(ctx):
        configure(ctx, dut, layers=0b01, pairs=pairs, fitness=0, lr_shift=9)
        ctx.set(dut.head_learn, 0b01)
        for seed in (9, 77):
            ctx.set(dut.seed, seed)
            await restart(ctx, dut)
            past = []
            for kind in kinds:
                decays = min(world.updates, 15)
                ctx.set(dut.rounding_in, ROUNDINGS.index(kind))
                ctx.set(dut.head_valid, 0b01)
                await until(ctx, dut.release)
                ctx.set(dut.head_valid, 0)
                population = []
                for _ in range(pairs):
                    delta = loss_of(seed, 0) - loss_of(seed, 1)
                    c = es.coefficient(np.sign(delta), es.rate(9, decays, kind))
                    population.append((seed, c))
                    seed = noise.next_seed(seed)
                older = past if kind == "replay" else []
                expected.extend(WORDS * [(1, (n - len(older)) % 4, *pair)
                                         for n, pair in enumerate(older + population)])
                past = (past + population)[-(4 - pairs):] if pairs < 4 else []
                await ctx.tick()
                for n, (one, _) in enumerate(population):       # read back from its start on
                    ctx.set(dut.journal_pair, n)
                    assert ctx.get(dut.journal_seed) == one

    simulate(m, bench, world.run, watch, deadline=2 * len(kinds) * 200)
    assert world.replayed == expected
    # A word ends with the population's last pair, and the next one starts.
    assert first == [True, *[pair == pairs - 1 for _, pair, *_ in expected[:-1]]]


def test_hold_and_learn_bit():
    """Nothing starts on hold, without the learn bit, with learning off, or at another layer."""
    m, dut, _ = controller()

    async def bench(ctx):
        configure(ctx, dut, layers=0b10)
        await restart(ctx, dut)
        for head, learn_bit, learn, hold in ((0b01, 0b01, 1, 0), (0b10, 0b00, 1, 0),
                                             (0b10, 0b10, 0, 0), (0b10, 0b10, 1, 1)):
            ctx.set(dut.head_valid, head)
            ctx.set(dut.head_learn, learn_bit)
            ctx.set(dut.learn, learn)
            ctx.set(dut.hold, hold)
            await wait(ctx, 4)
            assert not ctx.get(dut.busy) and not ctx.get(dut.pass_valid)
        ctx.set(dut.hold, 0)
        await ctx.tick()
        assert ctx.get(dut.busy) and ctx.get(dut.pass_valid)

    simulate(m, bench, deadline=40)


@pytest.mark.parametrize("moment, torn", [
    ("idle", 0), ("passes", 0), ("first sweep", 1), ("second sweep", 1), ("after", 0)])
def test_reset_during_an_update_is_remembered(moment, torn):
    m, dut, domain = controller()
    world = World(dut, "none")

    async def bench(ctx):
        configure(ctx, dut)
        await restart(ctx, dut)
        assert not ctx.get(dut.torn)
        if moment != "idle":
            ctx.set(dut.head_learn, 0b01)
            ctx.set(dut.head_valid, 0b01)
            await until(ctx, {"passes": dut.pass_valid, "first sweep": dut.sweep[0],
                              "second sweep": dut.sweep[1], "after": dut.release}[moment])
        ctx.set(dut.head_valid, 0)
        await wait(ctx, 2)
        ctx.set(domain.rst, 1)
        await wait(ctx, 2)
        ctx.set(domain.rst, 0)
        await wait(ctx, 3)
        assert ctx.get(dut.torn) == torn and not ctx.get(dut.busy)
        # It outlives another reset, and goes when it is cleared.
        ctx.set(domain.rst, 1)
        await ctx.tick()
        ctx.set(domain.rst, 0)
        await ctx.tick()
        assert ctx.get(dut.torn) == torn
        ctx.set(dut.torn_clear, 1)
        await ctx.tick()
        ctx.set(dut.torn_clear, 0)
        await ctx.tick()
        assert not ctx.get(dut.torn)

    simulate(m, bench, world.run, deadline=500)

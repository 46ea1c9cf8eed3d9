# amaranth: UnusedElaboratable=no
"""Node errors: the rule by hand, and the unit against it with random losses."""
import random
from collections import deque

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module

from firmware_models.learner import Learner
from firmware_models.rules import node_probe as model
from firmware_models.settings import Settings
from rtl.loss import LossUnit
from rtl.node_probe import NodeProbe
from rtl.shapes import engine_tag

from .networks import small_network
from .pysim import pauses, simulate, wait


def test_difference_by_hand():
    """Clipped to 10 bits."""
    assert [model.difference(loss, 1000) for loss in (1000, 1001, 0, 1511, 1512, 488, 487)] == [
        0, 1, -512, 511, 511, -512, -512]
    assert model.difference(0, 16383) == -512 and model.difference(16383, 0) == 511


def test_accumulate_by_hand():
    """Clipped to 14 bits, after each term."""
    errors = model.accumulate([8190, 8191, -8191, -8192, 5], [1, 1, -1, -1, -7])
    assert errors.tolist() == [8191, 8191, -8192, -8192, -2]
    assert model.accumulate(model.accumulate([8000], [511]), [-511]).tolist() == [8191 - 511]


@pytest.mark.parametrize("shift, errors, c, left", [
    (3, [7, 8, 9, 16, -7, -8, -9, -16], [0, 1, 1, 1, 0, 0, -1, -1],
     [7, 0, 1, 8, -7, -8, -1, -8]),
    (0, [0, 1, -1, -2, 8191, -8192], [0, 1, 0, -1, 1, -1], [0, 0, -1, -1, 8190, -8191]),
    (12, [4095, 4096, 8191, -4096, -4097, -8192], [0, 1, 1, 0, -1, -1],
     [4095, 0, 4095, -4096, -1, -4096]),
    (13, [8191, -8192], [0, 0], [8191, -8192]),
    (15, [8191, -8192], [0, 0], [8191, -8192]),
])
def test_coefficients_by_hand(shift, errors, c, left):
    got = model.coefficients(errors, shift)
    assert got[0].tolist() == c and got[1].tolist() == left


@pytest.mark.parametrize("shift, errors, c, left", [
    # In units of 2**(shift - 2): up to 15 of them.
    (4, [3, 4, 16, 63, 64, 8191], [0, 1, 4, 15, 15, 15], [3, 0, 0, 3, 4, 8131]),
    (4, [-4, -5, -16, -17, -8192], [0, -1, -3, -4, -15], [-4, -1, -4, -1, -8132]),
    (1, [1, -1, -2, 20], [1, 0, -1, 15], [0, -1, -1, 5]),           # never below 1
    (15, [8191, -8192], [0, 0], [8191, -8192]),
])
def test_coefficients_of_four_bits_by_hand(shift, errors, c, left):
    got = model.coefficients(errors, shift, 4)
    assert got[0].tolist() == c and got[1].tolist() == left


NETWORKS = {
    "two hidden and head": small_network((5, 6, 5, 3), (0, 1, 2), {1: 3}),
    "hidden alone": small_network((5, 6, 4, 3), (0,), {1: 2}),
    "head alone": small_network((5, 4, 3), (1,)),
    "three hidden": small_network((4, 3, 7, 2, 3), (0, 1, 2), {2: 1}),
    "more than 32": small_network((4, 40, 3), (0, 1), {1: 20}),
    "a single node": small_network((3, 1, 2), (0,)),
}


def unit(network, bits=1):
    """In a clock domain whose reset the bench drives."""
    m = Module()
    m.domains.sync = domain = ClockDomain()
    tag = engine_tag(network, len(network.stages), ("np",), arriving=True)
    loss_tag = LossUnit(network.n_classes, network.stages[-1].result, tag=tag, head=None).tag_out
    m.submodules.dut = dut = NodeProbe(network, tag=loss_tag, bits=bits)
    return m, dut, domain


class World:
    """What stands around the unit: samples, losses, noise, and stages that take coefficients.

    Each sample's losses and head errors are drawn; `errors` and `coefficients` are what the rule
    makes of them. At most two samples are under way, as the coefficients allow.
    """

    def __init__(self, network, dut, settings: Settings, pause: str, seed: int = 1):
        self.network, self.dut, self.settings = network, dut, settings
        self.rng, self.draw = np.random.default_rng(seed), random.Random(seed)
        self.pause = pauses(pause)
        self.learner = Learner(network, settings)
        self.sizes = [network.stages[i].dense.n_out for i in network.trainable]
        self.hidden, self.decays = len(network.hidden), 0
        self.restart()
        self.got, self.expected, self.updated = [], [], 0

    def restart(self):
        """What the model and the stages do with a new seed."""
        self.learner.line_rate.restart(1)
        self.errors = np.zeros(sum(self.sizes), np.int64)
        self.left = [2] * len(self.sizes)               # coefficients that the stages still have
        self.spent_late = list(self.left)
        self.to_enter = deque()                         # stages behind the first, per sample
        self.slot, self.roles, self.row = [0] * self.hidden, {}, []
        self.losses, self.answer, self.errors_due = deque(), None, None
        self.complete = None

    def sample(self):
        """A sample to learn from: its losses in the order of the unit, and what they must do."""
        settings, learner = self.settings, self.learner
        trainable = self.network.trainable
        train = sum(1 << trainable.index(i) for i in learner.line_rate.schedule(settings))
        head_on = self.hidden < len(trainable) and train >> self.hidden & 1
        probed = [p for p in range(self.hidden) if train >> p & 1 and settings.probes]
        edge = settings.skip + self.draw.choice([-1, 0, 1, 50])
        base = min(max(self.draw.choice([edge, self.draw.randrange(1 << 14)]), 0), 16383)
        counts = base >= settings.skip
        if self.complete is not None:
            self._coefficients(*self.complete)
        self.complete = (train,)
        classes = self.rng.integers(-256, 257, self.network.n_classes)
        self.losses.append((base, {"train": train, "more": bool(probed)},
                            classes.tolist() if head_on else None))
        if head_on and counts:
            at = slice(sum(self.sizes[:self.hidden]), None)
            self.errors[at] = model.accumulate(self.errors[at], classes)
        for p in reversed(probed):
            n_out = self.sizes[p]
            s, active = self.rng.choice([-1, 1], n_out), self.rng.random(n_out) < 0.7
            self.roles[p, self.slot[p]] = (s, active)
            self.slot[p] ^= 1
            for k in range(settings.probes):
                loss = min(max(base + self.draw.choice(
                    [0, 1, -1, 511, 512, -512, -513, self.draw.randrange(-9000, 9000)]), 0), 16383)
                more = k < settings.probes - 1 or p != probed[0]
                self.losses.append((loss, {"train": train, "probe": 1, "layer": p, "more": more},
                                    None))
                if counts:
                    at = slice(sum(self.sizes[:p]), sum(self.sizes[:p + 1]))
                    terms = active * model.signs(k, s) * model.difference(loss, base)
                    self.errors[at] = model.accumulate(self.errors[at], terms)
        return train

    def _coefficients(self, train):
        first = 0
        for p, n_out in enumerate(self.sizes):
            at, c = slice(first, first + n_out), np.zeros(n_out, int)
            first += n_out
            if train >> p & 1:
                shift = self.settings.head_shift if p == self.hidden else self.settings.lr_shift
                c, self.errors[at] = model.coefficients(
                    self.errors[at], min(shift + self.decays, model.SHIFT_MAX),
                    self.dut.bits)
            self.expected += [(p, int(value)) for value in c]

    async def tick(self, ctx, *, entered=0, train=0):
        """One cycle of everything around the unit."""
        dut, network = self.dut, self.network
        ctx.set(dut.entered, entered)
        ctx.set(dut.taken, entered)
        # LOSSES: begun when asked for, and there a while later; errors after the base loss.
        begin = bool(self.losses) and self.answer is None and ctx.get(dut.go) \
            and not next(self.pause)
        ctx.set(dut.loss_begun, begin)
        ctx.set(dut.loss_valid, 0)
        ctx.set(dut.loss, self.draw.randrange(1 << 14))
        if begin:
            self.answer = [self.draw.randint(1, 6), *self.losses.popleft()]
        elif self.answer:
            self.answer[0] -= 1
            if self.answer[0] == 0:
                _, loss, tag, errors = self.answer
                self.answer = None
                ctx.set(dut.loss_valid, 1)
                ctx.set(dut.loss, loss)
                self._tag(ctx, **tag)
                if errors:
                    self.errors_due = errors
        elif self.draw.random() < 0.1:              # of a sample that nothing learns from
            ctx.set(dut.loss_valid, 1)
            self._tag(ctx, train=0)
        ctx.set(dut.error_valid, 0)
        if self.row:
            ctx.set(dut.error_valid, 1)
            ctx.set(dut.error, self.row.pop(0))
        # STAGES: each takes its base pass, in order; without coefficients it waits for them.
        if entered:
            self.left[0] -= 1
            self.to_enter.append(1)
        for n in range(len(self.to_enter)):
            p = self.to_enter[n]
            if p < len(self.left) and self.left[p] and self.draw.random() < 0.4 \
                    and (n == 0 or self.to_enter[n - 1] > p):
                self.left[p] -= 1
                self.to_enter[n] += 1
        while self.to_enter and self.to_enter[0] == len(self.left):
            self.to_enter.popleft()
        ctx.set(dut.spent, sum((not left) << p for p, left in enumerate(self.spent_late)))
        self.spent_late = list(self.left)
        # NOISE: looked up in the cycle.
        word, lane, slots = ctx.get(dut.word), ctx.get(dut.lane), ctx.get(dut.slot)
        negative = active = 0
        for p in range(self.hidden):
            stage = network.stages[network.hidden[p]]
            s, on = self.roles.get((p, slots >> p & 1), (None, None))
            j = word + stage.drain_words * lane
            if s is not None and word < stage.drain_words and j < len(s):
                negative |= int(s[j] < 0) << p
                active |= int(on[j]) << p
        ctx.set(dut.negative, negative)
        ctx.set(dut.active, active)
        shift = ctx.get(dut.shift)
        if shift:
            assert shift.bit_count() == 1
            self.got.append((shift.bit_length() - 1, int(
                ctx.get(dut.fired) * (1 - 2 * ctx.get(dut.minus)))))
        loaded = ctx.get(dut.loaded)
        for p in range(len(self.left)):
            self.left[p] += loaded >> p & 1
        self.updated += ctx.get(dut.updated)
        if ctx.get(dut.error_go):
            self.row, self.errors_due = list(self.errors_due), None
        restart = ctx.get(dut.restart)
        await ctx.tick()
        return restart

    def _tag(self, ctx, **fields):
        for name in ("train", "probe", "layer", "more"):
            if name in self.dut.loss_tag.shape().members:
                ctx.set(getattr(self.dut.loss_tag, name), fields.get(name, 0))

    def configure(self, ctx):
        settings, dut, trainable = self.settings, self.dut, self.network.trainable
        for name, value in {
                "layers": sum(1 << trainable.index(i) for i in settings.layers),
                "lr_shift": settings.lr_shift, "head_shift": settings.head_shift,
                "skip": settings.skip, "turn": settings.turn, "decays": self.decays}.items():
            ctx.set(getattr(dut, name), value)

    async def learn(self, ctx, count):
        """Samples, each as soon as its first coefficients are there; then until all is quiet."""
        for _ in range(count):
            while not self.left[0] or ctx.get(self.dut.hold):
                await self.tick(ctx)
            while next(self.pause):
                await self.tick(ctx)
            offered = ctx.get(self.dut.train)
            assert offered == self.sample()
            await self.tick(ctx, entered=1)
        while self.losses or self.answer or ctx.get(self.dut.busy):
            await self.tick(ctx)

    async def window(self, ctx):
        """All errors, read back."""
        got = []
        for node in range(sum(self.sizes)):
            ctx.set(self.dut.window_word, node)
            await ctx.tick()
            got.append(ctx.get(self.dut.window_data))
        return got


@pytest.mark.parametrize("pause, bits", [("none", 1), ("most", 1), ("none", 4)])
@pytest.mark.parametrize("name, settings", [
    ("two hidden and head", {"layers": (0, 1, 2), "probes": 3}),
    ("two hidden and head", {"layers": (0, 1, 2), "probes": 2, "turn": True, "skip": 3000}),
    ("two hidden and head", {"layers": (1,), "probes": 5, "lr_shift": 8}),
    ("two hidden and head", {"layers": (0, 1, 2), "probes": 0, "head_shift": 0}),
    ("hidden alone", {"layers": (0,), "probes": 4, "lr_shift": 3}),
    ("head alone", {"layers": (1,), "head_shift": 6}),
    ("three hidden", {"layers": (0, 1, 2), "probes": 1, "turn": True}),
    ("more than 32", {"layers": (0, 1), "probes": 32, "lr_shift": 7}),
    ("a single node", {"layers": (0,), "probes": 6, "lr_shift": 5}),
], ids=str)
def test_unit_equals_model(name, settings, pause, bits):
    """Coefficients of every sample in their order, and the errors that are left."""
    network, count = NETWORKS[name], 8 if settings.get("probes") != 32 else 2
    m, dut, _ = unit(network, bits)
    world = World(network, dut, Settings(**settings), pause, seed=len(str(settings)))

    async def bench(ctx):
        await wait(ctx, sum(world.sizes) + 2)           # errors are cleared first
        for part in range(2):
            world.configure(ctx)
            await world.learn(ctx, count)
            assert world.got == world.expected
            assert await world.window(ctx) == world.errors.tolist()
            assert world.updated == (part + 1) * (count - 1)
            world.complete = None
            # A new seed: what is pending is dropped, errors start over, so does the turn.
            ctx.set(dut.restart_request, 1)
            await ctx.tick()
            ctx.set(dut.restart_request, 0)
            world.decays = 2
            restarts = 0
            for _ in range(sum(world.sizes) + 6):
                restarts += await world.tick(ctx)
            world.restart()
            assert restarts == 1 and not ctx.get(dut.hold) and not ctx.get(dut.busy)
            assert await world.window(ctx) == [0] * sum(world.sizes)
        assert any(c for _, c in world.got)

    nodes = sum(world.sizes)
    passes = 2 + 2 * world.hidden * world.settings.probes
    simulate(m, bench, deadline=2 * count * (passes * (nodes + 40) + 200) + 2000)


@pytest.mark.parametrize("moment, torn", [("idle", 0), ("entered", 1), ("probes", 1), ("after", 0)])
def test_reset_while_learning_is_remembered(moment, torn):
    network = NETWORKS["two hidden and head"]
    m, dut, domain = unit(network)
    world = World(network, dut, Settings(layers=(0, 1, 2), probes=2), "none")

    async def bench(ctx):
        await wait(ctx, 30)
        world.configure(ctx)
        if moment in ("entered", "probes"):
            world.sample()
            await world.tick(ctx, entered=1)
            while moment == "probes" and len(world.losses) > 1:
                await world.tick(ctx)
            assert ctx.get(dut.busy)
        elif moment == "after":
            await world.learn(ctx, 2)
        for name in ("entered", "taken", "loss_valid", "loss_begun", "error_valid"):
            ctx.set(getattr(dut, name), 0)
        for _ in range(2):                              # it outlives another reset
            ctx.set(domain.rst, 1)
            await wait(ctx, 2)
            ctx.set(domain.rst, 0)
            await wait(ctx, 40)
            assert ctx.get(dut.torn) == torn and not ctx.get(dut.busy)
        ctx.set(dut.torn_clear, 1)
        await ctx.tick()
        ctx.set(dut.torn_clear, 0)
        await ctx.tick()
        assert not ctx.get(dut.torn)

    simulate(m, bench, deadline=2000)


def test_widths():
    _, dut, _ = unit(NETWORKS["two hidden and head"])
    assert (len(dut.train), len(dut.loaded), len(dut.slot), len(dut.window_data), len(dut.word),
            len(dut.lane)) == (3, 3, 2, 14, 3, 1)

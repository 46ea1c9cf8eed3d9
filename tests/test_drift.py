# amaranth: UnusedElaboratable=no
"""The switch of continuous operation: decisions by hand, the learner's use of it, the hardware."""
import random
from dataclasses import replace

import numpy as np
import pytest

from firmware_models import drift
from firmware_models.learner import Learner
from firmware_models.loss import LOSS_WIDTH, running_average
from firmware_models.options import needed
from firmware_models.settings import Settings
from rtl.drift import Drift

from .networks import samples, small_network
from .pysim import pauses, simulate

START, STOP = 700, 500
IN_FLIGHT = 61              # samples: the most that a core of 13 stages holds


@pytest.mark.parametrize("on, decided, count, start, expected", [
    (1, 0, 0, 5, 1), (1, 0, 63, 5, 1), (1, 0, 64, 5, 0), (0, 0, 65, 5, 0),      # in the middle
    (0, 1, 128, 5, 0), (0, 1, 191, 5, 0), (0, 1, 192, 5, 1), (1, 1, 192, 5, 1),
    (0, 0, 7, 0, 1), (0, 0, 64, 0, 1), (0, 1, 64, 0, 1),                        # always on
])
def test_enter_by_hand(on, decided, count, start, expected):
    assert drift.enter(on, decided, count, start) == expected


@pytest.mark.parametrize("decided, count, average, expected", [
    (0, 128, 700 << 8, 1), (0, 128, (700 << 8) - 1, 0), (1, 128, (700 << 8) - 1, 1),
    (1, 256, 500 << 8, 1), (1, 256, (500 << 8) - 1, 0), (0, 256, 500 << 8, 0),
    (1, 127, 0, 1), (1, 129, 0, 1), (0, 192, 1 << 21, 0),                       # at no other time
])
def test_decide_by_hand(decided, count, average, expected):
    assert drift.decide(decided, count, average, START, STOP) == expected


def test_equal_thresholds_and_zero():
    assert drift.decide(1, 128, 499 << 8, 500, 500) == 0
    assert drift.decide(0, 128, 500 << 8, 500, 500) == 1
    assert drift.decide(0, 128, 0, 0, 0) == 1


def test_limits():
    assert not needed(Settings()) and needed(Settings(start=1)) == ("drift",)
    assert needed(Settings(rule="es", start=1)) == ("drift",)
    Settings(start=16383, stop=16383)
    for change, text in (({"start": 16384}, "start must be 0 to 16383, not 16384"),
                         ({"start": 7, "stop": 8}, "stop must be 0 to 7, not 8"),
                         ({"stop": 1}, "stop must be 0 to 0, not 1")):
        with pytest.raises(ValueError, match=text):
            Settings(**change)


@pytest.mark.parametrize("rule", ["np", "es"])
def test_learner_by_definition(rule):
    """Weights move only while learning is on, losses go on; it starts over as a fresh decay."""
    network = small_network((6, 5, 3), (0, 1))
    x, y = samples(network, 448)
    learner = Learner(network, Settings(rule=rule, layers=(0, 1), start=16383, stop=16383, probes=2,
                                        pairs=1, lr_shift=3, head_shift=3, lr_decay=20))
    learner.learn(x[:192], y[:192])
    # The decision after sample 128 stops it with the 193rd sample.
    before = learner.state
    assert (before.on, before.decided, learner.learned.all()) == (1, 0, True)
    learner.learn(x[192:300], y[192:300])
    after = learner.state
    assert not after.on and not learner.learned.any()
    assert (after.samples, after.passes - before.passes) == (300, 108)
    assert after.updates == before.updates and after.decays == before.decays > 3
    assert all((after.weights[k] == before.weights[k]).all() for k in (0, 1))
    # From the decision after sample 384, learning is on again with the 449th one.
    learner.settings = replace(learner.settings, start=1, stop=0, restart=True)
    learner.learn(x[300:], y[300:])
    assert (learner.state.on, learner.state.decided) == (0, 1)
    assert learner.state.decays == after.decays
    learner.step(x[0], int(y[0]))
    # With "es" this sample's own update is the first one; with "np" that of the last one before.
    assert learner.state.on and (learner.state.decays, learner.state.decay_count) == (0, 1)
    learner.settings = replace(learner.settings, start=16383, stop=16383)
    learner.learn(x[:192], y[:192])
    learner.configure(learner.settings)
    assert (learner.state.on, learner.state.decided) == (1, 1)


@pytest.mark.parametrize("idle, held", [("none", 0), ("some", 5), ("most", IN_FLIGHT),
                                        ("bursts", IN_FLIGHT), ("none", IN_FLIGHT)])
@pytest.mark.parametrize("start, stop", [(START, STOP), (600, 600), (0, 0)])
def test_unit_equals_model(start, stop, idle, held):
    """Which samples may be learned from, however many of them are under way."""
    dut, draw, pause = Drift(), random.Random(held), pauses(idle)
    count = 128 * 16
    # Averages run up and down through both thresholds; now and then by the loss that decides.
    losses = [(1 << LOSS_WIDTH) - 1 if k % 128 == 127 and draw.random() < 0.4 else
              draw.randrange(400) + 650 * (k // 300 % 2) for k in range(count)]
    expected, got, decisions = [], [], []
    on = decided = 1
    average = 0
    for k, loss in enumerate(losses):
        on = drift.enter(on, decided, k, start)
        average = running_average(average, loss)
        decided = drift.decide(decided, k + 1, average, start, stop)
        expected.append(on)
        decisions.append(decided)

    async def bench(ctx):
        ctx.set(dut.start, start)
        ctx.set(dut.stop, stop)
        entered = left = average = 0
        while left < count:
            rests = next(pause)
            accept = entered < count and entered - left < max(held, 1) and not rests
            # As late as can be while there is more to come: the pipeline is always full.
            leave = left < entered and (entered - left >= held or entered == count) and not rests
            ctx.set(dut.accepted, accept)
            ctx.set(dut.loss_valid, leave)
            ctx.set(dut.loss_average, average)      # of the loss before
            if accept:
                got.append(ctx.get(dut.active))
            await ctx.tick()
            if accept:
                assert ctx.get(dut.on) == got[-1]
            if leave:
                average = running_average(average, losses[left])
            entered, left = entered + accept, left + leave
        ctx.set(dut.accepted, 0)
        ctx.set(dut.loss_valid, 0)
        ctx.set(dut.loss_average, average)
        await ctx.tick()
        assert ctx.get(dut.decided) == decisions[-1]

    simulate(dut, bench, deadline=20 * count)
    assert got == expected
    switched = sum(a != b for a, b in zip(got, got[1:], strict=False))
    assert switched >= 4 if start else switched == 0


def test_seed_and_restart():
    """A new seed switches learning on; a decay that is to start over waits for its turn."""
    dut = Drift()

    async def bench(ctx):
        async def enter(samples):
            """As many samples through, with no loss at all."""
            ctx.set(dut.loss_average, 0)
            for _ in range(samples):
                ctx.set(dut.accepted, 1)
                ctx.set(dut.loss_valid, 1)
                await ctx.tick()
            ctx.set(dut.accepted, 0)
            ctx.set(dut.loss_valid, 0)

        def outputs():
            return tuple(ctx.get(getattr(dut, name)) for name in
                         ("on", "decided", "restart", "hold"))

        ctx.set(dut.start, START)
        ctx.set(dut.stop, STOP)
        ctx.set(dut.restart_decay, 1)
        assert outputs() == (1, 1, 0, 0)
        await enter(193)
        assert outputs() == (0, 0, 0, 0)
        ctx.set(dut.seed_write, 1)
        await ctx.tick()
        ctx.set(dut.seed_write, 0)
        assert outputs() == (1, 1, 0, 0)            # the seed starts the decay over by itself
        await enter(256)
        assert outputs() == (0, 0, 0, 0)
        for busy in (0, 3):
            ctx.set(dut.start, 0)
            ctx.set(dut.busy, busy > 0)
            await enter(1)
            for _ in range(busy):
                assert outputs() == (1, 0, 0, 1)
                await ctx.tick()
            ctx.set(dut.busy, 0)
            assert outputs() == (1, 0, 1, 1)
            await ctx.tick()
            assert outputs() == (1, 0, 0, 0)
            ctx.set(dut.start, START)
            await enter(128)
            assert outputs() == (0, 0, 0, 0)

    simulate(dut, bench, deadline=2000)


def test_widths():
    dut = Drift()
    assert (len(dut.start), len(dut.stop), len(dut.loss_average)) == (
        LOSS_WIDTH, LOSS_WIDTH, LOSS_WIDTH + 8)
    assert np.log2(drift.PERIOD) == 7 and drift.DELAY > IN_FLIGHT

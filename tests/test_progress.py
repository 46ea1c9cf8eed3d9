# amaranth: UnusedElaboratable=no
"""Counters, running loss and rate decay: decay by hand, hardware against the models."""
import random

import pytest

from firmware_models.loss import LOSS_WIDTH, running_average
from firmware_models.progress import decay
from rtl.progress import Progress

from .pysim import pauses, simulate

CYCLES = 400


@pytest.mark.parametrize("decays, count, period, expected", [
    (0, 0, 0, (0, 0)), (3, 5, 0, (3, 5)),               # never
    (0, 0, 1, (1, 0)), (7, 0, 1, (8, 0)),               # every time
    (0, 0, 3, (0, 1)), (0, 1, 3, (0, 2)), (0, 2, 3, (1, 0)),
    (15, 0, 1, (15, 0)), (14, 1, 2, (15, 0)), (15, 0, 2, (15, 1)),
    (0, 65533, 65535, (0, 65534)), (0, 65534, 65535, (1, 0)),
])
def test_decay_by_hand(decays, count, period, expected):
    assert decay(decays, count, period) == expected


@pytest.mark.parametrize("idle", ["none", "some", "most"])
@pytest.mark.parametrize("sources, period", [(1, 0), (2, 1), (6, 3), (4, 65535)])
def test_unit_equals_model(sources, period, idle):
    """All counters after every cycle, with events that coincide; a restart wins over an update."""
    dut, draw, pause = Progress(sources), random.Random(sources), pauses(idle)
    names = ("passes", "updates", "saturations", "last_loss", "loss_average", "decays",
             "decay_count")
    got, expected = [], []

    async def bench(ctx):
        passes = updates = saturations = loss = average = decays = count = before = 0
        ctx.set(dut.lr_decay, period)
        for cycle in range(CYCLES):
            busy = not next(pause)
            value = draw.choice([0, (1 << LOSS_WIDTH) - 1, draw.randrange(1 << LOSS_WIDTH)])
            valid, probe, updated = (busy and draw.random() < 0.6 for _ in range(3))
            clipped = draw.getrandbits(sources) * busy
            restart = cycle > CYCLES // 2 and draw.random() < 0.03
            for name, level in (("loss_valid", valid), ("loss", value), ("loss_probe", probe),
                                ("updated", updated), ("clipped", clipped), ("restart", restart)):
                ctx.set(getattr(dut, name), level)
            await ctx.tick()
            got.append(tuple(ctx.get(getattr(dut, name)) for name in names))
            passes, updates = passes + valid, updates + updated
            saturations, before = saturations + before, clipped.bit_count()     # a cycle late
            if valid and not probe:
                loss, average = value, running_average(average, value)
            if updated:
                decays, count = decay(decays, count, period)
            if restart:
                decays = count = 0
            expected.append((passes, updates, saturations, loss, average, decays, count))

    simulate(dut, bench, deadline=CYCLES + 2)
    assert got == expected
    halved = max(decays for *_, decays, _ in got)
    assert halved == 15 if period == 1 else halved > 5 if period == 3 else halved == 0


def test_widths():
    dut = Progress(6)
    assert (len(dut.clipped), len(dut.loss_average), len(dut.decays), len(dut.decay_count)) \
        == (6, 22, 4, 16)

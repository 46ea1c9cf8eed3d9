# amaranth: UnusedElaboratable=no
"""The ring of kept pairs: by hand, and hardware against the model's list of them."""
import numpy as np
import pytest

from firmware_models.rounding import most_older, slots
from rtl.pair_ring import PairRing

from .pysim import simulate


async def pulse(ctx, dut, name, **values):
    for key, value in values.items():
        ctx.set(getattr(dut, key), value)
    ctx.set(getattr(dut, name), 1)
    await ctx.tick()
    ctx.set(getattr(dut, name), 0)
    return ctx.get(dut.base), ctx.get(dut.older)


def test_by_hand():
    """Eight slots: populations of three stand at 0, 3, 6 and 1; at most five pairs before them."""
    dut, got = PairRing(6), []

    async def bench(ctx):
        for _ in range(4):
            got.append(await pulse(ctx, dut, "open", pairs=3))
            await pulse(ctx, dut, "updated", made=3)
        assert await pulse(ctx, dut, "restart") == (1, 0)

    simulate(dut, bench, deadline=20)
    assert got == [(0, 0), (3, 3), (6, 5), (1, 5)]


@pytest.mark.parametrize("max_pairs", [1, 2, 3, 6, 8])
def test_unit_equals_model(max_pairs):
    """Populations of all sizes, some dropped before their update; what is read is still there."""
    dut, rng = PairRing(max_pairs), np.random.default_rng(max_pairs)
    ring = [None] * slots(max_pairs)

    async def bench(ctx):
        past, number = [], 0
        for _ in range(200):
            pairs = int(rng.integers(1, max_pairs + 1))
            base, older = await pulse(ctx, dut, "open", pairs=pairs)
            past = past[max(len(past) - most_older(max_pairs, pairs), 0):]
            assert older == len(past)
            population = list(range(number, number + pairs))
            number += pairs
            for k, pair in enumerate(population):
                ring[(base + k) % len(ring)] = pair
            assert [ring[(base + k) % len(ring)] for k in range(-older, pairs)] == past + population
            what = rng.choice(["updated", "updated", "updated", "restart", "nothing"])
            if what == "updated":
                assert await pulse(ctx, dut, "updated", made=pairs) == (base, older)
                past = past + population
            elif what == "restart":
                assert (await pulse(ctx, dut, "restart"))[1] == 0
                past = []

    simulate(dut, bench, deadline=1000)


def test_widths():
    assert [(len(dut.base), len(dut.older)) for dut in map(PairRing, (1, 4, 5))] == [
        (1, 1), (2, 2), (3, 3)]

# amaranth: UnusedElaboratable=no
"""Scale and best pair of a population: hardware against the model."""
import numpy as np
import pytest

from firmware_models.rules import es as model
from rtl.shaping import DELTA_WIDTH, Shaping

from .pysim import pauses, simulate

LIMIT = 2 ** (DELTA_WIDTH - 1)


def populations(max_pairs):
    """Every number of pairs; random, equal and extreme differences, both sides of powers of two."""
    rng = np.random.default_rng(max_pairs)
    for pairs in sorted({1, 2, 3, 5, 8, 9, max_pairs - 1, max_pairs} & set(range(max_pairs + 1))):
        if pairs:
            yield rng.integers(-LIMIT, LIMIT, pairs)
            yield rng.integers(-3, 4, pairs)
            yield np.zeros(pairs, int)
            yield np.full(pairs, -LIMIT)
            yield rng.choice([-LIMIT, LIMIT - 1], pairs)
            for power in (1, 2, 64, 2 ** 15):
                yield np.append(np.zeros(pairs - 1, int), -power)
                yield rng.choice([-1, 1], pairs) * power
                yield np.append(rng.choice([-1, 1], pairs - 1) * power, power - 1)


@pytest.mark.parametrize("gaps", ["none", "some"])
@pytest.mark.parametrize("max_pairs", [1, 2, 5, 16, 64])
def test_unit_equals_model(max_pairs, gaps):
    dut, pause = Shaping(max_pairs), pauses(gaps)
    rows = list(populations(max_pairs))
    got = []

    async def bench(ctx):
        for row in rows:
            ctx.set(dut.pairs, len(row))
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for pair, delta in enumerate(row):
                while gaps != "none" and next(pause):
                    ctx.set(dut.delta, 12345)
                    await ctx.tick()
                ctx.set(dut.en, 1)
                ctx.set(dut.pair, pair)
                ctx.set(dut.delta, int(delta))
                await ctx.tick()
                ctx.set(dut.en, 0)
            best = ctx.get(dut.best)            # 1 cycle late, the shift 2
            await ctx.tick()
            got.append((ctx.get(dut.shift), best))

    simulate(dut, bench, deadline=len(rows) * 4 * (max_pairs + 4))
    expected = [(model.scale(row, "zscore"), int(np.abs(row).argmax())) for row in rows]
    assert got == expected


@pytest.mark.parametrize("max_pairs", [1, 3, 4, 64])
def test_scaled_differences_are_bounded(max_pairs):
    """The width of the fitness register: below 2**(ceil(log2(P)) + 1) in magnitude."""
    for row in populations(max_pairs):
        bound = 2 << (len(row) - 1).bit_length()
        assert (np.abs(row) < bound << model.scale(row, "zscore")).all()


def test_widths():
    dut = Shaping(16)
    assert (len(dut.shift), len(dut.best), len(dut.delta), len(dut.pairs)) == (5, 4, 24, 5)

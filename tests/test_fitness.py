# amaranth: UnusedElaboratable=no
"""Fitness and coefficients: by hand, and hardware against the model."""
import numpy as np
import pytest

from firmware_models.rules import es as model
from rtl.fitness import FitnessUnit

from .pysim import simulate


@pytest.mark.parametrize("deltas, kind, expected", [
    ([3, -2, 0], "sign", [1, -1, 0]),
    ([3, -2, 0], "rank", [2, -2, 0]),
    ([7], "rank", [0]),
    ([5, 5, 5], "rank", [0, 0, 0]),
    ([5, 5, 1, 9], "rank", [0, 0, -3, 3]),
    ([1, 1, 2, 2], "rank", [-2, -2, 2, 2]),
    ([0, 0], "sign", [0, 0]),
])
def test_fitness_by_hand(deltas, kind, expected):
    np.testing.assert_array_equal(model.fitness(deltas, kind), expected)


def test_unknown_fitness():
    with pytest.raises(ValueError, match="fitness must be one of .*, not 'best'"):
        model.fitness([1], "best")


@pytest.mark.parametrize("fitness, lr_shift, expected", [
    (1, 7, 1), (-1, 7, -1), (3, 7, 3), (1, 6, 2), (1, 1, 64),
    (1, 0, 127), (-1, 0, -127), (15, 3, 127), (-15, 3, -127), (-7, 3, -112),
    (1, 8, 1), (-1, 8, 0), (3, 8, 2), (-3, 8, -1),              # halves go up
    (1, 9, 0), (2, 9, 1), (15, 15, 0), (0, 0, 0),
])
def test_coefficient_by_hand(fitness, lr_shift, expected):
    assert model.coefficient(fitness, lr_shift) == expected


def run_unit(dut, deltas, kind, lr_shift):
    """Coefficients in the order of writing, and the cycles from start to done."""
    written, cycles = [], []

    async def bench(ctx):
        ctx.set(dut.pairs, len(deltas))
        ctx.set(dut.kind, model.FITNESSES.index(kind))
        ctx.set(dut.lr_shift, lr_shift)
        for _ in range(2):                              # twice: nothing is left behind
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            done = 0
            for cycle in range(2 * dut.cycles(len(deltas), kind) + 4):
                ctx.set(dut.delta, int(deltas[min(ctx.get(dut.r_pair), len(deltas) - 1)]))
                if ctx.get(dut.w_en):
                    written.append((ctx.get(dut.w_pair), ctx.get(dut.coefficient)))
                if ctx.get(dut.done):
                    done += 1
                    cycles.append(cycle + 1)
                await ctx.tick()
            assert done == 1

    simulate(dut, bench, deadline=5000)
    return written, cycles


@pytest.mark.parametrize("kind", model.FITNESSES)
@pytest.mark.parametrize("max_pairs, pairs", [(1, 1), (2, 2), (5, 3), (16, 1), (16, 16)])
def test_unit_equals_model(max_pairs, pairs, kind):
    rng = np.random.default_rng(pairs)
    dut = FitnessUnit(max_pairs)
    limit = 2 ** 23 - 1
    rows = [rng.integers(-3, 4, pairs), np.zeros(pairs, int), np.arange(pairs) - 1,
            rng.choice([-limit - 1, -limit, 0, limit], pairs)]
    for row, lr_shift in zip(rows * 4, range(16), strict=True):
        expected = model.coefficient(model.fitness(row, kind), lr_shift)
        written, cycles = run_unit(dut, row, kind, lr_shift)
        assert written == 2 * list(enumerate(expected)), f"{row} >> {lr_shift}"
        assert cycles == 2 * [dut.cycles(pairs, kind)]


def test_cycles():
    assert [FitnessUnit.cycles(p, "sign") for p in (1, 4, 16)] == [3, 12, 48]
    assert [FitnessUnit.cycles(p, "rank") for p in (1, 4, 16)] == [3, 24, 288]


def test_widths():
    dut = FitnessUnit(16)
    assert (len(dut.delta), len(dut.coefficient), len(dut.w_pair), len(dut.pairs)) == (24, 8, 4, 5)

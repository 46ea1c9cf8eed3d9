# amaranth: UnusedElaboratable=no
"""Fitness and coefficients: by hand, and hardware against the model."""
from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Module, Signal

from firmware_models.cycles import fitness_cycles
from firmware_models.rounding import ROUNDINGS
from firmware_models.rules import es as model
from firmware_models.settings import Settings
from rtl.fitness import FitnessUnit, rate

from .pysim import simulate


@pytest.mark.parametrize("deltas, kind, expected", [
    ([3, -2, 0], "sign", [1, -1, 0]),
    ([3, -2, 0], "rank", [2, -2, 0]),
    ([7], "rank", [0]),
    ([5, 5, 5], "rank", [0, 0, 0]),
    ([5, 5, 1, 9], "rank", [0, 0, -3, 3]),
    ([1, 1, 2, 2], "rank", [-2, -2, 2, 2]),
    ([0, 0], "sign", [0, 0]),
    ([3, -7, 0], "best", [0, -1, 0]),
    ([-4, 4, 3], "best", [-1, 0, 0]),                   # the first of equals
    ([1, 4, -4], "best", [0, 1, 0]),
    ([0, 0], "best", [0, 0]),
    ([-5], "best", [-1]),
])
def test_fitness_by_hand(deltas, kind, expected):
    np.testing.assert_array_equal(model.fitness(deltas, kind), expected)


def test_unknown_fitness():
    with pytest.raises(ValueError, match="fitness must be one of .*, not 'mean'"):
        model.fitness([1], "mean")


@pytest.mark.parametrize("deltas, s", [
    ([0], 0), ([1], 0), ([-1], 0), ([2], 1), ([-3], 1), ([4], 2), ([-8388608], 23),
    ([0, 0, 0], 0), ([1, 1], 0), ([2, -2], 1), ([1, -2], 0),    # 3 >> 1
    ([4, 4, 4], 1),                                     # 12 >> 2: three pairs count as four
    ([5, 5, 5], 1), ([6, 5, -5], 2), ([1, 0, 0, 0, 0], 0), ([64] * 16, 6), ([63] * 16, 5),
])
def test_scale_by_hand(deltas, s):
    assert model.scale(deltas, "zscore") == s
    assert model.scale(deltas, "sign") == model.scale(deltas, "best") == 0


@pytest.mark.parametrize("deltas, lr_shift, expected", [
    ([6, -6], 7, [2, -1]),                              # s = 2: 1.5 and -1.5, halves go up
    ([6, -6], 8, [1, -1]), ([6, -2], 7, [2, 0]),        # s = 2 both times: 6 + 2 >> 1 is 4
    ([5, 1], 9, [1, 0]),                                # s = 1: 0.625 and 0.125, rounded once
    ([1000, -1000], 0, [127, -127]), ([1000, 1], 6, [8, 0]), ([0, 0], 0, [0, 0]),
])
def test_coefficients_by_hand(deltas, lr_shift, expected):
    np.testing.assert_array_equal(model.coefficients(deltas, "zscore", lr_shift), expected)

@pytest.mark.parametrize("fitness, lr_shift, expected", [
    (1, 7, 1), (-1, 7, -1), (3, 7, 3), (1, 6, 2), (1, 1, 64),
    (1, 0, 127), (-1, 0, -127), (15, 3, 127), (-15, 3, -127), (-7, 3, -112),
    (1, 8, 1), (-1, 8, 0), (3, 8, 2), (-3, 8, -1),              # halves go up
    (1, 9, 0), (2, 9, 1), (15, 15, 0), (0, 0, 0),
])
def test_coefficient_by_hand(fitness, lr_shift, expected):
    assert model.coefficient(fitness, lr_shift) == expected


def test_coefficients_of_the_other_kinds():
    for kind, expected in (("sign", [2, -2, 2]), ("rank", [0, -4, 4]), ("best", [0, 0, 2])):
        np.testing.assert_array_equal(model.coefficients([3, -8, 9], kind, 6), expected)


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
    dut = FitnessUnit(max_pairs, options=("rank", "shaping"))
    limit = 2 ** 23 - 1
    rows = [rng.integers(-3, 4, pairs), np.zeros(pairs, int), np.arange(pairs) - 1,
            rng.choice([-limit - 1, -limit, 0, limit], pairs),
            rng.integers(-1000, 1000, pairs), np.full(pairs, -limit - 1),
            np.append(np.zeros(pairs - 1, int), limit), np.full(pairs, 2 ** (pairs % 7))]
    for row, lr_shift in zip(rows * 2, range(16), strict=True):
        expected = model.coefficients(row, kind, lr_shift)
        written, cycles = run_unit(dut, row, kind, lr_shift)
        assert written == 2 * list(enumerate(expected)), f"{row} >> {lr_shift}"
        assert cycles == 2 * [dut.cycles(pairs, kind)]


def test_cycles():
    assert [FitnessUnit.cycles(p, "sign") for p in (1, 4, 16)] == [3, 12, 48]
    assert [FitnessUnit.cycles(p, "rank") for p in (1, 4, 16)] == [3, 24, 288]
    for kind in ("zscore", "best"):
        assert [FitnessUnit.cycles(p, kind) for p in (1, 4, 16)] == [4, 16, 64]
    for kind in model.FITNESSES:
        settings = Settings(rule="es", pairs=5, fitness=kind)
        assert FitnessUnit.cycles(5, kind) == fitness_cycles(settings)


@pytest.mark.parametrize("options, kinds", [
    ((), {"sign"}), (("rank",), {"sign", "rank"}), (("shaping",), {"sign", "zscore", "best"})])
def test_a_kind_left_out_counts_as_sign(options, kinds):
    deltas = [300, -5, 0, 70]
    for kind in model.FITNESSES:
        written, _ = run_unit(FitnessUnit(4, options=options), deltas, kind, 5)
        known = kind if kind in kinds else "sign"
        assert written == 2 * list(enumerate(model.coefficients(deltas, known, 5)))


def test_rate_equals_model():
    m, out = Module(), Signal(4)
    settings = lr_shift, decays, rounding = Signal(4), Signal(4), Signal(3)
    m.d.comb += out.eq(rate(m, *settings))
    m.d.sync += Signal(name="clocked").eq(1)

    async def bench(ctx):
        for values in product(range(16), range(16), range(len(ROUNDINGS))):
            for to, value in zip(settings, values, strict=True):
                ctx.set(to, value)
            assert ctx.get(out) == model.rate(*values[:2], ROUNDINGS[values[2]])

    simulate(m, bench, deadline=2)


def test_widths():
    dut = FitnessUnit(16)
    assert (len(dut.delta), len(dut.coefficient), len(dut.w_pair), len(dut.pairs)) == (24, 8, 4, 5)

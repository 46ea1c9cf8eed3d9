# amaranth: UnusedElaboratable=no
"""The fused sweep: steps, means and the guard by hand; hardware against the model."""
import itertools

import numpy as np
import pytest

from firmware_models import fused_update as model
from firmware_models.formats import Fixed
from rtl.fused_update import FusedUpdate

from .fused_pass import Plan
from .networks import small_network
from .pysim import simulate


def step(residual, width=8, signed=False, centred=False, bits=1) -> model.Step:
    return model.Step(Fixed(width, 4, signed), centred, residual, bits)


@pytest.mark.parametrize("of, largest, shift, width", [
    (step(4), 4, 6, 4), (step(0), 1, 8, 2), (step(2), 1, 8, 2), (step(3), 2, 7, 3),
    (step(8), 64, 2, 8), (step(8, width=6), 64, 0, 8)])
def test_step_sizes_by_hand(of, largest, shift, width):
    """Full scale moves a weight by a quarter of its step, but by one master step at least."""
    assert (of.largest, of.shift, of.width) == (largest, shift, width)


@pytest.mark.parametrize("of, x, mean, expected", [
    (step(4), [0, 31, 32, 95, 96, 223, 224, 255], 0, [0, 0, 1, 1, 2, 3, 4, 4]),
    (step(0), [0, 127, 128, 255], 0, [0, 0, 1, 1]),
    (step(8, width=6), [0, 1, 63], 0, [0, 1, 63]),
    (step(4, signed=True), [-128, -97, -96, -33, -32, -31, 0, 127], 0,
     [-2, -2, -1, -1, 0, 0, 0, 2]),
    # Stages behind take no mean away.
    (step(4), [255], 255 << 6, [4]),
    # 128 in the mean, whose fraction is dropped: half rounds up.
    (step(4, centred=True), [0, 31, 32, 95, 96, 159, 160, 255], (128 << 6) + 63,
     [-2, -2, -1, -1, 0, 0, 1, 2]),
    (step(4, signed=True, centred=True), [-128, 127], -(128 << 6), [0, 4]),
])
def test_steps_by_hand(of, x, mean, expected):
    assert of.steps(of.centre(x, np.full(len(x), mean))).tolist() == expected


def test_steps_of_four_bits_by_hand():
    """Coefficients count in quarters: 4 of them are a step of one bit, 15 nearly four."""
    of = step(4, bits=4)
    assert of.steps(np.array([0, 31, 32, 127, 255]), 4).tolist() == [0, 0, 1, 2, 4]
    assert of.steps(np.array([255, -255, 8, 9]), 15).tolist() == [15, -15, 0, 1]
    assert of.steps(127, np.array([0, 1, 2, 15])).tolist() == [0, 0, 1, 7]
    # A bias moves as with an input of full scale.
    assert of.steps(256, np.array([0, 1, 4, 15])).tolist() == [0, 1, 4, 15]
    assert step(0, bits=4).steps(256, np.array([1, 2, 15])).tolist() == [0, 1, 4]


def test_mean_by_hand():
    """In 1/64 steps, by a 32nd of the difference, floored."""
    assert model.follow([0, 510, 31, 1, 33, 0], [255, 255, 0, 0, 1, -128]).tolist() == [
        510, 1004, 30, 0, 33, -256]
    mean = np.array([0])
    for _ in range(500):
        mean = model.follow(mean, [255])
    assert 254 << 6 < mean[0] <= 255 << 6 and step(4).mean == Fixed(14, 6, False)


def test_guard_by_hand():
    """Masters of 8 bits: from 120 on nothing moves up, from -121 on nothing down."""
    cases = [  # master, c, u, after, held
        (119, -1, 4, 123, False), (120, -1, 4, 120, True), (127, -1, 1, 127, True),
        (120, 1, 4, 116, False), (127, 0, 4, 127, False), (119, 1, -4, 123, False),
        (120, 1, -4, 120, True), (120, -1, -4, 116, False),
        (-120, 1, 4, -124, False), (-121, 1, 4, -121, True), (-128, 1, 1, -128, True),
        (-121, -1, 4, -117, False), (-121, -1, -4, -121, True), (-121, 1, -4, -117, False),
        (-128, 0, -4, -128, False), (0, 1, 4, -4, False), (0, -1, -4, -4, False),
        # A step of 0 counts as one upwards in u.
        (125, -1, 0, 125, True), (125, 1, 0, 125, False), (-125, 1, 0, -125, True)]
    master, c, u, after, held = zip(*cases, strict=True)
    got = model.apply(master, c, u, 8)
    assert got[0].tolist() == list(after) and got[1].tolist() == list(held)


def leaves(width: int, residual: int, bits: int) -> bool:
    """Whether a step leads a master of any value, in any direction, out of its range."""
    stage = small_network((4, 3), (0,)).stages[0]
    step, most = model.step_of(stage, residual, bits), (1 << bits) - 1
    masters = np.arange(-1 << width + residual - 1, 1 << width + residual - 1)
    out = False
    for c, x in itertools.product((-1, 1), (-1 << stage.source.width, 1 << stage.source.width)):
        after, held = model.apply(masters, c, step.steps(x, most), width + residual)
        out |= after.min() < masters[0] or after.max() > masters[-1]
        assert (after[held] == masters[held]).all()
        # An outer sixteenth is held at one end.
        assert held.sum() == len(masters) >> model.EDGE_BITS
    return out


@pytest.mark.parametrize("residual", range(9))
@pytest.mark.parametrize("bits", [1, 4])
def test_guard_keeps_every_master_in_range(residual, bits):
    """The narrowest weights that are not refused: no result needs a clip; with less it would."""
    def refused(width):
        try:
            model.check(small_network((4, 3), (0,), weight=Fixed(width, 0)).stages[0], residual,
                        bits)
        except ValueError:
            return True
        return False

    width = next(width for width in range(1, 9) if not refused(width))
    assert not leaves(width, residual, bits)
    if width - 1 + residual >= model.EDGE_BITS:
        assert leaves(width - 1, residual, bits)


@pytest.mark.parametrize("options, residual, message", [
    ({"weight": Fixed(4, 2)}, 0, "weight fixed<4,2> is too narrow .* 0 residual .* needs 5 bits"),
    ({"weight": Fixed(2, 2)}, 8, "weight .* needs 3 bits"),
    ({"bias": Fixed(4, 2)}, 0, "bias fixed<4,2> is too narrow"),
    ({"source": Fixed(5, 2, False)}, 8, "inputs of 5 bits are too narrow .* needs 6"),
])
def test_refused_formats(options, residual, message):
    stage = small_network((4, 3), (0,), **options).stages[0]
    with pytest.raises(ValueError, match=message):
        model.check(stage, residual)


def test_refused_with_multipliers():
    """Larger steps need two bits more between the guard and the end of the range."""
    stage = small_network((4, 3), (0,), weight=Fixed(4, 2)).stages[0]
    model.check(stage, 4)
    with pytest.raises(ValueError, match="weight fixed<4,2> is too narrow .* needs 5 bits"):
        model.check(stage, 4, 4)
    # A coefficient of 15 moves a master by 4 steps, however few residual bits there are.
    stage = small_network((4, 3), (0,), weight=Fixed(5, 2)).stages[0]
    model.check(stage, 2, 4)
    with pytest.raises(ValueError, match="weight fixed<5,3> .* 1 residual bits; needs 6 bits"):
        model.check(stage, 1, 4)


CASES = {
    # stage, residual
    "centred": (small_network((6, 4, 3), (0,), reuse={0: 6, 1: 2}).stages[0], 4),
    "several inputs a word": (small_network((12, 6, 3), (0,), reuse={0: 4, 1: 2}).stages[0], 4),
    "one word": (small_network((5, 4, 3), (0,), reuse={0: 1, 1: 1}).stages[0], 2),
    "two words": (small_network((4, 9, 3), (0,), reuse={0: 2, 1: 3}).stages[0], 8),
    "behind a ReLU": (small_network((4, 6, 5, 3), (1,), reuse={1: 3}).stages[1], 3),
    "signed, no residual": (
        small_network((5, 3), (0,), source=Fixed(7, 3)).stages[0], 0),
    "one input, one output": (small_network((1, 1), (0,)).stages[0], 5),
}


@pytest.mark.parametrize("gap, bits", [("none", 1), ("some", 4), ("most", 1), ("none", 4)])
@pytest.mark.parametrize("case", CASES)
def test_unit_equals_model(case, gap, bits):
    """Steps, coefficients and bias coefficients of every pass, with others in between."""
    stage, residual = CASES[case]
    dut, dense = FusedUpdate(stage, residual=residual, bits=bits), stage.dense
    plan = Plan(stage, 16, gap, seed=len(case), restart_after=9, bits=bits)
    wanted = {cycle + 1: (p, a) for p, one in enumerate(plan.passes) if one.c is not None
              for a, cycle in enumerate(one.words)}
    bias_wanted = {cycle + 1: (p, s) for p, one in enumerate(plan.passes) if one.c is not None
                   for s, cycle in enumerate(one.biases)}
    loads = {cycle for cycle, levels in plan.drive.items() if "loaded" in levels}
    learning = [p for p, one in enumerate(plan.passes) if one.c is not None]
    steps = {p: np.zeros((dense.inputs_per_word, dense.reuse_factor), int) for p in learning}
    used, biases = {p: set() for p in learning}, {p: np.zeros(dense.n_out, int) for p in learning}

    def codes(fired, negative, count):
        return tuple((fired >> bits * j & (1 << bits) - 1) * (1 - 2 * (negative >> j & 1))
                     for j in range(count))

    async def bench(ctx):
        left = model.DELAY

        def seen(cycle):
            nonlocal left
            assert (ctx.get(dut.ready), ctx.get(dut.spent)) == (left > 0, left == 0)
            levels = plan.drive.get(cycle, {})
            left += (cycle in loads) - levels.get("accepted", 0)
            left = model.DELAY if levels.get("restart") else left
            if cycle in wanted:
                p, a = wanted[cycle]
                steps[p][:, a] = [ctx.get(u) for u in dut.step]
                assert [ctx.get(u) for u in dut.back] == (-steps[p][:, a]).tolist()
                used[p].add(codes(ctx.get(dut.fired), ctx.get(dut.negative), dense.n_out))
            if cycle in bias_wanted:
                p, s = bias_wanted[cycle]
                biases[p][s::stage.drain_words] = codes(
                    ctx.get(dut.bias_fired), ctx.get(dut.bias_negative), stage.drain_lanes)

        await plan.run(ctx, dut, seen)

    simulate(dut, bench, deadline=plan.cycles + 2)
    # With multipliers the lanes make the steps.
    expected, of = plan.centred(residual), model.step_of(stage, residual, bits)
    for p in learning:
        c = plan.passes[p].c
        u = of.steps(expected[p]) if bits == 1 else expected[p]
        np.testing.assert_array_equal(steps[p].ravel(), u, f"steps of pass {p}")
        assert used[p] == {tuple(c.tolist())}, f"coefficients of pass {p}"
        np.testing.assert_array_equal(biases[p], c, f"bias coefficients of pass {p}")
    assert any(plan.passes[p].c.any() for p in learning)


def test_widths():
    stage, residual = CASES["several inputs a word"]
    dut = FusedUpdate(stage, residual=residual)
    assert (len(dut.x), len(dut.step), len(dut.step[0]), len(dut.fired)) == (24, 3, 4, 6)
    assert (len(dut.bias_fired), len(dut.next_addr), len(dut.w_word), len(dut.w_lane)) \
        == (3, 2, 1, 2)

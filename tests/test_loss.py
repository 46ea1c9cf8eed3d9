# amaranth: UnusedElaboratable=no
"""Integer cross entropy: tables against exact arithmetic, values by hand, hardware and model."""
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_models import loss as model
from firmware_models.formats import Fixed
from rtl.loss import LossUnit
from rtl.shapes import tag_layout

from .pysim import pauses, simulate, wait

WHOLE = Fixed(12, 0)            # logits in bits
SIXTEENTHS = model.LOGIT
MAXIMUM = 2 ** 14 - 1


def test_exponentials_exactly():
    """T[r] = floor(2**(12 - r/16)): the largest integer whose 16th power is <= 2**(192 - r)."""
    for r, entry in enumerate(model.EXP_TABLE):
        assert entry ** 16 <= 2 ** (192 - r) < (entry + 1) ** 16
    for d in range(256):
        entry = int(model.exp2_negative(d))
        assert entry ** 16 <= 2 ** max(192 - d, 0) and (d > 192 or 2 ** (192 - d)
                                                        < (entry + 1) ** 16)


def test_logarithms_exactly():
    """|256 log2(1 + f/256) - T[f]| <= 1/2, as 2**(2T - 1) <= (1 + f/256)**512 <= 2**(2T + 1)."""
    for f, entry in enumerate(model.LOG_TABLE):
        power = (256 + f) ** 512
        assert 2 ** (2 * entry - 1 + 8 * 512 + 1) <= 2 * power <= 2 ** (2 * entry + 1 + 8 * 512 + 1)


def test_ilog2_by_hand():
    powers = np.arange(8, 40)
    np.testing.assert_array_equal(model.ilog2(1 << powers), 256 * powers)
    np.testing.assert_array_equal(model.ilog2((1 << powers) - 1)[1:],       # nearly the next power
                                  256 * powers[1:] - 1)
    assert model.ilog2(3 << 12) == 12 * 256 + 406                           # log2(3) = 1.58496
    assert model.ilog2(10 << 12) == 12 * 256 + 850                          # 3.32193


@pytest.mark.parametrize("logits, label, fmt, expected", [
    ([0], 0, WHOLE, 0),
    ([5, 5], 0, WHOLE, 256),                            # two equal logits: 1 bit
    ([-7, -7], 1, WHOLE, 256),
    ([1, 1, 1], 2, WHOLE, 406),                         # log2(3)
    ([9] * 10, 4, WHOLE, 850),
    ([1, 0], 0, WHOLE, 150),                            # log2(3/2) = 0.585
    ([1, 0], 1, WHOLE, 406),                            # log2(3)
    ([100, 0], 0, WHOLE, 0),
    ([20, 0], 1, WHOLE, 20 * 256),
    ([64, 0], 1, WHOLE, MAXIMUM),                       # 16384 does not fit
    ([63, 0], 1, WHOLE, 63 * 256),
    ([2000, -2000], 1, WHOLE, MAXIMUM),                 # clipped to +-128 first
    ([32, 16], 1, SIXTEENTHS, 406),
    ([33, 32], 0, Fixed(8, 5), 248),                    # 33/32 rounds up to 17/16 ...
    ([32, 31], 0, Fixed(8, 5), 256),                    # ... as 31/32 does to 1
])
def test_cross_entropy_by_hand(logits, label, fmt, expected):
    assert model.cross_entropy(logits, label, fmt) == expected


def test_cross_entropy_over_axes():
    logits = np.array([[[1, 0], [0, 1]], [[5, 5], [20, 0]]])
    np.testing.assert_array_equal(
        model.cross_entropy(logits, [[0, 0], [1, 1]], WHOLE), [[150, 406], [256, 5120]])


def test_head_error_by_hand():
    np.testing.assert_array_equal(model.head_error([5, 5], 0, WHOLE), [-128, 128])
    np.testing.assert_array_equal(model.head_error([100, 0], 0, WHOLE), [0, 0])
    np.testing.assert_array_equal(model.head_error([100, 0], 1, WHOLE), [256, -256])
    np.testing.assert_array_equal(model.head_error([3] * 4, 2, WHOLE), [64, 64, -192, 64])
    # 2/3 and 1/3: the logarithm is rounded to 9/16 and 25/16 bits, 173.3 and 86.7 of 256.
    np.testing.assert_array_equal(model.head_error([1, 0], 1, WHOLE), [173, 86 - 256])


@given(st.lists(st.integers(-2048, 2047), min_size=1, max_size=16), st.data())
def test_head_error_sums_to_nearly_nothing(codes, data):
    """Probabilities add up to 1 but for rounding the logarithm to 1/16 bit, and flooring each."""
    label = data.draw(st.integers(0, len(codes) - 1))
    error = model.head_error(codes, label, SIXTEENTHS)
    assert -6 - len(codes) <= error.sum() <= 6
    assert error[label] <= 0 and (np.delete(error, label) >= 0).all()


def test_running_average_by_hand():
    assert model.running_average(0, 64) == 256
    assert model.running_average(0, 0) == 0
    assert model.running_average(1, 0) == 0                     # floored: -1/64 is -1
    assert model.running_average(64 << 8, 64) == 64 << 8
    average = 0
    for _ in range(3000):
        average = model.running_average(average, MAXIMUM)
    assert MAXIMUM << 8 >= average > (MAXIMUM << 8) - 64        # stops where the step floors to 0


def run_unit(fmt, logits, labels, tags, gap):
    """Send passes through a unit; the losses, and the cycles of commits and results."""
    dut = LossUnit(logits.shape[1], fmt)
    n = dut.n_classes
    losses, commits, results = [], [], []

    async def source(ctx):
        pause = pauses(gap)
        for row, label, (probe, negative) in zip(logits, labels, tags, strict=True):
            while next(pause):
                await ctx.tick()
            while not ctx.get(dut.room):
                await ctx.tick()
            ctx.set(dut.reserve, 1)
            for address, code in enumerate(row):
                if gap == "most":
                    ctx.set(dut.en, 0)
                    await ctx.tick()
                    ctx.set(dut.reserve, 0)
                last = address == n - 1
                ctx.set(dut.en, 1)
                ctx.set(dut.addr, address)
                ctx.set(dut.payload, int(code) & (1 << fmt.width) - 1)
                ctx.set(dut.larger, int(address == 0 or code > row[:address].max()))
                ctx.set(dut.commit, last)
                # The tag counts with the last logit only.
                ctx.set(dut.tag.label, int(label) if last else 255 - int(label))
                ctx.set(dut.tag.probe, probe if last else not probe)
                ctx.set(dut.tag.negative, negative if last else not negative)
                await ctx.tick()
                ctx.set(dut.reserve, 0)
            ctx.set(dut.en, 0)
            ctx.set(dut.commit, 0)
        await wait(ctx, 6 * n + 30)

    async def monitor(ctx):
        cycle = 0
        while True:
            _, _, commit, valid, *result = await ctx.tick().sample(
                dut.commit, dut.o_valid, dut.o_loss, dut.o_tag.probe, dut.o_tag.negative)
            if commit:
                commits.append(cycle)
            if valid:
                losses.append(tuple(result))
                results.append(cycle)
            cycle += 1

    simulate(dut, source, monitor, deadline=len(logits) * (8 * n + 40) + 200)
    return dut, losses, commits, results


def unusual(fmt, n, count, seed=1):
    """Rows of logits: random, equal, far apart, and next to each other."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(fmt.min, fmt.max + 1, (count, n))
    rows[1] = rows[1, 0]
    rows[2], rows[2, 0] = fmt.min, fmt.max
    rows[3], rows[3, -1] = fmt.min, fmt.max
    near = min(40, fmt.max)
    rows[4:count // 2] = rng.integers(0, near + 1, (count // 2 - 4, n))
    return rows, rng.integers(0, n, count), rng.integers(0, 2, (count, 2)).tolist()


@pytest.mark.parametrize("gap", ["none", "some", "most"])
@pytest.mark.parametrize("n, fmt", [
    (1, Fixed(8, 4)), (2, Fixed(16, 8, True, "RND", "SAT")), (3, Fixed(10, 2)),
    (10, Fixed(20, 9)), (10, Fixed(6, 3, False)), (17, Fixed(12, 4)),
])
def test_unit_equals_model(n, fmt, gap):
    logits, labels, tags = unusual(fmt, n, 24)
    dut, losses, commits, results = run_unit(fmt, logits, labels, tags, gap)
    expected = model.cross_entropy(logits, labels, fmt)
    assert losses == [(int(value), *tag) for value, tag in zip(expected, tags, strict=True)]
    assert results[0] - commits[0] == dut.latency_cycles == n + 5
    if gap == "none" and n > 1:
        # Logits without a pause: a loss every n cycles.
        assert np.diff(results).tolist() == [n] * (len(logits) - 1)


@pytest.mark.parametrize("pace", ["none", "some", "most"])
@pytest.mark.parametrize("n, fmt, head", [
    (1, Fixed(8, 4), 0), (2, Fixed(16, 8, True, "RND", "SAT"), 1), (3, Fixed(10, 2), 0),
    (10, Fixed(20, 9), 2), (17, Fixed(6, 3, False), 1)])
def test_errors_equal_model(n, fmt, head, pace):
    """Base passes, probes and passes that nothing learns from, interleaved; errors where asked for.

    A pass of a learning sample waits for `go`; the errors of the head wait for `error_go`, and the
    pass behind for them.
    """
    tag = tag_layout(train=head + 1, nodes=2)
    dut, count = LossUnit(n, fmt, tag, head), 24
    logits, labels, _ = unusual(fmt, n, count)
    draw = random.Random(n)
    tags = []
    for _ in range(count):
        train = draw.choice([0, draw.randrange(1 << head + 1), (1 << head + 1) - 1])
        tags.append({"train": train, "probe": int(train and draw.random() < 0.5),
                     "layer": draw.randrange(2), "more": draw.randrange(2)})
    events, begun = [], []

    async def source(ctx):
        for row, label, of in zip(logits, labels, tags, strict=True):
            while not ctx.get(dut.room):
                await ctx.tick()
            ctx.set(dut.reserve, 1)
            for address, code in enumerate(row):
                ctx.set(dut.en, 1)
                ctx.set(dut.addr, address)
                ctx.set(dut.payload, int(code) & (1 << fmt.width) - 1)
                ctx.set(dut.larger, int(address == 0 or code > row[:address].max()))
                ctx.set(dut.commit, address == n - 1)
                ctx.set(dut.tag.label, int(label))
                for name, value in of.items():
                    ctx.set(getattr(dut.tag, name), value)
                await ctx.tick()
                ctx.set(dut.reserve, 0)
            ctx.set(dut.en, 0)
            ctx.set(dut.commit, 0)
        await wait(ctx, 30 * (3 * n + 20))

    async def errors(ctx):
        """The node errors' side: a learning pass at a time, each until its errors are there."""
        pause, free, asked, due = pauses(pace), True, False, 0
        while True:
            # The next pass may be asked for before the errors are: it comes behind them.
            go, ask = (free or asked) and not next(pause), asked and not next(pause)
            ctx.set(dut.go, go)
            ctx.set(dut.error_go, ask)
            asked = asked and not ask
            due = n if ask else due
            _, _, started, valid, loss, value, error, *of = await ctx.tick().sample(
                dut.begun, dut.o_valid, dut.o_loss, dut.error_valid, dut.error,
                *(getattr(dut.o_tag, name) for name in ("train", "probe", "layer", "more")))
            assert go and free or not started
            free = free and not started
            if valid:
                events.append(("loss", loss, *of))
                if of[0]:
                    begun.append(of[0])
                    asked = bool(of[0] >> head & 1 and not of[1])
                    free = not asked
            if value:
                assert due
                events.append(("error", error))
                due -= 1
                free = free or due == 0

    simulate(dut, source, errors, deadline=count * (30 * n + 100) + 30 * (3 * n + 20))
    expected = []
    for row, label, of in zip(logits, labels, tags, strict=True):
        expected.append(("loss", int(model.cross_entropy(row, label, fmt)), *of.values()))
        if of["train"] >> head & 1 and not of["probe"]:
            expected += [("error", int(e)) for e in model.head_error(row, label, fmt)]
    # Losses that nothing waits for may overtake the errors, never each other.
    assert [e for e in events if e[0] == "loss"] == [e for e in expected if e[0] == "loss"]
    assert [e for e in events if e[0] == "error"] == [e for e in expected if e[0] == "error"]
    assert any(kind == "error" for kind, *_ in events)


def test_widths():
    dut = LossUnit(10, Fixed(20, 9))
    assert (len(dut.o_loss), len(dut.payload), len(dut.addr)) == (14, 20, 4)

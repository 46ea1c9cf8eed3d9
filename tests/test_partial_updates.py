# amaranth: UnusedElaboratable=no
"""Dynamic partial updates: k and the selection by hand and by definition, the unit, the learner."""
from fractions import Fraction
from math import floor

import numpy as np
import pytest

from firmware_models import partial_updates as model
from firmware_models.formats import Fixed
from firmware_models.learner import Learner
from firmware_models.loss import head_error
from firmware_models.settings import Settings
from rtl.partial_updates import PartialUpdates

from .networks import samples, small_network
from .pysim import pauses, simulate, wait


@pytest.mark.parametrize("e, emax, lmin, lmax, n, k", [
    (100, 100, 26, 256, 10, 10),        # the largest error so far: lmax of the nodes
    (0, 100, 26, 256, 10, 1),           # 26 / 256 of 10 nodes is 1.02
    (0, 100, 25, 256, 10, 1),           # 0.98: one is always updated
    (0, 100, 0, 0, 10, 1),
    (50, 100, 0, 256, 10, 5), (49, 100, 0, 256, 10, 4),
    (50, 100, 128, 256, 10, 7),         # 0.75 of 10
    (99, 100, 0, 256, 10, 9), (100, 100, 0, 128, 10, 5),
    (7, 100, 256, 256, 10, 10),         # no selection
    (0, 0, 26, 256, 10, 10),            # no error yet: nothing to select
    (1, 3, 0, 256, 3, 1), (2, 3, 0, 256, 3, 2), (1, 1, 0, 256, 1, 1),
    (512, 512, 1, 256, 255, 255), (0, 512, 128, 256, 255, 127),
])
def test_k_by_hand(e, emax, lmin, lmax, n, k):
    assert model.k_of(e, emax, lmin, lmax, n) == k


def test_k_is_the_papers():
    """max(floor((lmin + e / emax * (lmax - lmin)) * N), 1), in fractions; of means as of sums."""
    rng = np.random.default_rng(1)
    for _ in range(2000):
        n, emax = int(rng.integers(1, 40)), int(rng.integers(1, 600))
        lmax = int(rng.integers(0, 257))
        e, lmin = int(rng.integers(0, emax + 1)), int(rng.integers(0, lmax + 1))
        share = Fraction(lmin, 256) + Fraction(e, emax) * Fraction(lmax - lmin, 256)
        assert model.k_of(e, emax, lmin, lmax, n) == max(floor(share * n), 1)
        assert model.k_of(3 * e, 3 * emax, lmin, lmax, n) == max(floor(share * n), 1)


@pytest.mark.parametrize("magnitudes, k, chosen", [
    ([5, 200, 7, 256], 1, [0, 0, 0, 1]), ([5, 200, 7, 256], 2, [0, 1, 0, 1]),
    ([5, 200, 7, 256], 4, [1, 1, 1, 1]),
    ([3, 9, 3, 9, 3], 1, [0, 1, 0, 0, 0]),              # of equal ones the first
    ([3, 9, 3, 9, 3], 3, [1, 1, 0, 1, 0]), ([3, 9, 3, 9, 3], 4, [1, 1, 1, 1, 0]),
    ([0, 0, 0], 2, [1, 1, 0]), ([8, 7, 8, 7], 3, [1, 1, 1, 0]), ([1], 1, [1]),
])
def test_top_k_by_hand(magnitudes, k, chosen):
    assert model.top_k(magnitudes, k).tolist() == [bool(one) for one in chosen]


def test_top_k_is_a_sort():
    rng = np.random.default_rng(2)
    for _ in range(500):
        n = int(rng.integers(1, 20))
        magnitudes = rng.integers(0, int(rng.choice([3, 20, 257])), n)
        k = int(rng.integers(1, n + 1))
        expected = np.zeros(n, bool)
        expected[np.argsort(-magnitudes, kind="stable")[:k]] = True
        np.testing.assert_array_equal(model.top_k(magnitudes, k), expected)


def test_partial_by_hand():
    """e of 100 after one of 400: a quarter of the four nodes."""
    errors, emax = model.partial([100, -200, 50, 50], 0, 0, 256)
    assert errors.tolist() == [100, -200, 50, 50] and emax == 400
    errors, emax = model.partial([20, -40, 25, 15], emax, 0, 256)
    assert errors.tolist() == [0, -40, 0, 0] and emax == 400
    errors, emax = model.partial([20, -40, 25, 15], emax, 128, 256)         # 0.625 of 4
    assert errors.tolist() == [0, -40, 25, 0] and emax == 400
    errors, emax = model.partial([500, -20, 0, 0], emax, 256, 256)          # off
    assert errors.tolist() == [500, -20, 0, 0] and emax == 400


def test_sums_of_errors_fit():
    """Of the softmax with the most classes, and of those whose exponentials are floored most."""
    fmt = Fixed(16, 8)
    for n in (2, 10, 255):
        for below in range(0, 256):
            logits = np.full(n, -below * 16)
            logits[0] = 0
            for label in (0, n - 1):
                assert np.abs(head_error(logits, label, fmt)).sum() < 550
    assert 550 < 1 << model.ERROR_SUM_WIDTH


# The learner.

def learned(network, **settings):
    """A learner after one sample, and the errors of its head."""
    learner = Learner(network, Settings(layers=network.trainable, probes=0, **settings))
    x, y = samples(network, 1, seed=4)
    logits = learner.step(x[0], int(y[0]))
    return learner, head_error(logits, y[0], network.stages[-1].result)


def test_dropped_errors_do_not_add_up():
    network = small_network((5, 6, 4), (0, 1), seed=8)
    learner, errors = learned(network, lmin=0, lmax=128)
    assert np.count_nonzero(errors) == 4
    kept = np.argsort(-np.abs(errors), kind="stable")[:2]
    expected = np.zeros(4, int)
    expected[kept] = errors[kept]
    assert learner.state.errors[6:].tolist() == expected.tolist()
    assert learner.state.error_max == np.abs(errors).sum()
    # The selection looks at the errors as they are, whatever size they count with.
    both, _ = learned(network, lmin=0, lmax=128, standardize=1)
    assert both.state.errors[6:].tolist() == (256 * np.sign(expected)).tolist()
    # A skipped sample is followed, and changes nothing else.
    skipped, _ = learned(network, lmin=0, skip=16383)
    assert not skipped.state.errors.any()
    assert skipped.state.error_max == learner.state.error_max
    skipped.configure(skipped.settings)
    assert skipped.state.error_max == 0


def test_other_layers_do_not_know_of_it():
    network = small_network((5, 6, 4), (0, 1), seed=8)
    x, y = samples(network, 1, seed=4)
    plain, partial = (Learner(network, Settings(layers=(0,), lmin=share)) for share in (256, 0))
    for learner in (plain, partial):
        learner.step(x[0], int(y[0]))
    assert partial.state.errors.any() and not partial.state.error_max
    assert partial.state.errors.tolist() == plain.state.errors.tolist()


def test_refused_settings():
    for settings in ({"lmin": 257}, {"lmax": -1}, {"lmin": 100, "lmax": 99}, {"standardize": 257}):
        with pytest.raises(ValueError, match="must be 0 to"):
            Settings(**settings)
    hidden = small_network((5, 6, 4), (0,))
    with pytest.raises(ValueError, match="fc2 is not trainable"):
        Learner(hidden, Settings(layers=(0,), lmin=26))


# The unit.

def drawn(n, count, seed=1):
    """Errors of a softmax over n logits [count, n], some of them sure, some all alike."""
    rng = np.random.default_rng(seed)
    fmt = Fixed(12, 4)
    spread = rng.choice([0, 1, 8, 40, 400], (count, 1))
    logits = rng.integers(0, spread + 1, (count, n))
    return head_error(logits, rng.integers(0, n, count), fmt)


@pytest.mark.parametrize("gap", ["none", "some", "most"])
@pytest.mark.parametrize("n, lmin, lmax", [
    (10, 26, 256), (10, 0, 128), (10, 256, 256), (3, 0, 256), (2, 100, 200), (1, 0, 0),
    (17, 1, 255), (7, 511, 0), (7, 200, 300)])
def test_unit_equals_model(n, lmin, lmax, gap):
    """Samples one after the other, the state forgotten after half of them."""
    dut, count = PartialUpdates(n), 12
    errors = drawn(n, count)
    got, begun, sent = [], [], []

    async def source(ctx):
        pause = pauses(gap)
        ctx.set(dut.lmin, lmin)
        ctx.set(dut.lmax, lmax)
        for k, row in enumerate(errors):
            if k == count // 2:
                followed = np.abs(errors[:k]).sum(1).max() if lmin < 256 else 0
                assert ctx.get(dut.largest) == followed
                ctx.set(dut.restart, 1)
                await ctx.tick()
                ctx.set(dut.restart, 0)
                assert ctx.get(dut.largest) == 0
            for error in row:
                while next(pause):
                    await ctx.tick()
                ctx.set(dut.i_valid, 1)
                ctx.set(dut.i_error, int(error))
                await ctx.tick()
                ctx.set(dut.i_valid, 0)
                ctx.set(dut.i_error, 123)
            begun.append(len(got))
            await wait(ctx, dut.latency_cycles)

    async def monitor(ctx):
        cycle = 0
        while True:
            _, _, i_valid, o_valid, error = await ctx.tick().sample(
                dut.i_valid, dut.o_valid, dut.o_error)
            sent.append(cycle) if i_valid else None
            got.append((cycle, error)) if o_valid else None
            cycle += 1

    simulate(dut, source, monitor, deadline=count * (20 * n + 60) + 100)
    expected, emax = [], 0
    for k, row in enumerate(errors):
        emax = 0 if k == count // 2 else emax
        row, emax = model.partial(row, emax, lmin, min(lmax, 256))
        expected += row.tolist()
    np.testing.assert_array_equal([error for _, error in got], expected)
    assert begun == list(range(0, n * count, n))
    # The last error comes out after the latency, all others before it without a pause.
    last = np.array(sent).reshape(count, n)[:, -1:] + dut.latency_cycles
    np.testing.assert_array_equal(np.array([cycle for cycle, _ in got]).reshape(count, n),
                                  last + np.arange(1 - n, 1))


def test_widths():
    dut = PartialUpdates(10)
    assert dut.latency_cycles == 120
    assert (len(dut.o_error), len(dut.lmin), len(dut.largest)) == (10, 9, 10)

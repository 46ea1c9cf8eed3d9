# amaranth: UnusedElaboratable=no
"""Updates by votes: by hand, and hardware against the model."""
import numpy as np
import pytest
from amaranth.sim import Simulator

from firmware_models.rules import es as model
from rtl.vote import Vote


@pytest.mark.parametrize("threshold, residual, expected", [
    (0, 4, [-9, -8, -1, 0, 1, 8, 9]),                   # off: the changes themselves
    (8, 4, [-16, 0, 0, 0, 0, 0, 16]), (7, 0, [-1, -1, 0, 0, 0, 1, 1]),
    (1, 8, [-256, -256, 0, 0, 0, 256, 256]), (16383, 4, [0] * 7),
])
def test_by_hand(threshold, residual, expected):
    changes = [-9, -8, -1, 0, 1, 8, 9]
    np.testing.assert_array_equal(model.voted(changes, threshold, residual), expected)


@pytest.mark.parametrize("width, residual", [(8, 0), (8, 8), (10, 4), (14, 2)])
def test_unit_equals_model(width, residual):
    """All changes next to a threshold, both ends, and random ones."""
    dut = Vote(4, width=width, residual=residual)
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    rng = np.random.default_rng(width)
    rows = []
    for threshold in (0, 1, 2, 3, high - 1, high, 1 << width - 1, 16383, *rng.integers(1, high, 8)):
        near = [s * threshold + d for s in (-1, 1) for d in (-1, 0, 1)]
        values = np.array([*near, low, low + 1, -1, 0, 1, high, *rng.integers(low, high, 8)])
        values = np.clip(values, low, high)
        rows += [(int(threshold), values[k:k + 4].tolist()) for k in range(0, len(values), 4)]
    got = []

    async def bench(ctx):
        for threshold, values in rows:
            ctx.set(dut.threshold, threshold)
            for lane, value in enumerate(values):
                ctx.set(dut.v[lane], value)
            got.append([ctx.get(dut.change[lane]) for lane in range(4)])

    simulator = Simulator(dut)          # without a clock: all within no time
    simulator.add_testbench(bench)
    simulator.run()
    assert got == [model.voted(values, threshold, residual).tolist() for threshold, values in rows]


def test_widths():
    assert [len(Vote(1, width=w, residual=r).change[0]) for w, r in ((8, 4), (8, 8), (14, 0))] == [
        8, 10, 14]
    assert model.VOTE_WIDTH > (64 * 127).bit_length()
    with pytest.raises(ValueError, match="width must be 1 to 14 bits, not 15"):
        Vote(1, width=15, residual=0)

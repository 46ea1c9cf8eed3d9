# amaranth: UnusedElaboratable=no
"""Predictions and logits to the stream, whole and in order."""
import numpy as np
import pytest

from firmware_models.formats import Fixed
from rtl.readout import Readout

from .pysim import pauses, simulate


def expected(rows, modes) -> list:
    """Beats (data, last) of all packets."""
    beats = []
    for row, mode in zip(rows, modes, strict=True):
        packet = [int(np.argmax(row)), *([int(v) & 0xFFFFFFFF for v in row] if mode else [])]
        beats += [(word, k == len(packet) - 1) for k, word in enumerate(packet)]
    return beats


def run_readout(rows, fmt, modes, gap, stall, softmax=None, kept=None):
    """Beats delivered, cycles of the commits and of the beats."""
    kept = [1] * len(rows) if kept is None else kept
    dut = Readout(rows.shape[1], fmt, softmax)
    n = dut.n_classes
    beats, commits, cycles = [], [], []

    async def source(ctx):
        pause = pauses(gap)
        for row, mode, keep in zip(rows, modes, kept, strict=True):
            while keep and not ctx.get(dut.room):
                await ctx.tick()
            ctx.set(dut.reserve, keep)
            for address, code in enumerate(row):
                while next(pause):
                    await ctx.tick()
                    ctx.set(dut.reserve, 0)
                ctx.set(dut.en, 1)
                ctx.set(dut.addr, address)
                ctx.set(dut.payload, int(code) & (1 << fmt.width) - 1)
                ctx.set(dut.commit, address == n - 1)
                ctx.set(dut.kept, keep)
                assert ctx.get(dut.larger) == (address == 0 or code > row[:address].max())
                # The mode of the last logit's cycle counts.
                ctx.set(dut.logits, mode if address == n - 1 else not mode)
                await ctx.tick()
                ctx.set(dut.reserve, 0)
                ctx.set(dut.en, 0)
                ctx.set(dut.commit, 0)
            ctx.set(dut.logits, not mode)
        for _ in range(40 * (n + 2)):
            await ctx.tick()
        assert ctx.get(dut.samples) == sum(kept) and not ctx.get(dut.tvalid)

    async def sink(ctx):
        pause, held, cycle = pauses(stall), None, 0
        while True:
            ready = not next(pause)
            ctx.set(dut.tready, ready)
            _, _, commit, valid, data, last = await ctx.tick().sample(
                dut.commit, dut.tvalid, dut.tdata, dut.tlast)
            # A beat on offer stays on offer, unchanged, until it is taken.
            assert held is None or (valid and (data, last) == held), f"cycle {cycle}: lost {held}"
            held = (data, last) if valid and not ready else None
            if commit:
                commits.append(cycle)
            if valid and ready:
                beats.append((data, bool(last)))
                cycles.append(cycle)
            cycle += 1

    simulate(dut, source, sink, deadline=(len(rows) + 10) * 40 * (n + 2))
    return beats, commits, cycles


@pytest.mark.parametrize("gap, stall", [
    ("none", "none"), ("some", "bursts"), ("none", "most"), (0.3, 0.8)])
@pytest.mark.parametrize("n, fmt", [
    (4, Fixed(10, 4)), (1, Fixed(8, 0)), (10, Fixed(16, 8)), (3, Fixed(5, 0, False)),
    (2, Fixed(32, 8))])
def test_packets(n, fmt, gap, stall):
    rng = np.random.default_rng(n)
    rows = rng.integers(fmt.min, fmt.max + 1, (16, n))
    rows[0] = fmt.min                                   # equal ones: the first wins
    rows[1] = fmt.max
    rows[2, -1] = rows[2].max()
    rows[3], rows[3, n // 2:] = fmt.min, fmt.min + 1
    modes, kept = rng.integers(0, 2, 16), rng.integers(0, 2, 16)
    beats, _, _ = run_readout(rows, fmt, modes.tolist(), gap, stall, kept=kept.tolist())
    assert beats == expected(rows[kept == 1], modes[kept == 1])


def test_latency_and_throughput():
    rows = np.arange(20).reshape(5, 4)
    fmt = Fixed(8, 0)
    beats, commits, cycles = run_readout(rows, fmt, [0] * 5, "none", "none")
    assert beats == expected(rows, [0] * 5)
    assert cycles == [commit + 1 for commit in commits]
    assert commits == [commits[0] + 4 * k for k in range(5)]
    # With its logits, a packet takes a cycle more than its logits took to arrive.
    beats, commits, cycles = run_readout(rows, fmt, [1] * 5, "none", "none")
    assert beats == expected(rows, [1] * 5)
    assert cycles == [commits[0] + 1 + k for k in range(25)]


def test_widths():
    dut = Readout(10, Fixed(16, 8))
    assert (len(dut.tdata), len(dut.payload), len(dut.addr)) == (32, 16, 4)

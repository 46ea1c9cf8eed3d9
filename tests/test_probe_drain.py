# amaranth: UnusedElaboratable=no
"""When a pass is drained again: back to back, waiting for room, keeping the next sums off."""
import pytest

from rtl.probe_drain import ProbeDrain

from .pysim import pauses, simulate

PASSES = (True, True, False, True, False, False, True, True)      # to be probed


def run_drains(cycles, count, read, stall, passes=PASSES):
    """Passes of `read` words through the unit, with the reader and the drain of an engine.

    Returns the drains as (pass, probe or None, first cycle, last cycle), the cycles in which sums
    were replaced, and the (pass, probe) that the words' late flags named.
    """
    dut = ProbeDrain(cycles)
    drains, summed_at, late = [], [], []

    async def bench(ctx):
        pause = pauses(stall)
        ctx.set(dut.count, count)
        number, at, last_read = 0, 0, [0] * 4
        draining, word, current = False, 0, -1
        flags = [None] * 4                              # (pass, probe) of words under way
        quiet, cycle = 0, -1
        while quiet < 6:
            cycle += 1
            own = number < len(passes) and passes[number]
            at_last = number < len(passes) and at == read - 1
            ctx.set(dut.own, own)
            ctx.set(dut.draining, draining)
            ctx.set(dut.word, word)
            room = not next(pause)
            ctx.set(dut.may_start, room)
            ctx.set(dut.summed, last_read[3])
            hold = ctx.get(dut.hold_last)
            ctx.set(dut.last_read, at_last and not hold)
            start, probe, pending = ctx.get(dut.start), ctx.get(dut.probe), ctx.get(dut.pending)
            # LATE: again and k one cycle after the word, draws three.
            if flags[1] is not None:
                late.append((flags[1], ctx.get(dut.k) if ctx.get(dut.again) else None))
            if flags[3] is not None:
                assert ctx.get(dut.draws) == (flags[3][1] is None and count > 0
                                              and passes[flags[3][0]])
            else:
                assert not ctx.get(dut.draws)
            here = None
            if draining:
                if word == 0:
                    drains.append([current, len([d for d in drains if d[0] == current]) - 1
                                   if probe else None, cycle, None])
                drains[-1][3] = cycle
                here = (current, drains[-1][1])
            flags = [flags[0], here, *flags[1:3]]
            # The engine's own registers.
            if last_read[3]:
                summed_at.append(cycle)
                draining, word, current = True, 0, current + 1
            elif word == cycles - 1:
                draining = False
                word = 0 if start else word
            else:
                word += 1
            if start:
                assert pending and room
                draining, word = True, 0
            if at_last and not hold:
                number, at = number + 1, 0
                last_read = [0, 1, *last_read[1:3]]
            else:
                at += number < len(passes) and not at_last
                last_read = [0, 0, *last_read[1:3]]
            await ctx.tick()
            busy = number < len(passes) or draining or pending or any(last_read)
            quiet = 0 if busy else quiet + 1
        assert not ctx.get(dut.pending)

    simulate(dut, bench, deadline=len(passes) * (count + 2) * (cycles + read) * 6 + 70)
    return drains, summed_at, late


@pytest.mark.parametrize("stall", ["none", "most", "bursts"])
@pytest.mark.parametrize("cycles, read, count", [
    (3, 3, 0), (3, 3, 1), (3, 8, 5), (4, 4, 2), (5, 9, 1), (8, 8, 3), (7, 20, 2)])
def test_schedule(cycles, read, count, stall):
    drains, summed, late = run_drains(cycles, count, read, stall)
    probes = [*range(count)]
    assert [(n, k) for n, k, *_ in drains] == [
        (n, k) for n, own in enumerate(PASSES) for k in [None, *(probes if own else [])]]
    # A drain takes its cycles without a pause.
    assert all(last - first == cycles - 1 for _, _, first, last in drains)
    # The sums are those of the pass until all its drains have read them, and not much longer.
    for n, k, first, last in drains:
        assert first == summed[n] + 1 if k is None else first > summed[n]
        assert n + 1 == len(PASSES) or last <= summed[n + 1]
    # Flags beside the words.
    assert late == [((n, k), k) for n, k, first, last in drains for _ in range(first, last + 1)]
    if stall == "none":
        for (n, _, _, last), (m, after, first, _) in zip(drains, drains[1:], strict=False):
            assert n != m or first == last + 1, f"pass {n}: pause before probe {after}"
        ends = {n: last for n, _, _, last in drains}
        for n in range(len(PASSES) - 1):
            if PASSES[n] and count and cycles > 3:
                # Held until exactly then, or the words themselves took longer.
                assert summed[n + 1] == max(ends[n], summed[n] + read)


def test_widths():
    dut = ProbeDrain(5)
    assert (len(dut.count), len(dut.k), len(dut.word)) == (6, 5, 3)

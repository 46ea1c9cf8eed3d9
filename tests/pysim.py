"""Bench helpers for Amaranth's own simulator."""
import random
from itertools import cycle

from amaranth.sim import Simulator

# Idle and stall patterns, repeated for ever: 1 is a cycle of pause.
PATTERNS = {"none": (0,), "some": (0, 0, 1), "most": (1, 1, 1, 0), "bursts": (0,) * 7 + (1,) * 9}


def pauses(pattern):
    """Endless 0s and 1s: of a named pattern, or drawn with the probability `pattern`."""
    if isinstance(pattern, str):
        return cycle(PATTERNS[pattern])
    draw = random.Random(1)
    return (draw.random() < pattern for _ in iter(int, 1))


def simulate(dut, bench, *background, deadline: int) -> None:
    """Run `bench(ctx)` to its end, which must come within `deadline` cycles.

    The `background` benches run beside it for as long as it does.
    """
    async def watch(ctx):
        await wait(ctx, deadline)
        raise AssertionError(f"no end after {deadline} cycles")

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    for process in (*background, watch):
        sim.add_testbench(process, background=True)
    sim.run()


# Amaranth's own tick().repeat() and .until() complain when another bench ends the run meanwhile.

async def wait(ctx, cycles: int) -> None:
    """Let `cycles` cycles pass."""
    for _ in range(cycles):
        await ctx.tick()


async def until(ctx, condition) -> None:
    """Go past the first clock edge at which `condition` holds."""
    while not (await ctx.tick().sample(condition))[2]:
        pass


def fields(word: int, width: int, count: int, signed: bool) -> list[int]:
    """Codes in a packed word, lowest first."""
    codes = [word >> width * k & (1 << width) - 1 for k in range(count)]
    return [c - (1 << width) if signed and c >> width - 1 else c for c in codes]


def packed(codes, width: int) -> int:
    """The word that holds `codes`, lowest first."""
    return sum((int(code) & (1 << width) - 1) << width * k for k, code in enumerate(codes))

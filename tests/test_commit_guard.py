# amaranth: UnusedElaboratable=no
"""Which masters move: every case of a lane, in every lane, against the model of the fused sweep."""
import itertools
import random

import pytest
from amaranth.sim import Simulator

from firmware_models.fused_update import EDGE_BITS, apply
from rtl.commit_guard import CommitGuard

BELOW = 3           # bits of a master below those that the guard sees
CASES = [(top, fired, negative, down)
         for top in range(-1 << EDGE_BITS - 1, 1 << EDGE_BITS - 1)
         for fired, negative, down in itertools.product((0, 1), repeat=3)]


@pytest.mark.parametrize("lanes", [1, 2, 7])
def test_every_case(lanes):
    dut, draw = CommitGuard(lanes), random.Random(lanes)
    sim, got, expected = Simulator(dut), [], []

    async def bench(ctx):
        for _ in range(lanes):
            order = draw.sample(CASES, len(CASES))
            for first in range(0, len(order), lanes):
                word = [order[(first + lane) % len(order)] for lane in range(lanes)]
                for name, column in zip(("fired", "negative", "step_negative"),
                                        list(zip(*word, strict=True))[1:], strict=True):
                    ctx.set(getattr(dut, name), sum(bit << k for k, bit in enumerate(column)))
                for port, (top, *_) in zip(dut.top, word, strict=True):
                    ctx.set(port, top)
                go = ctx.get(dut.go)
                got.extend(go >> lane & 1 for lane in range(lanes))
                for top, fired, negative, down in word:
                    master = (top << BELOW) + draw.randrange(1 << BELOW)
                    _, held = apply(master, fired * (1 - 2 * negative), 1 - 2 * down,
                                    EDGE_BITS + BELOW)
                    expected.append(int(fired and not held))

    sim.add_testbench(bench)
    sim.run()
    assert got == expected and len(got) >= lanes * len(CASES)
    assert 0 < sum(got) < len(got) // 2

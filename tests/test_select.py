# amaranth: UnusedElaboratable=no
"""One word of many: every index of every size."""
import random

import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from rtl.select import Select, select


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9, 16, 17, 33, 70])
@pytest.mark.parametrize("width", [1, 12])
def test_every_index(count, width):
    dut, draw = Select(count, width), random.Random(count)
    sim, got, expected = Simulator(dut), [], []

    async def bench(ctx):
        for _ in range(3):
            words = [draw.getrandbits(width) for _ in range(count)]
            for to, word in zip(dut.words, words, strict=True):
                ctx.set(to, word)
            for index in draw.sample(range(count), count):
                ctx.set(dut.index, index)
                got.append(ctx.get(dut.word))
                expected.append(words[index])
            ctx.set(dut.index, (1 << len(dut.index)) - 1)       # perhaps without a word
            assert ctx.get(dut.word) in words

    sim.add_testbench(bench)
    sim.run()
    assert got == expected and len(got) == 3 * count


def test_one_word_takes_no_module():
    word = Signal(8)
    m = Module()
    assert select(m, "one", [word], Signal(4)) is word
    assert not hasattr(m.submodules, "one")

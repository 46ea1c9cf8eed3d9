# amaranth: UnusedElaboratable=no
"""Snapshots of weights: by hand in the model; copies, their order and their cycles in hardware."""
import numpy as np
import pytest

from firmware_models import snapshot as model
from firmware_models.learner import Learner
from firmware_models.settings import Settings
from firmware_models.weight_memory import to_master
from rtl.shadow_memory import ShadowMemory
from rtl.snapshot import Snapshot
from rtl.weight_memory import WeightMemory

from .networks import samples, small_network
from .pysim import simulate, wait
from .test_weight_memory import CASES, read_masters, sweep

NETWORK = small_network((4, 3, 2), (0, 1))


def test_learner_by_hand():
    learner = Learner(NETWORK, Settings(layers=(0, 1), lr_shift=3, head_shift=2, seed=5))
    with pytest.raises(ValueError, match="no snapshot was taken"):
        learner.restore()
    learner.write_master(0, 77, output=1, input=2)
    learner.snapshot()
    learner.write_master(0, 78, output=1, input=2)
    x, y = samples(NETWORK, 30, seed=2)
    learner.learn(x, y)
    learner.write_master(1, -5, output=0)
    changed = learner.state
    assert changed.errors.any() and changed.updates
    learner.restore(restart=False)
    assert learner.state.weights[0][1, 2] == 77
    assert learner.state.biases[1][0] == to_master(NETWORK.stages[1].dense.bias_codes, 4)[0]
    assert (learner.state.errors == changed.errors).all()
    learner.write_master(0, 79, output=1, input=2)
    learner.restore()                       # it is still there
    assert learner.state.weights[0][1, 2] == 77
    assert not learner.state.errors.any() and learner.state.updates == changed.updates
    # The weights in use are not those kept.
    learner.write_master(0, 80, output=1, input=2)
    learner.restore()
    assert learner.state.weights[0][1, 2] == 77


def test_cycles_by_hand():
    assert model.copy_words(small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3})) == 5
    assert model.copy_words(small_network((4, 6), (0,), {0: 2})) == 6       # six bias words
    assert model.copy_cycles(small_network((784, 8, 4), (0, 1))) == 786


def test_unit():
    """Schedule of copies, with quiet cycles that come late, and every request on the way."""
    dut = Snapshot(NETWORK)
    words = model.copy_words(NETWORK)

    async def copy(ctx, silence):
        """Cycles until `waits` falls: directions and addresses of the copies seen."""
        seen, cycles = [], 0
        ctx.set(dut.quiet, 0)
        await wait(ctx, silence)
        assert not ctx.get(dut.copying)
        ctx.set(dut.quiet, 1)
        while ctx.get(dut.waits):
            if ctx.get(dut.copy_take) or ctx.get(dut.copy_restore):
                assert ctx.get(dut.copying)
                seen.append((ctx.get(dut.copy_restore), ctx.get(dut.addr)))
                ctx.set(dut.quiet, 0)                   # it does not stop halfway
            elif not ctx.get(dut.copying):
                ctx.set(dut.quiet, 1)
            await ctx.tick()
            cycles += 1
        ctx.set(dut.quiet, 0)
        return seen, cycles

    async def ask(ctx, *names):
        for name in names:
            ctx.set(getattr(dut, name), 1)
        await ctx.tick()
        for name in names:
            ctx.set(getattr(dut, name), 0)

    def flags(ctx):
        return tuple(ctx.get(s) for s in (dut.taking, dut.restoring, dut.valid, dut.torn))

    async def bench(ctx):
        take, restore = ([(back, a) for a in range(words)] for back in (0, 1))
        await ask(ctx, "restore")                       # nothing to restore: dropped
        ctx.set(dut.quiet, 1)
        await ctx.tick().repeat(3)
        assert flags(ctx) == (0, 0, 0, 0) and not ctx.get(dut.copying)
        for silence in (0, 1, 5):
            await ask(ctx, "take")
            assert flags(ctx)[0] and ctx.get(dut.waits)
            assert await copy(ctx, silence) == (take, model.copy_cycles(NETWORK))
            assert flags(ctx) == (0, 0, 1, 0)
            await ask(ctx, "restore")
            assert flags(ctx)[1] and ctx.get(dut.waits)
            assert await copy(ctx, silence) == (restore, model.copy_cycles(NETWORK))
            assert flags(ctx) == (0, 0, 1, 0)
        await ask(ctx, "forget")
        assert flags(ctx) == (0, 0, 0, 0)
        await ask(ctx, "take", "restore")
        assert await copy(ctx, 2) == (take + restore, 2 * model.copy_cycles(NETWORK))
        assert flags(ctx) == (0, 0, 1, 0)

    simulate(dut, bench, deadline=1000)


@pytest.mark.parametrize("words", [4, 8, 9])
def test_shadow_memory(words):
    """Copies of a memory of 4 words under a counter that goes on; nothing beyond is touched."""
    dut = ShadowMemory(4, 7, words=words)
    kept = [5, 99, 127, 1]

    async def bench(ctx):
        for what in ("take", "restore", "restore"):
            written = []
            for address in range(words + 1):
                ctx.set(dut.addr, address % words)
                ctx.set(getattr(dut, what), address < words)
                # The word of the address before.
                ctx.set(dut.data, kept[address - 1] if what == "take" and 1 <= address <= 4 else 66)
                await ctx.tick()
                if ctx.get(dut.w_en):
                    written.append((ctx.get(dut.w_addr), ctx.get(dut.w_data)))
            await ctx.tick()
            assert written == ([] if what == "take" else list(enumerate(kept)))

    simulate(dut, bench, deadline=50)


@pytest.mark.parametrize("case", CASES)
def test_weight_memory(case):
    """A sweep between take and restore; shapes of all kinds, under a counter that goes further."""
    stage, residual, first, max_pairs = CASES[case]
    dense, rng = stage.dense, np.random.default_rng(6)
    words = max(dense.reuse_factor, stage.drain_words) + 3
    dut = WeightMemory(stage, residual=residual, first_generator=first, max_pairs=max_pairs,
                       options=("snapshot",), copy_words=words)
    masters = (to_master(dense.weight_codes, residual).tolist(),
               to_master(dense.bias_codes, residual).tolist())

    async def copy(ctx, direction):
        for address in range(words):
            ctx.set(dut.copy_addr, address)
            ctx.set(direction, 1)
            await ctx.tick()
        ctx.set(direction, 0)
        await ctx.tick()

    async def bench(ctx):
        await copy(ctx, dut.copy_take)
        assert await read_masters(ctx, dut) == masters
        await sweep(ctx, dut, rng.integers(1, 2 ** 32, 1), np.array([1]))
        assert await read_masters(ctx, dut) != masters
        await copy(ctx, dut.copy_restore)
        assert await read_masters(ctx, dut) == masters

    simulate(dut, bench, deadline=10_000)


def test_ports():
    with pytest.raises(ValueError, match="3 addresses do not reach all of 4 words"):
        ShadowMemory(4, 7, words=3)
    assert (len(ShadowMemory(4, 7, words=9).addr), len(Snapshot(NETWORK).addr)) == (4, 2)
    assert not hasattr(WeightMemory(NETWORK.stages[0], residual=4), "copy_addr")

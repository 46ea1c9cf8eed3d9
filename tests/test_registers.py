# amaranth: UnusedElaboratable=no
"""The AXI4-Lite registers in Amaranth's simulator."""
import random

import pytest
from amaranth.sim import Simulator

from firmware_models.registers import CONSTANT, build_number, table
from rtl.registers import Registers, member

OKAY, SLVERR = 0, 2
DEADLINE = 20_000                       # cycles
BOTH = (True, ("es", "np"))             # with the registers of both rules
LOAD = (*BOTH, ("load", "snapshot"))
CORES = [(False, ("np",)), (True, ("np",)), (True, ("es",)), BOTH,
         (True, ("es",), ("shaping", "vote", "journal")), LOAD, (True, ("np",), ("drift",))]


def simulate(dut, bench, *background):
    """Run `bench(ctx)` to its end, which must come within `DEADLINE`."""
    async def watch(ctx):
        for _ in range(DEADLINE):
            await ctx.tick()
        raise AssertionError("the bus did not answer")

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    for process in (watch, *background):
        sim.add_testbench(process, background=True)
    sim.run()


async def write(ctx, dut, address, data, strobe=0xF, data_delay=0, stall=0):
    """One write, the data `data_delay` cycles after the address (or before, when negative).

    The answer is taken after `stall` cycles on offer, unchanged. Returns it.
    """
    ctx.set(dut.axil_awaddr, address)
    ctx.set(dut.axil_wdata, data)
    ctx.set(dut.axil_wstrb, strobe)
    ctx.set(dut.axil_awvalid, data_delay >= 0)
    ctx.set(dut.axil_wvalid, data_delay <= 0)
    for _ in range(abs(data_delay)):
        _, _, aw, w = await ctx.tick().sample(dut.axil_awready, dut.axil_wready)
        assert not aw and not w
    ctx.set(dut.axil_awvalid, 1)
    ctx.set(dut.axil_wvalid, 1)
    await ctx.tick().until(dut.axil_awready & dut.axil_wready)
    ctx.set(dut.axil_awvalid, 0)
    ctx.set(dut.axil_wvalid, 0)
    return await answer(ctx, dut.axil_bvalid, dut.axil_bready, (dut.axil_bresp,), stall)


async def read(ctx, dut, address, stall=0):
    """One read, its answer taken after `stall` cycles on offer. Returns (data, response)."""
    ctx.set(dut.axil_araddr, address)
    ctx.set(dut.axil_arvalid, 1)
    await ctx.tick().until(dut.axil_arready)
    ctx.set(dut.axil_arvalid, 0)
    return await answer(ctx, dut.axil_rvalid, dut.axil_rready,
                        (dut.axil_rdata, dut.axil_rresp), stall)


async def answer(ctx, valid, ready, signals, stall):
    if not ctx.get(valid):
        await ctx.tick().until(valid)
    offered = [ctx.get(s) for s in signals]
    for _ in range(stall):
        await ctx.tick()
        assert ctx.get(valid) and [ctx.get(s) for s in signals] == offered
    ctx.set(ready, 1)
    await ctx.tick()
    ctx.set(ready, 0)
    assert not ctx.get(valid)
    return offered[0] if len(offered) == 1 else tuple(offered)


def word(register, values) -> int:
    """A register's word from field values."""
    return sum(values[f.name] << f.lsb for f in register.fields)


@pytest.mark.parametrize("core", CORES)
def test_reset_and_readback(core):
    dut = Registers(*core)

    async def bench(ctx):
        rng = random.Random(1)
        for register in table(*core):
            if register.access == "rw":
                reset = word(register, {f.name: f.reset for f in register.fields})
                assert await read(ctx, dut, register.offset) == (reset, OKAY), register.name
        for register in table(*core):
            if register.access != "rw":
                continue
            values = {f.name: rng.getrandbits(f.width) for f in register.fields}
            # Ones where no field is: they must not be stored.
            junk = 0xFFFFFFFF & ~word(register, {f.name: 2 ** f.width - 1
                                                 for f in register.fields})
            assert await write(ctx, dut, register.offset, word(register, values) | junk) == OKAY
            for f in register.fields:
                assert ctx.get(getattr(dut, member(register, f))) == values[f.name]
            assert await read(ctx, dut, register.offset) == (word(register, values), OKAY)
    simulate(dut, bench)


@pytest.mark.parametrize("core", CORES)
def test_read_only(core):
    dut = Registers(*core[:2], core[2] if len(core) > 2 else (), build=0x89ABCDEF)

    async def bench(ctx):
        if core[0]:
            ctx.set(dut.window_ready, 1)
        for fill in (0, 1):
            for register in table(*core):
                if register.access == "rw" or register.name in CONSTANT:
                    continue
                values = {f.name: (2 ** f.width - 1) * fill for f in register.fields}
                for f in register.fields:
                    ctx.set(getattr(dut, member(register, f)), values[f.name])
                assert await read(ctx, dut, register.offset) == (word(register, values), OKAY)
        for register in table(*core):
            if register.access == "ro":
                assert await write(ctx, dut, register.offset, 0xFFFFFFFF) == SLVERR
        assert await read(ctx, dut, 0) == (0x48574731, OKAY)
        assert await read(ctx, dut, 0x80) == (0x89ABCDEF, OKAY)
    simulate(dut, bench)


def test_build_number():
    """Each part of a core changes it, the way in which its parts are listed does not."""
    core = {"network": "ab", "learning": True, "rules": ("es", "np"), "options": ("load",),
            "residual": 4}
    others = ({"network": "ac"}, {"learning": False}, {"rules": ("np",)}, {"residual": 3},
              {"options": ("load", "snapshot")})
    numbers = [build_number(**core), *(build_number(**core | other) for other in others)]
    assert len(set(numbers)) == len(numbers) and max(numbers) < 1 << 32
    assert build_number(**dict(reversed(core.items()))) == numbers[0]
    assert next(r for r in table(True, build=numbers[1]) if r.name == "build").fields[0].reset \
        == numbers[1]


@pytest.mark.parametrize("core", CORES)
def test_unmapped(core):
    dut = Registers(*core)

    async def bench(ctx):
        known = {r.offset for r in table(*core)}
        for address in range(0, 256, 4):
            if address not in known:
                assert await read(ctx, dut, address) == (0, SLVERR)
                assert await write(ctx, dut, address, 0xFFFFFFFF) == SLVERR
        for register in table(*core):            # nothing moved
            if register.access == "rw":
                reset = word(register, {f.name: f.reset for f in register.fields})
                assert await read(ctx, dut, register.offset) == (reset, OKAY)
    simulate(dut, bench)


def test_byte_strobes():
    dut = Registers(*BOTH)
    rate = next(r for r in table(*BOTH) if r.name == "rate")
    seed = next(r for r in table(*BOTH) if r.name == "seed")

    async def bench(ctx):
        for strobe in range(16):
            mask = sum(0xFF << 8 * b for b in range(4) if strobe >> b & 1)
            await write(ctx, dut, seed.offset, 0x11223344)
            await write(ctx, dut, seed.offset, 0xAABBCCDD, strobe)
            expected = 0x11223344 & ~mask | 0xAABBCCDD & mask
            assert await read(ctx, dut, seed.offset) == (expected, OKAY)
        await write(ctx, dut, rate.offset, 0x1234_0009)
        await write(ctx, dut, rate.offset, 0xFFFF_FFFF, 0b1010)
        assert ctx.get(dut.rate_lr_shift) == 9
        assert ctx.get(dut.rate_lr_decay) == 0xFF34
    simulate(dut, bench)


def test_pulses():
    """One cycle per write, with the value already on the outputs; none without strobes."""
    dut = Registers(*BOTH)
    names = [f"{r.name}_write" for r in table(*BOTH) if r.access == "rw"] + ["status_torn_clear"]
    seen = []

    async def monitor(ctx):
        signals = [getattr(dut, name) for name in names]
        while True:
            _, _, seed, *levels = await ctx.tick().sample(dut.seed, *signals)
            for name, level in zip(names, levels, strict=True):
                if level:
                    seen.append((name, seed))

    async def bench(ctx):
        registers = {r.name: r for r in table(*BOTH)}
        for register in registers.values():
            await write(ctx, dut, register.offset, 5, stall=3)
        await write(ctx, dut, registers["seed"].offset, 7, 0b0100)
        await write(ctx, dut, registers["seed"].offset, 7, 0)
        await write(ctx, dut, registers["status"].offset, 1, 0b1110)
        await write(ctx, dut, registers["status"].offset, 0xFFFFFFFE)
        await ctx.tick().repeat(4)

    simulate(dut, bench, monitor)
    order = [r for r in table(*BOTH) if r.access in ("rw", "w1c")]
    before = [r.name for r in order].index("seed")
    expected = [(f"{r.name}_write" if r.access == "rw" else "status_torn_clear",
                 1 if i < before else 5) for i, r in enumerate(order)]
    assert seen == expected + [("seed_write", 5)]


def test_back_pressure():
    """Answers are held; address and data may come in either order; reads and writes mix."""
    dut = Registers(*BOTH)
    seed = next(r for r in table(*BOTH) if r.name == "seed")

    async def bench(ctx):
        rng = random.Random(2)
        for _ in range(60):
            value = rng.getrandbits(32)
            assert await write(ctx, dut, seed.offset, value, data_delay=rng.randint(-3, 3),
                               stall=rng.randint(0, 4)) == OKAY
            assert await read(ctx, dut, seed.offset, rng.randint(0, 4)) == (value, OKAY)
    simulate(dut, bench)


def test_reads_do_not_wait_for_an_untaken_write_answer():
    dut = Registers(*BOTH)

    async def bench(ctx):
        ctx.set(dut.axil_awaddr, 0x28)
        ctx.set(dut.axil_wdata, 9)
        ctx.set(dut.axil_wstrb, 15)
        ctx.set(dut.axil_awvalid, 1)
        ctx.set(dut.axil_wvalid, 1)
        await ctx.tick().until(dut.axil_awready)
        ctx.set(dut.axil_wdata, 10)                 # a second write must wait for the first answer
        assert await read(ctx, dut, 0x28) == (9, OKAY)
        assert ctx.get(dut.axil_bvalid)
    simulate(dut, bench)


@pytest.mark.parametrize("wait", [0, 1, 7])
def test_window(wait):
    """The request is held until ready; the data of that one cycle is returned."""
    dut = Registers(*BOTH)
    requests = []

    async def memory(ctx):
        while True:
            while not ctx.get(dut.window_request):
                await ctx.tick()
            for _ in range(wait):
                assert ctx.get(dut.window_request) and not ctx.get(dut.axil_rvalid)
                await ctx.tick()
            requests.append(ctx.get(dut.window_request))
            ctx.set(dut.window_data, 0xFFFFFF80 + ctx.get(dut.window_lane))
            ctx.set(dut.window_ready, 1)
            await ctx.tick()
            ctx.set(dut.window_ready, 0)
            ctx.set(dut.window_data, 0xDEAD)

    async def bench(ctx):
        for lane in (3, 4):
            assert await write(ctx, dut, 0x50, lane << 16) == OKAY
            assert await read(ctx, dut, 0x54, stall=2) == (0xFFFFFF80 + lane, OKAY)
            assert not ctx.get(dut.window_request)
            assert await read(ctx, dut, 0x50) == (lane << 16, OKAY)
    simulate(dut, bench, memory)
    assert requests == [1, 1]


@pytest.mark.parametrize("wait", [0, 1, 7])
def test_load(wait):
    """The request and its word are held until ready; parts of a word are refused, not asked for."""
    dut = Registers(*LOAD)
    taken = []

    async def memory(ctx):
        while True:
            while not ctx.get(dut.load_request):
                await ctx.tick()
            for _ in range(wait):
                assert ctx.get(dut.load_request) and not ctx.get(dut.axil_bvalid)
                await ctx.tick()
            taken.append((ctx.get(dut.load_data), ctx.get(dut.window_lane)))
            ctx.set(dut.load_ready, 1)
            await ctx.tick()
            ctx.set(dut.load_ready, 0)
            assert not ctx.get(dut.load_request)

    async def bench(ctx):
        for lane in (3, 4):
            assert await write(ctx, dut, 0x50, lane << 16) == OKAY
            assert await write(ctx, dut, 0x54, 0xFFFFFF00 + lane, stall=2) == OKAY
            for strobe in (0, 0b0111, 0b1000):
                assert await write(ctx, dut, 0x54, 0xDEAD, strobe) == SLVERR
        assert taken == [(0xFFFFFF03, 3), (0xFFFFFF04, 4)]

    async def refuse(ctx):
        ctx.set(dut.load_refused, 1)
        assert await write(ctx, dut, 0x54, 5) == SLVERR
        ctx.set(dut.load_refused, 0)
        assert await read(ctx, dut, 0x50) == (0, OKAY)

    simulate(dut, bench, memory)
    dut = Registers(*LOAD)
    simulate(dut, refuse)


def test_latency():
    dut = Registers(False)
    edges = {}

    async def monitor(ctx):
        signals = [dut.axil_bvalid, dut.axil_rvalid]
        for cycle in range(100):
            _, _, *levels = await ctx.tick().sample(*signals)
            for name, level in zip("br", levels, strict=True):
                if level:
                    edges.setdefault(name, cycle)

    async def bench(ctx):
        await write(ctx, dut, 4, 3)
        ctx.set(dut.axil_araddr, 4)
        await ctx.tick().repeat(17)             # the write took 3: now is cycle 20
        await read(ctx, dut, 4)
    simulate(dut, bench, monitor)
    assert edges == {"b": 2, "r": 22}


def test_ports():
    """Widths that values cannot show, and no learning register in a core without learning."""
    ports = {name: (member.flow.name, member.shape if isinstance(member.shape, int)
                    else member.shape.width)
             for name, member in Registers(False).signature.members.items()}
    assert {n: v for n, v in ports.items() if not n.startswith("axil_")} == {
        "control_logits": ("Out", 1), "control_learn": ("Out", 1), "control_write": ("Out", 1),
        "samples": ("In", 32), "dropped": ("In", 32)}
    assert ports["axil_awaddr"] == ("In", 8) and ports["axil_rdata"] == ("Out", 32)

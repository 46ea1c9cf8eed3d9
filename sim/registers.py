"""cocotb bench: the emitted AXI4-Lite registers under random traffic and random pauses."""
import random

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiResp

from firmware_models.registers import CONSTANT

from .bench import RegisterBus, design, start

OPERATIONS = 200


def port(dut, register: dict, field: dict):
    """The port of a field."""
    name = register["name"]
    return getattr(dut, name if field["name"] == "value" else f"{name}_{field['name']}")


async def window(dut, wait: int) -> None:
    """Answer every window request after up to `wait` cycles: the window's word, plus 1."""
    while True:
        await RisingEdge(dut.clk)
        if dut.window_request.value:
            await ClockCycles(dut.clk, random.randint(1, wait))
            dut.window_data.value = 1 + (int(dut.window_word.value)
                                         | int(dut.window_lane.value) << 16
                                         | int(dut.window_space.value) << 28)
            dut.window_ready.value = 1
            await RisingEdge(dut.clk)
            dut.window_ready.value = 0
            dut.window_data.value = 0xDEAD
            await RisingEdge(dut.clk)


async def load(dut, wait: int, loads: list) -> None:
    """Take every write behind the window after up to `wait` cycles, or refuse it: odd words."""
    dut.load_refused.value = 0
    while True:
        await RisingEdge(dut.clk)
        if dut.load_request.value:
            await ClockCycles(dut.clk, random.randint(1, wait))
            word = int(dut.load_data.value)
            loads.append(word)
            answer = dut.load_refused if word & 1 else dut.load_ready
            answer.value = 1
            await RisingEdge(dut.clk)
            dut.load_ready.value = 0
            while not dut.axil_bvalid.value:
                await RisingEdge(dut.clk)
            dut.load_refused.value = 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(pause=[0.0, 0.3, 0.8])
async def random_traffic(dut, pause):
    """Reads and writes of any address and any run of bytes, against a dict of words."""
    bus = RegisterBus(dut, "axil", pause)
    await start(dut)
    registers = {r["offset"]: r for r in design()["registers"]}
    learning = design()["learning"]
    words, masks = {}, {}
    for offset, register in registers.items():
        masks[offset] = sum((1 << f["width"]) - 1 << f["lsb"] for f in register["fields"])
        words[offset] = 0
        for field in register["fields"]:
            value = field["reset"]
            if register["access"] != "rw" and register["name"] not in CONSTANT:
                value = random.getrandbits(field["width"])
                port(dut, register, field).value = value
            words[offset] |= value << field["lsb"]
    if learning:
        cocotb.start_soon(window(dut, 5))
    loads, expected_loads = [], []
    if any(register["access"] == "port" for register in registers.values()):
        cocotb.start_soon(load(dut, 5, loads))
    for _ in range(OPERATIONS):
        offset = random.choice([*registers, *registers, random.randrange(0, 256, 4)])
        register = registers.get(offset)
        if random.random() < 0.5:
            first = random.randrange(4)
            count = random.randint(1, 4 - first)
            value = random.getrandbits(32)
            data = value.to_bytes(4, "little")[first:first + count]
            answer = await bus.master.write(offset + first, data)
            refused = not register or register["access"] == "ro"
            if register and register["access"] == "port":
                refused = count < 4 or value & 1
                expected_loads += [value] * (count == 4)
            assert answer.resp == (AxiResp.SLVERR if refused else AxiResp.OKAY), hex(offset)
            if register and register["access"] == "rw":
                strobe = sum(0xFF << 8 * k for k in range(first, first + count)) & masks[offset]
                words[offset] = words[offset] & ~strobe | value & strobe
        else:
            expected = words.get(offset, 0)
            if register and register["name"] == "window_data":
                expected = words[offset - 4] + 1 & 0xFFFFFFFF
            got = await bus.read_word(offset)
            assert got == (expected, AxiResp.OKAY if register else AxiResp.SLVERR), hex(offset)
    assert loads == expected_loads
    for offset, register in registers.items():
        if register["access"] == "rw":
            for field in register["fields"]:
                value = int(port(dut, register, field).value)
                assert value == words[offset] >> field["lsb"] & 2 ** field["width"] - 1

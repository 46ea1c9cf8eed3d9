"""Parts of cocotb benches; this module and the benches run inside the simulator."""
import json
import pickle
import random
from collections.abc import Iterator
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp


def design() -> dict:
    """The manifest of the design under test."""
    return json.loads(Path(cocotb.plusargs["manifest"]).read_text())


def data():
    """What the caller of :func:`sim.runner.run_bench` handed over."""
    return pickle.loads(Path(cocotb.plusargs["data"]).read_bytes())


def pauses(probability: float) -> Iterator[bool]:
    """Cycles in which a side of a bus rests, drawn with the seed of the run."""
    generator = random.Random(random.getrandbits(32))
    while True:
        yield generator.random() < probability


async def start(dut) -> None:
    """Run the clock at 100 MHz and reset."""
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 1)


class RegisterBus:
    """Registers by name over an AXI4-Lite port; each channel rests with probability `pause`."""

    def __init__(self, dut, prefix: str, pause: float = 0.0):
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, prefix), dut.clk, dut.rst)
        self.registers = {r["name"]: r for r in design()["registers"]}
        if pause:
            write, read = self.master.write_if, self.master.read_if
            for channel in (write.aw_channel, write.w_channel, write.b_channel,
                            read.ar_channel, read.r_channel):
                channel.set_pause_generator(pauses(pause))

    async def read_word(self, address: int) -> tuple[int, AxiResp]:
        answer = await self.master.read(address, 4)
        return int.from_bytes(answer.data, "little"), answer.resp

    async def read(self, name: str) -> dict[str, int]:
        """All fields of a register."""
        word, response = await self.read_word(self.registers[name]["offset"])
        assert response == AxiResp.OKAY, f"{name}: {response!r}"
        return {f["name"]: word >> f["lsb"] & 2 ** f["width"] - 1
                for f in self.registers[name]["fields"]}

    async def write(self, name: str, **fields: int) -> None:
        """A whole register; fields not named become 0."""
        lsb = {f["name"]: f["lsb"] for f in self.registers[name]["fields"]}
        word = sum(value << lsb[field] for field, value in fields.items())
        answer = await self.master.write(self.registers[name]["offset"],
                                         word.to_bytes(4, "little"))
        assert answer.resp == AxiResp.OKAY, f"{name}: {answer.resp!r}"

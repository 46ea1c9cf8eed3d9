"""cocotb bench: a whole core against its golden model, with random pauses on every bus.

The caller hands over (see :func:`sim.runner.run_bench`) a dict with `network`, and for a core that
learns `settings`; `samples` and `updates` say how many of them a test takes.
"""
import random
from dataclasses import replace

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from firmware_models.dense import forward
from firmware_models.journal import LANES, slots, unpack
from firmware_models.learner import Learner, compare
from firmware_models.momentum import COUNTER_WORD
from firmware_models.network import Network
from firmware_models.registers import ERROR_SPACE, JOURNAL_SPACE, RECORD_SPACE, settings_fields
from firmware_models.sample_packets import LEARN, BeatLayout, pack
from firmware_models.softmax import readout

from .bench import RegisterBus, data, design, pauses, start

LEARNING = design()["learning"]
DEADLINE = {"timeout_time": 20, "timeout_unit": "ms"}       # 2,000,000 cycles: a hang ends here
SILENCE = 500                                               # cycles in which nothing may follow
OVERLAPPING = 6                                             # samples of "np" between comparisons

twins = []                          # of the tests so far, which all use the same core


class Bench:
    """Source, sink and registers of a core; idle and stall are probabilities per cycle."""

    def __init__(self, dut, idle: float, stall: float):
        self.dut, self.design = dut, design()
        self.network = data()["network"]
        self.samples = data().get("samples", 24)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst,
                                      byte_size=32)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst,
                                  byte_size=32)
        self.registers = RegisterBus(dut, "s_axil", max(idle, stall) / 2)
        self.source.set_pause_generator(pauses(idle))
        self.sink.set_pause_generator(pauses(stall))
        self.generator = np.random.default_rng(random.getrandbits(32))
        dut.s_axil_awprot.value = dut.s_axil_arprot.value = 0

    async def start(self):
        await start(self.dut)
        cocotb.start_soon(self.stream_rule())
        return self

    async def stream_rule(self):
        """A word on offer stays on offer, unchanged, until it is taken."""
        dut, held = self.dut, None
        while True:
            await RisingEdge(dut.clk)
            word = (int(dut.m_axis_tdata.value), int(dut.m_axis_tlast.value)) \
                if dut.m_axis_tvalid.value else None
            assert held is None or word == held, f"m_axis withdrew {held} for {word}"
            held = None if dut.m_axis_tready.value else word

    def draw(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Random input codes [count, n_in], an extreme one in four; and labels."""
        fmt, shape = self.network.input, (count, self.network.n_in)
        x = self.generator.integers(fmt.min, fmt.max + 1, shape)
        ends = self.generator.choice([fmt.min, fmt.max], shape)
        return (np.where(self.generator.random(shape) < 0.25, ends, x),
                self.generator.integers(0, self.network.n_classes, count))

    def beats(self, x) -> list[int]:
        """Words of one sample's packet."""
        return pack(x[None], BeatLayout(**self.design["input"]))[0].tolist()

    def send(self, beats, label: int, learn: bool = False):
        self.source.send_nowait(AxiStreamFrame(beats, tuser=int(label) | LEARN * learn))

    async def answers(self, count: int) -> list[list[int]]:
        """The next `count` packets of m_axis; no further one may follow."""
        got = [(await self.sink.recv()).tdata for _ in range(count)]
        await ClockCycles(self.dut.clk, SILENCE)
        assert self.sink.empty(), f"unasked: {self.sink.recv_nowait().tdata}"
        return [[int(word) for word in words] for words in got]

    async def settled(self):
        while (await self.registers.read("busy"))["value"]:
            pass

    async def configure(self, settings):
        """Write the settings to those registers and fields that the core has, the seed last."""
        await self.settled()
        for name, fields in settings_fields(settings, self.registers.registers).items():
            await self.registers.write(name, **fields)
        await self.settled()

    async def window(self, space: int, word: int, lane: int, signed: bool = True) -> int:
        await self.registers.write("window", space=space, word=word, lane=lane)
        value = (await self.registers.read("window_data"))["value"]
        return value - (value >> 31 << 32) if signed else value

    async def state(self, pairs: int) -> dict:
        """All learning state, element by element where the layout puts it."""
        await self.settled()
        got = {name: (await self.registers.read(name))["value"] for name in
               ("samples", "passes", "updates", "saturations", "loss", "loss_average")}
        got |= {"batch_index": 0, "on": 1, "decided": 1} | await self.registers.read("progress")
        seed = "next_seed" if "es" in self.design["rules"] else "seed"
        got["seed"] = (await self.registers.read(seed))["value"]
        got |= {"weights": {}, "biases": {}, "momenta": {}}
        for index in self.network.trainable:
            stage = self.network.parts[index]
            n_in, n_out, words = stage.dense.n_in, stage.dense.n_out, stage.dense.reuse_factor
            # hls4ml's block layout: flat element r + words * m is lane m of word r.
            flat = [await self.window(index, k % words, k // words) for k in range(n_in * n_out)]
            got["weights"][index] = np.array(flat).reshape(n_out, n_in)
            if "momentum" in self.design["options"]:
                flat = [await self.window(index, COUNTER_WORD + k % words, k // words)
                        for k in range(n_in * n_out)]
                got["momenta"][index] = np.array(flat).reshape(n_out, n_in)
            drain = stage.drain_words
            got["biases"][index] = np.array([await self.window(index, words + j % drain, j // drain)
                                             for j in range(n_out)])
        nodes = sum(s.dense.n_out for s in self.network.stages if s.dense.trainable)
        got["errors"] = np.zeros(nodes, np.int64)
        if "np" in self.design["rules"]:
            got["errors"][:] = [await self.window(ERROR_SPACE, node, 0) for node in range(nodes)]
        got["error_max"] = (await self.registers.read("error_max"))["value"] \
            if "topk" in self.design["options"] else 0
        got["seeds"] = np.array([await self.window(JOURNAL_SPACE, i, 0, signed=False)
                                 for i in range(pairs)])
        got["deltas"] = np.array([await self.window(JOURNAL_SPACE, i, 1) for i in range(pairs)])
        size = journal_records(self.design)
        got["written"] = (await self.registers.read("journal"))["value"] if size else 0
        order = slots(got["written"], size or 1).tolist()
        got["records"] = unpack(np.array([[await self.window(RECORD_SPACE, slot, lane)
                                           for lane in range(LANES)] for slot in order]))
        return got


def journal_records(design: dict) -> int:
    """Records that a core's journal keeps; 0 for a core without one."""
    return design["journal_records"] if "journal" in design["options"] else 0


def words(network: Network, logits) -> list[int]:
    """Answer of m_axis to a sample with these logit codes [n_classes]."""
    return [int(np.argmax(logits)),
            *(int(code) & 0xFFFFFFFF for code in readout(network, logits))]


@cocotb.test(**DEADLINE)
@cocotb.parametrize(idle=[0.0, 0.6], stall=[0.0, 0.6])
async def inference(dut, idle, stall):
    """Every answer of a run equals the golden model's; logits are left out where not asked for."""
    bench = await Bench(dut, idle, stall).start()
    for logits in (1, 0):
        await bench.registers.write("control", logits=logits)
        x, y = bench.draw(bench.samples)
        for row, label in zip(x, y, strict=True):
            bench.send(bench.beats(row), label)
        expected = [words(bench.network, codes) for codes in forward(bench.network, x)]
        assert await bench.answers(len(x)) == [e if logits else e[:1] for e in expected]
    assert (await bench.registers.read("samples"))["value"] == 2 * bench.samples
    assert (await bench.registers.read("dropped"))["value"] == 0


@cocotb.test(**DEADLINE)
@cocotb.parametrize(idle=[0.0, 0.5])
async def bad_packets(dut, idle):
    """Short, long and mislabelled packets are dropped whole and counted; the others answered."""
    bench = await Bench(dut, idle, idle).start()
    await bench.registers.write("control", logits=1)
    x, y = bench.draw(bench.samples)
    expected, dropped = [], 0
    for k, (row, label) in enumerate(zip(x, y, strict=True)):
        beats = bench.beats(row)
        kind = ("good", "short", "long", "label", "good", "one", "very long")[k % 7]
        if kind == "short" and len(beats) > 1:
            beats = beats[:-1]
        elif kind == "one" and len(beats) > 1:
            beats = beats[:1]
        elif kind == "long":
            beats = beats + [0]
        elif kind == "very long":
            beats = beats * 3
        elif kind == "label":
            label = bench.network.n_classes + k % 3
        else:
            expected.append(words(bench.network, forward(bench.network, row)))
            dropped -= 1
        dropped += 1
        bench.send(beats, label, learn=LEARNING and k % 2)
    assert await bench.answers(len(expected)) == expected
    assert (await bench.registers.read("samples"))["value"] == len(expected)
    assert (await bench.registers.read("dropped"))["value"] == dropped


@cocotb.test(skip=not LEARNING, **DEADLINE)
@cocotb.parametrize(pause=[0.0, 0.5])
async def learning(dut, pause):
    """All state equals the golden model's after each update, and while a batch is open."""
    bench = await Bench(dut, pause, pause).start()
    settings = data()["settings"]
    await lockstep(bench, await first_learner(bench, settings), data().get("updates", 4))


@cocotb.test(skip=not LEARNING, **DEADLINE)
async def changes(dut):
    """Settings that change between samples; samples without the learn bit in between."""
    bench = await Bench(dut, 0.3, 0.3).start()
    learner = await first_learner(bench, data()["settings"])
    for settings in (replace(data()["settings"], fitness="sign", pairs=1, batch=2, seed=99),
                     replace(data()["settings"], pairs=2, sigma_log2=1, lr_shift=5, lr_decay=1),
                     replace(data()["settings"], layers=data()["settings"].layers[-1:])):
        await lockstep(bench, learner, 1)
        learner.configure(settings)
        await bench.configure(settings)
    await lockstep(bench, learner, 2)


@cocotb.test(skip="load" not in design().get("options", ()), **DEADLINE)
@cocotb.parametrize(pause=[0.0, 0.5])
async def loads(dut, pause):
    """Single masters written right behind the samples, whose learning goes on meanwhile."""
    bench = await Bench(dut, pause, pause).start()
    learner = await first_learner(bench, data()["settings"])
    for _ in range(data().get("updates", 4)):
        await lockstep(bench, learner, 1)
        x, y = bench.draw(2)
        expected = []
        for row, label in zip(x, y, strict=True):
            expected.append(words(bench.network, learner.step(row, int(label))))
            bench.send(bench.beats(row), label, True)
        # The answer of the last one: what it learns from it is still under way.
        got = [[int(word) for word in (await bench.sink.recv()).tdata] for _ in expected]
        assert got == expected
        for index, kinds in learner.masters().items():
            for of in kinds.values():
                at = tuple(int(bench.generator.integers(size)) for size in of.shape)
                value = int(bench.generator.integers(-1 << of.width - 1, 1 << of.width - 1))
                word, lane = (int(array[at]) for array in of.points())
                await bench.registers.write("window", space=index, word=word, lane=lane)
                await bench.registers.write("window_data", value=value & 0xFFFFFFFF)
                learner.write_master(index, value, *at)
        difference = compare(learner.state, await bench.state(len(learner.state.seeds)))
        assert not difference, difference


@cocotb.test(skip="snapshot" not in design().get("options", ()), **DEADLINE)
@cocotb.parametrize(pause=[0.0, 0.5])
async def snapshots(dut, pause):
    """Taken in the middle of a stream, the weights kept are those between two of its samples."""
    bench = await Bench(dut, pause, pause).start()
    learner = await first_learner(bench, data()["settings"])
    met = set()
    for update in range(data().get("updates", 4)):
        await lockstep(bench, learner, 1)
        x, y = bench.draw(8)
        expected, states = [], [learner.state]
        for row, label in zip(x, y, strict=True):
            expected.append(words(bench.network, learner.step(row, int(label))))
            states.append(learner.state)
            bench.send(bench.beats(row), label, True)
        got = [(await bench.sink.recv()).tdata for _ in range(1 + update % 6)]
        await bench.registers.write("snapshot", take=1)
        got += [(await bench.sink.recv()).tdata for _ in range(len(x) - len(got))]
        assert [[int(word) for word in answer] for answer in got] == expected
        await bench.settled()
        state = await bench.state(len(learner.state.seeds))
        assert not compare(learner.state, state)
        await bench.registers.write("snapshot", restore=1)
        await bench.settled()
        state = await bench.state(len(learner.state.seeds))
        between = [replace(learner.state, weights=s.weights, biases=s.biases) for s in states]
        same = [k for k, s in enumerate(between) if not compare(s, state)]
        assert same, "the weights kept are those of no sample"
        met.add(same[0])
        learner.state = between[same[0]]
    assert len(met) > 1


async def first_learner(bench: Bench, settings) -> Learner:
    """The golden twin of a core that is new, or was reset after earlier tests: memories stay.

    Weights are read back. Inputs and running means cannot be: the last twin knows them.
    """
    await bench.configure(settings)
    await bench.registers.write("control", logits=1, learn=1)
    learner = Learner(bench.network, settings, bench.design["residual"],
                      bench.design["coefficient_bits"], journal_records(bench.design),
                      bench.design["max_pairs"], momentum="momentum" in bench.design["options"])
    got = await bench.state(0)
    learner.state = replace(learner.state, weights=got["weights"], biases=got["biases"],
                            momenta=got["momenta"])
    if twins:
        learner.line_rate.inputs = twins[-1].line_rate.inputs
        learner.line_rate.means = twins[-1].line_rate.means
    twins.append(learner)
    assert compare(learner.state, got) == ""
    return learner


async def lockstep(bench: Bench, learner: Learner, updates: int) -> None:
    """Learn until `updates` more updates are done, comparing after every batch."""
    settings = learner.settings
    count = settings.batch + 1 if settings.rule == "es" else OVERLAPPING
    for update in range(updates):
        x, y = bench.draw(count)
        expected = []
        for k, (row, label) in enumerate(zip(x, y, strict=True)):
            learn = k != count // 2 - 1     # one sample of each batch is only predicted
            expected.append(words(bench.network, learner.step(row, int(label), learn)))
            bench.send(bench.beats(row), label, learn)
        assert await bench.answers(len(x)) == expected, f"update {update}"
        difference = compare(learner.state, await bench.state(len(learner.state.seeds)))
        assert not difference, f"update {update}: {difference}"

"""The Verilated device, on a core whose answers are known by hand."""
import json
from dataclasses import replace

import numpy as np
import pytest

from firmware_models.learner import State, compare
from firmware_models.settings import Settings
from sim import verilate
from sim.device import Device
from sim.errors import SimulationError

from .stub_core import BEATS, CLASSES, FAULTS, write_stub

rng = np.random.default_rng(1)
X = rng.integers(0, 256, (20, 4 * BEATS))
Y = rng.integers(0, CLASSES, 20)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_stub(tmp_path_factory.mktemp("stub"))


@pytest.fixture
def device(manifest):
    return Device(manifest)


def sums(x):
    """Sum of the beats of each sample, by hand: little-endian words of 4 bytes."""
    return x.astype(np.uint8).view("<u4").sum(-1, dtype=np.uint32)


@pytest.mark.parametrize("idle, stall", [(0, 0), (0.5, 0), (0, 0.5), (0.7, 0.7)])
def test_answers_under_pauses(device, idle, stall):
    total = sums(X)
    np.testing.assert_array_equal(device.predict(X, idle=idle, stall=stall), total % 4)
    factors = (1 - np.arange(CLASSES)).astype(np.int64)
    logits = (total.astype(np.int64)[:, None] * factors).astype(np.uint32).view(np.int32)
    np.testing.assert_array_equal(device.logits(X, idle=idle, stall=stall), logits)
    np.testing.assert_array_equal(device.predict(X[3]), total[3:4] % 4)
    assert device.score(X, total % 4) == 1.0
    assert device.read("samples") == 61
    assert device.predict(X[:0]).shape == (0,)


def test_cycles(device):
    """The stub takes a beat a cycle, then needs one for its answer."""
    device.predict(X)
    period = BEATS + 1
    np.testing.assert_array_equal(np.diff(device.in_cycles), period)
    np.testing.assert_array_equal(device.out_cycles - device.in_cycles, BEATS)
    assert device.clock_cycles == period * len(X)
    assert device.cycles == device.out_cycles[-1] + 1
    device.predict(X, idle=0.5, stall=0.5)
    assert device.clock_cycles > 1.5 * period * len(X)


def test_pauses_follow_the_seed(manifest):
    cycles = []
    for seed in (1, 1, 2):
        device = Device(manifest, seed=seed)
        device.predict(X, idle=0.5, stall=0.5)
        cycles.append(device.out_cycles.tolist())
    assert cycles[0] == cycles[1] != cycles[2]


def test_progress_costs_no_cycle(device):
    many = np.tile(X, (60, 1))
    seen = []
    device.predict(many, progress=seen.append)
    assert seen == [500, 1000, 1200]
    assert device.clock_cycles == (BEATS + 1) * len(many)


def test_learning_flags(device):
    device.partial_fit(X, Y)
    assert device.read("control") == {"logits": 0, "learn": 1}
    assert (device.read("updates"), device.read("loss")) == (20, Y[-1])
    device.partial_fit(X, Y, learn=np.arange(20) < 5)
    device.predict(X, Y)
    assert device.read("control", "learn") == 0
    assert (device.read("samples"), device.read("passes"), device.read("updates")) == (60, 110, 25)


def test_configure(device):
    device.configure(Settings(rule="es", layers=(0,), pairs=3, batch=7, fitness="sign",
                              sigma_log2=1,
                              lr_shift=5, lr_decay=300, seed=0x89ABCDEF))
    got = {name: device.read(name) for name in
           ("rule", "layers", "pairs", "batch", "sigma", "rate", "seed")}
    assert got == {"rule": 0, "layers": 1, "pairs": 3, "batch": 7, "sigma": 1,
                   "rate": {"lr_shift": 5, "lr_decay": 300}, "seed": 0x89ABCDEF}


def test_state(device):
    """Every name of the golden state, and the window's points by hand: -(space, lane, word)."""
    def point(space, word, lane):
        return np.int32(np.uint32(-(space << 28 | lane << 16 | word) & 0xFFFFFFFF))

    weights = np.array([[point(0, (12 * j + i) % 6, (12 * j + i) // 6) for i in range(12)]
                        for j in range(4)], np.int64)
    biases = np.array([point(0, 6 + j % 2, j // 2) for j in range(4)], np.int64)
    device.configure(Settings(rule="es", layers=(0,), pairs=3, seed=77))
    before = State(weights={0: weights}, biases={0: biases}, seed=77,
                   errors=np.zeros(4, int))
    assert compare(before, device.state()) == ""
    device.partial_fit(X, Y)
    pairs = np.arange(3)
    after = replace(before, seed=97, samples=20, passes=60,
                  updates=20, loss=int(Y[-1]), seeds=2 ** 28 - pairs,
                  deltas=2 ** 28 - 2 ** 16 - pairs)
    assert compare(after, device.state()) == ""
    device.write("seed", value=5)
    assert len(device.state()["seeds"]) == 0


def test_reset(device):
    device.partial_fit(X, Y)
    device.write("pairs", value=2)
    device.reset()
    assert (device.read("samples"), device.read("pairs")) == (0, 4)
    np.testing.assert_array_equal(device.predict(X), sums(X) % 4)


def test_raw_packets(device):
    packets = [([1, 2, 3], 0), ([1, 2], 0), ([1, 2, 3, 4], 1), ([1, 2, 3], 4), ([7], 0),
               ([4, 5, 6], 3)]
    got = device.send_raw(packets, idle=0.3, stall=0.3)
    assert [p.tolist() for p in got] == [[2], [3]]
    assert (device.read("dropped"), device.read("samples")) == (4, 2)
    np.testing.assert_array_equal(device.predict(X), sums(X) % 4)


@pytest.mark.parametrize("fault, message", [
    ("change", "changed or withdrew a word"),
    ("extra", "that no sample asked for"),
    ("silent", "neither took nor sent a word"),
    ("tlast", "tlast is 1 in beat 0 of answer 0|that no sample asked for"),
])
def test_broken_cores(tmp_path, fault, message):
    assert fault in FAULTS
    device = Device(write_stub(tmp_path, fault))
    with pytest.raises(SimulationError, match=message):
        device.logits(X, stall=0.5)


@pytest.mark.parametrize("x, message", [
    (np.zeros((2, 11), int), r"shape \(2, 11\); features are \(n, 12\)"),
    (np.full((1, 12), np.nan), "feature 0 of sample 0 is NaN or infinite"),
    (np.full((1, 12), 0.5), "fractions"),
    (np.full((1, 12), 256), r"256 is not a code of ufixed<8,0>"),
    (np.full((1, 12), -1), "-1 is not a code"),
])
def test_bad_samples(device, x, message):
    with pytest.raises(ValueError, match=message):
        device.predict(x)
    assert device.read("samples") == 0


@pytest.mark.parametrize("y, message", [
    ([0, 4], "label 4 is out of range; the classes are 0 to 3"),
    ([0, -1], "label -1 is out of range"),
    ([0], r"labels have shape \(1,\); 2 samples need \(2,\)"),
    ([0.0, 1.0], "labels are integers"),
])
def test_bad_labels(device, y, message):
    with pytest.raises(ValueError, match=message):
        device.partial_fit(X[:2], y)


def test_bad_registers(device):
    for call, message in [
            (lambda: device.read("nonsense"), "no register 'nonsense'; this core has id, control"),
            (lambda: device.read("rate", "slope"), "no field 'slope'; it has lr_shift, lr_decay"),
            (lambda: device.write("sigma", value=8), "sigma.value has 3 bits and cannot hold 8"),
            (lambda: device.configure(Settings(rule="es", layers=(0,), pairs=9)), "at most 8"),
            (lambda: device.configure(Settings(rule="es", layers=(1,))), "not all trainable"),
            (lambda: device.configure(Settings(rule="es", layers=(0,), start=1)),
             "need a core with option drift"),
            (lambda: device.predict(X, stall=1.0), "stall must be 0 to 0.99, not 1.0")]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(SimulationError, match="writing samples: SLVERR"):
        device.write("samples", value=1)


@pytest.mark.parametrize("program", ["g++", "perl"])
def test_missing_tool(manifest, monkeypatch, program):
    find = verilate.shutil.which
    monkeypatch.setattr(verilate.shutil, "which", lambda p: None if p == program else find(p))
    with pytest.raises(SimulationError, match=f"^{program.replace('+', '.')} is not on PATH.*apt "):
        Device(manifest)


def test_no_manifest(tmp_path):
    with pytest.raises(SimulationError, match="is not a manifest.*build the core first"):
        Device(tmp_path / "manifest.json")


def test_bad_verilog(tmp_path):
    path = write_stub(tmp_path)
    (tmp_path / "core.v").write_text("module core(input clk; endmodule\n")
    with pytest.raises(SimulationError, match="Verilator refuses core.v: .*syntax error"):
        Device(path)


def test_built_once(manifest, monkeypatch):
    Device(manifest)
    monkeypatch.setattr(verilate, "_run", None)         # a second build would call it
    Device(manifest)


def test_without_learning(tmp_path, manifest):
    design = json.loads(manifest.read_text()) | {"learning": False}
    design["registers"] = design["registers"][:4]
    path = manifest.with_name("inference.json")
    path.write_text(json.dumps(design))
    device = Device(path)
    np.testing.assert_array_equal(device.predict(X), sums(X) % 4)
    for call in (lambda: device.partial_fit(X, Y), device.state,
                 lambda: device.configure(Settings(rule="es"))):
        with pytest.raises(ValueError, match="built without learning"):
            call()


def test_waves(tmp_path, manifest):
    path = tmp_path / "core.vcd"
    with Device(manifest, waves=path) as device:
        np.testing.assert_array_equal(device.predict(X), sums(X) % 4)
        cycles = device.cycles
    text = path.read_text()
    assert "s_axis_tvalid" in text and f"#{10 * cycles - 5}\n" in text

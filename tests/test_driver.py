# amaranth: UnusedElaboratable=no
"""The driver on registers that lie in a file, as a UIO device's do, and what it refuses."""
import json
import subprocess
import sys

import numpy as np
import pytest

from driver import BusError, Driver, MemoryMap, Mmio, connect, weights
from driver.__main__ import main
from firmware_models.settings import Settings
from hwgen.build import describe
from rtl.core import Core

from .networks import small_network

NETWORK = small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3})
MANIFEST = describe(Core(NETWORK, options=("load", "snapshot")))
REGISTERS = {r["name"]: r for r in MANIFEST["registers"]}
BUILD = REGISTERS["build"]["fields"][0]["reset"]


@pytest.fixture
def paths(tmp_path):
    """manifest.json, and a file of two pages in which registers start at byte 4100."""
    manifest, file = tmp_path / "manifest.json", tmp_path / "uio0"
    manifest.write_text(json.dumps(MANIFEST))
    words = np.zeros(2048, "<u4")
    words[1025], words[1025 + 0x20] = 0x48574731, BUILD
    file.write_bytes(words.tobytes())
    return manifest, file


def word(file, offset: int) -> int:
    return int(np.fromfile(file, "<u4")[1025 + offset // 4])


def test_session_in_a_map(paths):
    manifest, file = paths
    with MemoryMap(file, offset=4100) as memory:
        core = connect(manifest, memory)
        core.configure(Settings(layers=(0, 2), probes=7, lr_shift=3, head_shift=2, lr_decay=9,
                                seed=0x89ABCDEF))
        core.learn(True)
        assert core.counters() == dict.fromkeys(
            ("dropped", "samples", "passes", "updates", "saturations", "loss", "loss_average"), 0)
        assert core.errors() == {"torn": 0}
        core.write_master(0, -3, output=7, input=9)
    assert {offset: word(file, offset) for offset in range(0, 256, 4) if word(file, offset)} == {
        0: 0x48574731, 0x80: BUILD, 0x04: 2, 0x14: 0b101, 0x20: 5, 0x24: 9 << 16 | 2 << 4 | 3,
        0x28: 0x89ABCDEF, 0x58: 7,
        0x50: (7 * 10 + 9) % 5 | (7 * 10 + 9) // 5 << 16, 0x54: 0xFFFFFFFD}


def test_map_refuses(tmp_path, paths):
    _, file = paths
    with MemoryMap(file, offset=4100) as memory:
        for offset, message in ((2, "0x2 is not a multiple of 4"), (256, "0x100 is outside"),
                                (-4, "is outside the 256 bytes of .*uio0")):
            for access in (memory.read32, lambda offset: memory.write32(offset, 1)):
                with pytest.raises(BusError, match=message):
                    access(offset)
    with pytest.raises(BusError, match="is closed"):
        memory.read32(0)
    for name, offset, message in ((file, 4098, "0x1002 and size 0x100 are not multiples"),
                                  (file, 8192, "cannot map 256 bytes of .*uio0 from 0x2000"),
                                  (tmp_path / "none", 0, "cannot map .*none.*No such file")):
        with pytest.raises(BusError, match=message):
            MemoryMap(name, offset=offset)


def test_foreign_cores(paths):
    manifest, file = paths
    for at, found, message in (
            (0x80, BUILD ^ 1, "another core answers: its build is .* name the manifest.json of "),
            (0x00, 0, "id reads 0x00000000, not 0x48574731; check the address")):
        with MemoryMap(file, offset=4100) as memory:
            memory.write32(at, found)
            with pytest.raises(BusError, match=message):
                connect(manifest, memory)
    for text in ("", "{}", "[1]"):
        manifest.write_text(text)
        with pytest.raises(BusError, match="manifest.json is not a manifest"):
            connect(manifest, None)


class Fake:
    """What ``pynq.MMIO`` looks like; `busy` never ends."""

    def __init__(self):
        self.words = {0x30: 1}

    def read(self, offset=0, length=4):
        return self.words.get(offset, 0)

    def write(self, offset, data):
        assert type(data) is int and 0 <= data < 1 << 32
        self.words[offset] = data


def test_a_core_that_stays_busy():
    fake = Fake()
    core = Driver(MANIFEST, Mmio(fake))
    with pytest.raises(BusError, match="stays busy"):
        core.configure(Settings(layers=(0,)))
    assert fake.words == {0x30: 1}
    fake.words[0x30] = 0
    core.write("seed", value=5)
    assert fake.words[0x28] == core.read("seed") == 5


class Broken(Fake):
    def read(self, offset=0, length=4):
        raise BusError("no answer")

    write = read


def test_errors_name_the_register():
    core = Driver(MANIFEST, Mmio(Broken()))
    for access, name in ((lambda: core.read("loss"), "reading loss"),
                         (lambda: core.write("seed", value=1), "writing seed")):
        with pytest.raises(BusError, match=f"{name}: no answer"):
            access()


def test_weights_files(tmp_path):
    rng = np.random.default_rng(1)
    given = ({0: rng.integers(-2048, 2048, (8, 10)), 2: rng.integers(-2048, 2048, (4, 6))},
             {0: rng.integers(-2048, 2048, 8), 2: rng.integers(-2048, 2048, 4)})
    for name in "ab":
        weights.save(tmp_path / name / "learned.npz", MANIFEST, *given)
    path = tmp_path / "a" / "learned.npz"
    assert path.read_bytes() == (tmp_path / "b" / "learned.npz").read_bytes()
    for kind, expected in zip(weights.load(path, MANIFEST), given, strict=True):
        assert list(kind) == [0, 2] and all((kind[k] == expected[k]).all() for k in kind)
    with np.load(path) as file:
        assert (file["fc3.weight"] == given[0][2] >> 4).all()
    for change, message in (({"digest": "ab"}, "is of a core with network .* this one has ab"),
                            ({"residual": 3}, "with residual 4, this one has 3")):
        with pytest.raises(ValueError, match=message):
            weights.load(path, MANIFEST | change)
    for content in (b"", path.read_bytes()[:-30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no checkpoint of weights"):
            weights.load(path, MANIFEST)


@pytest.mark.parametrize("words, message", [
    (["status"], "another core answers"), (["--map", "none", "status"], "cannot map"),
    (["load", "none.npz"], "another core answers")])
def test_command_line_refuses(paths, capsys, monkeypatch, words, message):
    manifest, file = paths
    monkeypatch.chdir(file.parent)
    with MemoryMap(file, offset=4100) as memory:
        memory.write32(0x80, BUILD ^ 1)
    assert main([str(manifest), "--map", "uio0", "--offset", "0x1004", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("driver: ") and message in lines[0]


def test_needs_numpy_alone():
    """So that it runs on a board on which the rest of hwgen is not installed."""
    code = ("import sys, driver.__main__; print(sorted({name.split('.')[0] for name in sys.modules}"
            " - set(sys.stdlib_module_names)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    found = {name for name in eval(done.stdout) if not name.startswith("_")}
    assert {"driver", "firmware_models", "numpy"} <= found
    assert not found & {"amaranth", "hls4ml", "hwgen", "numba", "rtl", "sim", "rich", "joblib"}

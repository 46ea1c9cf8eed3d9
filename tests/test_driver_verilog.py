"""Sessions of the driver with a simulated core: every access is an AXI4-Lite transaction."""
import shutil
from dataclasses import replace

import numpy as np
import pytest

from driver import BusError, Transport, connect, weights
from driver.__main__ import main
from firmware_models.journal import from_json
from firmware_models.learner import Learner, compare
from firmware_models.sample_packets import LEARN, BeatLayout, pack
from hwgen.build import build
from sim.device import Device
from sim.errors import SimulationError

from .networks import samples, small_network
from .test_window_load_verilog import ES, HIDDEN, NP

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
NETWORK = small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3}, hidden=HIDDEN)
OPTIONS = {"rules": ("es", "np"), "max_pairs": 4, "journal_records": 16,
           "options": ("load", "snapshot", "journal")}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return build(NETWORK, tmp_path_factory.mktemp("core"), **OPTIONS)


class OneByOne(Transport):
    """The simulated core by single reads and writes alone, which are counted."""

    def __init__(self, device):
        self.core, self.accesses = device.core, 0

    def read32(self, offset):
        self.accesses += 1
        return self.core.read32(offset)

    def write32(self, offset, word):
        self.accesses += 1
        self.core.write32(offset, word)


@pytest.mark.parametrize("settings", [NP, ES], ids=["np", "es"])
def test_session(manifest, settings):
    """Settings, learning, counters, snapshot and read-back, one access at a time."""
    x, y = samples(NETWORK, 40, seed=3)
    learner = Learner(NETWORK, settings, journal_records=16, max_pairs=4)
    with Device(manifest) as device:
        bus = OneByOne(device)
        core = connect(manifest, bus)
        core.configure(settings)
        core.learn(True)
        packets = [(row, int(label) | LEARN) for row, label in
                   zip(pack(x, BeatLayout(**core.manifest["input"])), y, strict=True)]
        device.send_raw(packets[:20])
        learner.learn(x[:20], y[:20])
        core.snapshot()
        learner.snapshot()
        core.learn(False)
        device.send_raw(packets[20:30])
        for row, label in zip(x[20:30], y[20:30], strict=True):
            learner.step(row, int(label), False)
        core.learn(True)
        device.send_raw(packets[30:])
        learner.learn(x[30:], y[30:])
        assert compare(learner.state, core.state()) == ""
        assert compare(learner.state, device.state()) == ""
        assert core.counters() == {"dropped": 0} | {
            name: getattr(learner.state, name) for name in
            ("samples", "passes", "updates", "saturations", "loss", "loss_average")}
        core.restore(restart=False)
        learner.restore(restart=False)
        assert compare(learner.state, core.state()) == ""
        assert core.errors() == {"torn": 0, "lost": 1}      # the journal says so
        core.clear_errors()
        assert core.errors() == {"torn": 0, "lost": 0}
        assert bus.accesses > 2 * NETWORK.stages[0].dense.weight_codes.size


@pytest.mark.parametrize("settings", [NP, ES], ids=["np", "es"])
def test_checkpoint_goes_on_in_another_core(manifest, tmp_path, capsys, settings):
    """Learn, save, load into a fresh core, learn on: bit for bit as the golden model does."""
    x, y = samples(NETWORK, 120, seed=4)
    file, start = tmp_path / "learned.npz", Learner(NETWORK, settings).state
    with Device(manifest) as device:
        device.configure(settings)
        device.partial_fit(x[:60], y[:60])
        assert main([str(manifest), "save", str(file)], device.core) == 0
        learned = device.masters()
    assert any((learned[0][k] != start.weights[k]).any() for k in (0, 2))
    settings = replace(settings, seed=77)
    learner = Learner(NETWORK, settings, journal_records=16, max_pairs=4)
    learner.load(*learned)
    with Device(manifest) as device:
        assert main([str(manifest), "load", str(file)], device.core) == 0
        device.configure(settings)
        got = device.partial_fit(x[60:], y[60:])
        assert got.tolist() == learner.learn(x[60:], y[60:]).tolist()
        assert compare(learner.state, device.state()) == ""
        assert main([str(manifest), "status"], device.core) == 0
        lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines()[-11:])
        assert lines["samples"] == "60" and lines["network"] == "small"
        assert lines["updates"] == str(learner.state.updates)


def test_journal(manifest, tmp_path):
    x, y = samples(NETWORK, 30, seed=5)
    with Device(manifest) as device:
        device.configure(ES)
        device.partial_fit(x, y)
        file = tmp_path / "journal.json"
        assert main([str(manifest), "journal", str(file)], device.core) == 0
        found, expected = from_json(file.read_text()), device.journal()
        assert found.written == expected.written > 16 == len(found.records)
        assert (found.records == expected.records).all()


def test_foreign_core(manifest, tmp_path):
    ours, other = manifest, build(small_network((4, 3), (0,)), tmp_path)
    with Device(other) as device:
        with pytest.raises(BusError, match="another core answers"):
            connect(ours, device.core)
        connect(other, device.core)


def test_refusals(manifest, tmp_path, capsys):
    with Device(manifest) as device:
        with pytest.raises(SimulationError, match="SLVERR") as caught:
            device.core.read32(0xFC)
        assert isinstance(caught.value, BusError)
        wrong = {0: np.full((8, 10), 2048)}
        weights.save(tmp_path / "wide.npz", device.manifest, wrong | {2: np.zeros((4, 6), int)},
                     {0: np.zeros(8, int), 2: np.zeros(4, int)})
        before = device.masters()
        assert main([str(manifest), "load", str(tmp_path / "wide.npz")], device.core) == 2
        assert "masters of fc1's weights" in capsys.readouterr().err
        for old, new in zip(before, device.masters(), strict=True):
            assert all((old[k] == new[k]).all() for k in old)

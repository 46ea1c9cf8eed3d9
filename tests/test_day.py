"""The day of a core, at small size: where learning is switched, and what is written."""
import json
import shutil

import pytest

from examples import day


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_day(tmp_path, monkeypatch):
    """Clean samples switch learning off at the first decision, bad ones on again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(day, "PHASES", [day.Phase("none", 300), day.Phase("stuck:0.5", 280)])
    day.main(["-o", "out/day.json", "--example", "digits", "--seed", "3"])
    got = json.loads((tmp_path / "out" / "day.json").read_text())
    assert got["bit_exact"] is True
    assert got["command"] == "python -m examples.day -o out/day.json --example digits --seed 3"
    # Decided after 128 samples, in force 64 later; again after 384.
    assert got["switches"] == [[0, 1], [192, 0], [448, 1]]
    assert [phase["learned"] for phase in got["phases"]] == [192, 132]
    assert [phase["first"] for phase in got["phases"]] == [0, 300]
    rows = [dict(zip(got["columns"], row, strict=True)) for row in got["windows"]]
    assert [row["samples"] for row in rows] == [128, 256, 384, 512, 580]
    assert [row["on"] for row in rows] == [1, 0, 0, 1, 1]
    assert [row["learned"] for row in rows] == [128, 64, 0, 64, 68]
    assert rows[0]["accuracy"] > 90 and rows[-1]["loss_average"] > rows[1]["loss_average"]
    assert got["settings"]["start"] == 2 * got["settings"]["stop"] == 4 * round(
        256 * got["clean_loss"])
    assert (tmp_path / "out" / "day.png").stat().st_size > 10_000

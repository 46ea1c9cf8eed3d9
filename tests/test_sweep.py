"""The sweep: what it leaves and judges by, the same bytes again, one line for what is wrong."""
import json
import sys

import numpy as np
import pytest

from hwgen import data, example, sweep
from hwgen.cli import main
from hwgen.recover import accuracy, stream

TINY = "sweep --grid lr_shift=7,9 probes=4 --samples 100 --layers fc1 fc3 --seeds 1 2"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return example.prepare("digits", tmp_path_factory.mktemp("digits"), ["fc1", "fc3"])[0]


def test_files_are_the_same_again(tmp_path, capsys):
    """Whatever the number of jobs."""
    for jobs in ("1", "2"):
        assert main([*TINY.split(), "--jobs", jobs, "-o", str(tmp_path / jobs)]) == 0
    for name in ("sweep.json", "sweep.png"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert (tmp_path / "1" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "1" / "sweep.json").read_text()
    assert str(tmp_path) not in text
    summary = json.loads(text)
    assert summary["grid"] == {"lr_shift": [7, 9], "probes": [4]} and summary["seeds"] == [1, 2]
    assert summary["layers"] == ["fc1", "fc3"] and len(summary["network"]) == 64
    rows = summary["rows"]
    assert {row["settings"]["lr_shift"] for row in rows} == {7, 9}
    assert rows[0]["accuracy"] >= rows[1]["accuracy"]
    for row in rows:
        assert row["accuracy"] == np.mean(row["accuracies"]) == row["curve"][-1][1]
        assert row["spread"] == max(row["accuracies"]) - min(row["accuracies"])
        assert row["curve"][0] == [0, summary["before"]] and row["curve"][-1][0] == 100
    assert "validation %" in capsys.readouterr().out


def test_learns(network):
    plan = sweep.Sweep(disturbance="rotate:30", layers=(0, 2), grid={}, samples=3000)
    curve, = sweep.run(plan, network, jobs=1)
    assert curve[-1][1] > curve[0][1] + 20


def test_judged_by_the_validation_split(network):
    x, y = data.load("digits").validation()
    plan = sweep.Sweep(disturbance="invert", layers=(2,), grid={}, samples=1)
    curve, = sweep.run(plan, network, jobs=1)
    assert curve[0] == (0, accuracy(network, 255 - x.astype(int), y))


@pytest.mark.parametrize("disturbance, same", [("stuck:0.2", True), ("noise:0.3", False)])
def test_disturbed_as_the_stream_is(disturbance, same):
    """The sensor whose columns are stuck is the same one; noise is not what was learned."""
    x, _ = data.load("digits").validation()
    got, _ = sweep._validation("digits", disturbance, 5)
    assert (got == data.disturb(x, disturbance, 5, sensor=5)).all() == same
    dataset = data.load("digits")
    held = (stream(dataset, "stuck:0.2", 9, 5)[0] == 255).all(0)
    assert held.sum() >= 16 and (data.disturb(x, "stuck:0.2", 1, sensor=5)[:, held] == 255).all()


def test_settings_of_a_combination():
    plan = sweep.Sweep(disturbance="none", layers=(0,), seeds=(3,),
                       grid=sweep.parse_grid(["turn=0,1", "lr-shift=8", "skip=0,9"]))
    assert plan.combinations[1] == {"turn": 0, "lr_shift": 8, "skip": 9}
    settings = plan.settings(plan.combinations[3], 3)
    assert (settings.rule, settings.turn, settings.lr_shift, settings.skip) == ("np", True, 8, 9)


@pytest.mark.parametrize("words, message", [
    ("--grid pairs=4", "unknown setting 'pairs'; a sweep takes lr_shift, head_shift"),
    ("--grid lr_shift", "'lr_shift' is not a setting with its values; write lr_shift=1,2"),
    ("--grid lr_shift=8,", "'lr_shift=8,' is not a setting with its values"),
    ("--grid lr_shift=8,8", "'lr_shift=8,8' names a setting or a value once more"),
    ("--grid lr_shift=8 lr_shift=9", "'lr_shift=9' names a setting or a value once more"),
    ("--grid lr_shift=8,16", "lr_shift must be 0 to 15, not 16"),
    ("--grid probes=33", "probes must be 0 to 32, not 33"),
    ("--grid turn=2", "turn must be 0 or 1, not 2"),
    ("--layers fc9", "unknown layer 'fc9' of digits; its dense layers are fc1, fc2, fc3"),
    ("--samples 0", "samples must be at least 1, not 0"),
    ("--seeds 1 1", "seeds are different numbers from 0 on, not [1, 1]"),
    ("--residual 9", "residual must be 0 to 8 bits, not 9"),
    ("--jobs 0", "jobs must be at least 1, not 0"),
    ("--disturb fog", "unknown disturbance 'fog'; choose one of none, noise:STD"),
    ("--backend threads", "unknown backend 'threads'; there are loky, dask, ray"),
    ("--example nope", "unknown example 'nope'; there are digits, mnist"),
    ("--backend dask", "backend dask needs a package that is not installed; get the extra: "
                       "pip install 'hwgen[dask]'"),
    ("--backend ray", "pip install 'hwgen[ray]'"),
])
def test_refusals(words, message, tmp_path, capsys, monkeypatch):
    for name in ("distributed", "ray", "ray.util.joblib"):
        monkeypatch.setitem(sys.modules, name, None)            # as if not installed
    assert main(["sweep", *words.split(), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1 and "Traceback" not in error


def test_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["sweep", "--help"])
    assert end.value.code == 0
    assert "usage: hwgen sweep" in capsys.readouterr().out

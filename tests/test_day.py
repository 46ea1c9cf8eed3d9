"""The day of a core, at small size: where learning is switched, and what is written."""
import json
import shutil

import numpy as np
import pytest

from examples import day
from firmware_models.fast import FastLearner
from firmware_models.learner import Learner, compare
from firmware_models.settings import Settings

from .networks import samples, small_network


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_day(tmp_path, monkeypatch):
    """Clean samples switch learning off at the first decision, bad ones on again; bits flip."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(day, "PHASES", [day.Phase("none", 300), day.Phase("stuck:0.5", 280),
                                        day.Phase("none", 220, flipped=0.02)])
    day.main(["-o", "out/day.json", "--example", "digits", "--seed", "3"])
    got = json.loads((tmp_path / "out" / "day.json").read_text())
    assert got["bit_exact"] is True
    assert got["command"] == "python -m examples.day -o out/day.json --example digits --seed 3"
    # Decided after 128 samples, in force 64 later; again after 384.
    assert got["switches"] == [[0, 1], [192, 0], [448, 1]]
    assert [phase["learned"] for phase in got["phases"]] == [192, 132, 220]
    assert [phase["first"] for phase in got["phases"]] == [0, 300, 580]
    assert [phase["flipped"] for phase in got["phases"]] == [0, 0, 0.02]
    rows = [dict(zip(got["columns"], row, strict=True)) for row in got["windows"]]
    assert [row["samples"] for row in rows] == [128, 256, 384, 512, 640, 768, 800]
    assert [row["on"] for row in rows] == [1, 0, 0, 1, 1, 1, 1]
    assert [row["learned"] for row in rows] == [128, 64, 0, 64, 128, 128, 32]
    assert rows[0]["accuracy"] > 90 and rows[3]["loss_average"] > rows[1]["loss_average"]
    # The same clean samples as before, but for the bits; the core learns them again.
    bits = got["phases"][-1]
    assert bits["frozen"] < 50 < got["phases"][0]["frozen"]
    assert bits["accuracy"] > bits["early"] + 10
    assert got["settings"]["start"] == 2 * got["settings"]["stop"] == 4 * round(
        256 * got["clean_loss"])
    assert (tmp_path / "out" / "day.png").stat().st_size > 10_000


def test_flip_is_the_same_in_all_learners():
    """Each array has its fraction of bits inverted; what has been learned before counts."""
    network = small_network([6, 8, 4], trainable=(0, 1))
    settings = Settings(layers=(0, 1), lr_shift=4, head_shift=4)
    learners = Learner(network, settings), FastLearner(network, settings)
    for learner in learners:
        learner.learn(*samples(network, 30))
    before = learners[0].state
    day.flip(network, learners, 0.25, seed=7)
    after = learners[0].state
    assert not compare(after, vars(learners[1].state))
    for kind, format_of in (("weights", "weight"), ("biases", "bias")):
        for index, masters in getattr(before, kind).items():
            width = getattr(network.stages[index].dense, format_of).width + 4
            changed = (masters ^ getattr(after, kind)[index]) & (1 << width) - 1
            assert np.bitwise_count(changed).sum() == round(0.25 * masters.size * width)

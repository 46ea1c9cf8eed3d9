"""The ablation: its rows can be run, forwards are counted right, tables say what the runs say."""
import json
from dataclasses import replace

import pytest

from examples import forwards, forwards_page
from examples.forwards import QZO, ROWS, Row, candidates, cost, reached
from firmware_models.settings import Settings
from hwgen.recover import settings_for

from .networks import small_network

NETWORK = small_network((8, 6, 5, 4), (0, 1, 2))


def test_every_row_has_settings():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    shown = {name for _, _, group in forwards_page.GROUPS for name in group}
    assert shown == set(names) and set(forwards_page.PLOTTED) <= shown
    for row in ROWS:
        assert not row.base or row.base in names
        for tuned in candidates(row):
            settings = settings_for(row.rule, (0, 1, 2), **row.options | tuned)
            assert settings.pairs <= forwards.MAX_PAIRS


def test_steps_by_hand():
    """Steps from a half to a sixteenth of an 8-bit weight's."""
    found = {row.name: {one.get("lr_shift") for one in candidates(row)} for row in ROWS}
    assert found["qzo, 8w8a, R = 4"] == {4, 5, 6, 7}    # 8, 4, 2, 1 masters
    assert found["qzo, 16w8a"] == {0, 1, 2, 3}          # 127, 64, 32, 16
    assert found["R = 0, stochastic"] == {8, 9, 10, 11} # 8, 4, 2, 1 sixteenths
    assert found["R = 0, whole steps"] == {7}
    assert found["qzo, m = 4"] == {5, 6, 7, 8}


def test_cost_by_hand():
    assert cost(Settings(rule="es", layers=(0,), pairs=3), NETWORK) == 7
    assert cost(Settings(layers=(0, 1, 2), probes=8), NETWORK) == 17
    assert cost(Settings(layers=(2,), probes=8), NETWORK) == 1


def test_crossing_by_hand():
    points = [[0, 10.0], [1000, 40.0], [4000, 60.0], [8000, 60.0]]
    assert reached(points, 30.0) == 1000        # before the first point there is nothing to go by
    assert reached(points, 50.0) == 2000        # half of the way from 1000 to 4000, by logarithm
    assert reached(points, 60.0) == 4000
    assert reached(points, 60.1) is None


@pytest.mark.parametrize("row", [
    replace(QZO, layers=("fc3",)), Row("np", "np", ("fc1", "fc3"), {"probes": 2})],
    ids=lambda row: row.rule)
def test_a_run(row):
    one = forwards.run(row, "digits", "noise:0.3", {"sigma_log2": 3}, 1, (300, 600), "test")
    assert [point[0] for point in one["curve"]] == [0, 300, 600]
    assert one["forwards_per_sample"] == 3
    assert one["curve"][0] != one["curve"][-1]
    result = {"row": {"name": row.name, "base": ""}, "data": "digits", "settings": {},
              "runs": [one, one]}
    levels = {"digits": [0.0, 1.0]}
    assert forwards_page.forwards_to_recover(result, levels) == "300"
    assert forwards_page.curve(result)[600].tolist() == 2 * [one["curve"][2][1]]


def test_only_what_is_missing_is_run(monkeypatch):
    """A second time nothing runs; with another grid what is new, and with other options all."""
    row, where = replace(QZO, layers=("fc3",)), [("digits", "noise:0.3")]
    monkeypatch.setattr(forwards, "TUNED_AT", 300)
    monkeypatch.setattr(forwards, "POINTS", (300,))
    monkeypatch.setattr(forwards, "SIGMAS", (2,))
    counts = []

    def counted(calls, jobs, title):
        counts.append(len(calls))
        return [forwards.run(*call) for call in calls]

    monkeypatch.setattr(forwards, "execute", counted)
    found = {}
    for change, expected in ((row, [4, 3]), (row, [0, 0]),
                             (replace(row, options={"pairs": 2}), [4, 3])):
        found = {(one["row"]["name"], one["data"]): json.loads(json.dumps(one))
                 for one in forwards.ablation([change], where, 1, found)}
        assert counts[-2:] == expected
        (one,) = found.values()
        assert len(one["runs"]) == 3 and len(one["tried"]) == 4
        assert one["settings"] == max(one["tried"], key=lambda tried: tried[0])[1]

"""The growth law of the learning blocks holds where it was not fitted, within what is stated."""
import json
import re
from pathlib import Path

import pytest

from examples import growth
from firmware_models.cycles import CycleModel
from firmware_models.settings import Settings

ROOT = Path(__file__).parent.parent
FOUND = json.loads((ROOT / "docs" / "results" / "growth.json").read_text())
RESIDUAL, ERROR = 1, 2          # percent, as docs/report.md states


def rows(*lanes, lut, ff):
    """Points of one block, and 7 LUTs and flip-flops beside it."""
    found = []
    for n in lanes:
        blocks = {"weights fc1": {"lut": lut(n) + 64, "lut_as_memory": 64, "ff": ff(n)},
                  "loss": {"lut": 7, "lut_as_memory": 0, "ff": 7}}
        total = {k: sum(b[k] for b in blocks.values()) for k in ("lut", "lut_as_memory", "ff")}
        found.append({"name": f"{n} lanes", "lanes": n, "blocks": blocks, "total": total})
    return found


def test_law_by_hand():
    found = growth.law(rows(8, 16, 32, 64, lut=lambda n: 10 + 3 * n, ff=lambda n: n))
    assert found["blocks"]["weights fc1"]["lut"] == {
        "a": 10.0, "b": 3.0, "residual_percent": 0.0, "predicted": 202, "measured": 202,
        "error_percent": 0.0}
    assert found["total"]["ff"]["a"] == 7.0 and found["total"]["ff"]["b"] == 1.0
    # The point ahead takes no part in the fit.
    bent = growth.law(rows(8, 16, 32, 64, lut=lambda n: 10 + 3 * n + 101 * (n == 64),
                           ff=lambda n: n))["blocks"]["weights fc1"]["lut"]
    assert (bent["a"], bent["b"], bent["measured"]) == (10.0, 3.0, 303)
    assert bent["error_percent"] == round(100 * -101 / 303, 2)
    # Points that are not on a line have a residual: the fit of 8, 16, 32 to 1, 1, 7.
    off = growth.law(rows(8, 16, 32, 64, lut=lambda n: {8: 1, 16: 1}.get(n, 7), ff=lambda n: n))
    assert off["blocks"]["weights fc1"]["lut"]["residual_percent"] > 50


def test_law_is_of_the_rows():
    assert FOUND["law"] == growth.law(FOUND["rows"])


@pytest.mark.parametrize("kind", ["lut", "ff"])
def test_law_holds(kind):
    total = FOUND["law"]["total"][kind]
    assert total["residual_percent"] <= RESIDUAL
    assert abs(total["error_percent"]) <= ERROR
    text = (ROOT / "docs" / "report.md").read_text()
    assert re.search(rf"below {RESIDUAL} % and the error of the prediction below {ERROR} %", text)


def test_points_are_those_of_the_code():
    """No point of other sizes; all fitted points are there."""
    names = [row["name"] for row in FOUND["rows"]]
    assert {*growth.FITTED, growth.PREDICTED} <= set(names) <= set(growth.POINTS)
    for row in FOUND["rows"]:
        sizes, rule, pairs = growth.POINTS[row["name"]]
        assert (row["sizes"], row["rule"], row["max_pairs"]) == (list(sizes), rule, pairs)


def test_cycles():
    assert FOUND["cycles"]["32 lanes"] == growth.cycles("32 lanes")
    of = growth.network(growth.POINTS["1 pairs"][0])
    settings = Settings(rule="es", layers=of.trainable, pairs=4)
    out = CycleModel(of, max_pairs=32).run(64, settings).out_cycles
    assert growth.cycles("1 pairs")["4"] == float(out[-1] - out[31]) / 32

"""The runs behind the table of partial and standardized updates, and the table."""
import json

import numpy as np

from examples import partial_updates as runs
from firmware_models.learner import Learner
from firmware_models.loss import head_error
from firmware_models.settings import Settings

from .networks import samples, small_network

NETWORK = small_network((5, 6, 4), (1,), seed=8)
COMMON = {"layers": (1,), "probes": 0}


def test_nodes_of_a_sample():
    """k is 1 with lmin and lmax 0; else all nodes whose error reaches the threshold."""
    x, y = samples(NETWORK, 40, seed=4)
    assert runs.nodes(NETWORK, Settings(**COMMON, lmin=0, lmax=0), x, y) == 1
    learner = Learner(NETWORK, Settings(**COMMON, standardize=30))
    errors = np.array([head_error(learner.step(row, int(label)), label,
                                  NETWORK.stages[-1].result)
                       for row, label in zip(x, y, strict=True)])
    assert 0 < (np.abs(errors) >= 30).sum() < np.count_nonzero(errors)
    assert runs.nodes(NETWORK, learner.settings, x, y) == (np.abs(errors) >= 30).sum() / 40


def test_table():
    row = {"settings": {"lmin": 26}, "tried": {5: [80.0, 81.0], 7: [70.0, 70.0]}, "head_shift": 5,
           "test": {5: [79.0, 80.0], 7: [70.0, 71.0]}, "nodes": 2.25}
    plain = row | {"settings": {}, "head_shift": 7}
    found = json.loads(json.dumps({"default": 7, "examples": {
        "tiny": {"disturbance": "none", "rows": [plain, row]}}}))
    assert runs.markdown(found).splitlines() == [
        "| | `tiny` none: validation, best `head_shift` | test, the same | test, 7 | "
        "nodes a sample |", "|---|---|---|---|---|",
        "| delta | 70.0 at 7 | 70.5 (70.0, 71.0) | 70.5 (70.0, 71.0) | 2.2 |",
        "| `lmin` 26 | 80.5 at 5 | 79.5 (79.0, 80.0) | 70.5 (70.0, 71.0) | 2.2 |"]


def test_rows_differ():
    titles = [runs.title(row) for row in runs.ROWS]
    assert len(set(titles)) == len(titles) and titles[0] == "delta"
    for row in runs.ROWS:
        Settings(**COMMON, **row)

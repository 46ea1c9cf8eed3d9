"""The delta rule with partial and standardized updates: the runs behind a table of delta.md.

    python -m examples.partial_updates -o docs/results/partial_updates.json

The last layer learns alone, from 4,000 disturbed samples. Each row is a setting of the options; its
`head_shift` is chosen on validation samples with seeds of their own, and the same row runs on the
test split with that one and with the default. All of it on the compiled golden model, which tests
hold equal to the Verilated core; the nodes that a sample updates are counted by the plain one.
"""
import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.progress import track

from firmware_models.fast import FastLearner
from firmware_models.learner import Learner
from firmware_models.loss import head_error
from firmware_models.partial_updates import partial
from firmware_models.settings import Settings
from firmware_models.standardize import standardize
from hwgen import data, example
from hwgen.recover import settings_for, stream

from .study import RESIDUAL, TEST_SEEDS, VALIDATION_SEEDS, core_seed, judge, judged_by

EXAMPLES = ("mnist", "digits")
FOLDER = Path("build") / "partial_updates"
SEEDS = TEST_SEEDS[:3]
HEAD_SHIFTS = range(5, 13)
DEFAULT = Settings().head_shift
ROWS = (
    {}, {"standardize": 1}, {"standardize": 4}, {"standardize": 16}, {"standardize": 64},
    {"lmin": 128}, {"lmin": 26}, {"lmin": 1}, {"lmin": 26, "lmax": 128},
    {"lmin": 26, "standardize": 16},
)


def title(row: dict) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in row.items()) or "delta"


def reached(network, disturbance: str, samples: int, row: dict, head_shift: int, seed: int,
            split: str) -> float:
    """Percent right on a split after learning."""
    settings = settings_for("delta", network.trainable, seed=core_seed(seed),
                            head_shift=head_shift, **row)
    learner = FastLearner(network, settings, RESIDUAL)
    learner.learn(*stream(data.load(network.name), disturbance, samples, seed))
    return judge(learner.deployed_network(), *judged_by(network.name, disturbance, seed, split))[0]


def nodes(network, settings: Settings, x, y) -> float:
    """How many of the last layer's nodes a sample updates, as a mean."""
    learner, of, largest, count = Learner(network, settings, RESIDUAL), \
        network.stages[-1].result, 0, 0
    for row, label in zip(x, y, strict=True):
        errors = head_error(learner.step(row, int(label)), int(label), of)
        errors, largest = partial(errors, largest, settings.lmin, settings.lmax)
        count += np.count_nonzero(standardize(errors, settings.standardize))
    assert largest == learner.state.error_max
    return count / len(x)


def run(name: str) -> dict:
    """All rows of an example."""
    experiment = example.EXPERIMENTS[name]
    disturbance, samples = experiment["disturb"], experiment["samples"]
    network, _ = example.prepare(name, FOLDER / name, train=["fc3"])
    common = (network, disturbance, samples)
    rows = []
    for row in track(ROWS, name):
        tried = {shift: [reached(*common, row, shift, seed, "validation")
                         for seed in VALIDATION_SEEDS] for shift in HEAD_SHIFTS}
        best = max(tried, key=lambda shift: float(np.mean(tried[shift])))
        settings = settings_for("delta", network.trainable, seed=core_seed(SEEDS[0]), **row)
        rows.append({
            "settings": row, "tried": tried, "head_shift": best,
            "test": {shift: [reached(*common, row, shift, seed, "test") for seed in SEEDS]
                     for shift in sorted({DEFAULT, best})},
            "nodes": nodes(network, settings, *stream(data.load(name), disturbance, samples,
                                                      SEEDS[0]))})
    before = judge(network, *judged_by(name, disturbance, SEEDS[0], "test"))[0]
    return {"disturbance": disturbance, "samples": samples, "before": before, "rows": rows}


def markdown(found: dict) -> str:
    """The rows as a table: validation and test, each with its head_shift; nodes a sample."""
    names = list(found["examples"])
    head = [f"`{name}` {found['examples'][name]['disturbance']}" for name in names]
    lines = ["| | " + " | ".join(
        f"{one}: validation, best `head_shift` | test, the same | test, {found['default']} | "
        "nodes a sample" for one in head) + " |", "|---" * (1 + 4 * len(names)) + "|"]

    def percents(seeds):
        return f"{np.mean(seeds):.1f} ({', '.join(f'{one:.1f}' for one in seeds)})"

    for rows in zip(*(found["examples"][name]["rows"] for name in names), strict=True):
        cells = []
        for row in rows:
            best = str(row["head_shift"])
            cells += [f"{np.mean(row['tried'][best]):.1f} at {best}", percents(row["test"][best]),
                      percents(row["test"][str(found["default"])]), f"{row['nodes']:.1f}"]
        lines.append(f"| {title(rows[0]['settings'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.partial_updates", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    found = {name: run(name) for name in EXAMPLES}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({
        "command": "python -m examples.partial_updates -o docs/results/partial_updates.json",
        "default": DEFAULT, "seeds": SEEDS, "validation_seeds": VALIDATION_SEEDS,
        "residual": RESIDUAL, "examples": found,
        "versions": {n: version(n) for n in ("hwgen", "hls4ml", "numpy", "numba")}},
        indent=1) + "\n")


if __name__ == "__main__":
    main()

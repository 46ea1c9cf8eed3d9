"""Settings of the evolutionary strategy against validation accuracy, by the compiled model.

    python -m examples.tune -o docs/results/tune.json

MNIST, noise of 0.3 of full scale, last layer, 40,000 sample forwards. Streams come from the first
55,000 training images, accuracy from the last 5,000, disturbed once; test images are not looked at.
"""
import argparse
import json
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np

from firmware_models.fast_evolution import FastEvolution
from hwgen import data, example
from hwgen.recover import accuracy, settings_for, stream

GRID = [
    ("es", {}),
    ("es", {"batch": 4}),
    ("es", {"batch": 1}),
    ("es", {"batch": 8}),
    ("es", {"pairs": 8, "batch": 4}),
    ("es", {"sigma_log2": 2}),
    ("es", {"sigma_log2": 4}),
    ("es", {"fitness": "rank", "batch": 4}),
    ("es", {"fitness": "rank", "batch": 4, "lr_decay": 300}),
    ("es", {"pairs": 8, "batch": 8, "fitness": "rank", "lr_shift": 8}),
    ("es", {"pairs": 8, "batch": 4, "fitness": "rank"}),
    ("qzo", {}),
    ("qzo", {"pairs": 1}),
]


def evaluate(network, rule: str, options: dict, disturbance: str, forwards: int, seed: int):
    """Validation accuracy (%) after `forwards` sample forwards of one seed."""
    dataset = data.load(network.name)
    settings = settings_for(rule, network.trainable, **options, seed=seed)
    x_val, y_val = dataset.field_validation()
    x_val = data.disturb(x_val, disturbance, 2_000_000).astype(np.int64)
    x, y = stream(dataset, disturbance, forwards // (1 + 2 * settings.pairs), seed)
    learner = FastEvolution(network, settings)
    learner.learn(x, y)
    return accuracy(learner.deployed_network(), x_val, y_val)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.tune", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12])
    parser.add_argument("--forwards", type=int, default=40_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network, _ = example.prepare("mnist", Path(folder), ["fc3"])
    jobs = [(rule, options, seed) for rule, options in GRID for seed in args.seeds]
    found = joblib.Parallel(n_jobs=-1, verbose=5)(
        joblib.delayed(evaluate)(network, rule, options, "noise:0.3", args.forwards, seed)
        for rule, options, seed in jobs)
    rows = []
    for index, (rule, options) in enumerate(GRID):
        accuracies = found[index * len(args.seeds):(index + 1) * len(args.seeds)]
        settings = asdict(settings_for(rule, network.trainable, **options))
        del settings["seed"], settings["layers"]
        rows.append({"rule": rule, **settings, "accuracy": float(np.mean(accuracies)),
                     "accuracies": accuracies})
    args.output.write_text(json.dumps({
        "example": "mnist", "disturbance": "noise:0.3", "forwards": args.forwards,
        "seeds": args.seeds, "network": network.digest(), "versions": {
            name: version(name) for name in ("hwgen", "hls4ml", "numpy")},
        "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

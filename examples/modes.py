"""Accuracy of the firmware's arithmetics on the same network: python -m examples.modes -o FILE

    python -m examples.modes -o docs/results/modes.json

Fashion-MNIST from random weights, one epoch of the 55,000 training samples that are not for
validation, by the compiled firmware on this machine; accuracy on the test split. Settings were
chosen on the validation split.
"""
import argparse
import json
import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from hwgen import data
from hwgen.firmware import Firmware, example, generate

NAME = "fashion"


def rows() -> list[tuple]:
    """Mode and settings of each row."""
    task = example.task(NAME)
    epoch = len(data.load(NAME).field()[1])
    floored = replace(task.settings_of("uint8"), floor_errors=True)
    # In integers the learning rate halves in the middle of the stream, however long it is.
    integer = replace(task.settings, lr_decay=epoch // 2)
    return [("uint8", floored), *((mode, task.settings_of(mode)) for mode in task.paper),
            ("integer", integer)]


def learned(mode: str, settings, samples: int, seed: int, split) -> float:
    """Accuracy in percent on a split, after samples of one seed."""
    task = example.task(NAME)
    with tempfile.TemporaryDirectory() as folder:
        generate(task.layers, example.start(NAME, seed, mode), folder, settings=settings)
        firmware = Firmware(folder)
    for x, y in zip(*example.stream(NAME, samples, seed), strict=True):
        firmware.train_step(x, y)
    x, y = split
    return example.accuracy(firmware.predict(x), y, task.balanced)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.modes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--samples", type=int, default=len(data.load(NAME).field()[1]))
    args = parser.parse_args(argv)
    found = []
    for mode, settings in rows():
        accuracies = [learned(mode, settings, args.samples, seed, example.test_split(NAME))
                      for seed in args.seeds]
        found.append({"mode": mode, "settings": asdict(settings), "accuracies": accuracies,
                      "accuracy": float(np.mean(accuracies))})
        print(f"{mode}: {found[-1]['accuracy']:.1f} %, {settings}", flush=True)
    args.output.write_text(json.dumps({
        "example": NAME, "samples": args.samples, "seeds": args.seeds,
        "test_samples": len(example.test_split(NAME)[1]),
        "versions": {name: version(name) for name in ("hwgen", "numpy")}, "rows": found},
        indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Train the checkpoints from which the firmware's examples start: python -m examples.pretrain mnist

In integers alone, or with `--mode float32` in floats, by the firmware itself on this machine, on
undisturbed training samples.
"""
import argparse
import tempfile
from pathlib import Path

import numpy as np

from hwgen import data
from hwgen.firmware import Firmware, example, generate, save
from hwgen.firmware.state import unpack

SEED = 1


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.pretrain", description=__doc__)
    parser.add_argument("name", choices=[name for name, task in example.TASKS.items()
                                         if task.pretraining])
    parser.add_argument("--mode", choices=["integer", "float32"], default="integer")
    parser.add_argument("-o", "--output", type=Path, default=example.CHECKPOINTS)
    args = parser.parse_args(argv)
    task, dataset = example.task(args.name), data.load(args.name)
    settings, epochs = task.pretraining[args.mode]
    x, y = dataset.training()
    state = example.random_state(task.layers, SEED, x.mean(0), args.mode)
    with tempfile.TemporaryDirectory() as folder:
        generate(task.layers, state, folder, settings=settings)
        firmware = Firmware(folder)
    rng = np.random.default_rng(SEED)
    for epoch in range(epochs):
        for n in example.order(rng, y, len(y), task.balanced):
            firmware.train_step(x[n], y[n])
        shown = [f"{example.accuracy(firmware.predict(a), b, task.balanced):.1f} % {what}"
                 for what, (a, b) in (("validation", dataset.validation()),
                                      ("known test", dataset.known()))]
        print(f"epoch {epoch + 1} of {epochs}: {', '.join(shown)}")
    path = save(args.output / example.checkpoint(args.name, args.mode).name, task.layers,
                unpack(task.layers, state, firmware.state()))
    print(path)


if __name__ == "__main__":
    main()

"""Samples per second of the compiled golden model, on one core of this machine.

    python -m examples.bench -o bench.json

Rule np with 8 probes on the first and the last layer of each example, noise of 0.3 of full scale.
The best of several runs, since other programs only ever slow one down; compilation comes before.
"""
import argparse
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from firmware_models.fast import FastLearner
from firmware_models.settings import Settings
from hwgen import data, example
from hwgen.recover import stream

RUNS = 5
PROBES = 8
DISTURBANCE = "noise:0.3"


def measure(name: str, samples: int, seed: int) -> dict:
    """One example: the best samples per second of RUNS runs."""
    with tempfile.TemporaryDirectory() as folder:
        network, _ = example.prepare(name, Path(folder), ["fc1", "fc3"])
    x, y = stream(data.load(name), DISTURBANCE, samples, seed)
    learner = FastLearner(network, Settings(layers=network.trainable, probes=PROBES, seed=seed))
    learner.learn(x[:1], y[:1])
    seconds = []
    for _ in range(RUNS):
        begun = perf_counter()
        learner.learn(x, y)
        seconds.append(perf_counter() - begun)
    sizes = [network.n_in, *(stage.dense.n_out for stage in network.stages)]
    return {"example": name, "sizes": sizes, "layers": list(network.trainable), "probes": PROBES,
            "samples": samples, "samples_per_second": round(samples / min(seconds))}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rows = [measure(name, args.samples, args.seed) for name in example.NAMES]
    for row in rows:
        print(f"{row['example']}: {row['samples_per_second']:,} samples/s")
    args.output.write_text(json.dumps({
        "rows": rows, "disturbance": DISTURBANCE, "runs": RUNS, "seed": args.seed, "cores": 1,
        "machine": platform.machine(), "python": platform.python_version(),
        "versions": {n: version(n) for n in ("hwgen", "numpy", "numba", "llvmlite")}},
        indent=1) + "\n")


if __name__ == "__main__":
    main()

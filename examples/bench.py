"""Samples and passes per second of the compiled golden models, on one core of this machine.

    python -m examples.bench -o bench.json

Each example's own disturbance; rule np with 8 probes on the first and the last layer, rule es with
one pair on all layers and with 4 on the last one. Processor time, the best of several runs, since
other programs only ever slow one down; compilation comes before. The plain model runs beside.
"""
import argparse
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import process_time

from firmware_models.fast import FastLearner
from firmware_models.fast_evolution import FastEvolution
from firmware_models.learner import Learner
from firmware_models.settings import Settings
from hwgen import data, example
from hwgen.recover import stream

RUNS = 5
PLAIN_SAMPLES = 60
CASES = (
    (FastLearner, ("fc1", "fc3"), {"rule": "np", "probes": 8}),
    (FastEvolution, ("fc1", "fc2", "fc3"), {"rule": "es", "pairs": 1}),
    (FastEvolution, ("fc3",), {"rule": "es", "pairs": 4}),
)


def measure(name: str, kind, trained, options: dict, samples: int, seed: int) -> dict:
    """One example and case: the best of RUNS runs."""
    with tempfile.TemporaryDirectory() as folder:
        network, _ = example.prepare(name, Path(folder), list(trained))
    x, y = stream(data.load(name), example.EXPERIMENTS[name]["disturb"], samples, seed)
    settings = Settings(layers=network.trainable, seed=seed, **options)
    rates = []
    for model, count in ((kind, samples), (Learner, PLAIN_SAMPLES)):
        learner = model(network, settings)
        learner.learn(x[:2], y[:2])
        before, seconds = learner.state.passes, []
        for _ in range(RUNS):
            begun = process_time()
            learner.learn(x[:count], y[:count])
            seconds.append(process_time() - begun)
        passes = (learner.state.passes - before) / RUNS
        rates.append((round(count / min(seconds)), round(passes / min(seconds))))
    sizes = [network.n_in, *(stage.dense.n_out for stage in network.stages)]
    return {"example": name, "sizes": sizes, "layers": list(network.trainable), **options,
            "samples": samples, "samples_per_second": rates[0][0],
            "passes_per_second": rates[0][1], "plain_samples_per_second": rates[1][0],
            "plain_passes_per_second": rates[1][1]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rows = [measure(name, *case, args.samples, args.seed)
            for name in example.NAMES for case in CASES]
    for row in rows:
        print(f"{row['example']}, {row['rule']} on {len(row['layers'])} layer(s): "
              f"{row['samples_per_second']:,} samples/s, {row['passes_per_second']:,} passes/s; "
              f"plain {row['plain_passes_per_second']:,} passes/s")
    args.output.write_text(json.dumps({
        "rows": rows, "runs": RUNS, "seed": args.seed, "cores": 1,
        "machine": platform.machine(), "python": platform.python_version(),
        "versions": {n: version(n) for n in ("hwgen", "numpy", "numba", "llvmlite")}},
        indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The runs behind docs/results.md.

    python -m examples.study -o docs/results/study.json [--only main table ...]

Every rule runs on its compiled golden model, which tests elsewhere hold equal to the Verilated
core. Settings were chosen on validation samples, which are those of `settings`, `choice` and
`parts`; accuracies of `main`, `table` and `errors` are of test samples.
"""
import argparse
import functools
import json
import os
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from firmware_models.compiled import Compiled
from firmware_models.cycles import CycleModel
from firmware_models.dense import forward
from firmware_models.fast import FastLearner
from firmware_models.fast_evolution import FastEvolution
from firmware_models.line_rate_cycles import interval
from firmware_models.network import Network
from firmware_models.settings import Settings
from hwgen import data, example
from hwgen.recover import DEFAULTS, TEST_NOISE_SEED, stream
from hwgen.sweep import VALIDATION_NOISE_SEED

from .ablation import VARIANTS, Variant, learn, learner_of

RESIDUAL = 4
LAYERS = ("fc1", "fc3")
# Chosen on validation samples for all examples at once; what an example alone needs is below.
NP = {"lr_shift": 9, "head_shift": 7, "sigma_log2": 5, "probes": 8}
NP_OF = {"ecg": {"sigma_log2": 4, "skip": 64}}
LAYERS_OF = {"ecg": ("fc1", "fc2", "fc3")}
EVERY = ("fc1", "fc2", "fc3")
# Where the last layer alone is not enough for es: found on the field's validation samples.
ES_EVERY_OF = ("ecg",)
ES_EVERY = {"pairs": 8, "batch": 8, "fitness": "rank", "sigma_log2": 2, "lr_shift": 7}

MAIN = ("mnist", "noise:0.3")
MAIN_POINTS = (250, 500, 1000, 2000, 4000, 16000, 64000)
POINTS = (500, 2000, 16000)
PARTS_POINTS = (1000, 4000)
SETTINGS_POINTS = (*PARTS_POINTS, 16000)
TABLE = (MAIN, ("mnist", "stuck:0.2"), ("mnist", "impulse:0.2"), ("mnist", "rotate:30"),
         ("mnist", "invert"), ("fashion", "noise:0.3"), ("speech", "none"), ("ecg", "none"))
PROBES = (1, 4, 8, 16, 32)
TEST_SEEDS, VALIDATION_SEEDS = (1, 2, 3, 4, 5), (101, 102, 103)
FLIPPED, STUCK = 0.01, 0.1      # of the stored bits; of the first layer's nodes

ROUNDS, ROUND = 20, 20_000      # of float training: a round's noise is its own
ADAM_RATE, ADAM_BATCH = 1e-3, 50
CLOCKED = 400                   # samples to count the cycles of

_load = functools.cache(data.load)
FOLDER = Path("build") / "study"


@functools.cache
def network_of(name: str, layers: tuple[str, ...]) -> Network:
    return example.prepare(name, FOLDER / name, train=list(layers))[0]


def core_seed(seed: int) -> int:
    """As in the recovery experiment."""
    return 0x9E3779B9 * seed % 0xFFFFFFFF + 1


def judged_by(name: str, disturbance: str, seed: int, split: str):
    """Samples [n, n_in] and labels of a split, as the sensor of the stream `seed` delivers them."""
    dataset = _load(name)
    x, y = (dataset.x_test, dataset.y_test) if split == "test" else dataset.field_validation()
    noise = TEST_NOISE_SEED if split == "test" else VALIDATION_NOISE_SEED
    return data.disturb(x, disturbance, noise, sensor=seed).astype(np.int64), y


def scores(predicted, y) -> list[float]:
    """Percent right, and the mean of the classes' percents."""
    right = predicted == y
    return [float(100 * right.mean()),
            float(np.mean([100 * right[y == c].mean() for c in np.unique(y)]))]


def judge(network: Network, x, y) -> list[float]:
    return scores(forward(network, x).argmax(-1), y)


# One run each; joblib spreads them over the cores.

def run_np(network, disturbance, options, seed, points, split="test", residual=RESIDUAL):
    """Curve of (samples, percent, mean of classes) of rule np."""
    settings = Settings(layers=network.trainable, seed=core_seed(seed), **options)
    return curve_of(FastLearner(network, settings, residual), disturbance, seed, points, split)


def curve_of(learner, disturbance, seed, points, split="test", learn=Compiled.learn):
    name = learner.network.name
    x, y = stream(_load(name), disturbance, points[-1], seed)
    held = judged_by(name, disturbance, seed, split)
    curve = [[0, *judge(learner.deployed_network(), *held)]]
    for start, end in zip((0, *points), points, strict=False):
        learn(learner, x[start:end], y[start:end])
        curve.append([end, *judge(learner.deployed_network(), *held)])
    return {"seed": seed, "curve": curve}


def run_es(network, disturbance, options, seed, points, np_cycles, split="test"):
    """Curve of rule es, and where it is in as many cycles as rule np takes.

    `np_cycles` are those of a sample with rule np.
    """
    settings = Settings(rule="es", layers=network.trainable, seed=core_seed(seed), **options)
    cycles = CycleModel(network).run(CLOCKED, settings).clock_cycles / CLOCKED
    same = {n: round(n * np_cycles / cycles) for n in points}
    found = curve_of(FastEvolution(network, settings, RESIDUAL), disturbance, seed,
                     sorted({*points, *same.values()}), split)
    at = {n: reached for n, *reached in found["curve"]}
    return {"seed": seed, "cycles_per_sample": cycles,
            "curve": [[n, *at[n]] for n in (0, *points)],
            "at_cycles": [[n, same[n], *at[same[n]]] for n in points]}


def run_float(network, disturbance, seed, visit=None):
    """What float weights of the same layers reach by backpropagation: Adam, falling rate.

    Every round shuffles the field anew and, unlike the stream, disturbs it anew. The best round on
    the validation samples is the result. `visit` is called after each step with the samples so far
    and the float weights [n_in, n_out] and biases [n_out] of all stages.
    """
    x_field, y_field = _load(network.name).field()
    splits = {split: judged_by(network.name, disturbance, seed, split)
              for split in ("validation", "test")}
    unit, last = np.float32(2.0 ** -network.input.frac), len(network.stages) - 1
    parts = [[np.float32(codes * 2.0 ** -of.frac) for codes, of in (
        (dense.weight_codes.T, dense.weight), (dense.bias_codes, dense.bias))]
        for dense in (stage.dense for stage in network.stages)]
    mean, square = ({(i, k): np.zeros_like(parts[i][k]) for i in network.trainable
                     for k in (0, 1)} for _ in range(2))
    rng, step, best = np.random.default_rng(seed), 0, (-1.0, None)

    def passes(h):
        """Inputs of every stage, and the logits."""
        inputs = [h]
        for w, b in parts[:-1]:
            inputs.append(np.maximum(inputs[-1] @ w + b, 0))
        return inputs, inputs[-1] @ parts[-1][0] + parts[-1][1]

    for n in range(ROUNDS):
        order = np.resize(rng.permutation(len(x_field)), ROUND)
        x = data.disturb(x_field[order], disturbance, seed + 1000 * (n + 1), sensor=seed)
        for start in range(0, ROUND, ADAM_BATCH):
            batch = slice(start, start + ADAM_BATCH)
            inputs, logits = passes(x[batch] * unit)
            p = np.exp2(logits - logits.max(1, keepdims=True))
            error = p / p.sum(1, keepdims=True)
            error[np.arange(ADAM_BATCH), y_field[order[batch]]] -= 1
            gradients = {}
            for i in range(last, min(network.trainable) - 1, -1):
                if i in network.trainable:
                    gradients[i, 0] = inputs[i].T @ error / ADAM_BATCH
                    gradients[i, 1] = error.mean(0)
                error = error @ parts[i][0].T * (inputs[i] > 0) if i else None
            step += 1
            rate = ADAM_RATE * (1 - step * ADAM_BATCH / (ROUNDS * ROUND))
            for at, gradient in gradients.items():
                mean[at] += 0.1 * (gradient - mean[at])
                square[at] += 0.001 * (gradient ** 2 - square[at])
                parts[at[0]][at[1]] -= np.float32(rate / (1 - 0.9 ** step)) * mean[at] / (
                    np.sqrt(square[at] / np.float32(1 - 0.999 ** step)) + np.float32(1e-8))
            if visit:
                visit(step * ADAM_BATCH, parts)
        reached = {split: scores(passes(x * unit)[1].argmax(1), y)
                   for split, (x, y) in splits.items()}
        if reached["validation"][1] > best[0]:
            best = reached["validation"][1], reached["test"]
    return {"seed": seed, "accuracy": best[1]}


def run_error(network, kind, options, seed):
    """Clean input; an error strikes, and the core learns on."""
    rng = np.random.default_rng(seed)
    before = judge(network, *judged_by(network.name, "none", seed, "test"))
    if kind == "nodes":
        # A node stuck at zero is one whose outgoing weights, in a layer that stays, are zero.
        stuck = rng.permutation(network.stages[0].dense.n_out)
        codes = network.stages[1].dense.weight_codes.copy()
        codes[:, stuck[:round(STUCK * len(stuck))]] = 0
        network = replace(network, layers=tuple(
            replace(layer, weight_codes=codes) if layer.name == "fc2" else layer
            for layer in network.layers))
    learner = FastLearner(network, Settings(layers=network.trainable, seed=core_seed(seed),
                                            **options), RESIDUAL)
    if kind == "bits":
        learner.load(*struck(network, learner.state.weights, learner.state.biases, FLIPPED,
                             rng))
    return {"before": before} | curve_of(learner, "none", seed, POINTS)


def struck(network, weights: dict, biases: dict, fraction: float, rng) -> list[dict]:
    """Masters by stage, with the fraction of each array's bits inverted."""
    return [{i: flipped(masters, getattr(network.stages[i].dense, kind).width + RESIDUAL, rng,
                        fraction) for i, masters in of.items()}
            for kind, of in (("weight", weights), ("bias", biases))]


def flipped(masters, width: int, rng, fraction: float = FLIPPED) -> np.ndarray:
    """Masters of `width` bits with the fraction of all bits inverted."""
    masters = np.asarray(masters)
    bits = rng.permutation(masters.size * width)[:round(fraction * masters.size * width)]
    words = masters.ravel() & (1 << width) - 1
    np.bitwise_xor.at(words, bits // width, 1 << bits % width)
    return (words - (words >> width - 1 << width)).reshape(masters.shape)


def run_part(network, variant: Variant, disturbance, options, seed):
    """Validation curve of a changed golden model."""
    settings = Settings(layers=network.trainable, seed=core_seed(seed), **options)
    return curve_of(learner_of(variant, network, settings), disturbance, seed, PARTS_POINTS,
                    "validation", partial(learn, variant))


# Sections: rows whose runs are (function, arguments) of each seed.

def options_of(name: str) -> dict:
    return NP | NP_OF.get(name, {})


def layers_of(name: str) -> tuple[str, ...]:
    return LAYERS_OF.get(name, LAYERS)


def row(title, rule, network, disturbance, options, runs, **more) -> dict:
    return {"title": title, "rule": rule, "example": network.name, "disturbance": disturbance,
            "layers": [network.stages[i].dense.name for i in network.trainable],
            "settings": options, "network": network.digest(), "runs": runs, **more}


def np_row(title, name, disturbance, seeds, points, *, layers=None, split="test",
           residual=RESIDUAL, **options):
    network, options = network_of(name, layers or layers_of(name)), options_of(name) | options
    settings = Settings(layers=network.trainable, **options)
    return row(title, "np", network, disturbance, options,
               [(run_np, network, disturbance, options, seed, points, split, residual)
                for seed in seeds], residual=residual,
               cycles_per_sample=interval(network, settings))


def main_rows(seeds):
    return [np_row(f"K = {k}", *MAIN, seeds or TEST_SEEDS, MAIN_POINTS, probes=k) for k in PROBES]


def table_rows(seeds):
    seeds, rows = seeds or TEST_SEEDS[:3], []
    for name, disturbance in TABLE:
        points = MAIN_POINTS if (name, disturbance) == MAIN else POINTS
        own = np_row("np", name, disturbance, seeds, points)
        network = network_of(name, layers_of(name))
        rows += [own, row("ceiling", "float", network, disturbance, {}, [
            (run_float, network, disturbance, seed) for seed in seeds])]
        for rule, layers, options in (
                ("es", LAYERS[-1:], DEFAULTS["es"]), ("qzo", LAYERS[-1:], DEFAULTS["qzo"]),
                ("es", EVERY, ES_EVERY), ("qzo", EVERY, DEFAULTS["qzo"])):
            if layers == EVERY and name not in ES_EVERY_OF:
                continue
            network = network_of(name, layers)
            rows.append(row(rule, rule, network, disturbance, options, [
                (run_es, network, disturbance, options, seed,
                 [n for n in points if n <= POINTS[-1]], own["cycles_per_sample"])
                for seed in seeds], residual=RESIDUAL))
    return rows


def error_rows(seeds):
    titles = {"bits": f"{100 * FLIPPED:g} % of the bits of the trained layers inverted",
              "nodes": f"{100 * STUCK:g} % of the nodes of fc1 stuck at 0"}
    network, options = network_of(MAIN[0], layers_of(MAIN[0])), options_of(MAIN[0])
    return [row(title, "np", network, "none", options,
                [(run_error, network, kind, options, seed) for seed in seeds or TEST_SEEDS[:3]],
                residual=RESIDUAL) for kind, title in titles.items()]


def setting_rows(seeds):
    own = options_of(MAIN[0])
    changes = [("as chosen", {})]
    changes += [(f"K = {k}", {"probes": k}) for k in PROBES if k != own["probes"]]
    changes += [(f"R = {r}", {"residual": r}) for r in (2, 8)]
    changes += [(f"{key} = {own[key] + step}", {key: own[key] + step})
                for key in ("sigma_log2", "lr_shift", "head_shift") for step in (-1, 1)
                if not (key == "sigma_log2" and own[key] + step > 7)]
    changes += [(f"skip = {s / 256:g} bit", {"skip": s}) for s in (16, 64, 256)]
    changes += [("lr_decay = 8000", {"lr_decay": 8000})]
    changes += [(", ".join(EVERY), {"layers": EVERY}),
                (", ".join(EVERY) + ", hidden ones in turn", {"layers": EVERY, "turn": True}),
                ("fc1 alone", {"layers": ("fc1",)}), ("fc3 alone", {"layers": ("fc3",)})]
    return [np_row(title, *MAIN, seeds or VALIDATION_SEEDS, SETTINGS_POINTS, split="validation",
                   **change) for title, change in changes]


def choice_rows(seeds):
    """Why one amplitude serves all examples but `ecg`, and what that one needs."""
    def one(name, disturbance, title, **change):
        return np_row(f"`{name}` {disturbance}, {title}", name, disturbance,
                      seeds or VALIDATION_SEEDS, POINTS, split="validation", **change)
    rows = [one(name, disturbance, f"`sigma_log2` {sigma}", sigma_log2=sigma)
            for name, disturbance in TABLE if name not in NP_OF for sigma in (4, 5, 6)]
    for layers in (LAYERS, EVERY):
        rows += [one("ecg", "none", f"{', '.join(layers)}, `sigma_log2` {sigma}, `skip` {skip}",
                     layers=layers, sigma_log2=sigma, skip=skip)
                 for sigma, skip in ((5, 0), (4, 0), (4, 64))]
    return rows


def part_rows(seeds):
    network, options = network_of(MAIN[0], layers_of(MAIN[0])), options_of(MAIN[0])
    return [row(variant.name, "np", network, MAIN[1], options,
                [(run_part, network, variant, MAIN[1], options, seed)
                 for seed in seeds or VALIDATION_SEEDS], residual=variant.residual)
            for variant in VARIANTS]


SECTIONS = {"main": main_rows, "table": table_rows, "errors": error_rows,
            "settings": setting_rows, "choice": choice_rows, "parts": part_rows}


def execute(rows: list[dict], jobs: int, title: str) -> list[dict]:
    """The rows with the results of their runs."""
    calls = [call for one in rows for call in one["runs"]]
    results = []
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(),
                  TimeElapsedColumn()) as progress:
        task = progress.add_task(title, total=len(calls))
        for result in joblib.Parallel(n_jobs=jobs, return_as="generator")(
                joblib.delayed(function)(*arguments) for function, *arguments in calls):
            results.append(result)
            progress.advance(task)
    for one in rows:
        count = len(one["runs"])
        one["runs"], results = results[:count], results[count:]
        one["seeds"] = [run["seed"] for run in one["runs"]]
    return rows


def section(name: str, seeds, jobs: int) -> dict:
    return {"command": f"python -m examples.study -o docs/results/study.json --only {name}",
            "rows": execute(SECTIONS[name](seeds), jobs, name),
            "versions": {n: version(n) for n in ("hwgen", "hls4ml", "numpy", "numba")}}


def sets() -> dict:
    """What the streams draw from, and what judges them."""
    found = {}
    for name in dict.fromkeys(name for name, _ in TABLE):
        dataset = _load(name)
        found[name] = {"field": len(dataset.field()[1]), "test": len(dataset.y_test),
                       "validation": len(dataset.field_validation()[1]),
                       "known": judge(network_of(name, LAYERS), *(
                           np.asarray(part, np.int64) for part in dataset.known()))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.study", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--seeds", type=int, nargs="+", help="each section's own by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    study = json.loads(args.output.read_text()) if args.output.exists() else {}
    study |= {"sets": sets(), "np": {"settings": NP, "of": NP_OF, "layers": LAYERS,
                                     "layers_of": LAYERS_OF, "residual": RESIDUAL},
              "float": {"rounds": ROUNDS, "samples": ROUND, "rate": ADAM_RATE,
                        "batch": ADAM_BATCH}}
    for name in args.only:
        study[name] = section(name, args.seeds, args.jobs)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(study, indent=1) + "\n")


if __name__ == "__main__":
    # Under its own name: processes then import the functions, with their caches.
    from examples import study
    study.main()

"""What every rule and every option reaches per forward pass: the ablation behind docs/options.md.

    python -m examples.forwards -o docs/results/forwards.json [--only NAME ...] [--data NAME ...]

Each row is a rule with an option on or off. Amplitude and rate of every row are chosen on the
validation samples of every data set by the same grid, then run on other seeds and judged by the
test samples. A pass of a sample through the network counts as a forward, whatever it is for: the
base pass, and each probe. All of it runs on the compiled golden models, which tests hold equal to
the Verilated core.
"""
import argparse
import functools
import itertools
import json
import os
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from firmware_models.fast import FastLearner
from firmware_models.fast_evolution import FastEvolution
from firmware_models.settings import Settings
from hwgen import example
from hwgen.recover import FAMILY, settings_for, stream

from .study import EVERY, FOLDER, _load, core_seed, judge, judged_by, layers_of, options_of

DATA = (("mnist", "noise:0.3"), ("fashion", "noise:0.3"), ("speech", "none"), ("ecg", "none"))
POINTS = (1000, 2000, 4000, 8000, 16000, 32000, 64000)      # forwards
FURTHER = (128_000, 256_000, 512_000)                       # where they are cheap
TUNED_AT = 32_000
TUNED_ON = {"fashion": "mnist"}  # the same sizes and noise: settings are those of the other set
RECOVERED = 0.9                 # of what backpropagation recovers
SEEDS, VALIDATION_SEED = (1, 2, 3), 101
HEAD, MAX_PAIRS = ("fc3",), 16
# Amplitudes, and the steps of a probe's sign in weight steps as binary logarithms.
SIGMAS, STEPS = (0, 1, 2, 3), (-1, -2, -3, -4)
VOTES = (3, 5, 6)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Parameters
    ----------
    name, rule : str
    layers : tuple of str
        Those that learn; "prompt" the input prompt.
    options : dict
        Settings that are not tuned.
    residual, weight_bits : int
    base : str
        The row that differs from this one by the option alone.
    """
    name: str
    rule: str
    layers: tuple[str, ...] = EVERY
    options: dict = field(default_factory=dict)
    residual: int = 4
    weight_bits: int = 8
    base: str = ""


def with_option(name: str, base: Row, **changes) -> Row:
    parts = {key: changes.pop(key) for key in ("layers", "residual", "weight_bits")
             if key in changes}
    return Row(name, base.rule, options=base.options | changes, base=base.name,
               **{key: getattr(base, key) for key in ("layers", "residual", "weight_bits")} | parts)


QZO = Row("qzo, 8w8a, R = 4", "qzo", options={"pairs": 1})
PLAIN = Row("qzo, 8w8a, R = 0", "qzo", options={"pairs": 1, "rounding": "nearest"}, residual=0)
FOUR = with_option("qzo, m = 4", QZO, pairs=4)
ES = Row("es, rank", "es", options={"pairs": 8, "batch": 8, "fitness": "rank"})
ROWS = (
    Row("np, K = 8", "np"), Row("delta", "delta", HEAD),
    Row("qzo, 16w8a", "qzo", options={"pairs": 1}, residual=0, weight_bits=16),
    QZO, PLAIN,
    with_option("R = 0, whole steps", PLAIN, rounding="feedback"),
    with_option("R = 0, stochastic", PLAIN, rounding="stochastic"),
    with_option("R = 0, pseudo-stochastic", PLAIN, rounding="pseudo"),
    with_option("R = 0, residual replayed", PLAIN, rounding="replay"),
    FOUR, with_option("m = 16", FOUR, pairs=16),
    with_option("sharpness-aware, m = 4", FOUR, sharp=2),
    with_option("momentum-guided", QZO, momentum=True),
    with_option("sparse, hash", QZO, sparse="hash"),
    with_option("sparse, static", QZO, sparse="static"),
    with_option("kernel", QZO, kernel=True),
    with_option("rank 1", QZO, rank1=True),
    with_option("linear probe", QZO, layers=HEAD),
    with_option("bias only", QZO, sparse="biases"),
    with_option("input prompt", QZO, layers=("prompt",)),
    ES, with_option("es, sign", ES, fitness="sign"),
    with_option("es, z-score", ES, fitness="zscore"),
    with_option("es, best", ES, fitness="best"),
    with_option("es, votes", ES, fitness="sign", vote=8),
    with_option("es, rate and amplitude decay", ES, lr_decay=100, sigma_decay=True),
    with_option("es, linear probe", ES, layers=HEAD),
)


@functools.cache
def network_of(name: str, layers: tuple[str, ...], weight_bits: int):
    return example.prepare(name, FOLDER / name, train=list(layers),
                           weight_bits=weight_bits if weight_bits > 8 else None)[0]


def candidates(row: Row) -> list[dict]:
    """Settings among which the validation samples choose."""
    if FAMILY[row.rule] == "np":            # examples/study.py chose these
        return [{}]
    if row.options.get("vote"):             # a fitness of 1 is a master step, votes count these
        return [{"sigma_log2": sigma, "vote": vote, "lr_shift": 7}
                for sigma, vote in itertools.product(SIGMAS, VOTES)]
    if row.options.get("rounding") == "feedback" and not row.residual:
        return [{"sigma_log2": sigma, "lr_shift": 7} for sigma in SIGMAS]
    # A sign moves a master by 2**(7 - lr_shift) steps; many pairs add up, and so do ranks.
    pairs = row.options["pairs"].bit_length() - 1
    ranks = (pairs - 1) * (row.options.get("fitness") == "rank")
    least = 7 - row.residual - (row.weight_bits - 8) + pairs // 2 + ranks
    limit = (12 if "rounding" in row.options else 8) + ranks    # beyond, a sign moves nothing
    shifts = sorted({min(max(least - step, 0), limit) for step in STEPS})
    return [{"sigma_log2": sigma, "lr_shift": shift}
            for sigma, shift in itertools.product(SIGMAS, shifts)]


def settings_of(row: Row, network, tuned: dict, seed: int) -> Settings:
    known = options_of(network.name) if row.rule == "np" else {}
    options = {name: value for name, value in known.items() if name in ("sigma_log2", "lr_shift",
               "head_shift", "probes", "skip")} | row.options | tuned
    return settings_for(row.rule, network.trainable, seed=core_seed(seed), **options)


def cost(settings: Settings, network) -> int:
    """Forwards of a sample that is learned from."""
    if settings.rule == "es":
        return 1 + 2 * settings.pairs
    return 1 + settings.probes * len(set(settings.layers) & set(network.hidden))


def learner_of(network, settings: Settings, residual: int):
    if settings.rule == "np":
        return FastLearner(network, settings, residual)
    return FastEvolution(network, settings, residual, max_pairs=MAX_PAIRS,
                         momentum=settings.momentum)


def run(row: Row, name: str, disturbance: str, tuned: dict, seed: int, points, split: str) -> dict:
    """Curve of (forwards, percent, mean of the classes' percents)."""
    layers = layers_of(name) if row.rule == "np" else row.layers
    network = network_of(name, layers, row.weight_bits)
    settings = settings_of(row, network, tuned, seed)
    learner = learner_of(network, settings, row.residual)
    held, each = judged_by(name, disturbance, seed, split), cost(settings, network)
    ends = [forwards // each for forwards in points]
    x, y = stream(_load(name), disturbance, ends[-1], seed)
    curve = [[0, *judge(learner.deployed_network(), *held)]]
    for start, end, forwards in zip((0, *ends), ends, points, strict=False):
        learner.learn(x[start:end], y[start:end])
        curve.append([forwards, *judge(learner.deployed_network(), *held)])
    return {"seed": seed, "forwards_per_sample": each, "curve": curve}


def score(name: str) -> int:
    """Which number of a point counts: the classes of ecg are not as frequent as each other."""
    return 2 if name == "ecg" else 1


def execute(calls: list[tuple], jobs: int, title: str) -> list[dict]:
    if not calls:
        return []
    found = []
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(),
                  TimeElapsedColumn()) as progress:
        task = progress.add_task(title, total=len(calls))
        for one in joblib.Parallel(n_jobs=jobs, return_as="generator")(
                joblib.delayed(run)(*call) for call in calls):
            found.append(one)
            progress.advance(task)
    return found


def ablation(rows, sets, jobs: int, found: dict) -> list[dict]:
    """Tunes and runs every row on every data set, but what `found` has already."""
    tasks = [(row, *where) for row in rows for where in sets]
    kept = {(row.name, name): found[row.name, name] for row, name, _ in tasks
            if found.get((row.name, name), {}).get("row") == json.loads(json.dumps(asdict(row)))}

    def choices(row, name):
        return [found[row.name, TUNED_ON[name]]["settings"]] if name in TUNED_ON \
            else candidates(row)

    known = {(key, json.dumps(settings)): percent for key, one in kept.items()
             for percent, settings in one["tried"]}
    missing = [(row, name, disturbance, tuned) for row, name, disturbance in tasks
               for tuned in choices(row, name) if len(choices(row, name)) > 1
               and ((row.name, name), json.dumps(tuned)) not in known]
    for (row, name, _, tuned), one in zip(missing, execute(
            [(*call, VALIDATION_SEED, (TUNED_AT,), "validation") for call in missing], jobs,
            "choosing settings"), strict=True):
        known[(row.name, name), json.dumps(tuned)] = one["curve"][-1][score(name)]
    results, calls = [], []
    for row, name, disturbance in tasks:
        among = choices(row, name)
        tried = [(known.get(((row.name, name), json.dumps(one))), one) for one in among]
        settings = max(tried, key=lambda one: one[0])[1] if len(among) > 1 else among[0]
        same = kept.get((row.name, name), {}).get("settings") == settings
        results.append({"row": asdict(row), "data": name, "disturbance": disturbance,
                        "settings": settings, "tried": tried,
                        "runs": kept[row.name, name]["runs"] if same else []})
        calls += [(row, name, disturbance, settings, seed,
                   POINTS + FURTHER * (FAMILY[row.rule] == "np"), "test")
                  for seed in SEEDS if not same]
    runs = iter(execute(calls, jobs, "learning"))
    for one in results:
        one["runs"] = one["runs"] or [next(runs) for _ in SEEDS]
    return results


def ceilings() -> dict[str, list[float]]:
    """Before, and what backpropagation in float reaches, from docs/results/study.json."""
    study = json.loads(Path("docs/results/study.json").read_text())["table"]["rows"]
    found = {}
    for name, disturbance in DATA:
        mine = [row for row in study if (row["example"], row["disturbance"]) == (name, disturbance)]
        of = {row["rule"]: row["runs"] for row in mine if row["rule"] in ("np", "float")}
        found[name] = [float(np.mean([run["curve"][0][score(name)] for run in of["np"]])),
                       float(np.mean([run["accuracy"][score(name) - 1] for run in of["float"]]))]
    return found


def reached(points: list[list[float]], threshold: float) -> int | None:
    """Forwards at which a curve of (forwards, percent) crosses, between points by logarithm."""
    for (n0, a0), (n1, a1) in zip(points, points[1:], strict=False):
        if a1 >= threshold:
            share = (threshold - a0) / (a1 - a0) if a1 > a0 else 1.0
            return round(n1 * (n0 / n1) ** (1 - share)) if n0 else n1
    return None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.forwards", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows, as the table names them")
    parser.add_argument("--data", nargs="+", choices=[name for name, _ in DATA])
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    rows = [row for row in ROWS if not args.only or row.name in args.only]
    sets = [one for one in DATA if not args.data or one[0] in args.data]
    kept = json.loads(args.output.read_text())["results"] if args.output.exists() else []
    found = {(one["row"]["name"], one["data"]): one for one in kept}
    # What others are tuned on goes first.
    for part in ([one for one in sets if one[0] not in TUNED_ON],
                 [one for one in sets if one[0] in TUNED_ON]):
        new = ablation(rows, part, args.jobs, found) if part else []
        found |= {(one["row"]["name"], one["data"]): one for one in new}
    order = [(row.name, name) for name, _ in DATA for row in ROWS]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({
        "command": "python -m examples.forwards -o docs/results/forwards.json",
        "seeds": SEEDS, "validation_seed": VALIDATION_SEED, "tuned_at": TUNED_AT,
        "levels": ceilings(), "results": [found[key] for key in order if key in found],
        "versions": {n: version(n) for n in ("hwgen", "hls4ml", "numpy", "numba")}},
        indent=1) + "\n")


if __name__ == "__main__":
    # Under its own name: processes then import the functions, with their caches.
    from examples import forwards
    forwards.main()

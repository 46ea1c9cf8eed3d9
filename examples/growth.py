"""How the cost of learning grows: with the network, its lanes, its pairs and its probes.

    python -m examples.growth -o docs/results/growth.json [--only NAME ...]

Yosys counts the blocks that are there for learning, in networks whose weights are 0. Engines,
buffers and what else inference needs are left out; in `mnist` learning adds few LUTs to them.
"""
import argparse
import json
from pathlib import Path
from time import perf_counter

import numpy as np

from firmware_models.activation import Relu
from firmware_models.cycles import CycleModel
from firmware_models.formats import Fixed
from firmware_models.line_rate_cycles import shadow
from firmware_models.network import Dense, Network
from firmware_models.settings import Settings
from hwgen import report
from hwgen.build import build
from hwgen.recover import core_for
from hwgen.report.resources import MEMORY_LUTS

FOLDER = Path("build") / "growth"
WITHOUT = ("engine*", "buffer*", "readout*", "sample_input*")
SAMPLES = 64
# Name: sizes of the layers, rule, pairs that the core can hold. An input a cycle enters each layer,
# so its lanes are its nodes. What takes longest is last.
POINTS = {
    **{f"{lanes} lanes": ((64, lanes, 10), "np", 1) for lanes in (8, 16, 32, 64)},
    **{f"{pairs} pairs": ((64, 8, 10), "es", pairs) for pairs in (1, 8, 32)},
    "784-32-10": ((784, 32, 10), "np", 1),
    "784-64-32-10": ((784, 64, 32, 10), "np", 1),
    "784-128-64-10": ((784, 128, 64, 10), "np", 1),
}
PROBES = (0, 1, 2, 4, 8, 16, 32)
FITTED = ("8 lanes", "16 lanes", "32 lanes")
PREDICTED = "64 lanes"


def network(sizes) -> Network:
    """First and last layer trainable, an input a cycle, weights 0."""
    weight, bias, hidden = Fixed(8, 6), Fixed(8, 5), Fixed(8, 4, False, "RND", "SAT")
    logits = Fixed(16, 8, True, "RND", "SAT")
    source = Fixed(8, 8, signed=False)
    layers, count = [], len(sizes) - 1
    for k, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        last = k == count - 1
        accum = Fixed(source.width + weight.width + n_in.bit_length() + 2,
                      source.frac + weight.frac)
        layers.append(Dense(
            name=f"fc{k + 1}", n_in=n_in, n_out=n_out,
            reuse_factor=n_in, weight=weight, bias=bias, accum=accum,
            result=logits if last else accum, trainable=k in (0, count - 1),
            weight_codes=np.zeros((n_out, n_in), int), bias_codes=np.zeros(n_out, int)))
        if not last:
            layers.append(Relu(name=f"relu{k + 1}", n=n_out, result=hidden))
            source = hidden
    return Network(name="-".join(map(str, sizes)), input=Fixed(8, 8, signed=False),
                   layers=tuple(layers))


def measure(name: str) -> dict:
    """Counts by block of one point, and how long Yosys took."""
    sizes, rule, pairs = POINTS[name]
    of = network(sizes)
    manifest = build(of, FOLDER / name.replace(" ", "_"), max_pairs=pairs, **core_for([rule]))
    begun = perf_counter()
    found = report.synthesize(manifest, without=WITHOUT)
    blocks = {block: counts | {"lut_as_memory": sum(
        MEMORY_LUTS[kind] * count for kind, count in found["cells"][block].items()
        if kind in MEMORY_LUTS)} for block, counts in found["blocks"].items()}
    # Weights that do not learn are ROM, which inference needs.
    rom = [f"weights {stage.dense.name}" for stage in of.stages if not stage.dense.trainable]
    blocks = {block: counts for block, counts in blocks.items() if block not in rom}
    keys = ("lut", "lut_as_memory", "ff", "dsp", "bram36")
    return {"name": name, "sizes": list(sizes), "lanes": of.stages[0].dense.lanes,
            "head_lanes": of.stages[-1].dense.lanes, "rule": rule, "max_pairs": pairs,
            "blocks": blocks, "total": {k: sum(b[k] for b in blocks.values()) for k in keys},
            "yosys": found["yosys"],
            "seconds": round(perf_counter() - begun)}


def cycles(name: str) -> dict[str, float]:
    """Cycles a sample: of ``inference``, and learned from by the number of probes or pairs.

    With 0 probes the head learns alone.
    """
    sizes, rule, _ = POINTS[name]
    of = network(sizes)
    if rule == "np":
        found = shadow(of, Settings(layers=of.trainable))
        return {"inference": found["inference"],
                **{str(k): float(found["intervals"][k]) for k in PROBES}}
    found = {}
    for pairs in PROBES:
        settings = Settings(rule="es", layers=of.trainable, pairs=pairs) if pairs else None
        out = CycleModel(of, max_pairs=32).run(SAMPLES, settings).out_cycles
        found[str(pairs) if pairs else "inference"] = float(
            out[-1] - out[SAMPLES // 2 - 1]) / (SAMPLES // 2)
    return found


def law(rows: list[dict]) -> dict:
    """LUT and FF = a + b * lanes of every block, memory aside: fitted to three points.

    Returns
    -------
    dict
        ``blocks``: a, b, the largest residual at the three points and the error at the fourth,
        which took no part, both in percent of the count there; ``total`` the same of their sum.
    """
    by_name = {row["name"]: row for row in rows}
    if not {*FITTED, PREDICTED} <= set(by_name):
        return {}
    points, ahead = [by_name[name] for name in FITTED], by_name[PREDICTED]
    names = list(ahead["blocks"])

    def fit(count):
        x = np.array([row["lanes"] for row in points])
        y = np.array([count(row) for row in points], float)
        b, a = np.polyfit(x, y, 1)
        residual = np.abs(a + b * x - y) / np.maximum(y, 1)
        measured, predicted = count(ahead), a + b * ahead["lanes"]
        return {"a": _rounded(a, 1), "b": _rounded(b, 2),
                "residual_percent": _rounded(100 * residual.max(), 2),
                "predicted": round(predicted), "measured": measured,
                "error_percent": _rounded(100 * (predicted - measured) / max(measured, 1), 2)}

    def logic(counts):
        return counts["lut"] - counts["lut_as_memory"]

    def both(at):
        return {"lut": fit(lambda row: logic(at(row))), "ff": fit(lambda row: at(row)["ff"])}

    return {"fitted": list(FITTED), "predicted": PREDICTED,
            "blocks": {name: both(lambda row, name=name: row["blocks"][name]) for name in names},
            "total": both(lambda row: row["total"])}


def contents(rows: dict[str, dict]) -> dict:
    """What the file holds; cycles are of all points, for they take no time."""
    ordered = [rows[name] for name in POINTS if name in rows]
    return {"note": report.NOTE, "without": list(WITHOUT), "rows": ordered, "law": law(ordered),
            "cycles": {name: cycles(name) for name in POINTS}}


def _rounded(value, digits) -> float:
    return round(float(value), digits) + 0.0            # no -0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.growth", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=POINTS, metavar="NAME",
                        help=f"run these alone, of {', '.join(POINTS)}")
    args = parser.parse_args()
    kept = json.loads(args.output.read_text())["rows"] if args.output.exists() else []
    rows = {row["name"]: row for row in kept}
    for name in args.only or POINTS:
        rows[name] = measure(name)
        print(f"{name}: {rows[name]['total']['lut']:,} LUT, {rows[name]['seconds']} s", flush=True)
        args.output.write_text(json.dumps(contents(rows), indent=1) + "\n")


if __name__ == "__main__":
    main()

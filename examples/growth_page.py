"""Tables and figure of docs/report.md from growth.json, resources.json and mnist.report.json."""
from pathlib import Path

import numpy as np

from hwgen.devices import DEVICES

from .growth import POINTS

RULES = ("np", "qzo", "es")
PLOTTED = ("32 lanes", "64 lanes", "784-64-32-10", "784-128-64-10")
AIMS = {"asked": 0.3, "aim": 0.2}           # percent of a KU115's LUTs, for rule np


def table(head, rows) -> str:
    """A table in Markdown."""
    return "\n".join([f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|",
                      *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def by_rule(resources: dict, report: dict) -> dict[str, dict]:
    """Rows of the rules; that of np is the report's, the same core."""
    rows = {row["name"]: row for row in resources["rows"]}
    added = report["training"]
    return {rule: rows[rule] for rule in RULES} | {"np": {
        "added": added["total"], "percent": added["percent"], "blocks": added["blocks"]}}


def claim(resources: dict, report: dict) -> str:
    """What each rule's learning takes of both devices, and how far np is from what is asked."""
    rows = by_rule(resources, report)
    head = ["rule", "LUT", *(f"% of {d.name}" for d in DEVICES), "FF",
            *(f"% of {d.name}" for d in DEVICES), "DSP", "BRAM36"]
    lines = [[f"`{rule}`", f"{added['lut']:,}",
              *(f"{rows[rule]['percent'][d.name]['lut']:.3f}" for d in DEVICES),
              f"{added['ff']:,}", *(f"{rows[rule]['percent'][d.name]['ff']:.3f}" for d in DEVICES),
              f"{added['dsp']:g}", f"{added['bram36']:g}"]
             for rule in RULES for added in [rows[rule]["added"]]]
    large = next(d for d in DEVICES if d.name == "KU115")
    used = rows["np"]["added"]["lut"]
    said = []
    for what, percent in AIMS.items():
        limit = round(large.lut * percent / 100)
        said.append(f"{what} {percent} % = {limit:,}: " + (
            f"kept by {limit - used:,}" if used <= limit else f"missed by {used - limit:,}"))
    return (table(head, lines) + f"\n\nLUTs of `np` on a KU115: {used:,} = "
            f"{100 * used / large.lut:.3f} %; {'; '.join(said)}.")


def blocks(resources: dict, report: dict) -> str:
    """Where the LUTs that learning adds are, by rule, of those that were counted by block."""
    rows = {rule: row["blocks"] for rule, row in by_rule(resources, report).items()
            if "blocks" in row}
    rules = [rule for rule in RULES if rule in rows]
    names = dict.fromkeys(name for rule in rules for name in rows[rule])
    return table(["block", *(f"`{rule}`" for rule in rules)],
                  [[name, *(f"{rows[rule][name]['lut']:,}" if name in rows[rule] else ""
                            for rule in rules)] for name in names])


def points(growth: dict) -> str:
    """Every point that was run."""
    rows = []
    for row in growth["rows"]:
        total, k = row["total"], row["max_pairs"] if row["rule"] == "es" else 8
        cycles = growth["cycles"][row["name"]]
        rows.append([f"{'-'.join(map(str, row['sizes']))}, {row['rule']}"
                     + f", {row['max_pairs']} pairs" * (row["rule"] == "es"),
                     f"{row['lanes']} + {row['head_lanes']}",
                     f"{total['lut'] - total['lut_as_memory']:,}", f"{total['lut_as_memory']:,}",
                     f"{total['ff']:,}", f"{total['bram36']:g}", f"{total['dsp']:g}",
                     f"{cycles['inference']:,g}", f"{cycles[str(k)]:,g}"])
    missing = [name for name in POINTS if name not in {row["name"] for row in growth["rows"]}]
    return table(["network, rule", "lanes", "LUT, logic", "LUT, memory", "FF", "BRAM36", "DSP",
                  "cycles, inference", "learning"], rows) + (
        f"\n\nPoints of `examples/growth.py` that have not been run: {', '.join(missing)}."
        if missing else "")


def probes(growth: dict) -> str:
    """Cycles a sample by the number of probes (np) or pairs (es)."""
    # Pairs that the core can hold do not change how long one takes.
    rows = {f"{'-'.join(map(str, sizes))}, {rule}": growth["cycles"][name]
            for name, (sizes, rule, _) in POINTS.items()}
    counts = [k for k in rows["64-8-10, np"] if k not in ("inference", "0")]
    return table(["network, rule", "inference", *(f"K = {k}" for k in counts)],
                 [[name, *(f"{cycles[k]:,g}" for k in ("inference", *counts))]
                  for name, cycles in rows.items()])


def law(growth: dict) -> str:
    """The fit of every block that grows, and what it says of the point that took no part."""
    found = growth["law"]

    def row(name, fit):
        return [name, f"{fit['a']:,g} + {fit['b']:g} n", f"{fit['residual_percent']:g} %",
                f"{fit['predicted']:,}", f"{fit['measured']:,}", f"{fit['error_percent']:+g} %"]

    grows = [(f"{name}, {kind.upper()}", fits[kind])
             for name, fits in [*found["blocks"].items(), ("all blocks", found["total"])]
             for kind in ("lut", "ff") if abs(fits[kind]["b"]) >= 0.5 or name == "all blocks"]
    ahead = found["predicted"]
    return table(["block", "n lanes", "residual", f"predicted, {ahead}", "counted", "error"],
                  [row(name, fit) for name, fit in grows])


def plot(growth: dict, path: Path) -> None:
    """LUTs and flip-flops over lanes with the law, cycles over probes."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = growth["law"]
    series = [row for row in growth["rows"] if row["name"].endswith(" lanes")]
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, (area, time) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
        lanes = np.array([row["lanes"] for row in series])
        for kind, color, counts in (
                ("lut", "C0", [r["total"]["lut"] - r["total"]["lut_as_memory"] for r in series]),
                ("ff", "C1", [r["total"]["ff"] for r in series])):
            fit = found["total"][kind]
            area.plot(lanes, fit["a"] + fit["b"] * lanes, color=color, lw=1)
            area.plot(lanes[:-1], counts[:-1], "o", color=color,
                      label=f"{kind.upper()} = {fit['a']:.0f} + {fit['b']:.1f} n")
            area.plot(lanes[-1:], counts[-1:], "o", color=color, mfc="none")
        area.set(xlabel="lanes n of the first layer (hollow: not in the fit)",
                 ylabel="learning blocks", ylim=(0, None))
        area.legend(frameon=False)
        for name in PLOTTED:
            cycles = growth["cycles"][name]
            ks = [k for k in cycles if k != "inference"]
            time.plot([int(k) for k in ks], [cycles[k] for k in ks], "o-", ms=3, lw=1,
                      label="-".join(map(str, POINTS[name][0])))
        time.set(xlabel="node probes K a sample", ylabel="cycles a sample", ylim=(0, None))
        time.legend(frameon=False)
        figure.savefig(path, dpi=120, metadata={"Software": None})
        plt.close(figure)

"""What each rule and each option of a core costs in logic, as Yosys counts it for UltraScale.

    python -m examples.resources -o docs/results/resources.json [--only NAME ...]

One core a row: `mnist`, first and last layer trainable, R = 4. The difference to the same core
without learning, and to the core with the row's rules alone.
"""
import argparse
import json
from pathlib import Path

from firmware_models.options import NEEDS, OPTIONS
from hwgen import example, report
from hwgen.build import build
from hwgen.recover import core_for

EXAMPLE = "mnist"
FOLDER = Path("build") / "resources"
RULES = {"np": ("np",), "np --multipliers": ("np",), "qzo": ("qzo",), "es": ("es",),
         "np,es": ("np", "es"), "delta --train fc3": ("delta",)}


def rows_to_run() -> dict[str, dict]:
    """Arguments of :func:`hwgen.build.build` by the name of a row."""
    rows = {name: core_for(rules) | {"multipliers": "--multipliers" in name}
            for name, rules in RULES.items()}
    for name, option in OPTIONS.items():
        rule = "np" if "np" in option.rules else "qzo"
        if name not in rows["es"]["options"]:       # what comes with a rule is in that row
            rows[f"{rule} --options {name}"] = core_for(
                [rule], [name, *([NEEDS[name]] if name in NEEDS else [])])
    return rows


def measure(name: str, core: dict, network, inference: Path) -> dict:
    """One row: what learning adds, and the cycles of a sample."""
    if " --train " in name:
        network = network.with_trainable(name.split(" --train ")[1].split())
    manifest = build(network, FOLDER / "_".join(name.replace("--", "").replace(",", " ").split()),
                     **core)
    found = report.report(manifest, inference)
    return {"name": name, "rules": found["rules"], "options": list(core["options"]),
            "multipliers": core["multipliers"] if "multipliers" in core else False,
            "added": found["training"]["total"], "blocks": found["training"]["blocks"],
            "percent": found["training"]["percent"],
            "per_lane": found["per_lane"], "cycles_per_sample": found["cycles_per_sample"],
            "yosys": found["yosys"], "residual": found["residual"],
            "max_pairs": found["max_pairs"]}


def markdown(found: dict) -> str:
    """The rows as a table; what an option costs is the difference to its rule alone."""
    rows = {row["name"]: row for row in found["rows"]}
    lines = ["| built with | LUT | FF | DSP | BRAM36 | % of a KU040's LUTs | LUTs a lane |",
             "|---|---|---|---|---|---|---|"]
    for name, row in rows.items():
        base = rows[name.split(" --options")[0]]["added"] if " --options" in name else None
        cells = [f"{row['added'][r]:,g}" + (f" ({row['added'][r] - base[r]:+,g})" if base else "")
                 for r in ("lut", "ff", "dsp", "bram36")]
        lanes = ", ".join(f"{layer} {luts:.1f}" for layer, luts in row["per_lane"].items())
        lines.append(f"| `{name}` | {' | '.join(cells)} | {row['percent']['KU040']['lut']:.2f} | "
                     f"{lanes} |")
    return "\n".join(lines)


def delta_sentence(found: dict) -> str:
    """What rule delta adds, beside rule np."""
    rows = {row["name"]: row["added"] for row in found["rows"]}
    of, np_ = ("{lut:,} LUT, {ff:,} FF and {bram36:g} BRAM36".format(**rows[name])
               for name in ("delta --train fc3", "np"))
    return (f"With only fc3 of `mnist` trainable: {of} beside the inference core.\n"
            f"Rule `np` on fc1 and fc3 adds {np_}.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.resources", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows, as the table names them")
    args = parser.parse_args()
    network, _ = example.prepare(EXAMPLE, FOLDER)
    inference = build(network, FOLDER / "inference", learning=False)
    kept = json.loads(args.output.read_text())["rows"] if args.output.exists() else []
    rows = {row["name"]: row for row in kept}
    cores = rows_to_run()
    for name in args.only or cores:
        rows[name] = measure(name, cores[name], network, inference)
        print(f"{name}: {rows[name]['added']['lut']:,} LUT")
        args.output.write_text(json.dumps(
            {"example": EXAMPLE, "trainable": list(network.trainable), "digest": network.digest(),
             "note": report.NOTE, "rows": [rows[n] for n in cores if n in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()

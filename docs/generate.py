"""Write what the documents take from the code and from runs: python docs/generate.py

docs/registers.md comes from the register table, docs/results.md and docs/options.md from studies;
what stands between ``<!-- name -->`` and ``<!-- end -->`` in other documents from the files that
``make results`` leaves in docs/results.
"""
import json
from functools import partial
from pathlib import Path

from examples import (
    beside_page,
    day,
    firmware_page,
    forwards_page,
    growth_page,
    landscape_page,
    partial_updates,
    resources,
    study_page,
    train,
)
from firmware_models import line_rate_cycles, registers
from firmware_models.settings import Settings
from hwgen import checkpoint, example, pnr
from hwgen.report import changes

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"


def register_map() -> str:
    return ("# Registers\n\nAXI4-Lite, 32 bits, byte addresses; generated from "
            "`firmware_models/registers.py`,\nas the RTL, the C header, IP-XACT and "
            "[the driver](driver.md) are. A core has the registers and fields of its rules and "
            "options.\n\n"
            + registers.markdown())


def results_table(names=("digits", "mnist")) -> str:
    """A column of each example, from ``<example>.recover.json`` and ``<example>.report.json``."""
    runs = {name: (json.loads((RESULTS / f"{name}.recover.json").read_text()),
                   json.loads((RESULTS / f"{name}.report.json").read_text()))
            for name in names}

    def row(title, value):
        return f"| {title} | " + " | ".join(value(*runs[name]) for name in names) + " |"

    def learned(run, _):
        return f"{run['samples']:,} samples, {run['passes']:,} passes"

    def resources(part):
        return (f"{part['lut']:,} LUT, {part['ff']:,} FF, {part['dsp']:g} DSP, "
                f"{part['bram36']:g} BRAM36")

    return "\n".join([
        row("", lambda run, _: f"`{run['example']}` {sizes(run['example'])}"),
        "|---|" + "---|" * len(names),
        row("disturbance, rule", lambda run, _: f"{run['disturbance']}, {run['rule']} on "
            + ", ".join(run["layers"])),
        row("accuracy clean", lambda run, _: f"{run['clean']:.1f} %"),
        row("disturbed", lambda run, _: f"{run['before']:.1f} %"),
        row("**recovered on the chip**", lambda run, _: f"**{run['after']:.1f} %** (seeds "
            + ", ".join(f"{r['seed']}: {r['after']:.1f}" for r in run["runs"]) + ")"),
        row("after", learned),
        row("clock cycles", lambda run, _: f"{run['cycles']:,} = {1e3 * run['seconds']:.1f} ms at "
            f"{run['clock_mhz']} MHz"),
        row("cycles a sample, inferring", lambda run, _:
            f"{run['cycles_per_sample_inference']:g}"),
        row("cycles a sample, learning", lambda run, _:
            f"{run['cycles_per_sample_learning']:g} ({run['probes']} probes)"),
        row("bit-exact with the golden model", lambda run, _: "yes" if run["bit_exact"] else "NO"),
        row("inference core", lambda _, rep: resources(rep["inference"]["total"])),
        row("**learning adds**", lambda _, rep: resources(rep["training"]["total"])),
        row("as part of a KU040 / KU115", lambda _, rep:
            f"{rep['training']['percent']['KU040']['lut']:.2f} / "
            f"{rep['training']['percent']['KU115']['lut']:.2f} % of the LUTs"),
    ])


def sizes(name: str) -> str:
    """784-32-16-10."""
    network = train.network(checkpoint.load(name))
    return "-".join(map(str, [network.n_in, *(s.dense.n_out for s in network.stages)]))


def in_verilog() -> str:
    return ("\n## In the Verilated core\n`make results` runs every example as `hwgen demo` does: "
            "learning in Verilator, all state\nequal to the golden model's.\n\n"
            + results_table(example.NAMES) + "\n")


def shadow_table() -> str:
    """Cycles per sample of the examples' networks, by the cycle model."""
    lines = ["| network | layers | inference | K = 8 | probes that cost nothing | one more |",
             "|---|---|---|---|---|---|"]
    for name in example.NAMES:
        plain = train.network(checkpoint.load(name))
        names = [stage.dense.name for stage in plain.stages]
        for layers in ((names[0], names[-1]), names):
            network = plain.with_trainable(layers)
            found = line_rate_cycles.shadow(network, Settings(layers=network.trainable))
            free = found["free"] if found["free"] >= 0 else "none"
            lines.append(f"| `{name}` {sizes(name)} | {', '.join(layers)} | "
                         f"{found['inference']:g} | {found['intervals'][8]:g} | {free} | "
                         f"{found['per_probe']:g} |")
    return "\n".join(lines)


def tuning_table() -> str:
    """Rows of ``tune.json``, best first."""
    rows = json.loads((RESULTS / "tune.json").read_text())["rows"]
    lines = ["| rule | pairs | fitness | batch | sigma_log2 | lr_shift | lr_decay | validation % |",
             "|---|---|---|---|---|---|---|---|"]
    for r in sorted(rows, key=lambda r: -r["accuracy"]):
        lines.append(f"| {r['rule']} | {r['pairs']} | {r['fitness']} | {r['batch']} | "
                     f"{r['sigma_log2']} | {r['lr_shift']} | {r['lr_decay']} | "
                     f"{r['accuracy']:.1f} |")
    return "\n".join(lines)


def resource_table() -> str:
    return resources.markdown(json.loads((RESULTS / "resources.json").read_text()))


def day_table() -> str:
    """Phases of ``day.json``."""
    lines = ["| phase | samples learned from | accuracy, first 128 | last quarter | "
             "without learning |", "|---|---|---|---|---|"]
    for phase in json.loads((RESULTS / "day.json").read_text())["phases"]:
        lines.append(f"| {day.title(phase)} | {phase['learned']:,} of {phase['samples']:,} | "
                     f"{phase['early']:.1f} % | {phase['accuracy']:.1f} % | "
                     f"{phase['frozen']:.1f} % |")
    return "\n".join(lines)


def landscape_parts() -> dict:
    """Tables of ``landscape.json``."""
    found = json.loads((RESULTS / "landscape.json").read_text())
    return {name: partial(table, found) for name, table in (
        ("ends", landscape_page.end_table), ("paths", landscape_page.path_table),
        ("sharpness", landscape_page.sharpness_table))}


def per_forward() -> dict:
    return json.loads((RESULTS / "forwards.json").read_text())


def results() -> dict:
    return json.loads((RESULTS / "study.json").read_text())


def firmware_parts() -> dict:
    """Tables of the runs ``<example>.firmware*.json`` and of ``modes.json``."""
    runs = {path.name.removesuffix(".json"): json.loads(path.read_text())
            for path in RESULTS.glob("*.firmware*.json")}
    modes = json.loads((RESULTS / "modes.json").read_text())
    return {"firmware": partial(firmware_page.table, runs),
            "partial": partial(firmware_page.partial_table, runs),
            "modes": partial(firmware_page.modes_table, modes),
            "boards": partial(firmware_page.boards_table, runs),
            "beside": partial(beside_page.table,
                              json.loads((RESULTS / "beside.json").read_text()))}


def delta_parts() -> dict:
    """Tables of docs/rules/delta.md."""
    updates, counted = (json.loads((RESULTS / f"{name}.json").read_text())
                        for name in ("partial_updates", "resources"))
    return {"logic": partial(resources.delta_sentence, counted),
            "accuracy": partial(forwards_page.delta_table, per_forward()),
            "partial updates": partial(partial_updates.markdown, updates)}


def growth() -> dict:
    return json.loads((RESULTS / "growth.json").read_text())


def report_parts() -> dict:
    """Tables of docs/report.md."""
    counted, report, changed = (json.loads((RESULTS / f"{name}.json").read_text())
                                for name in ("resources", "mnist.report", "mnist.changes"))
    found = growth()
    return {"claim": partial(growth_page.claim, counted, report),
            "blocks": partial(growth_page.blocks, counted, report),
            "changes": partial(growth_page.table, changes.HEAD, changes.rows(changed["rows"])),
            **{name: partial(getattr(growth_page, name), found)
               for name in ("points", "probes", "law")}}


def timing_table() -> str:
    """Runs of ``hwgen pnr``: ``<example>.pnr.json``."""
    return "\n\n".join(pnr.markdown(json.loads(path.read_text()))
                       for path in sorted(RESULTS.glob("*.pnr.json")))


def terminal() -> str:
    """What ``make demo EXAMPLE=mnist`` prints last; `make results` has a folder of its own."""
    text = (RESULTS / "mnist.demo.txt").read_text().strip("\n")
    return "```\n" + text.replace("build/results/mnist.demo:", "build/mnist:") + "\n```"


def filled(text: str, **parts) -> str:
    """`text` with what stands between ``<!-- name -->`` and ``<!-- end -->`` replaced."""
    for name, part in parts.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, rest = text.split(start)
        _, after = rest.split(end, 1)
        text = f"{before}{start}{part()}\n{end}{after}"
    return text


def documents() -> dict[Path, str]:
    """Every generated document, with its contents."""
    readme, es = ROOT / "README.md", ROOT / "docs" / "rules" / "es.md"
    line_rate, area = ROOT / "docs" / "line-rate.md", ROOT / "docs" / "resources.md"
    fqt, delta = ROOT / "docs" / "rules" / "fqt.md", ROOT / "docs" / "rules" / "delta.md"
    page, timing = ROOT / "docs" / "report.md", ROOT / "docs" / "timing.md"
    continuous, landscape = ROOT / "docs" / "continuous.md", ROOT / "docs" / "landscape.md"
    return {
        ROOT / "docs" / "registers.md": register_map(),
        ROOT / "docs" / "options.md": forwards_page.markdown(per_forward()),
        ROOT / "docs" / "results.md": study_page.markdown(results()) + in_verilog(),
        continuous: filled(continuous.read_text(), day=day_table),
        landscape: filled(landscape.read_text(), **landscape_parts()),
        line_rate: filled(line_rate.read_text(), shadow=shadow_table),
        area: filled(area.read_text(), resources=resource_table),
        page: filled(page.read_text(), **report_parts()),
        readme: filled(readme.read_text(), results=results_table, demo=terminal),
        delta: filled(delta.read_text(), **delta_parts()),
        fqt: filled(fqt.read_text(), **firmware_parts()),
        es: filled(es.read_text(), tuning=tuning_table),
        timing: filled(timing.read_text(), timing=timing_table),
    }


def main() -> None:
    for path, text in documents().items():
        path.write_text(text)
    study_page.plot(results(), RESULTS)
    forwards_page.plot(per_forward(), RESULTS / "forwards.png")
    growth_page.plot(growth(), RESULTS / "growth.png")


if __name__ == "__main__":
    main()

"""A report's tables: column names and rows of text."""
from rich.table import Table

from ..devices import DEVICES, RESOURCES
from ..vivado import reports as vivado

__all__ = ["energy", "for_terminal", "memory_map", "remarks", "shares", "table", "timing"]

PAPER = 1.0         # percent of the device: AbdulQader et al. 2021, arXiv 2103.14007, abstract
TITLES = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM36"}


def for_terminal(report: dict) -> Table:
    """The report as a table for the terminal."""
    title, head, lines = table(report)
    shown = Table(title=title, caption="\n".join(remarks(report)), caption_justify="left")
    for position, column in enumerate(head):
        shown.add_column(column, justify="right" if position else "left", no_wrap=True)
    blocks = len(report["learning"]["blocks"])
    for position, row in enumerate(lines, 1):
        shown.add_row(*row, end_section=position == blocks)
    return shown


def table(report: dict) -> tuple[str, list[str], list[list[str]]]:
    """Title, column names and rows: every block, and what learning adds to it."""
    learning, inference, training = (report[k] for k in ("learning", "inference", "training"))

    def row(name, counts, added, form=",g"):
        return [name, *(text for r in RESOURCES for text in (
            format(counts[r], form), format(added[r], f"+{form}") if added.get(r) else ""))]

    added = training["blocks"]
    lines = [row(name, block, added.get(name, {})) for name, block in learning["blocks"].items()]
    lines.append(row("learning core", learning["total"], training["total"]))
    lines.append(row("inference core", inference["total"], {}))
    if "flattened" in learning:
        lines.append(row("learning, flattened", learning["flattened"], training["flattened"]))
        lines.append(row("inference, flattened", inference["flattened"], {}))
    for core, counts in (("learning", learning), ("inference", inference)):
        if "routed" in counts.get("vivado", {}):
            lines.append(row(f"{core}, routed by Vivado", counts["vivado"]["routed"], {}))
    for device in DEVICES:
        lines.append(row(f"% of {device.name}", learning["percent"][device.name],
                         training["percent"][device.name], ".2f"))
    head = ["block", "LUT", "added", "FF", "added", "DSP", "added", "BRAM36", "added"]
    title = f"{report['network']}: resources with {', '.join(report['trainable'])} trainable"
    return title, head, lines


def remarks(report: dict) -> list[str]:
    """What a reader of the table must know."""
    return [
        report["note"],
        "Added: what learning adds to the same core built for inference alone. % is of the "
        "learning core.",
        *(f"Vivado, {core} core, {found['part']}, out of context: {vivado.summary(found)}."
          for core in ("learning", "inference")
          if "timing" in (found := report[core].get("vivado", {}))),
        *_cycles_remark(report["cycles_per_sample"]),
        "LUTs per weight lane, update and read-back: " + ", ".join(
            f"{name} {luts:.1f}" for name, luts in report["per_lane"].items()) + ".",
        f"Yosys {report['yosys']}, R = {report['residual']}, rules {', '.join(report['rules'])}, "
        f"network {report['digest'][:12]}.",
    ]


def _cycles_remark(cycles):
    if "np" in cycles:
        np_cycles = cycles["np"]
        free = (f"the first {np_cycles['free']} cost none" if np_cycles["free"] >= 0 else
                "none is free")
        yield (f"Cycles per sample: {cycles['inference']:g} without learning, "
               f"{np_cycles['learning']:g} with {np_cycles['probes']} node probes; {free}, one "
               f"more at most {np_cycles['per_probe']:g}. A probe takes no logic.")
    if "es" in cycles:
        yield (f"Cycles per sample: {cycles['inference']:g} without learning, "
               f"{cycles['es']['learning']:g} with {cycles['es']['pairs']} pairs and an update per "
               "sample.")


def shares(report: dict) -> list[tuple[str, float, str]]:
    """Label, percent of the device, and number, of all that learning adds."""
    added = report["training"]
    return [(f"{device.name} {TITLES[r]}", added["percent"][device.name][r],
             f"{added['total'][r]:,g} of {getattr(device, r):,}")
            for device in DEVICES for r in RESOURCES]


def memory_map(report: dict) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: every memory of the learning core."""
    return (["block", "memory", "words", "bits", "kbit"],
            [[row["block"], row["name"], f"{row['words']:,}", f"{row['width']:,}",
              f"{row['words'] * row['width'] / 1024:,.1f}"] for row in report["memories"]])


def window(report: dict) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: where the host reads masters."""
    return (["layer", "weights: words", "lanes x bits", "biases: words", "lanes x bits"],
            [[row["layer"], *(text for first, last, lanes, bits in (row["weights"], row["biases"])
                              for text in (f"{first} to {last}", f"{lanes} x {bits}"))]
             for row in report["window"]])


def timing(report: dict, clocks: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: cycles of a sample, and microseconds at each clock known."""
    cycles = report["cycles_per_sample"]
    rows = [("inferred", cycles["inference"])]
    if "np" in cycles:
        rows.append((f"learned from, {cycles['np']['probes']} node probes",
                     cycles["np"]["learning"]))
    if "es" in cycles:
        rows.append((f"learned from, {cycles['es']['pairs']} pairs", cycles["es"]["learning"]))
    return (["a sample", "cycles", *(f"µs at {c['mhz']:g} MHz, {c['what']}" for c in clocks)],
            [[name, f"{n:,g}", *(f"{n / c['mhz']:,.2f}" for c in clocks)] for name, n in rows])


def energy(report: dict) -> tuple[list[str], list[list[str]]]:
    """Column names and rows: nJ of a sample."""
    nj = report["energy"]["nj"]
    base = nj["inference"]
    return (["a sample", "nJ, estimated", "of inference"],
            [["inferred" if name == "inference" else f"learned from, {name}", f"{value:,.1f}",
              f"{value / base:.2f}" if base else ""] for name, value in nj.items()])

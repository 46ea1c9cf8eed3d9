"""A report as one HTML page that needs nothing beside it, and as Markdown."""
import base64
import json
from pathlib import Path

import jinja2

from . import budgets as limits
from . import changes, tables
from .clock import clocks

__all__ = ["write"]

TEMPLATES = Path(__file__).parent / "templates"
SCALE = 1.25        # the bars' full width is at least this many times the paper's share


def write(report: dict, folder: Path, *, changed: list[dict] | None = None, against="",
          budgets: list[dict] = ()) -> list[Path]:
    """Write ``report.json``, ``report.md`` and ``report.html`` to `folder`; return their paths.

    The same report, plot and changes give the same bytes.

    Parameters
    ----------
    report : dict
        Of :func:`hwgen.report.report`.
    folder : Path
        ``recover.png`` there becomes part of the page, ``pnr.json`` names a clock.
    changed : list of dict, optional
        Of :func:`hwgen.report.changes.changes`, since the report named `against`; goes to
        ``changes.json`` too.
    budgets : list of dict
        Of :func:`hwgen.report.budgets.read`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.json": json.dumps(report, indent=1) + "\n",
             "report.md": _render("report.md.j2", report, folder, changed, against, budgets),
             "report.html": _render("report.html.j2", report, folder, changed, against, budgets)}
    if changed is not None:
        texts["changes.json"] = json.dumps({"against": str(against), "rows": changed},
                                           indent=1) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _render(template, report, folder, changed, against, budgets):
    title, head, rows = tables.table(report)
    blocks = report["learning"]["blocks"]
    plot = folder / "recover.png"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    return environment.get_template(template).render(
        report=report, title=title, blocks=_table((head, rows)), n_blocks=len(blocks),
        figures=_figures(report), bars=_bars(report), paper=tables.PAPER,
        luts=_luts(report), remarks=tables.remarks(report),
        timing=_table(tables.timing(report, clocks(report, folder))),
        memories=_table(tables.memory_map(report)), window=_table(tables.window(report)),
        kbit=sum(row["words"] * row["width"] for row in report["memories"]) / 1024,
        energy=_table(tables.energy(report)), assumed=report["energy"]["assumed"],
        plot=base64.b64encode(plot.read_bytes()).decode() if plot.is_file() else "",
        changes=None if changed is None else _table((changes.HEAD, changes.rows(changed))),
        against=str(against), budgets=_table(limits.table(report, budgets)))


def _table(found):
    head, rows = found
    return {"head": head, "rows": rows}


def _figures(report):
    """The numbers on top: value and what it is."""
    added, cycles = report["training"], report["cycles_per_sample"]
    learned = next(cycles[rule]["learning"] for rule in ("np", "es") if rule in cycles)
    return [(f"{added['total']['lut']:,}", "LUTs that learning adds"),
            (f"{added['percent']['KU115']['lut']:.2f} %", "of a KU115's LUTs"),
            (f"{added['percent']['KU040']['lut']:.2f} %", "of a KU040's LUTs"),
            (f"{added['total']['dsp']:g}", "DSPs that learning adds"),
            (f"{learned:,g}", f"cycles a learned sample; {cycles['inference']:,g} inferred")]


def _bars(report):
    """What learning adds: label, percent, text, and the bar's and the mark's place in percent."""
    shares = tables.shares(report)
    full = max(SCALE * tables.PAPER, *(percent for _, percent, _ in shares))
    return {"mark": 100 * tables.PAPER / full,
            "rows": [{"label": label, "percent": percent, "text": text,
                      "width": max(0, 100 * percent / full)} for label, percent, text in shares]}


def _luts(report):
    """LUTs of each block: inferring and added, as parts of the largest block's."""
    blocks, added = report["learning"]["blocks"], report["training"]["blocks"]
    largest = max(block["lut"] for block in blocks.values()) or 1
    rows = []
    for name, block in blocks.items():
        more = max(0, added.get(name, {"lut": 0})["lut"])
        text = f"{block['lut']:,}" + f", {more:,} added" * (more > 0)
        rows.append({"label": name, "text": text,
                     "before": 100 * (block["lut"] - more) / largest,
                     "added": 100 * more / largest})
    return rows

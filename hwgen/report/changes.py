"""What changed since an earlier report, block by block."""
import json
from pathlib import Path

from rich.table import Table

from ..devices import RESOURCES
from ..errors import HwgenError
from .resources import difference

__all__ = ["changes", "rows", "read", "table"]

HEAD = ["core, block", "LUT", "FF", "DSP", "BRAM36", "cycles"]


def read(path: Path) -> dict:
    """An earlier ``report.json``."""
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        if not {"learning", "inference", "training", "cycles_per_sample"} <= set(report):
            raise ValueError
    except OSError:
        raise HwgenError(f"{path} cannot be read; name the report.json of an earlier run") from None
    except (ValueError, TypeError):
        raise HwgenError(f"{path} is not a report; name a report.json of hwgen report") from None
    return report


def changes(old: dict, new: dict) -> list[dict]:
    """Blocks that differ, the largest change first, and the totals below them.

    Returns
    -------
    list of dict with name : str, old, new, change : dict of str to float
        A block that one side has not counts 0 there. Cycles are rows of their own.
    """
    zero = dict.fromkeys(RESOURCES, 0)
    found = []
    for core in ("learning", "inference"):
        before, after = old[core]["blocks"], new[core]["blocks"]
        found += [(f"{core}, {name}", before.get(name, zero), after.get(name, zero))
                  for name in dict.fromkeys([*after, *before])]
    totals = [(f"{core}, total", old[core]["total"], new[core]["total"])
              for core in ("learning", "inference")]
    totals.append(("learning adds", old["training"]["total"], new["training"]["total"]))
    rows = [{"name": name, "old": before, "new": after, "change": difference(after, before)}
            for name, before, after in found]
    rows = [row for row in rows if any(row["change"].values())]
    rows.sort(key=lambda row: [-abs(row["change"][r]) for r in RESOURCES])
    rows += [{"name": name, "old": before, "new": after, "change": difference(after, before)}
             for name, before, after in totals]
    before, after = (_cycles(report["cycles_per_sample"]) for report in (old, new))
    rows += [{"name": f"{name}, cycles a sample", "old": {"cycles": before.get(name, 0)},
              "new": {"cycles": after.get(name, 0)},
              "change": {"cycles": after.get(name, 0) - before.get(name, 0)}}
             for name in dict.fromkeys([*after, *before])
             if after.get(name) != before.get(name)]
    return rows


def _cycles(cycles):
    return {"inference": cycles["inference"],
            **{rule: cycles[rule]["learning"] for rule in ("np", "es") if rule in cycles}}


def rows(found: list[dict]) -> list[list[str]]:
    """Cells of text, under `HEAD`: what it is now, and by how much it changed."""
    return [[row["name"], *(
        "" if r not in row["new"] else f"{row['new'][r]:,g}" + (
            f" ({row['change'][r]:+,g})" if row["change"][r] else "")
        for r in (*RESOURCES, "cycles"))] for row in found]


def table(found: list[dict], against) -> Table:
    """The changes as a table for the terminal."""
    shown = Table(title=f"changes since {against}")
    for position, column in enumerate(HEAD):
        shown.add_column(column, justify="right" if position else "left", no_wrap=True)
    for row in rows(found):
        shown.add_row(*row)
    return shown

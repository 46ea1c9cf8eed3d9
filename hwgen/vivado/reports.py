"""What Vivado's reports say of a core.

One rule: where Vivado has reported on the very Verilog of a build, its figures are the ones that
hls4ml's parser is shown; estimates of Yosys keep their name, and stand beside them in our reports.
"""
import json
import re
import shutil
from pathlib import Path

from rich.table import Table

from ..errors import HwgenError

__all__ = ["NAMES", "SETTINGS", "TIMING", "of", "place", "read", "summary", "table"]

SETTINGS = "settings.json"      # part, board, clock_mhz of the project
SYNTHESIZED = "vivado_synth.rpt"        # hls4ml's name of report_utilization after synthesis
ROUTED = "utilization.rpt"
BLOCKS = "util.rpt"             # hls4ml's name of the routed one by hierarchy
# Where hls4ml looks for report_timing_summary, behind the first word of the project's name.
TIMING_TAIL = ("_vivado_accelerator/project_1.runs/impl_1/"
               "design_1_wrapper_timing_summary_routed.rpt")
TIMING = f"core{TIMING_TAIL}"
NAMES = (SYNTHESIZED, ROUTED, BLOCKS, TIMING)
# Rows of report_utilization for UltraScale; a star marks what later steps may change.
ROWS = {"lut": "CLB LUTs", "ff": "CLB Registers", "dsp": "DSPs", "bram36": "Block RAM Tile"}
COLUMNS = {"WNS(ns)": "wns", "TNS(ns)": "tns", "WHS(ns)": "whs", "THS(ns)": "ths",
           "WPWS(ns)": "wpws", "TPWS(ns)": "tpws"}


def utilization(path: Path) -> dict:
    """Resources of a ``report_utilization``: lut, ff, dsp as int, bram36 as float.

    Raises
    ------
    HwgenError
        For a file without one of the rows.
    """
    cells = {}
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("|"):
            name, value, *_ = (cell.strip() for cell in line[1:].split("|"))
            cells.setdefault(name.rstrip("*"), value)
    try:
        found = {key: float(cells[row]) for key, row in ROWS.items()}
    except (KeyError, ValueError):
        raise HwgenError(f"{path} is no report_utilization of an UltraScale device; run Vivado "
                         "again") from None
    return {key: value if key == "bram36" else int(value) for key, value in found.items()}


def timing(path: Path) -> dict:
    """Slacks in ns of a ``report_timing_summary``, by `COLUMNS`, and whether all are ``met``.

    Raises
    ------
    HwgenError
        For a file without a summary, or of a design without a clock.
    """
    found = re.search(r"^ *(WNS\(ns\) .*)\n[ -]+\n(.*)$", path.read_text(errors="replace"), re.M)
    # Two spaces between columns; names of columns hold single ones.
    values = dict(zip(re.split(r" {2,}", found[1].strip()), found[2].split(), strict=False)) \
        if found else {}
    try:
        slacks = {key: float(values[column]) for column, key in COLUMNS.items()}
    except (KeyError, ValueError):
        raise HwgenError(f"{path} is no report_timing_summary of a design with a clock; run Vivado "
                         "again") from None
    return slacks | {"met": min(slacks.values()) >= 0}


def read(folder: Path) -> dict:
    """What there is of the reports in a project's folder.

    Parameters
    ----------
    folder : Path
        Of :func:`hwgen.vivado.generate.generate`.

    Returns
    -------
    dict
        ``synthesized`` and ``routed``, each as of :func:`utilization`; ``timing`` as of
        :func:`timing`; ``part``, ``board`` and ``clock_mhz``. Empty if Vivado has not run.
    """
    folder = Path(folder)
    kinds = {"synthesized": (SYNTHESIZED, utilization), "routed": (ROUTED, utilization),
             "timing": (TIMING, timing)}
    found = {kind: parse(folder / name) for kind, (name, parse) in kinds.items()
             if (folder / name).is_file()}
    return found and json.loads((folder / SETTINGS).read_text()) | found


def of(manifest: Path) -> dict:
    """:func:`read` of a build's own project, or nothing if that is of other Verilog."""
    folder = _project_of(manifest)
    return read(folder) if folder else {}


def place(manifest: Path, folder: Path, name: str) -> None:
    """Put Vivado's reports on a build where hls4ml looks for those of its project.

    Parameters
    ----------
    manifest : Path
        Of the build.
    folder : Path
        Of hls4ml's project.
    name : str
        Of hls4ml's project. Without a report on timing, an older one is deleted.
    """
    project = _project_of(manifest)
    shown = Path(folder) / f"{name.split('_')[0]}{TIMING_TAIL}"
    shown.unlink(missing_ok=True)
    for source, target in ((SYNTHESIZED, Path(folder) / SYNTHESIZED), (TIMING, shown)):
        if project and (project / source).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project / source, target)


def table(found: dict) -> Table:
    """What :func:`read` found, for the terminal."""
    shown = Table(title=f"Vivado, {found['part']}", show_header=False)
    for kind in ("synthesized", "routed"):
        if kind in found:
            shown.add_row(kind, "{lut:,} LUT, {ff:,} FF, {dsp} DSP, {bram36:g} BRAM36".format(
                **found[kind]))
    if "timing" in found:
        shown.add_row("timing", summary(found))
    return shown


def summary(found: dict) -> str:
    """Timing in one line: whether the clock is met, and which one would be."""
    slacks, period = found["timing"], 1000 / found["clock_mhz"]
    met = "met" if slacks["met"] else "NOT met"
    return (f"{found['clock_mhz']:g} MHz {met}: slack {slacks['wns']:g} ns setup, "
            f"{slacks['whs']:g} ns hold; {1000 / (period - slacks['wns']):.0f} MHz by setup")


def _project_of(manifest):
    """Folder of the build's project, if that is of the same Verilog."""
    build = Path(manifest).parent
    project, verilog = build / "vivado", build / "core.v"
    try:
        return project if (project / "core.v").read_bytes() == verilog.read_bytes() else None
    except OSError:
        return None

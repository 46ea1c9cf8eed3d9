"""Clocks that a report may name: the assumed one, and those of a place and route."""
import json
from pathlib import Path

__all__ = ["clocks"]


def clocks(report: dict, folder: Path) -> list[dict]:
    """The assumed clock, and what place and route has said of the same core.

    Parameters
    ----------
    report : dict
        Of :func:`hwgen.report.report`; ``vivado`` in its learning core is of Vivado's reports.
    folder : Path
        Of the core; ``pnr.json`` there is of the open flow, if it is of the same network.

    Returns
    -------
    list of dict with mhz : float, what : str
    """
    found = [{"mhz": report["clock_mhz"], "what": "assumed"}]
    vivado = report["learning"].get("vivado", {})
    if "timing" in vivado:
        period = 1000 / vivado["clock_mhz"] - vivado["timing"]["wns"]
        found.append({"mhz": round(1000 / period, 1), "what": f"Vivado, {vivado['part']}"})
    placed = Path(folder) / "pnr.json"
    if placed.is_file():
        summary = json.loads(placed.read_text(encoding="utf-8"))
        if summary["network"] == report["network"]:
            found.append({"mhz": summary["fmax_mhz"], "what": f"nextpnr, {summary['part']}"})
    return found

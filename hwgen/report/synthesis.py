"""Yosys on a core, and its UltraScale cells counted block by block."""
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

from .. import yosys
from ..build import read_manifest
from ..errors import HwgenError
from .manifest import block_names, block_of
from .resources import add_up, count_cells

__all__ = ["earlier_counts", "synthesize"]

def synthesize(manifest_path: Path, *, flatten: bool = False, without=()) -> dict:
    """Synthesize the core of a manifest for UltraScale and count its cells.

    The answer is kept beside the Verilog and holds as long as Verilog and Yosys stay the same.

    Parameters
    ----------
    manifest_path : Path
        Written by :func:`hwgen.build.build`.
    flatten : bool
        False keeps the hierarchy, so that every block has its own count; a logic cell never serves
        two blocks. True optimizes across blocks and knows the total alone.
    without : sequence of str
        Modules of the core to leave out, such as ``engine*``, which saves their time.

    Returns
    -------
    dict with yosys : str, blocks : dict (of one block `core` if flattened), cells : dict of the
    blocks' primitives, and total : dict

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
    kept = earlier_counts(manifest_path, manifest, flatten, without)
    if kept is None:
        kept = _run_yosys(manifest_path, manifest, flatten, without)
    names = block_names(manifest)
    cells = {name: Counter() for name in names.values()}
    for module, counts in kept["modules"].items():
        cells[block_of(module, names)].update(counts)
    blocks = {name: count_cells(counts) for name, counts in cells.items() if counts}
    if flatten:
        blocks = {"core": add_up(blocks.values())}
    return {"yosys": kept["yosys"], "blocks": blocks, "total": add_up(blocks.values()),
            "cells": {name: dict(counts) for name, counts in cells.items() if counts}}


def _script(manifest, flatten, without):
    left_out = "".join(f"blackbox {manifest['top']}.{module}; " for module in without)
    return (f"read_verilog {manifest['verilog']}; {left_out}synth_xilinx -family xcu -noiopad "
            f"-noclkbuf {'-flatten ' * flatten}-top {manifest['top']}; "
            f"tee -q -o {_stem(flatten)}.stat stat -json -tech xilinx")


def _stem(flatten):
    return "yosys_flat" if flatten else "yosys"


def _key(manifest_path, manifest, flatten, without):
    """What the counts depend on, and nothing else."""
    verilog = manifest_path.parent / manifest["verilog"]
    if not verilog.is_file():
        raise HwgenError(f"{verilog} does not exist; build the core anew")
    parts = (yosys.release().encode(), _script(manifest, flatten, without).encode(),
             verilog.read_bytes())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def earlier_counts(manifest_path, manifest, flatten, without=()):
    """Counts of an earlier run with the same key, or None."""
    try:
        kept = json.loads((manifest_path.parent / f"{_stem(flatten)}.json").read_text("utf-8"))
    except (OSError, ValueError):
        kept = {}
    return kept if kept.get("key") == _key(manifest_path, manifest, flatten, without) else None


def _run_yosys(manifest_path, manifest, flatten, without):
    folder, stem = manifest_path.parent, _stem(flatten)
    key = _key(manifest_path, manifest, flatten, without)
    stat = folder / f"{stem}.stat"
    stat.unlink(missing_ok=True)
    yosys.run(_script(manifest, flatten, without), folder, stem, manifest["verilog"])
    result = json.loads(stat.read_text("utf-8"))
    stat.unlink()
    modules = {name.removeprefix("\\"): module["num_cells_by_type"]
               for name, module in result["modules"].items()}
    # A module's instances are among its parent's cells; they are counted on their own.
    top = f"{manifest['top']}."
    modules = {name: {kind: count for kind, count in cells.items()
                      if kind not in modules and not kind.removeprefix("\\").startswith(top)}
               for name, cells in modules.items()}
    kept = {"key": key, "yosys": re.search(r"Yosys (\S+)", result["creator"])[1],
            "modules": modules}
    partial = folder / f"{stem}.json.partial"
    partial.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / f"{stem}.json")
    return kept

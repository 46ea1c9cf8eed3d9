"""Commands that make a core and look at it: build, simulate, report, netlist, pnr."""
from pathlib import Path

from sim.verilate import lint

from .. import flow, pnr
from ..build import build
from ..errors import HwgenError
from .shared import console, core_arguments, core_options, prepare

BUILD_FILES = """files:
  core.v, manifest.json    the core, and all that a test bench or the driver has to know of it
  core_registers.h         its registers for C and C++
  core.xml                 IP-XACT 1685-2014: buses, memory map
  core.core                FuseSoC: lint, sim, synth, vivado
  core_lint.vlt, core_tb.sv    waivers with reasons; a self-checking testbench

examples:
  hwgen build --example digits --lint
  hwgen build --example mnist --options load,snapshot -o build/board
"""

REPORT_EXAMPLES = """examples:
  hwgen report --example mnist                JSON, Markdown and HTML in build/mnist
  hwgen report --example mnist --rules qzo --options sparse
  hwgen report --against docs/results/digits.report.json

Limits in [[tool.hwgen.budgets]] of ./pyproject.toml: status 1 when a figure is over its limit.
"""


def add(command) -> None:
    """The commands' arguments; `command` is that of :func:`hwgen.cli.parser`."""
    sub = command(build_, "Verilog, and what other tools need beside it", core_arguments,
                  epilog=BUILD_FILES)
    sub.add_argument("--inference-only", action="store_true", help="leave the learning out")
    sub.add_argument("--lint", action="store_true", help="check it with Verilator -Wall")
    sub = command(simulate, "the cocotb + Verilator regression", core_arguments)
    sub.add_argument("--seed", type=int, default=1, help="of data, idle and stall cycles")
    sub.add_argument("--waves", action="store_true", help="record every signal (VCD)")
    sub = command(report, "resources by block, and what learning adds to inference; an HTML page",
                  core_arguments, epilog=REPORT_EXAMPLES)
    sub.add_argument("--against", metavar="OLD.json", type=Path,
                     help="report.json of an earlier run: show what changed, block by block")
    sub = command(netlist_, "simulate what Yosys makes of the core, cell by cell, learning",
                  core_arguments)
    sub.add_argument("--samples", type=int, default=100, metavar="N", help="to learn from")
    sub = command(pnr_, "place and route on an ECP5 with nextpnr: clock and critical path",
                  core_arguments)
    sub.add_argument("--part", default=pnr.DEFAULT_PART, help=", ".join(pnr.PARTS))
    sub.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of nextpnr")
    sub.add_argument("--jobs", type=int, metavar="N", help="runs at a time; one a core by default")


def build_(args) -> None:
    network, _, folder = prepare(args)
    with console.status("generating Verilog"):
        manifest = build(network, folder, learning=not args.inference_only, **core_options(args))
    console.print(f"{manifest.parent / 'core.v'} and {manifest}; beside them core_registers.h, "
                  "core.xml, core.core, core_lint.vlt, core_tb.sv")
    if args.lint:
        with console.status("Verilator -Wall"):
            lint(manifest.parent / "core.v", "core")
        console.print("lint: clean")


def simulate(args) -> None:
    network, _, folder = prepare(args)
    ran = flow.regression(network, folder, seed=args.seed, waves=args.waves, console=console,
                          **core_options(args))
    console.print(f"{ran} cocotb tests passed, 0 failed; {folder / 'results.xml'}")


def report(args) -> None:
    network, _, folder = prepare(args)
    flow.report(network, folder, console=console, against=args.against, **core_options(args))


def netlist_(args) -> None:
    network, _, folder = prepare(args)
    if args.samples < 2:
        raise HwgenError("state is compared twice; give --samples of 2 or more")
    flow.netlist(network, folder, args.example, samples=args.samples, console=console,
                 **core_options(args))


def pnr_(args) -> None:
    network, _, folder = prepare(args)
    flow.place_and_route(network, folder, part=args.part, seeds=args.seeds, jobs=args.jobs,
                         console=console, **core_options(args))

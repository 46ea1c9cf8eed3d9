"""Command vivado."""
from pathlib import Path

from .. import vivado
from .shared import console

VIVADO_EXAMPLES = """examples:
  hwgen vivado build/mnist                    for the KCU105, out of context at 200 MHz
  hwgen vivado build/mnist --part xcku115-flvb2104-2-i --clock-mhz 250 -o build/mnist/ku115
  hwgen vivado build/mnist --script bitstream       the whole board: core, PCIe, DMA
  hwgen vivado build/mnist --no-run                 write the project only
"""


def add(command) -> None:
    """The command's arguments; `command` is that of :func:`hwgen.cli.parser`."""
    command(vivado_, "Vivado project of a build, run where vivado is on the path",
            common=_arguments, epilog=VIVADO_EXAMPLES)


def _arguments(sub) -> None:
    sub.add_argument("build", metavar="DIR", type=Path, help="folder of hwgen build")
    sub.add_argument("--board", metavar="NAME", help=f"of {', '.join(vivado.BOARDS)}, the default; "
                     "with a block design of core, DMA and PCIe")
    sub.add_argument("--part", help="device of no such board: the core alone")
    sub.add_argument("--clock-mhz", type=float, default=vivado.CLOCK_MHZ, metavar="F",
                     help="clock of the core")
    sub.add_argument("-o", "--output", metavar="DIR", type=Path,
                     help="folder of the project; DIR/vivado by default")
    sub.add_argument("--replace", action="store_true",
                     help="write over a project that differs, and delete what Vivado made of it")
    sub.add_argument("--script", choices=vivado.SCRIPTS, default="run", help="what Vivado runs")
    sub.add_argument("--no-run", action="store_true", help="write the project and run nothing")


def vivado_(args) -> None:
    folder = vivado.generate(args.build, board=args.board, part=args.part,
                             clock_mhz=args.clock_mhz, output=args.output, replace=args.replace)
    line = vivado.command(folder, args.script)
    if args.no_run or not vivado.installed():
        console.print(f"{folder}: the Vivado project; run it by", soft_wrap=True)
        console.print(f"  {line}", soft_wrap=True)
        return
    vivado.run(folder, args.script, console)
    if found := vivado.reports.read(folder):
        console.print(vivado.reports.table(found))
    console.print(f"{folder}: {args.script}.log", soft_wrap=True)

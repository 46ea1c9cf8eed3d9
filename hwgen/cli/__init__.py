"""Command line: hwgen demo | build | simulate | report | recover | sweep | vivado and others."""
import argparse
import sys
from importlib.metadata import version

from sim.errors import SimulationError

from ..errors import HwgenError, OverBudget
from . import core, firmware, learning, vivado
from .shared import common_arguments

__all__ = ["main", "parser"]

EPILOG = """examples:
  hwgen demo                                  digits: generate, verilate, disturb, learn, report
  hwgen demo --example mnist                  the same for MNIST
  hwgen build --example mnist --train fc2 fc3 -o build/two
  hwgen recover --example mnist --rule np --layers fc1 fc3 --probes 16
  hwgen recover --example digits --rule qzo --train fc3 --pairs 1 --seeds 1 2 3
  hwgen recover --rule es --options journal --save-journal
  hwgen recover --rule qzo --options prompt --layers prompt
  hwgen replay --manifest build/digits/manifest.json --journal build/digits/journal.json
  hwgen sweep --example mnist --grid lr_shift=8,9,10 probes=4,8,16 --samples 4000
  hwgen report --example mnist                what learning adds to inference
  hwgen netlist --samples 100                 what Yosys maps digits to, learning in simulation
  hwgen pnr --part LFE5UM5G-85F-8             clock of digits on an ECP5, by nextpnr
  hwgen firmware mnist                        C that trains on Cortex-M, run on emulated boards
  hwgen vivado build/mnist                    Vivado project of a build; runs Vivado if it is there
"""


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with defaults, and an epilog as it is."""

    def _get_help_string(self, action):
        return super()._get_help_string(action) if action.default else action.help


def main(argv=None) -> int:
    """Run a command; status 0, or 2 with one line on what is wrong and what to do.

    A figure over its budget is status 1.
    """
    args = parser().parse_args(argv)
    try:
        args.run(args)
    except OverBudget as error:
        print(f"hwgen: {error}", file=sys.stderr)
        return 1
    except (HwgenError, SimulationError) as error:
        print(f"hwgen: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hwgen: stopped", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """That of all commands."""
    top = argparse.ArgumentParser(
        prog="hwgen", description="FPGA cores from quantized networks, that learn on the chip",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"hwgen {version('hwgen')}")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(run, text, *parts, common=common_arguments, epilog=None):
        sub = commands.add_parser(
            run.__name__.rstrip('_'), help=text, description=text[0].upper() + text[1:] + ".",
            epilog=epilog, formatter_class=_Formatter)
        sub.set_defaults(run=run)
        for part in (common, *parts):
            part(sub)
        return sub

    for module in (learning, core, firmware, vivado):
        module.add(command)
    return top

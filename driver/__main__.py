"""Look at a core from the command line of the board that it is on: python -m driver --help"""
import argparse
import sys
from pathlib import Path

from . import weights
from .driver import connect
from .memory_map import MemoryMap
from .transport import BusError, Transport

EXAMPLES = """examples:
  python -m driver manifest.json status
  python -m driver manifest.json --map /dev/mem --offset 0x43c00000 status
  python -m driver manifest.json learn on
  python -m driver manifest.json save learned.npz
  python -m driver manifest.json load learned.npz
  python -m driver manifest.json journal journal.json
"""


def main(argv=None, transport: Transport | None = None) -> int:
    """Run a command; status 0, or 2 with one line on what is wrong and what to do.

    `transport` takes the place of the memory map.
    """
    args = parser().parse_args(argv)
    try:
        core = connect(args.manifest, transport or MemoryMap(args.map, args.offset))
        print(args.run(core, args))
    except (BusError, ValueError, OSError) as error:
        print(f"driver: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m driver", description="Registers of a core made by hwgen.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("manifest", help="manifest.json of the build; another core is refused")
    top.add_argument("--map", metavar="FILE", default="/dev/uio0",
                     help="file that maps the registers (/dev/uio0)")
    top.add_argument("--offset", metavar="BYTES", type=lambda text: int(text, 0), default=0,
                     help="where they start in it (0)")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(run, text):
        sub = commands.add_parser(run.__name__, help=text, description=text[0].upper() + text[1:])
        sub.set_defaults(run=run)
        return sub

    command(status, "identity, counters, losses and error bits")
    sub = command(learn, "start or stop learning from samples with the learn bit")
    sub.add_argument("what", choices=("on", "off"))
    for run, text in ((save, "weights to a checkpoint"),
                      (load, "weights from a checkpoint; the core needs option load"),
                      (journal, "journal of updates to a file for hwgen replay")):
        command(run, text).add_argument("file", type=Path)
    return top


def status(core, args) -> str:
    values = {"network": core.manifest["network"]["name"], "build": f"{core.read('build'):#010x}",
              **core.counters(), **core.errors()}
    return "\n".join(f"{name:13} {value}" for name, value in values.items())


def learn(core, args) -> str:
    core.learn(args.what == "on")
    return f"learning is {args.what}"


def save(core, args) -> str:
    weights.save(args.file, core.manifest, *core.masters())
    return f"{args.file}: weights after {core.read('updates')} updates"


def load(core, args) -> str:
    core.load(*weights.load(args.file, core.manifest))
    return f"weights of {args.file} loaded; a write of seed would restart the noise"


def journal(core, args) -> str:
    found = core.journal()
    args.file.write_text(found.to_json())
    return f"{args.file}: {len(found.records)} of {found.written} records"


if __name__ == "__main__":
    sys.exit(main())

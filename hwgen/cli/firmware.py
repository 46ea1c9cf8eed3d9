"""Command firmware."""
import argparse
from dataclasses import fields, replace
from pathlib import Path

from sim.board import MACHINES

from .. import firmware, flow
from ..errors import HwgenError
from .shared import console

FIRMWARE_EXAMPLES = """examples:
  hwgen firmware digits                       from scratch, on a Cortex-M0+, M4 and M7
  hwgen firmware mnist --lmin 0.1 --cores m4  at least 10 % of each layer, all of it at most
  hwgen firmware mnist --error-bits 1 --skip 128 --board-samples 8000 --cores m4
  hwgen firmware mnist --standardize --lr-shift 11 --seeds 1 2 3
  hwgen firmware speech --mode uint8 --lmin 0.5 --no-standardize --lr 0.02
  hwgen firmware mine.npz -o build/mine       sources of a network of hwgen.firmware.save
"""


def add(command) -> None:
    """The command's arguments; `command` is that of :func:`hwgen.cli.parser`."""
    command(firmware_, "C sources of a network that trains on Cortex-M; examples run at once",
            common=_arguments, epilog=FIRMWARE_EXAMPLES)


def _arguments(sub) -> None:
    sub.add_argument("network", metavar="NETWORK",
                     help=f"{', '.join(firmware.example.TASKS)}, or a file of hwgen.firmware.save")
    sub.add_argument("--mode", choices=list(firmware.ARITHMETICS), default=argparse.SUPPRESS,
                     help="integers alone, the default; bytes with scales in float32; these, and "
                          "float32 from the first dense layer on; float32; a file has its own")
    sub.add_argument("-o", "--output", type=Path,
                     help="folder; build/firmware/NETWORK by default, and -MODE but for integer")
    learn = sub.add_argument_group("learning; the defaults are the example's")
    switch = dict(action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS)
    learn.add_argument("--standardize", **switch,
                       help="scale each row's gradient, less its mean, to magnitude or deviation 1")
    learn.add_argument("--lmin", type=_share, default=argparse.SUPPRESS, metavar="PART",
                       help="smallest part of a layer that learns from a sample, 0 to 1")
    learn.add_argument("--lmax", type=_share, default=argparse.SUPPRESS, metavar="PART",
                       help="largest part")
    learn = sub.add_argument_group("learning, mode integer")
    learn.add_argument("--lr-shift", type=int, default=argparse.SUPPRESS, metavar="N",
                       help="learning rate 2**-N")
    learn.add_argument("--lr-decay", type=int, default=argparse.SUPPRESS, metavar="N",
                       help="halve it every N samples; 0: never")
    learn.add_argument("--error-bits", type=int, default=argparse.SUPPRESS, metavar="N",
                       help="bits of a layer's largest error, 1 to 7: the fewer, the more are 0")
    learn.add_argument("--skip", type=int, default=argparse.SUPPRESS, metavar="LOSS",
                       help="samples with less loss, in 1/256 bit, change nothing")
    learn = sub.add_argument_group("learning, modes uint8, mixed, float32")
    learn.add_argument("--lr", type=float, default=argparse.SUPPRESS, metavar="RATE",
                       help="learning rate")
    learn.add_argument("--batch", type=int, default=argparse.SUPPRESS, metavar="N",
                       help="samples from one update to the next")
    learn.add_argument("--moving-errors", **switch,
                       help="the range of a layer's errors follows them; else it is [-1, 1]")
    learn.add_argument("--floor-errors", **switch,
                       help="floor errors that go back a layer, as the paper does; else round them")
    run = sub.add_argument_group("running an example")
    run.add_argument("--samples", type=int, default=argparse.SUPPRESS,
                     help="to learn from, on this machine")
    run.add_argument("--seeds", type=int, nargs="+", default=[1])
    run.add_argument("--cores", nargs="*", choices=MACHINES, default=["m0plus", "m4", "m7"],
                     help="emulated, with QEMU")
    run.add_argument("--board-samples", type=int, default=argparse.SUPPRESS,
                     help="how many of them on each board, and by the golden model")


def _share(text: str) -> int:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a part of a layer, 0 to 1")
    return round(256 * value)


def firmware_(args) -> None:
    name = Path(args.network).stem
    is_file = args.network.endswith(".npz")
    mode = getattr(args, "mode", "integer")
    if is_file:
        network = firmware.load(args.network)
        mode = firmware.mode_of(network[1])
        if getattr(args, "mode", mode) != mode:
            raise HwgenError(f"{args.network}: a network of mode {mode}, not {args.mode}; leave "
                             "out --mode")
        chosen = firmware.ARITHMETICS[mode].Settings()
    else:
        chosen = firmware.example.task(args.network).settings_of(mode)
    folder = args.output or Path("build/firmware") / (name if mode == "integer"
                                                      else f"{name}-{mode}")
    settings = _settings(args, mode, chosen)
    if is_file:
        plan = firmware.generate(*network, folder, settings=settings, title=name)
        console.print(f"{folder}: {plan['state_bytes']:,} bytes of state, {plan['arena_bytes']:,} "
                      "of arena; make CORE=m4 builds it")
        return
    task = firmware.example.task(args.network)
    samples = getattr(args, "samples", task.samples)
    board_samples = getattr(args, "board_samples", task.board_samples if mode == "integer"
                            else firmware.example.PAPER_BOARD_SAMPLES)
    if min(samples, board_samples) < 1:
        raise HwgenError("there is nothing to learn from; give --samples and --board-samples of 1 "
                         "or more")
    if (folder / "firmware.json").exists():
        console.print(f"replacing {folder / 'firmware.json'} of an earlier run")
    with flow.progress_bar(console) as bar:
        shown = bar.add_task("learning", total=len(args.seeds) * samples)
        summary = firmware.run.run(
            args.network, folder, mode=mode, cores=args.cores, samples=samples, settings=settings,
            board_samples=board_samples, seeds=args.seeds,
            advance=lambda n: bar.advance(shown, n))
    console.print(firmware.run.table(summary))
    console.print(f"{folder}: C sources, Makefile, firmware.json")


def _settings(args, mode: str, chosen):
    """The example's settings with what the arguments change."""
    names = [field.name for field in fields(chosen)]
    if mode == "float32":       # no ranges, no rounding
        names = [name for name in names if not name.endswith("_errors")]
    every = {field.name for one in firmware.ARITHMETICS.values() for field in fields(one.Settings)}
    for name in sorted(every.difference(names)):
        if hasattr(args, name):
            flag, *flags = (f"--{one.replace('_', '-')}" for one in (name, *names))
            raise HwgenError(f"mode {mode} takes no {flag}; it has {', '.join(flags)}")
    try:
        return replace(chosen, **{name: getattr(args, name) for name in names
                                  if hasattr(args, name)})
    except ValueError as error:
        raise HwgenError(str(error)) from error

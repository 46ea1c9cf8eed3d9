"""What the commands on cores have in common: arguments, and the network that they name."""
import argparse
from pathlib import Path

from rich.console import Console

from firmware_models.network import PROMPT
from firmware_models.options import OPTIONS

from .. import example, recover

console = Console()


def common_arguments(sub) -> None:
    sub.add_argument("--example", default="digits", metavar="NAME",
                     help=f"network: {', '.join(example.NAMES)}")
    sub.add_argument("-o", "--output", metavar="DIR", type=Path,
                     help="folder for results; build/<example> by default")


def core_arguments(sub) -> None:
    group = sub.add_argument_group("core")
    group.add_argument("--train", nargs="+", metavar="LAYER",
                       help="trainable layers; the first and the last one by default. prompt is a "
                       "vector that is added to the input (rule es), as with --options prompt")
    group.add_argument("--rules", metavar="RULE,RULE", type=names,
                       help=f"rules that the core can learn by, of {', '.join(recover.RULES)}; "
                       "what --rule needs by default, else np")
    described = "; ".join(f"{name}: {option.doc}" for name, option in OPTIONS.items())
    group.add_argument("--options", metavar="NAME,NAME", type=names, default=(),
                       help=f"what else the core can do ({described})")
    group.add_argument("--multipliers", action="store_true",
                       help="np: coefficients of four bits and a DSP per weight lane")
    group.add_argument("--reuse", nargs="+", metavar="LAYER=N", type=reuse, default=[],
                       help="reuse factors; the number of inputs by default")
    group.add_argument("--weight-bits", type=int, metavar="N", default=argparse.SUPPRESS,
                       help="widen the weights of trainable layers, to 16 bits at most; what the "
                       "core infers at the start stays the same to the bit")
    group.add_argument("--residual", type=int, default=4, metavar="R",
                       help="residual bits below each trainable weight, 0 to 8")
    group.add_argument("--max-pairs", type=int, default=16, metavar="N",
                       help="largest population the core can hold, 1 to 64")
    group.add_argument("--journal-records", type=int, default=256, metavar="N",
                       help="records that the journal keeps, a power of two, 16 to 4096")


def core_options(args) -> dict:
    """Options of the core."""
    rules = args.rules or [getattr(args, "rule", "np")]
    return {"residual": args.residual, **recover.core_for(rules, args.options),
            "multipliers": args.multipliers, "max_pairs": args.max_pairs,
            "journal_records": args.journal_records}


def prepare(args):
    folder = args.output or Path("build") / args.example
    with console.status(f"hls4ml converts {args.example}"):
        network, graph = example.prepare(args.example, folder, args.train, dict(args.reuse),
                                         getattr(args, "weight_bits", None))
    if PROMPT in args.options:
        network = network.with_prompt()
    return network, graph, folder


def names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def reuse(text: str) -> tuple[str, int]:
    layer, _, number = text.partition("=")
    if not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not LAYER=N")
    return layer, int(number)


def per_example(key: str) -> str:
    values = {name: experiment[key] for name, experiment in example.EXPERIMENTS.items()}
    return " (" + ", ".join(f"{name}: {value}" for name, value in values.items()) + ")"

"""Command line: hwgen demo | build | simulate | report | recover | sweep | vivado and others."""
import argparse
import os
import sys
import textwrap
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from firmware_models.directions import SPARSE
from firmware_models.network import PROMPT
from firmware_models.options import OPTIONS, needed
from firmware_models.rounding import ROUNDINGS
from firmware_models.rules.es import FITNESSES
from sim.board import MACHINES
from sim.errors import SimulationError
from sim.verilate import lint

from . import data, example, firmware, flow, pnr, recover, replay, sweep, vivado
from .build import build
from .errors import HwgenError, OverBudget

console = Console()

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

VIVADO_EXAMPLES = """examples:
  hwgen vivado build/mnist                    for the KCU105, out of context at 200 MHz
  hwgen vivado build/mnist --part xcku115-flvb2104-2-i --clock-mhz 250 -o build/mnist/ku115
  hwgen vivado build/mnist --script bitstream       the whole board: core, PCIe, DMA
  hwgen vivado build/mnist --no-run                 write the project only
"""

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

FIRMWARE_EXAMPLES = """examples:
  hwgen firmware digits                       from scratch, on a Cortex-M0+, M4 and M7
  hwgen firmware mnist --lmin 0.1 --cores m4  at most 10 % of each layer for most samples
  hwgen firmware mnist --standardize --lr-shift 11 --seeds 1 2 3
  hwgen firmware speech --mode uint8 --lmin 0.5 --no-standardize --lr 0.02
  hwgen firmware mine.npz -o build/mine       sources of a network of hwgen.firmware.save
"""

REPORT_EXAMPLES = """examples:
  hwgen report --example mnist                JSON, Markdown and HTML in build/mnist
  hwgen report --example mnist --rules qzo --options sparse
  hwgen report --against docs/results/digits.report.json

Limits in [[tool.hwgen.budgets]] of ./pyproject.toml: status 1 when a figure is over its limit.
"""

RECOVER_EXAMPLES = """examples:
  hwgen recover --example mnist --seeds 1 2 3 4 5
  hwgen recover --example mnist --rule np --layers fc1 fc3 --probes 16 --head-shift 6
  hwgen recover --example mnist --rule delta --train fc3 --head-shift 8
  hwgen recover --example mnist --rule delta --train fc3 --options topk,standardize --lmin 26 \\
      --standardize 16
  hwgen recover --example mnist --rule es --train fc3 --pairs 8 --batch 4 --fitness rank
  hwgen recover --example mnist --rule es --train fc3 --options vote --vote 4
  hwgen recover --example mnist --rule qzo --train fc3 --pairs 1
  hwgen recover --example mnist --rule qzo --train fc3 --options sparse,momentum --sparse hash \\
      --momentum
  hwgen recover --example speech --options drift --start 300 --stop 100
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
    top = argparse.ArgumentParser(
        prog="hwgen", description="FPGA cores from quantized networks, that learn on the chip",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"hwgen {version('hwgen')}")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(run, text, *parts, common=_common, epilog=None):
        sub = commands.add_parser(
            run.__name__.rstrip('_'), help=text, description=text[0].upper() + text[1:] + ".",
            epilog=epilog, formatter_class=_Formatter)
        sub.set_defaults(run=run)
        for part in (common, *parts):
            part(sub)
        return sub

    command(demo, "the whole way: convert, generate, verilate, disturb, learn, report",
            _core, _learning)
    sub = command(build_, "Verilog, and what other tools need beside it", _core,
                  epilog=BUILD_FILES)
    sub.add_argument("--inference-only", action="store_true", help="leave the learning out")
    sub.add_argument("--lint", action="store_true", help="check it with Verilator -Wall")
    sub = command(simulate, "the cocotb + Verilator regression", _core)
    sub.add_argument("--seed", type=int, default=1, help="of data, idle and stall cycles")
    sub.add_argument("--waves", action="store_true", help="record every signal (VCD)")
    sub = command(report, "resources by block, and what learning adds to inference; an HTML page",
                  _core, epilog=REPORT_EXAMPLES)
    sub.add_argument("--against", metavar="OLD.json", type=Path,
                     help="report.json of an earlier run: show what changed, block by block")
    sub = command(netlist_, "simulate what Yosys makes of the core, cell by cell, learning", _core)
    sub.add_argument("--samples", type=int, default=100, metavar="N", help="to learn from")
    sub = command(pnr_, "place and route on an ECP5 with nextpnr: clock and critical path", _core)
    sub.add_argument("--part", default=pnr.DEFAULT_PART, help=", ".join(pnr.PARTS))
    sub.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of nextpnr")
    sub.add_argument("--jobs", type=int, metavar="N", help="runs at a time; one a core by default")
    sub = command(recover_, "disturb the input and let the Verilated core learn", _core, _learning,
                  epilog=f"{_by_rule()}\n{RECOVER_EXAMPLES}")
    sub.add_argument("--save-journal", action="store_true",
                     help="write the first seed's journal of updates to journal.json")
    command(replay_, "rebuild weights from the start weights and a journal alone", common=_replay)
    command(sweep_, "a grid of settings of rule np on the compiled golden model", _grid)
    command(firmware_, "C sources of a network that trains on Cortex-M; examples run at once",
            common=_firmware, epilog=FIRMWARE_EXAMPLES)
    command(vivado_, "Vivado project of a build, run where vivado is on the path",
            common=_vivado, epilog=VIVADO_EXAMPLES)
    return top


def _by_rule() -> str:
    """What each rule takes, with its defaults."""
    lines = ["options of the rules, with their defaults:"]
    for rule, family in recover.FAMILY.items():
        settings, flags = recover.settings_for(rule, ()), ["--layers"]
        for name in (*recover.COMMON, *recover.OPTIONS[family]):
            if name not in recover.FIXED[rule]:
                value = getattr(settings, name)
                flags.append(f"--{name.replace('_', '-')}"
                             + (f"={value}" if not isinstance(value, bool) else ""))
        lines.append(textwrap.fill(" ".join(flags), 79, initial_indent=f"  {rule:7}",
                                   subsequent_indent=" " * 9, break_on_hyphens=False))
    return "\n".join(lines) + "\n"


def _common(sub) -> None:
    sub.add_argument("--example", default="digits", metavar="NAME",
                     help=f"network: {', '.join(example.NAMES)}")
    sub.add_argument("-o", "--output", metavar="DIR", type=Path,
                     help="folder for results; build/<example> by default")


def _core(sub) -> None:
    group = sub.add_argument_group("core")
    group.add_argument("--train", nargs="+", metavar="LAYER",
                       help="trainable layers; the first and the last one by default. prompt is a "
                       "vector that is added to the input (rule es), as with --options prompt")
    group.add_argument("--rules", metavar="RULE,RULE", type=_names,
                       help=f"rules that the core can learn by, of {', '.join(recover.RULES)}; "
                       "what --rule needs by default, else np")
    described = "; ".join(f"{name}: {option.doc}" for name, option in OPTIONS.items())
    group.add_argument("--options", metavar="NAME,NAME", type=_names, default=(),
                       help=f"what else the core can do ({described})")
    group.add_argument("--multipliers", action="store_true",
                       help="np: coefficients of four bits and a DSP per weight lane")
    group.add_argument("--reuse", nargs="+", metavar="LAYER=N", type=_reuse, default=[],
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


def _learning(sub) -> None:
    group = sub.add_argument_group("learning")
    rules = "; ".join(f"{name}: {text}" for name, text in recover.RULES.items())
    group.add_argument("--rule", default="np", help=rules)
    group.add_argument("--disturb", metavar="KIND", help="none, noise:S, stuck:F, invert, "
                       "rotate:DEG or impulse:F" + _per_example("disturb"),
                       default=argparse.SUPPRESS)
    group.add_argument("--samples", type=int, metavar="N", default=argparse.SUPPRESS,
                       help="to learn from, in each run" + _per_example("samples"))
    group.add_argument("--seeds", type=int, nargs="+", metavar="N", default=argparse.SUPPRESS,
                       help="one run each" + _per_example("seeds"))
    group.add_argument("--layers", nargs="+", metavar="LAYER",
                       help="layers that learn, prompt among them; all trainable ones by default")
    for name, text in (("probes", "np: per hidden layer and sample, 0 to 32 (8)"),
                       ("sigma-log2", "probe amplitude: np 2**(sigma - 6) in the pre-activation "
                        "(5); es, qzo 2**sigma steps of a weight of 8 bits (3)"),
                       ("lr-shift", "np: weights of a node move when its error reaches "
                        "2**shift / 256 bit (9); es, qzo: fitness 1 moves a weight by "
                        "2**(7 - shift - R) steps (7)"),
                       ("head-shift", "np, delta: lr-shift of the last layer (7)"),
                       ("skip", "np, delta: samples with less loss, in 1/256 bit, are not learned "
                        "from (0)"),
                       ("lmin", "np, delta, with --options topk: share of the last layer's nodes, "
                        "those of the largest errors, that a sample without error updates, in "
                        "1/256, to lmax; 256: all nodes, always (256)"),
                       ("lmax", "np, delta, with --options topk: the share for the largest error "
                        "so far (256)"),
                       ("standardize", "np, delta, with --options standardize: errors of the last "
                        "layer from this on, in 1/256, count as 1, smaller ones as 0, to 256; 0: "
                        "as they are (0)"),
                       ("lr-decay", "updates after which the rate halves; 0: never (0)"),
                       ("pairs", "es, qzo: antithetic pairs per sample (4; qzo 2)"),
                       ("batch", "es: samples per update (2)"),
                       ("vote", "es, with --options vote: a weight moves by one step where its "
                        "change exceeds this, say theta * isqrt(pairs); 0: off"),
                       ("sharp", "es, qzo, with --options sharp: 0, or all pairs but a sample's "
                        "first are measured 2**(sharp - 1) weight steps up the way it found; to "
                        "7"),
                       ("start", "with --options drift: learning starts from this running loss "
                        "on, in 1/256 bit; 0: it is always on"),
                       ("stop", "with --options drift: learning stops below this running loss, in "
                        "1/256 bit")):
        group.add_argument(f"--{name}", type=int, metavar="N", help=text, default=argparse.SUPPRESS)
    group.add_argument("--turn", action="store_true", default=argparse.SUPPRESS,
                       help="np: probe one of the hidden layers per sample, in turn")
    group.add_argument("--restart", action="store_true", default=argparse.SUPPRESS,
                       help="with --options drift: the rate decay starts over when learning does")
    group.add_argument("--fitness", choices=FITNESSES, default=argparse.SUPPRESS,
                       help="es: of the pairs' loss differences (sign); zscore and best need "
                       "--options shaping")
    group.add_argument("--sparse", choices=SPARSE, default=argparse.SUPPRESS,
                       help="es, qzo, with --options sparse: weights with noise: all, a quarter "
                       "that each probe draws, the same quarter for ever, or none; biases always")
    group.add_argument("--rank1", action="store_true", default=argparse.SUPPRESS,
                       help="es, qzo, with --options rank1: noise of rank one: a sign per input "
                       "times a sign per output")
    group.add_argument("--kernel", action="store_true", default=argparse.SUPPRESS,
                       help="es, qzo, with --options kernel: smaller amplitude and rate in rows of "
                       "smaller weights")
    group.add_argument("--momentum", action="store_true", default=argparse.SUPPRESS,
                       help="es, qzo, with --options momentum: probes are drawn around the way "
                       "that the weights have gone")
    group.add_argument("--sigma-decay", action="store_true", default=argparse.SUPPRESS,
                       help="es, qzo, with --options sigma_decay: the amplitude halves with the "
                       "rate")
    group.add_argument("--rounding", choices=ROUNDINGS, default=argparse.SUPPRESS,
                       help="es, qzo: of changes to master steps (feedback); all but feedback need "
                       "--options rounding, replay also replay")


def _grid(sub) -> None:
    sub.add_argument("--grid", nargs="+", metavar="NAME=V,V", default=["lr_shift=8,9,10"],
                     help=f"values to combine, of {', '.join(sweep.SETTINGS)}")
    sub.add_argument("--layers", nargs="+", metavar="LAYER",
                     help="layers that learn; the first and the last one by default")
    sub.add_argument("--disturb", metavar="KIND", default=argparse.SUPPRESS,
                     help="as for recover" + _per_example("disturb"))
    sub.add_argument("--samples", type=int, default=4000, metavar="N", help="in each run")
    sub.add_argument("--seeds", type=int, nargs="+", metavar="N", default=argparse.SUPPRESS,
                     help="one run each of every combination" + _per_example("seeds"))
    sub.add_argument("--residual", type=int, default=4, metavar="R",
                     help="residual bits below each trainable weight, 0 to 8")
    sub.add_argument("--backend", default="loky", metavar="NAME",
                     help=f"of joblib: {', '.join(sweep.BACKENDS)}")
    sub.add_argument("--jobs", type=int, metavar="N", help="runs at a time; one a core by default")


def _replay(sub) -> None:
    sub.add_argument("--example", metavar="NAME", default=argparse.SUPPRESS,
                     help="network whose weights to start from; the manifest's by default")
    sub.add_argument("--manifest", metavar="FILE", type=Path, required=True,
                     help="manifest.json of the core")
    sub.add_argument("--journal", metavar="FILE", type=Path, required=True,
                     help="journal.json read from it")
    sub.add_argument("-o", "--output", metavar="FILE", type=Path, default=Path("weights.npz"),
                     help="where the weights go")


def _firmware(sub) -> None:
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


def _vivado(sub) -> None:
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


def _share(text: str) -> int:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a part of a layer, 0 to 1")
    return round(256 * value)


def _per_example(key: str) -> str:
    values = {name: experiment[key] for name, experiment in example.EXPERIMENTS.items()}
    return " (" + ", ".join(f"{name}: {value}" for name, value in values.items()) + ")"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _reuse(text: str) -> tuple[str, int]:
    layer, _, number = text.partition("=")
    if not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not LAYER=N")
    return layer, int(number)


def _options(args) -> dict:
    """Options of the core."""
    rules = args.rules or [getattr(args, "rule", "np")]
    return {"residual": args.residual, **recover.core_for(rules, args.options),
            "multipliers": args.multipliers, "max_pairs": args.max_pairs,
            "journal_records": args.journal_records}


def _prepare(args):
    folder = args.output or Path("build") / args.example
    with console.status(f"hls4ml converts {args.example}"):
        network, graph = example.prepare(args.example, folder, args.train, dict(args.reuse),
                                         getattr(args, "weight_bits", None))
    if PROMPT in args.options:
        network = network.with_prompt()
    return network, graph, folder


def build_(args) -> None:
    network, _, folder = _prepare(args)
    with console.status("generating Verilog"):
        manifest = build(network, folder, learning=not args.inference_only,
                         **_options(args))
    console.print(f"{manifest.parent / 'core.v'} and {manifest}; beside them core_registers.h, "
                  "core.xml, core.core, core_lint.vlt, core_tb.sv")
    if args.lint:
        with console.status("Verilator -Wall"):
            lint(manifest.parent / "core.v", "core")
        console.print("lint: clean")


def simulate(args) -> None:
    network, _, folder = _prepare(args)
    ran = flow.regression(network, folder, seed=args.seed, waves=args.waves, console=console,
                          **_options(args))
    console.print(f"{ran} cocotb tests passed, 0 failed; {folder / 'results.xml'}")


def report(args) -> None:
    network, _, folder = _prepare(args)
    flow.report(network, folder, console=console, against=args.against, **_options(args))


def netlist_(args) -> None:
    network, _, folder = _prepare(args)
    if args.samples < 2:
        raise HwgenError("state is compared twice; give --samples of 2 or more")
    flow.netlist(network, folder, args.example, samples=args.samples, console=console,
                 **_options(args))


def pnr_(args) -> None:
    network, _, folder = _prepare(args)
    flow.place_and_route(network, folder, part=args.part, seeds=args.seeds, jobs=args.jobs,
                         console=console, **_options(args))


def recover_(args) -> None:
    network, _, folder = _prepare(args)
    recovery = _experiment(args, network)
    with console.status("generating Verilog"):
        manifest = build(network, folder, **_options(args))
    summary = _recover(args, recovery, network, manifest, folder)
    console.print(_table(summary))
    _insist(summary)


def replay_(args) -> None:
    with console.status("replaying the journal"):
        updates = replay.run(args.manifest, args.journal, args.output,
                             getattr(args, "example", None))
    console.print(f"{args.output}: weights after {updates:,} updates")


def sweep_(args) -> None:
    folder = args.output or Path("build") / args.example
    grid = sweep.parse_grid(args.grid)
    with console.status(f"hls4ml converts {args.example}"):
        network, _ = example.prepare(args.example, folder, args.layers)
    experiment = example.EXPERIMENTS[args.example]
    disturb, seeds = (getattr(args, key, experiment[key]) for key in ("disturb", "seeds"))
    plan = sweep.Sweep(disturbance=disturb, layers=network.trainable, grid=grid,
                       samples=args.samples, seeds=tuple(seeds), residual=args.residual)
    with flow.progress_bar(console) as bar:
        task = bar.add_task("learning", total=len(plan.combinations) * len(plan.seeds))
        curves = sweep.run(plan, network, args.backend, args.jobs, lambda: bar.advance(task))
    summary = sweep.summarize(plan, network, curves)
    sweep.write(summary, folder)
    console.print(sweep.table(summary))
    console.print(f"{folder / 'sweep.json'}, {folder / 'sweep.png'}")


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
    settings = _firmware_settings(args, mode, chosen)
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


def _firmware_settings(args, mode: str, chosen):
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


def demo(args) -> None:
    network, graph, folder = _prepare(args)
    recovery = _experiment(args, network)
    with console.status("generating Verilog"):
        manifests = flow.both_cores(network, folder, **_options(args))
    with flow.report_behind(manifests, folder) as resources:
        with console.status("hls4ml's C++ against the golden model"):
            checked = flow.check_against_cpp(network, graph, args.example)
        with console.status("verilating the core"):
            flow.verilate(manifests[0])
        summary = _recover(args, recovery, network, manifests[0], folder)
        with console.status("Yosys counts resources"):
            counted = resources()
    table = _table(summary)
    for name, part in (("inference core", counted["inference"]),
                       ("learning adds", counted["training"])):
        total, share = part["total"], part["percent"]["KU040"]["lut"]
        table.add_row(name, f"{total['lut']:,} LUT ({share:.2f} % of a KU040), {total['ff']:,} FF, "
                      f"{total['dsp']:g} DSP, {total['bram36']:g} BRAM36")
    table.add_row("equal to hls4ml's C++", f"{checked} of {checked} test images")
    console.print(table)
    console.print(f"{folder}: core.v, manifest.json, recover.json, recover.png, report.json")
    _insist(summary)


def _insist(summary: dict) -> None:
    """A difference between core and model is a failure, whatever the accuracy."""
    for key, what in (("bit_exact", "state or predictions"), ("cycles_exact", "cycles")):
        if not summary[key]:
            raise HwgenError(f"{summary['example']}: {what} of core and golden model differ; "
                             "please report this with recover.json and manifest.json")


def _experiment(args, network) -> recover.Recovery:
    """What the arguments ask for, refused before anything is built."""
    names = [part.dense.name for part in network.parts]
    for layer in args.layers or []:
        if layer not in names or names.index(layer) not in network.trainable:
            raise HwgenError(f"layer {layer!r} is not trainable in this core; name it in --train")
    layers = tuple(names.index(n) for n in args.layers) if args.layers else network.trainable
    head = len(network.stages) - 1
    if args.rule == "delta":
        if head not in layers or args.layers and len(layers) > 1:
            raise HwgenError(f"rule delta learns in the last layer alone; name {names[head]}, and "
                             "no other in --layers")
        layers = (head,)
    options = {n: getattr(args, n, None) for n in (
        *recover.COMMON, *recover.OPTIONS["np"], *recover.OPTIONS["es"])}
    settings = recover.settings_for(args.rule, layers, **options)
    if settings.rule not in _options(args)["rules"]:
        raise HwgenError(f"rule {args.rule} needs {args.rule} in --rules")
    for option in needed(settings):
        if option not in _options(args)["options"]:
            raise HwgenError(f"these settings need --options {option}")
    if settings.rule == "es" and settings.pairs > args.max_pairs:
        raise HwgenError(f"{settings.pairs} pairs do not fit a core for {args.max_pairs}; "
                         "raise --max-pairs")
    experiment = example.EXPERIMENTS[args.example]
    disturb, samples, seeds = (getattr(args, key, experiment[key])
                               for key in ("disturb", "samples", "seeds"))
    if samples < recover.POINTS:
        raise HwgenError(f"{samples} samples are fewer than the curve has points; give "
                         f"{recover.POINTS} or more")
    if getattr(args, "save_journal", False) and "journal" not in _options(args)["options"]:
        raise HwgenError("--save-journal needs --options journal")
    data.disturb(data.load(args.example).x_test[:0], disturb, 0)       # refuses what is none
    return recover.Recovery(example=args.example, rule=args.rule, disturbance=disturb,
                            settings=settings, samples=samples, seeds=tuple(seeds))


def _recover(args, recovery, network, manifest, folder) -> dict:
    journal = folder / "journal.json" if getattr(args, "save_journal", False) else None
    runs = flow.run_seeds(recovery, network, manifest, args.residual, console, journal)
    summary = recover.summarize(recovery, network, runs, args.residual)
    if (folder / "recover.json").exists():
        console.print(f"replacing {os.path.join(folder, 'recover.json')} of an earlier run")
    recover.write(summary, folder)
    return summary


def _table(summary: dict) -> Table:
    seeds = len(summary["runs"])
    table = Table(title=f"{summary['example']}, {summary['disturbance']}: rule {summary['rule']} "
                  f"on {', '.join(summary['layers'])}", show_header=False)
    for name, value in (
            ("accuracy", f"{summary['clean']:.1f} % {summary['levels'][0]}, "
             f"{summary['before']:.1f} % {summary['levels'][1]}, {summary['after']:.1f} % "
             "recovered" + (f", mean of {seeds} seeds" * (seeds > 1))),
            ("learned from", f"{summary['samples']:,} samples in {summary['passes']:,} passes"),
            ("time", f"{summary['cycles']:,} cycles = {1e3 * summary['seconds']:.2f} ms at "
             f"{summary['clock_mhz']} MHz"),
            ("cycles a sample", f"{summary['cycles_per_sample_learning']:g} learning, "
             f"{summary['cycles_per_sample_inference']:g} not learning"),
            ("simulated at", f"{summary['simulated_hz']:,} cycles/s, one core of this machine"),
            ("bit-exact with the golden model", "yes" if summary["bit_exact"] else "NO"),
            ("cycles as predicted", "yes" if summary["cycles_exact"] else "NO")):
        table.add_row(name, value)
    return table

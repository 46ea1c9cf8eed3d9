"""Commands that learn: demo, recover, replay, sweep."""
import os
from pathlib import Path

from rich.table import Table

from firmware_models.options import needed

from .. import data, example, flow, recover, replay, sweep
from ..build import build
from ..errors import HwgenError
from .learning_arguments import (
    RECOVER_EXAMPLES,
    by_rule,
    grid_arguments,
    learning_arguments,
    replay_arguments,
)
from .shared import console, core_arguments, core_options, prepare


def add(command) -> None:
    """The commands' arguments; `command` is that of :func:`hwgen.cli.parser`."""
    command(demo, "the whole way: convert, generate, verilate, disturb, learn, report",
            core_arguments, learning_arguments)
    sub = command(recover_, "disturb the input and let the Verilated core learn", core_arguments,
                  learning_arguments, epilog=f"{by_rule()}\n{RECOVER_EXAMPLES}")
    sub.add_argument("--save-journal", action="store_true",
                     help="write the first seed's journal of updates to journal.json")
    command(replay_, "rebuild weights from the start weights and a journal alone",
            common=replay_arguments)
    command(sweep_, "a grid of settings of rule np on the compiled golden model", grid_arguments)


def recover_(args) -> None:
    network, _, folder = prepare(args)
    recovery = _experiment(args, network)
    with console.status("generating Verilog"):
        manifest = build(network, folder, **core_options(args))
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


def demo(args) -> None:
    network, graph, folder = prepare(args)
    recovery = _experiment(args, network)
    with console.status("generating Verilog"):
        manifests = flow.both_cores(network, folder, **core_options(args))
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
    if settings.rule not in core_options(args)["rules"]:
        raise HwgenError(f"rule {args.rule} needs {args.rule} in --rules")
    for option in needed(settings):
        if option not in core_options(args)["options"]:
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
    if getattr(args, "save_journal", False) and "journal" not in core_options(args)["options"]:
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

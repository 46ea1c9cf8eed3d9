"""Steps of the commands that run other programs: C++, Verilator, cocotb, Yosys, several seeds."""
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from firmware_models.dense import forward
from firmware_models.network import Network
from firmware_models.settings import Settings
from firmware_models.softmax import readout
from sim.device import Device
from sim.runner import run_bench

from . import data, pnr, recover
from . import netlist as netlists
from . import report as resources
from .build import build
from .errors import HwgenError, OverBudget
from .frontend import Emulation

CPP_IMAGES = 1000


def progress_bar(console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                    TimeRemainingColumn(), console=console, transient=True)


def verilate(manifest: Path) -> None:
    """Compile the core's simulation, so that runs start at once."""
    Device(manifest).close()


def check_against_cpp(network: Network, graph, name: str) -> int:
    """Compare outputs of hls4ml's C++ with the golden model; return how many images were equal.

    Raises
    ------
    HwgenError
        When one differs.
    """
    x = data.load(name).x_test[:CPP_IMAGES].astype(np.int64)
    wrong = (Emulation(graph).logits(x) != readout(network, forward(network, x))).any(-1)
    if wrong.any():
        raise HwgenError(f"{name}: {wrong.sum()} of {len(x)} images differ from hls4ml's C++; "
                         "please report this with the network")
    return len(x)


def run_seeds(recovery: recover.Recovery, network: Network, manifest: Path, residual: int,
              console, journal: Path | None = None) -> list[dict]:
    """All seeds of a recovery on all cores of the machine, with one progress bar.

    The journal of the first one goes to `journal`.
    In threads: simulation and compiled golden model leave Python's lock alone.
    """
    verilate(manifest)                      # once, not once per thread
    with progress_bar(console) as bar:
        task = bar.add_task("learning in Verilator",
                            total=recovery.samples * len(recovery.seeds))
        done = dict.fromkeys(recovery.seeds, 0)

        def run(seed):
            def show(samples):
                done[seed] = samples
                bar.update(task, completed=sum(done.values()))
            return recover.run(recovery, network, manifest, seed, residual, show,
                               journal if seed == recovery.seeds[0] else None)

        return joblib.Parallel(n_jobs=min(len(recovery.seeds), os.cpu_count()),
                               prefer="threads")(map(joblib.delayed(run), recovery.seeds))


def regression(network: Network, folder: Path, *, seed: int, waves: bool, console, **core) -> int:
    """cocotb benches on the whole core, learning and inference alone; returns the tests passed."""
    folder = Path(folder)
    settings = Settings(rule=core["rules"][0], layers=network.trainable,
                        pairs=min(2, core["max_pairs"]), probes=4, seed=seed)
    ran = 0
    for learning in (True, False):
        target = folder if learning else folder / "inference"
        with console.status(f"cocotb on {target / 'core.v'}"):
            manifest = build(network, target, learning=learning, **core)
            bench = {"network": network if learning else network.with_trainable(()),
                     "samples": 8, "updates": 3}
            if learning:
                bench["settings"] = settings
            ran += run_bench(manifest, "sim.core", data=bench, seed=seed, waves=waves,
                             results=target / "results.xml")
    if waves:
        console.print(f"waveforms: {folder / 'cocotb' / 'dump.vcd'}")
    return ran


def both_cores(network: Network, folder: Path, **options) -> tuple[Path, Path]:
    """Build the learning core in `folder` and the same without learning in ``inference``."""
    folder = Path(folder)
    return (build(network, folder, **options),
            build(network, folder / "inference", learning=False, **options))


def report(network: Network, folder: Path, *, console, against: Path | None = None,
           **options) -> dict:
    """Count the resources of both cores; write them as JSON, Markdown and HTML; show them.

    Parameters
    ----------
    against : Path, optional
        ``report.json`` of an earlier run, to show what changed.

    Raises
    ------
    OverBudget
        After all that, if a figure is over its limit in ``pyproject.toml``.
    """
    old = resources.changes.read(against) if against else None
    limits = resources.budgets.read()
    with console.status("Yosys counts the cores with and without learning"):
        summary = resources.report(*both_cores(network, folder, **options))
    changed = resources.changes.changes(old, summary) if old else None
    written = resources.write(summary, folder, changed=changed, against=against or "",
                              budgets=limits)
    console.print(resources.table(summary))
    if changed is not None:
        console.print(resources.changes.table(changed, against))
    console.print(", ".join(map(str, written)))
    if over := resources.budgets.check(summary, limits):
        raise OverBudget("; ".join(over))
    return summary


def netlist(network: Network, folder: Path, name: str, *, samples: int, console,
            **options) -> dict:
    """Simulate the core's mapped netlist beside the golden model; write ``netlist.json``.

    Raises
    ------
    HwgenError
        When a logit, a prediction, any state or a cycle differs.
    """
    manifest = build(network, folder, **options)
    with console.status("Yosys maps the core (a minute or two)"):
        mapped = netlists.synthesize(manifest)
    with console.status("verilating the netlist (a minute or two)"):
        verilate(mapped)
    recovery = recover.Recovery(
        example=name, rule=options["rules"][0], disturbance="none", samples=samples,
        settings=recover.settings_for(options["rules"][0], network.trainable))
    with progress_bar(console) as bar:
        task = bar.add_task("learning in the netlist", total=samples)
        summary = {"example": name, **netlists.check(
            recovery, network, mapped, options["residual"],
            progress=lambda done: bar.update(task, completed=done))}
    path = Path(folder) / "netlist.json"
    path.write_text(json.dumps(summary, indent=1) + "\n")
    for key, what in (("logits_exact", "logits"), ("bit_exact", "state or predictions"),
                      ("cycles_exact", "cycles")):
        if not summary[key]:
            raise HwgenError(f"{name}: {what} of netlist and golden model differ; please report "
                             f"this with {path} and manifest.json")
    console.print(f"{sum(summary['cells'].values()):,} cells: {summary['images']} images, then "
                  f"{summary['samples']} samples learned from in {summary['cycles']:,} cycles; "
                  f"all logits, state and cycles equal the golden model's; {path}")
    return summary


def place_and_route(network: Network, folder: Path, *, part: str, seeds, jobs: int | None, console,
                    **options) -> dict:
    """Clock of the core on an ECP5; write ``pnr.json`` and show it."""
    pnr.tools(part)         # what cannot be run is refused before anything is built
    manifest = build(network, folder, **options)
    with progress_bar(console) as bar:
        task = bar.add_task("nextpnr (minutes each)", total=len(seeds))
        summary = pnr.place_and_route(manifest, part=part, seeds=seeds, jobs=jobs,
                                      advance=lambda: bar.advance(task))
    path = Path(folder) / "pnr.json"
    path.write_text(json.dumps(summary, indent=1) + "\n")
    console.print(pnr.table(summary))
    console.print(str(path))
    return summary


@contextmanager
def report_behind(manifests: tuple[Path, Path], folder: Path):
    """Count resources in the background; the context's value waits for the result."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(resources.report, *manifests)

        def result() -> dict:
            summary = future.result()
            resources.write(summary, folder, budgets=resources.budgets.read())
            return summary

        yield result

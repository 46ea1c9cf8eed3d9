"""All that the documents claim, run anew: `make results`.

    python -m examples.results [--only NAME ...] [--again] [--list]

Every run has a folder of its own under build/results. When it has ended well, what it measured goes
to docs/results, and its seconds to run.json in its folder: a run that has this file is not run
again, so that what was stopped goes on where it was. `make clean` forgets them all.
"""
import argparse
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import joblib
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from hwgen import example, firmware

FOLDER, DOCUMENTS = Path("build") / "results", Path("docs") / "results"
SEEDS, RECOVERY = "--seeds 1 2 3", ("recover.json", "recover.png")


class Group(NamedTuple):
    """Runs of an example's firmware with less and less to learn from a sample, on one stream.

    Parameters
    ----------
    name : str
    kinds : dict of str to str
        Ends of the runs' names, and their options; the first one learns from everything.
    options : str
        What all of them have.
    samples : int, optional
        Instead of the example's own number.
    """
    name: str
    kinds: dict[str, str]
    options: str = ""
    samples: int | None = None


# Learning rates and thresholds were chosen on validation samples.
GROUPS = (
    *(Group(name, {"": "", "-0.5-1": "--lmin 0.5", "-0.1-1": "--lmin 0.1",
                   "-0.1-0.1": "--lmin 0.1 --lmax 0.1", "-skip": "--lmin 0.1 --skip 32",
                   "-half": "--lmin 0.1 --lmax 0.5 --skip 32", "-bits": bits})
      for name, bits in (("mnist", "--error-bits 1 --skip 128"),
                         ("speech", "--error-bits 1 --skip 64"),
                         ("ecg", "--error-bits 1 --skip 64 --lr-shift 8"))),
    # An epoch: of its training split the example takes a seventh.
    Group("mnist", {"-epoch": "", "-epoch-0.1-1": "--lmin 0.1",
                    "-epoch-bits": "--error-bits 2 --skip 224"}, "--lr-decay 20000", 55_000),
)
TRANSFERS = tuple(dict.fromkeys(group.name for group in GROUPS))


@dataclass(frozen=True)
class Run:
    """A command and what it leaves.

    Parameters
    ----------
    name : str
    command : str
        What follows `python -m`; its folder takes the place of ``{}``.
    files : dict of str to str
        Files in its folder, and their names in docs/results.
    spreads : bool
        Whether it uses all cores itself. Neighbours that do not run side by side.
    """
    name: str
    command: str
    files: dict[str, str] = field(default_factory=dict)
    spreads: bool = False

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def note(self) -> Path:
        """What says that it has ended, and how long it took."""
        return self.folder / "run.json"


def _study(name: str, *figures: str, spreads: bool = False) -> Run:
    files = [f"{name}.json", *figures]
    return Run(name, f"examples.{name} -o {{}}/{name}.json", {one: one for one in files}, spreads)


def _firmware(name: str, options: str = "", kind: str = "") -> Run:
    title = f"{name}.firmware{kind}"
    return Run(title, f"hwgen firmware {name} {SEEDS} {options} -o {{}}",
               {"firmware.json": f"{title}.json"})


def _counted(group: Group, kind: str) -> Run:
    """Counts instructions over the whole run: how many a sample takes changes on the way."""
    samples = group.samples or firmware.example.task(group.name).samples
    cores = "--cores m4" if kind else ""        # the page has all cores of the example itself
    return _firmware(group.name, f"{group.options} {group.kinds[kind]} {cores} "
                                 f"--samples {samples} --board-samples {samples}", kind)


def _demo(name: str) -> Run:
    files = {one: f"{name}.{one}" for one in ("report.json", *RECOVERY)}
    if name == "mnist":         # the README's table has more seeds of it than its demo
        files = {one: files[one] for one in files if one not in RECOVERY}
    return Run(f"{name}.demo", f"hwgen demo --example {name} -o {{}}",
               {"log.txt": f"{name}.demo.txt"} | files, spreads=True)


RUNS = (
    # The ablation takes its ceilings from the study.
    _study("study", spreads=True), _study("forwards", spreads=True),
    _study("tune", spreads=True),
    _study("landscape", *(f"landscape_{one}.png" for one in ("own", "paths", "plane", "sharpness")),
           spreads=True),
    *map(_study, ("modes", "beside", "partial_updates")), _study("day", "day.png"),
    *(_firmware(name) for name in firmware.example.TASKS if name not in TRANSFERS),
    *(_counted(group, kind) for group in GROUPS for kind in group.kinds),
    *(_firmware(name, f"--mode uint8 --lmin {lmin}", f"-uint8-{lmin}")
      for name in TRANSFERS for lmin in ("1", "0.5", "0.1")),
    *(_firmware("speech", f"--mode {mode}", f"-{mode}") for mode in ("mixed", "float32")),
    # What follows depends on the hardware.
    *map(_demo, example.NAMES),
    Run("mnist.recover", "hwgen recover --example mnist --seeds 1 2 3 4 5 -o {}",
        {one: f"mnist.{one}" for one in RECOVERY}, spreads=True),
    Run("digits.pnr", "hwgen pnr -o {}", {"pnr.json": "digits.pnr.json"}, spreads=True),
    *map(_study, ("resources", "growth")),
)


class Failed(Exception):
    """A run that failed, and where it says why."""


def execute(run: Run) -> dict:
    """Runs it, in a new folder, and takes what it measured; what it printed is in log.txt.

    Raises
    ------
    Failed
        docs/results then keeps what it has.
    """
    shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(parents=True)
    command = [sys.executable, "-m", *shlex.split(run.command.format(run.folder))]
    begin = time.monotonic()
    with open(run.folder / "log.txt", "w") as log, open(run.folder / "errors.txt", "w") as errors:
        status = subprocess.run(command, stdout=log, stderr=errors,
                                env=os.environ | {"COLUMNS": "100"}).returncode
    if status:
        raise Failed(f"{run.name} ended with status {status}: see {run.folder}/errors.txt")
    DOCUMENTS.mkdir(parents=True, exist_ok=True)
    for source, target in run.files.items():
        shutil.copy(run.folder / source, DOCUMENTS / target)
    found = {"command": "python -m " + run.command.format(run.folder),
             "seconds": round(time.monotonic() - begin)}
    run.note.write_text(json.dumps(found, indent=1) + "\n")
    return found


def all_of(runs, jobs: int) -> None:
    """One after the other; neighbours that use one core each, side by side."""
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(),
                  TimeElapsedColumn()) as progress:
        task = progress.add_task("results", total=len(runs))

        def one(run: Run) -> None:
            found = execute(run)
            progress.console.print(f"{run.name}: {found['seconds']} s", highlight=False)
            progress.advance(task)

        for spreads, group in itertools.groupby(runs, lambda run: run.spreads):
            joblib.Parallel(n_jobs=1 if spreads else jobs, prefer="threads")(
                joblib.delayed(one)(run) for run in group)


def main(argv=None) -> int:
    names = [run.name for run in RUNS]
    parser = argparse.ArgumentParser(prog="python -m examples.results", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, default=names)
    parser.add_argument("--again", action="store_true", help="also what has ended before")
    parser.add_argument("--list", action="store_true", help="name the runs, and what is done")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    chosen = [run for run in RUNS if run.name in args.only]
    if args.list:
        for run in chosen:
            took = f"{json.loads(run.note.read_text())['seconds']} s" if run.note.exists() else ""
            print(f"{run.name:24}{took}")
        return 0
    try:
        all_of([run for run in chosen if args.again or not run.note.exists()], args.jobs)
    except Failed as error:
        print(f"examples.results: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

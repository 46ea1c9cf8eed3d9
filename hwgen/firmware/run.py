"""Generated firmware at work: on this machine for its accuracy, on emulated boards for its cost."""
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.table import Table

from sim import board
from sim.firmware import Firmware

from ..errors import HwgenError
from . import example
from .generate import generate
from .state import arithmetic_of, pack

CLASSIFIED = 20         # test samples a board classifies, to count their instructions


def run(name: str, folder, *, mode: str = "integer", cores, samples: int, board_samples: int,
        settings, seeds, advance=lambda n: None) -> dict:
    """Let an example learn, and compare golden model, host and boards.

    Parameters
    ----------
    name : str
        One of :data:`hwgen.firmware.example.TASKS`.
    folder : path
        Gets the firmware that starts as the first seed does, and ``firmware.json``.
    mode : str
        One of :data:`hwgen.firmware.state.ARITHMETICS`.
    cores : sequence of str
        Of :data:`sim.board.MACHINES`.
    samples : int
        Learned from on the host, for each seed.
    board_samples : int
        Of the first seed: learned from on each board and by the golden model too.
    settings : Settings
        Of the mode.
    seeds : sequence of int
        Of the order of the samples, of their noise, and of random weights.
    advance : callable of int
        Told how many samples more are done, of ``len(seeds) * samples``.

    Returns
    -------
    dict
        Contents of ``firmware.json``: accuracies in percent on the test split, for each core
        instructions a sample and bytes, and for each seed the part of the samples that it learned
        from.

    Raises
    ------
    HwgenError
        Where a state differs from the golden model's.
    """
    task, folder = example.task(name), Path(folder)
    x_test, y_test = example.test_split(name)
    runs = []
    for seed in seeds:
        place = folder if seed == seeds[0] else folder / f"seed{seed}"
        state = example.start(name, seed, mode)
        plan = generate(task.layers, state, place, settings=settings, title=name)
        firmware = Firmware(place)
        before = firmware.predict(x_test)
        x, y = example.stream(name, samples, seed)
        if seed == seeds[0]:
            found = _compared(task, state, settings, place, firmware, x[:board_samples],
                              y[:board_samples], x_test, cores)
            firmware.reset()
        learned = 0
        for n, (sample, label) in enumerate(zip(x, y, strict=True)):
            learned += firmware.train_step(sample, label) >= getattr(settings, "skip", 0)
            if n % 100 == 99:
                advance(100)
        after = firmware.predict(x_test)
        runs.append({"seed": seed, "learned": learned / samples,
                     "before": example.accuracy(before, y_test, task.balanced),
                     "after": example.accuracy(after, y_test, task.balanced)})
    summary = {
        "example": name, "mode": mode, "disturbance": task.disturb, "samples": samples,
        "test_samples": len(y_test), "board_samples": min(board_samples, samples), **plan,
        **{key: float(np.mean([one[key] for one in runs])) for key in ("before", "after")},
        "cores": found, "settings": asdict(settings), "runs": runs,
        "versions": {n: version(n) for n in ("hwgen", "numpy")} | board.versions()}
    (folder / "firmware.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _compared(task, state, settings, folder, firmware, x, y, x_test, cores) -> dict:
    """What each core needs, if all of them compute what the golden model does."""
    model = arithmetic_of(state).MODEL
    for sample, label in zip(x, y, strict=True):
        firmware.train_step(sample, label)
        state = model.train_step(task.layers, state, sample, label, settings)
    right = pack(task.layers, state)
    classes = model.predict(task.layers, state, x_test[:CLASSIFIED])
    if firmware.state() != right:
        raise HwgenError(f"{folder}: the host's state differs from the golden model's; please "
                         "report this with the folder")
    found = {}
    both, labels = np.concatenate([x, x_test[:CLASSIFIED]]), np.append(y, [0] * CLASSIFIED)
    for core in cores:
        if lacking := board.missing(core):
            found[core] = {"missing": lacking}
            continue
        done = board.run(folder, core, both, labels, range(len(x)),
                         range(len(x), len(both)))
        if done.state != right or (done.classes != classes).any():
            raise HwgenError(f"{folder}: {core} differs from the golden model; please report this "
                             "with the folder")
        found[core] = {
            "train_instructions": round(done.train_instructions),
            "predict_instructions": round(done.test_instructions),
            "ram_bytes": done.ram_bytes, "stack_bytes": done.stack_bytes,
            "flash_bytes": done.flash_bytes, "equal": True}
    return found


def table(summary: dict) -> Table:
    """The summary as a person reads it."""
    seeds = len(summary["runs"])
    made = Table(title=f"{summary['example']}, {summary['mode']}, {summary['disturbance']}: "
                 f"{summary['before']:.1f} % before, {summary['after']:.1f} % after "
                 f"{summary['samples']:,} samples" + f", mean of {seeds} seeds" * (seeds > 1))
    for column in ("", "instr. a step", "to predict", "RAM, B", "stack, B", "flash, B",
                   "steps as the model"):
        made.add_column(column, justify="right" if column else "left")
    for core, found in summary["cores"].items():
        name = f"Cortex-{core.upper().replace('PLUS', '+')}"
        if "missing" in found:
            made.add_row(name, found["missing"])
            continue
        made.add_row(name, *(f"{found[key]:,}" for key in (
            "train_instructions", "predict_instructions", "ram_bytes", "stack_bytes",
            "flash_bytes")), f"{summary['board_samples']:,}")
    return made

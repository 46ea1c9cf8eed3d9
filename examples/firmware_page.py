"""Tables of docs/rules/fqt.md, from the runs of ``hwgen firmware`` and ``examples.modes``."""
from hwgen.firmware import example

from .results import GROUPS

# Deutel et al. 2024, Fashion-MNIST from scratch, a network of the same kind.
PAPER = {"uint8": 76.1, "mixed": 79.9, "float32": 84.0}
ON_BOARDS = ("uint8-1", "uint8-0.5", "uint8-0.1", "mixed", "float32")


def _seeds(accuracies) -> str:
    return ", ".join(f"{one:.1f}" for one in accuracies)


def _costs(cores: dict) -> str:
    """Cells of instructions a step on each core, and of what the M4 needs."""
    m4 = cores["m4"]
    steps = " | ".join(f"{cores[core]['train_instructions']:,}" for core in ("m0plus", "m4", "m7"))
    return (f"{steps} | {m4['predict_instructions']:,} | {m4['ram_bytes']:,} + "
            f"{m4['stack_bytes']:,} B | {m4['flash_bytes']:,} B |")


def table(runs: dict[str, dict]) -> str:
    """A row of each example: accuracy, instructions a sample, bytes."""
    lines = ["| | from | accuracy | after samples | M0+ step | M4 step | M7 step | M4 predicts | "
             "RAM, stack | flash |", "|---" * 10 + "|"]
    for name, task in example.TASKS.items():
        run = runs[f"{name}.firmware"]
        begin = f"{run['before']:.1f} %" if task.pretraining else "scratch"
        seeds = _seeds(one["after"] for one in run["runs"])
        lines.append(
            f"| `{name}`{' ' + run['disturbance'] if run['disturbance'] != 'none' else ''} | "
            f"{begin} | **{run['after']:.1f} %** ({seeds}) | {run['samples']:,} | "
            + _costs(run["cores"]))
    return "\n".join(lines)


def partial_table(runs: dict[str, dict]) -> str:
    """Accuracy and backward instructions on the M4 with less to learn from a sample."""
    lines = ["| | lmin, lmax | skip, bit | error bits | rate | samples that learn | accuracy | "
             "lost | backward instructions | fewer |", "|---" * 10 + "|"]
    for group in GROUPS:
        of_group = [runs[f"{group.name}.firmware{kind}"] for kind in group.kinds]
        whole = of_group[0]
        for run in of_group:
            used, back = run["settings"], _backward(run)
            learned = sum(one["learned"] for one in run["runs"]) / len(run["runs"])
            title = f"`{group.name}`, {run['samples']:,} samples" if run is whole else ""
            decay = f", half every {used['lr_decay']:,}" if used["lr_decay"] else ""
            lines.append(
                f"| {title} | {used['lmin'] / 256:.2g}, {used['lmax'] / 256:.2g} | "
                f"{used['skip'] / 256:g} | {used['error_bits']} | 2^-{used['lr_shift']}{decay} | "
                f"{100 * learned:.0f} % | {run['after']:.1f} % | "
                + (" | " if run is whole else f"{whole['after'] - run['after']:.1f} | ")
                + f"{back:,} | "
                + ("|" if run is whole else f"{_backward(whole) / back:.1f}x |"))
    return "\n".join(lines)


def _backward(run: dict) -> int:
    """Instructions of a training step that a prediction does not have, on the M4."""
    m4 = run["cores"]["m4"]
    return m4["train_instructions"] - m4["predict_instructions"]


def modes_table(found: dict) -> str:
    """A row of each arithmetic of ``modes.json``, with the paper's figure."""
    lines = ["| mode | errors that go back | learning rate, batch | accuracy | the paper |",
             "|---" * 5 + "|"]
    for row in found["rows"]:
        mode, settings = row["mode"], row["settings"]
        if mode == "integer":
            errors, rate = "rounded, a shift", f"2^-{settings['lr_shift']}, 1"
        else:
            errors = "floats" if mode == "float32" else "floored" if settings["floor_errors"] \
                else "rounded"
            rate = f"{settings['lr']:g}, {settings['batch']}"
        paper = f"{PAPER[mode]} %" if mode in PAPER else ""
        lines.append(f"| `{mode}` | {errors} | {rate} | **{row['accuracy']:.1f} %** "
                     f"({_seeds(row['accuracies'])}) | {paper} |")
    return "\n".join(lines)


def boards_table(runs: dict[str, dict]) -> str:
    """Accuracy, instructions and bytes of the modes with floats, and of partial updates."""
    lines = ["| | from | accuracy | M0+ step | M4 step | M7 step | M4 predicts | RAM, stack | "
             "flash |", "|---" * 9 + "|"]
    for name in example.TASKS:
        for key in ON_BOARDS:
            run = runs.get(f"{name}.firmware-{key}")
            if run is None:
                continue
            part = run["settings"]["lmin"] / 256
            lines.append(
                f"| `{name}` {run['mode']}{f', lmin {part:.1g}' if part < 1 else ''} | "
                f"{run['before']:.1f} % | **{run['after']:.1f} %** "
                f"({_seeds(one['after'] for one in run['runs'])}) | " + _costs(run["cores"]))
    return "\n".join(lines)

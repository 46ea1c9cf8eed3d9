"""Tables of docs/rules/fqt.md, from the runs of ``hwgen firmware``."""
from hwgen.firmware import example


def table(runs: dict[str, dict]) -> str:
    """A row of each example: accuracy, instructions a sample, bytes."""
    lines = ["| | from | accuracy | after samples | M0+ step | M4 step | M7 step | M4 predicts | "
             "RAM, stack | flash |", "|---" * 10 + "|"]
    for name, task in example.TASKS.items():
        run = runs[f"{name}.firmware"]
        cores, m4 = run["cores"], run["cores"]["m4"]
        begin = "scratch" if task.pretraining is None else f"{run['before']:.1f} %"
        seeds = ", ".join(f"{one['after']:.1f}" for one in run["runs"])
        lines.append(
            f"| `{name}`{' ' + run['disturbance'] if run['disturbance'] != 'none' else ''} | "
            f"{begin} | **{run['after']:.1f} %** ({seeds}) | {run['samples']:,} | "
            + " | ".join(f"{cores[core]['train_instructions']:,}"
                         for core in ("m0plus", "m4", "m7"))
            + f" | {m4['predict_instructions']:,} | {m4['ram_bytes']:,} + {m4['stack_bytes']:,} B "
            f"| {m4['flash_bytes']:,} B |")
    return "\n".join(lines)


def partial_table(runs: dict[str, dict]) -> str:
    """Accuracy and backward instructions on the M4 with all, half, a tenth of each layer."""
    lines = ["| | " + " | ".join(f"lmin {part}: accuracy, backward instructions"
                                 for part in ("1", "0.5", "0.1")) + " |", "|---" * 4 + "|"]
    for name, task in example.TASKS.items():
        if task.pretraining is None:
            continue
        cells = []
        for part in ("", "-0.5", "-0.1"):
            run = runs[f"{name}.firmware{part}"]
            m4 = run["cores"]["m4"]
            back = m4["train_instructions"] - m4["predict_instructions"]
            cells.append(f"{run['after']:.1f} %, {back:,}")
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)

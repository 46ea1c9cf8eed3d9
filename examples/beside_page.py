"""Table of docs/rules/fqt.md from docs/results/beside.json of examples/beside.py."""
import numpy as np

COLUMNS = ("", "learns", "accuracy", "extra memory", "passes", "MACs forward", "backward",
           "additions", "FPGA a sample", "the run", "M7 a sample", "the run")


def table(found: dict) -> str:
    """A block of rows for each example; the first one is a sample that is only classified."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name, one in found["examples"].items():
        for cells in rows_of(name, one):
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rows_of(name: str, one: dict) -> list[list[str]]:
    plain, samples = one["inference"], one["samples"]
    boards = [row["board"] for row in one["rows"].values() if "board" in row]
    rows = [[f"**`{name}`** {'-'.join(map(str, one['sizes']))}, {one['disturbance']}", "nothing",
             "-", "-", "1", f"{plain['forward']:,}", "-", "-",
             *on_core(plain["cycles"], plain["mhz"], samples),
             *on_board(min(board["predict_instructions"] for board in boards), boards[0]["mhz"],
                       samples)]]
    for method, row in one["rows"].items():
        done, tried = row["operations"], row.get("tried", ())
        chosen = max(tried, key=lambda one: one[0])[1] if tried else {}
        rows.append([
            ", ".join([method, *(f"`{key}` {value}" for key, value in chosen.items())]),
            ", ".join(row["layers"]), accuracy(row["runs"]),
            f"{row['memory']['extra']:,} B", f"{done['passes']}", f"{done['forward']:,}",
            f"{done['backward']:,}" if done["backward"] else "-", f"{done['update']:,.0f}",
            *(on_core(row["core"]["cycles"], row["core"]["mhz"], samples) if "core" in row
              else "--"),
            *(on_board(row["board"]["train_instructions"], row["board"]["mhz"], samples)
              if "board" in row else "--")])
    return rows


def accuracy(runs: list[dict]) -> str:
    """Means before and after, and after for each seed."""
    before, after = (np.mean([run[key] for run in runs]) for key in ("before", "after"))
    return (f"{before:.1f} to **{after:.1f} %** ("
            + ", ".join(f"{run['after']:.1f}" for run in runs) + ")")


def three_digits(number: float) -> str:
    return f"{number:,.{max(2 - int(np.floor(np.log10(number))), 0)}f}"


def on_core(cycles: int, mhz: int, samples: int) -> list[str]:
    """Of a sample, as a mean, and of the run."""
    run = cycles / mhz
    return [f"{three_digits(run / samples)} µs", f"{three_digits(run / 1e3)} ms"]


def on_board(instructions: int, mhz: int, samples: int) -> list[str]:
    """An instruction a cycle."""
    one = instructions / mhz
    return [f"{three_digits(one)} µs", f"{three_digits(one * samples / 1e3)} ms"]

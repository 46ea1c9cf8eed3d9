"""docs/results.md and its figures from docs/results/study.json, which examples/study.py writes."""
from pathlib import Path

import numpy as np

NAMES = {"np": "np", "es": "es", "qzo": "sign-SPSA", "float": "float backpropagation"}


def curves(row) -> dict[int, np.ndarray]:
    """Percents of all seeds at every number of samples: of ecg the mean of the classes."""
    return {point[0]: np.array([run["curve"][n][score(row)] for run in row["runs"]])
            for n, point in enumerate(row["runs"][0]["curve"])}


def score(row) -> int:
    """Which number of a point counts: the classes of ecg are not as frequent as each other."""
    return 2 if row["example"] == "ecg" else 1


def reached(row, samples=None) -> str:
    """Mean and standard deviation over the seeds, as text."""
    if row is None:
        return ""
    values = np.array([run["accuracy"][score(row) - 1] for run in row["runs"]]) \
        if row["rule"] == "float" else curves(row)[samples]
    return text(values)


def text(values) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 \
        else f"{values[0]:.1f}"


def at_cycles(row, samples) -> tuple[int, str]:
    """Samples that es has seen in the cycles in which np sees `samples`, and what it reached."""
    points = [next(p for p in run["at_cycles"] if p[0] == samples) for run in row["runs"]]
    return points[0][1], text(np.array([p[1 + score(row)] for p in points]))


def table(head, rows) -> str:
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|",
                      *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def settings(options: dict) -> str:
    return ", ".join(f"`{key}` {value}" for key, value in options.items())


def groups(study) -> dict[tuple[str, str], list[dict]]:
    """Rows of the table by example and disturbance."""
    found = {}
    for row in study["table"]["rows"]:
        found.setdefault((row["example"], row["disturbance"]), []).append(row)
    return found


def pick(rows, rule, last=True):
    """The row of a rule; of es, that of the last layer or that of all layers."""
    return next((r for r in rows if r["rule"] == rule and (
        rule in ("np", "float") or (len(r["layers"]) == 1) == last)), None)


def seeds(rows) -> str:
    count = len(rows[0]["seeds"])
    return f"mean and standard deviation of {count} seeds"


def command(section) -> str:
    return f"`{section['command']}`"


def main_part(study) -> str:
    rows = study["main"]["rows"]
    points = [n for n in curves(rows[0])]
    chosen = study["np"]
    return f"""## MNIST with noise
Noise of 0.3 of full scale, whole test set, {seeds(rows)}; {command(study["main"])}.
Rule np on {", ".join(chosen["layers"])}, R = {chosen["residual"]}, {settings(chosen["settings"])}
except where the table says otherwise. Columns: samples learned from.

""" + table(["probes", *(f"{n:,}" for n in points), "cycles a sample"], [
        [row["title"], *(reached(row, n) for n in points), f"{row['cycles_per_sample']:g}"]
        for row in rows]) + "\n\n![accuracy against samples](results/study_noise.png)"


def table_part(study) -> str:
    found, sets = groups(study), study["sets"]
    points = [n for n in curves(next(iter(found.values()))[0]) if n in (500, 2000, 16000)]
    np_rows, others = [], []
    for (name, disturbance), rows in found.items():
        own, label = pick(rows, "np"), f"`{name}` {disturbance}"
        np_rows.append([label, f"{sets[name]['field']:,}",
                        f"{sets[name]['known'][score(own) - 1]:.1f}", reached(own, 0),
                        *(reached(own, n) for n in points), reached(pick(rows, "float"))])
        for last in (True, False):
            both = [pick(rows, rule, last) for rule in ("es", "qzo")]
            if both[0] is None:
                continue
            for n in points[1:]:
                cells = []
                for row in both:
                    samples, value = at_cycles(row, n)
                    cells += [reached(row, n), f"{value} ({samples:,})"]
                others.append([label, ", ".join(both[0]["layers"]), f"{n:,}", reached(own, n),
                               *cells])
    rows = study["table"]["rows"]
    first = next(iter(found.values()))
    es, spsa = (pick(first, rule) for rule in ("es", "qzo"))
    every = next((pick(rows, "es", False) for rows in found.values() if pick(rows, "es", False)),
                 None)
    own = [f"{name} on {', '.join(pick(rows, 'np')['layers'])} with "
           + settings(study["np"]["of"].get(name, {}))
           for (name, _), rows in found.items()
           if name in study["np"]["of"]]
    return f"""## Other disturbances, other data
Test sets, {seeds(rows)}; {command(study["table"])}. A stream reshuffles its set when it is used up.
Settings as above for all{"; " if own else ""}{"; ".join(own)}. Of `ecg` the mean of the classes.
*Known*: clean input, or the people whom the network was trained with. *Ceiling*: the same layers in
float by backpropagation (Adam, {study["float"]["rounds"] * study["float"]["samples"]:,} field
samples, disturbed anew each time; the round that is best on validation samples).

""" + table(["data", "field holds", "known", "before", *(f"np, {n:,}" for n in points), "ceiling"],
            np_rows) + f"""

![np, es and sign-SPSA](results/study_table.png)

### Against es and sign-SPSA
The same streams and seeds; percent after as many samples, and after as many clock cycles (how many
samples these are). The settings of es and sign-SPSA were chosen for the last layer of MNIST; those
of sign-SPSA were not searched again for all layers.
es: {settings(es["settings"])}; sign-SPSA: {settings(spsa["settings"])}{
"; es on all layers: " + settings(every["settings"]) if every else ""}.

""" + table(["data", "es trains", "np samples", "np", "es", "es, equal cycles", "sign-SPSA",
             "sign-SPSA, equal cycles"], others)


def error_part(study) -> str:
    rows = study["errors"]["rows"]
    points = list(curves(rows[0]))
    return f"""## After errors
Clean MNIST, test set, {seeds(rows)}; {command(study["errors"])}.

""" + table(["error", "before it", "after it", *(f"{n:,} samples" for n in points[1:])], [
        [row["title"], text([run["before"][0] for run in row["runs"]]),
         *(reached(row, n) for n in points)] for row in rows])


def change_part(study, name, title, intro) -> str:
    rows = study[name]["rows"]
    points = list(curves(rows[0]))[1:]
    return f"""### {title}
{intro} Validation samples, {seeds(rows)}; {command(study[name])}.

""" + table(["", *(f"{n:,} samples" for n in points)],
            [[row["title"], *(reached(row, n) for n in points)] for row in rows])


def markdown(study: dict) -> str:
    """docs/results.md; sections that have not been run are left out."""
    parts = ["# Results\n\nGenerated from [study.json](results/study.json), as `make results` "
             "leaves it. Networks, splits and licences: [data](data.md)."]
    if "main" in study:
        parts.append(main_part(study))
    if "table" in study:
        parts.append(table_part(study))
    if "errors" in study:
        parts.append(error_part(study))
    if "settings" in study or "parts" in study:
        parts.append("## What matters\nMNIST with noise of 0.3, one change at a time; then the "
                     "other data.")
    if "settings" in study:
        parts.append(change_part(study, "settings", "Settings", "The compiled model."))
    if "parts" in study:
        parts.append(change_part(study, "parts", "Parts of the rule",
                                 "The golden model with some of its functions replaced."))
    if "choice" in study:
        parts.append(change_part(
            study, "choice", "Settings for all data", "An amplitude for images and speech; what "
            "`ecg` needs (two classes, patients who contradict each other; mean of the classes)."))
    return "\n\n".join(parts) + "\n"


def plot(study: dict, folder: Path) -> None:
    """study_noise.png and study_table.png."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = groups(study) if "table" in study else {}
    if "main" in study:
        figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
        rows = list(study["main"]["rows"])
        same = found.get((rows[0]["example"], rows[0]["disturbance"]), [])
        drawn = [(f"np, {row['title']}", row) for row in rows]
        drawn += [(f"{NAMES[row['rule']]}, {', '.join(row['layers'])}", row) for row in same
                  if row["rule"] in ("es", "qzo")]
        for label, row in drawn:
            values = curves(row)
            x = np.maximum(list(values), 125)           # the start, on an axis without 0
            mean = [v.mean() for v in values.values()]
            line, = axes.plot(x, mean, marker="o", markersize=3, label=label,
                              linestyle="-" if row["rule"] == "np" else "--")
            axes.fill_between(x, [v.min() for v in values.values()],
                              [v.max() for v in values.values()], color=line.get_color(),
                              alpha=0.15, linewidth=0)
        if (ceiling := pick(same, "float")):
            axes.axhline(np.mean([run["accuracy"][0] for run in ceiling["runs"]]), color="black",
                         linestyle=":", label="float backpropagation, same layers")
        axes.axhline(study["sets"][rows[0]["example"]]["known"][0], color="tab:green",
                     linestyle=":", label="clean input")
        ticks = list(curves(rows[0]))
        axes.set(xscale="log", xlabel="samples learned from", ylabel="test accuracy (%)",
                 title="MNIST, noise:0.3; mean, and from the worst to the best seed")
        axes.set_xticks(np.maximum(ticks, 125), [f"{n:,}" for n in ticks], fontsize="small")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
        figure.savefig(folder / "study_noise.png", dpi=120, metadata={"Software": None})
        plt.close(figure)
    if found:
        figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
        bars = [("before", lambda rows: curves(pick(rows, "np"))[0], "lightgrey"),
                ("np, 500", lambda rows: curves(pick(rows, "np"))[500], "#9ecae1"),
                ("np, 2,000", lambda rows: curves(pick(rows, "np"))[2000], "#4292c6"),
                ("np, 16,000", lambda rows: curves(pick(rows, "np"))[16000], "#08519c"),
                ("sign-SPSA, 16,000", lambda rows: curves(pick(rows, "qzo"))[16000], "#fdae6b"),
                ("es, 16,000", lambda rows: curves(pick(rows, "es"))[16000], "#e6550d")]
        for n, (label, values, colour) in enumerate(bars):
            axes.bar(np.arange(len(found)) + (n - 2.5) * 0.14,
                     [values(rows).mean() for rows in found.values()], 0.13, label=label,
                     color=colour)
        for n, rows in enumerate(found.values()):
            top = pick(rows, "float")
            level = np.mean([run["accuracy"][score(top) - 1] for run in top["runs"]])
            axes.plot([n - 0.45, n + 0.45], [level, level], color="black", linestyle=":",
                      label="ceiling" if n == 0 else None)
        axes.set(ylabel="test accuracy (%)", xticks=range(len(found)),
                 xticklabels=["\n".join(key) for key in found],
                 title="es and sign-SPSA train the last layer")
        figure.legend(fontsize="small", ncols=7, loc="outside lower center")
        axes.grid(alpha=0.3, axis="y")
        figure.savefig(folder / "study_table.png", dpi=120, metadata={"Software": None})
        plt.close(figure)

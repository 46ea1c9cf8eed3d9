"""docs/options.md and its figures from docs/results/forwards.json of examples/forwards.py."""
from pathlib import Path

import numpy as np

from .forwards import RECOVERED, SEEDS, reached, score
from .study_page import table

SHOWN = (2000, 8000, 32000)
GROUPS = (
    ("The rules", "Options `topk` and `standardize` of delta have [a table of their own]"
     "(rules/delta.md#partial-and-standardized-updates).", (
        "np, K = 8", "delta", "es, rank", "qzo, 16w8a", "qzo, 8w8a, R = 4", "qzo, m = 4",
        "m = 16")),
    ("8-bit weights with and without residual bits", "qzo, one pair, all layers.", (
        "qzo, 16w8a", "qzo, 8w8a, R = 4", "qzo, 8w8a, R = 0", "R = 0, whole steps",
        "R = 0, stochastic", "R = 0, pseudo-stochastic", "R = 0, residual replayed")),
    ("Options of qzo", "Each on alone, against the same row without it.", (
        "momentum-guided", "sparse, hash", "sparse, static", "kernel", "rank 1",
        "sharpness-aware, m = 4")),
    ("Modes of qzo", "What learns.", (
        "qzo, 8w8a, R = 4", "linear probe", "bias only", "input prompt")),
    ("Options of es", "Eight pairs, batches of eight samples.", (
        "es, rank", "es, sign", "es, z-score", "es, best", "es, votes",
        "es, rate and amplitude decay", "es, linear probe")),
)
PLOTTED = ("np, K = 8", "delta", "es, rank", "qzo, 16w8a", "qzo, 8w8a, R = 4", "qzo, 8w8a, R = 0")


def curve(result) -> dict[int, np.ndarray]:
    """Percents of all seeds at every number of forwards."""
    at = score(result["data"])
    return {point[0]: np.array([run["curve"][n][at] for run in result["runs"]])
            for n, point in enumerate(result["runs"][0]["curve"])}


def forwards_to_recover(result, levels) -> str:
    """Of the mean over the seeds."""
    before, ceiling = levels[result["data"]]
    points = [[n, float(values.mean())] for n, values in curve(result).items()]
    found = reached(points, before + RECOVERED * (ceiling - before))
    return f"{float(f'{found:.2g}'):,.0f}" if found else f"> {points[-1][0]:,}"


def cells(result, base, levels) -> list[str]:
    """Accuracies, what the option changes at the last of them, and the forwards it takes."""
    points = curve(result)
    found = [f"{points[n].mean():.1f} ± {points[n].std(ddof=1):.1f}" for n in SHOWN]
    change = points[SHOWN[-1]].mean() - curve(base)[SHOWN[-1]].mean() if base else None
    return [*found, f"{change:+.1f}" if base else "", forwards_to_recover(result, levels)]


def chosen(result) -> str:
    return ", ".join(f"{key} {value}" for key, value in result["settings"].items())


def part(found, title, text, names) -> str:
    of = {(one["row"]["name"], one["data"]): one for one in found["results"]}
    rows = []
    for name, (before, _) in found["levels"].items():
        for row in names:
            if (row, name) in of:
                one = of[row, name]
                rows.append([f"`{name}` ({before:.1f})", row, *cells(
                    one, of.get((one["row"]["base"], name)), found["levels"]), chosen(one)])
    return f"## {title}\n{text}\n\n" + table(
        ["data (before)", "row", *(f"{n:,} forwards" for n in SHOWN), "option",
         f"to {100 * RECOVERED:.0f} %", "chosen"], rows)


def remarks(found) -> str:
    """What the tables say, in their numbers."""
    of = {(one["row"]["name"], one["data"]): one for one in found["results"]}
    last = SHOWN[-1]

    def at(row, name="mnist"):
        return f"{curve(of[row, name])[last].mean():.1f}"

    gains = [abs(curve(one)[last].mean() - curve(of[one["row"]["base"], "mnist"])[last].mean())
             for one in found["results"] if one["data"] == "mnist"
             and one["row"]["name"] in GROUPS[2][2]]
    return f"""## What they say
On `mnist`, after {last:,} forwards:

- 8-bit weights learn with four residual bits ({at("qzo, 8w8a, R = 4")}) as 16-bit weights do
  ({at("qzo, 16w8a")}). Without these bits they do not: nothing comes of steps that round to none
  ({at("qzo, 8w8a, R = 0")}), and whole steps lead away ({at("R = 0, whole steps")}), more slowly
  with stochastic rounding ({at("R = 0, stochastic")}). Pseudo-stochastic rounding moves nothing
  ({at("R = 0, pseudo-stochastic")}): the step of a single pair is a constant, whose bits always
  decide alike. The residual of the last 15 pairs, replayed, does not do either
  ({at("R = 0, residual replayed")}): with a pair it is forgotten what was applied of it, and a sum
  beyond half a step is applied again.
- The options of qzo change {min(gains):.1f} to {max(gains):.1f} points.
- Of all rules by noise on weights, those that move few numbers are ahead: the biases alone
  ({at("bias only")}), then the input prompt ({at("input prompt")}). Both take the largest amplitude
  of the grid.
- np, with node probes on the first layer and the delta rule on the last, is ahead of all of them
  ({at("np, K = 8")})."""


def markdown(found) -> str:
    levels = ", ".join(f"`{name}` {before:.1f} to {ceiling:.1f}"
                       for name, (before, ceiling) in found["levels"].items())
    return "\n\n".join([f"""# Rules and options per forward pass

Generated from [forwards.json](results/forwards.json), which `{found["command"]}` writes.
A forward is one pass of one sample through the network: the base pass of a sample counts, and each
of its probes. Mean and standard deviation of {len(SEEDS)} seeds, percent of the test samples
(`ecg`: mean of the classes), on disturbed input or unseen people. All layers learn unless a row
says otherwise. Amplitude and rate of each row and data set were chosen by the same grid on
validation samples with another seed, at {found["tuned_at"]:,} forwards (last column; `fashion` has
the settings of `mnist`; np and delta have those of [results](results.md)). *Option*: points that
the option changes at {SHOWN[-1]:,} forwards. *To {100 * RECOVERED:.0f} %*: forwards until that part
of what float backpropagation recovers is recovered ({levels}).

![accuracy against forwards](results/forwards.png)""",
                        remarks(found), *(part(found, *group) for group in GROUPS)]) + "\n"


def delta_table(found) -> str:
    """Rule delta beside np at the same numbers of forwards, on all data."""
    of = {(one["row"]["name"], one["data"]): curve(one) for one in found["results"]}
    rules, points = {"delta": "delta", "np": "np, K = 8"}, (1000, 4000, 32000)
    return table(
        ["", "before", *(f"{rule}, {n:,}" for rule in rules for n in points)],
        [[f"`{name}`", f"{before:.1f}",
          *(f"{of[row, name][n].mean():.1f}" for row in rules.values() for n in points)]
         for name, (before, _) in found["levels"].items()])


def plot(found, path: Path) -> None:
    """Accuracy against forwards, a panel for each data set."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for axes, (name, (before, ceiling)) in zip(panels.flat, found["levels"].items(), strict=True):
        for position, row in enumerate(PLOTTED):
            for one in found["results"]:
                if (one["row"]["name"], one["data"]) == (row, name):
                    points = {n: v for n, v in curve(one).items() if n}
                    mean = np.array([v.mean() for v in points.values()])
                    spread = np.array([v.std(ddof=1) for v in points.values()])
                    axes.plot(list(points), mean, color=f"C{position}", label=row)
                    axes.fill_between(list(points), mean - spread, mean + spread, alpha=0.15,
                                      color=f"C{position}", linewidth=0)
        axes.axhline(before, color="tab:red", linestyle="--", linewidth=1)
        axes.axhline(ceiling, color="tab:green", linestyle="--", linewidth=1)
        axes.set(xscale="log", title=name, xlabel="forwards", ylabel="test accuracy (%)")
        axes.grid(alpha=0.3)
    panels[0, 0].legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)

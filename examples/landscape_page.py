"""Figures and tables of docs/landscape.md, from docs/results/landscape.json."""
from pathlib import Path

import numpy as np

NAMES = {
    "float": "float backpropagation",
    "np": "node probes",
    "qzo": "forward gradients",
    "qzo-last": "forward gradients, last layer",
}
COLOURS = {"float": "tab:red", "np": "tab:blue", "qzo": "tab:orange", "qzo-last": "tab:green"}
LEVELS = 2.0 ** np.arange(-3, 6.5, 0.5)         # of contours, in bit
SHARPNESS = {"relative": (0.2, 0.5, 1), "steps": (4, 8, 16)}


def own(kind: str) -> str:
    """Which loss a path descends."""
    return "float" if kind == "float" else "integer"


def mean(rows, value) -> np.ndarray:
    return np.mean([value(row) for row in rows], axis=0)


def cells(values) -> str:
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" if len(values) > 1 \
        else f"{values[0]:.2f}"


def table(head, rows) -> str:
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|",
                      *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def end_table(found: dict) -> str:
    """Losses at start and end, by the loss a path descends and by the other."""
    rows = []
    for kind, paths in found["paths"].items():
        for loss in paths[0]["curves"]:
            seen, test = (np.array([path["curves"][loss][n] for path in paths]) for n in (0, 1))
            accuracy = [path["accuracy"][1] for path in paths]
            rows.append([NAMES[kind], f"{paths[0]['samples'][-1]:,}",
                         loss if loss == own(kind) else "integer, rounded",
                         f"{seen[:, 0].mean():.2f}", cells(seen[:, -1]),
                         f"{test[:, 0].mean():.2f}", cells(test[:, -1]),
                         f"{np.mean(accuracy):.1f} %" if loss == "integer" else ""])
    return table(["path", "samples", "loss", "stream, start", "stream, end", "test, start",
                  "test, end", "accuracy, end"], rows)


def path_table(found: dict) -> str:
    """How far, and how much of it the planes show."""
    rows = []
    for kind, paths in found["paths"].items():
        first = paths[0]
        rows.append([NAMES[kind], f"{mean(paths, lambda p: p['distance'][-1]):.2f}",
                     *(f"{100 * sum(first[key]):.0f} %" for key in ("share", "walk")),
                     f"{100 * sum(found['plane']['share'][kind]):.0f} %",
                     f"{found['plane']['cosine'][kind]:.2f}",
                     " / ".join(f"{loss:.2f}" for loss in first["projected"])])
    return table(["path", "distance", "in its own plane", "a random walk's",
                  "in the common plane", "cosine", "loss at the end / at its projection"], rows)


def sharpness_table(found: dict) -> str:
    """Losses under perturbations, at the start and at every end."""
    def row(title, loss, of):
        return [title, loss, f"{np.mean([one['relative'][0][0] for one in of]):.2f}",
                *(f"{np.mean([one[what][found[what].index(a)][0] for one in of]):.2f}"
                  for what, amplitudes in SHARPNESS.items() for a in amplitudes)]
    rows = [row("start", loss, [found["start"][loss]]) for loss in ("integer", "float")]
    for kind, paths in found["paths"].items():
        for loss in paths[0]["sharpness"]:
            rows.append(row(NAMES[kind], loss if loss == own(kind) else "integer, rounded",
                            [path["sharpness"][loss] for path in paths]))
    return table(["end of", "loss", "unperturbed",
                  *(f"{100 * a:g} % of a row" for a in SHARPNESS["relative"]),
                  *(f"±{a:g} steps" for a in SHARPNESS["steps"])], rows)


# Figures.

def contours(axes, plane: dict, loss: str):
    """Lines of equal loss, labelled in bit, over filled levels."""
    from matplotlib.colors import LogNorm
    grids = *plane["axes"], np.maximum(plane[loss], LEVELS[0])
    norm = LogNorm(LEVELS[0], LEVELS[-1])
    filled = axes.contourf(*grids, LEVELS, cmap="Greys", norm=norm, alpha=0.7, extend="max")
    lines = axes.contour(*grids, LEVELS[::2], colors="black", linewidths=0.5)
    axes.clabel(lines, fmt="%g", fontsize=7)
    return filled


def trail(axes, kind: str, coordinates, **more) -> None:
    x, y = np.transpose(coordinates)
    axes.plot(x, y, color=COLOURS[kind], marker=".", markersize=4, linewidth=1.5,
              label=NAMES[kind], **more)
    axes.plot(x[-1], y[-1], color=COLOURS[kind], marker="*", markersize=12,
              markeredgecolor="black", linestyle="")


def plot_planes(found: dict, folder: Path, plt) -> None:
    plane = found["plane"]
    figure, panels = plt.subplots(1, 2, figsize=(11, 7), layout="compressed", sharey=True)
    for axes, loss in zip(panels, ("float", "integer"), strict=True):
        contours(axes, plane, loss)
        for kind, coordinates in plane["coordinates"].items():
            trail(axes, kind, coordinates)
        axes.plot(0, 0, color="black", marker="o", markersize=7, linestyle="")
        axes.set(title=f"{loss} loss (bit)", aspect="equal",
                 xlabel="first direction (weight steps)")
    panels[0].set_ylabel("second direction (weight steps)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"{found['example']}, {found['disturbance']}: all paths in one plane; "
                    "dot: start, stars: ends")
    save(figure, folder / "landscape_plane.png", plt)


def plot_own(found: dict, folder: Path, plt) -> None:
    figure, panels = plt.subplots(2, 2, figsize=(10, 9), layout="constrained")
    for axes, (kind, paths) in zip(panels.ravel(), found["paths"].items(), strict=True):
        plane = paths[0]["plane"]
        contours(axes, plane, own(kind))
        trail(axes, kind, plane["coordinates"])
        axes.plot(0, 0, color="black", marker="o", markersize=7, linestyle="")
        axes.set(title=f"{NAMES[kind]}, {own(kind)} loss (bit)",
                 xlabel=f"first direction, {100 * paths[0]['share'][0]:.0f} %",
                 ylabel=f"second direction, {100 * paths[0]['share'][1]:.0f} %")
    figure.suptitle("each path in its own plane; weight steps")
    save(figure, folder / "landscape_own.png", plt)


def plot_paths(found: dict, folder: Path, plt) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for kind, paths in found["paths"].items():
        for number, path in enumerate(paths):
            samples = np.maximum(path["samples"], path["samples"][1] / 2)
            for losses, style in zip(path["curves"][own(kind)], (":", "-"), strict=True):
                left.plot(samples, losses, color=COLOURS[kind], linestyle=style, linewidth=1,
                          label=NAMES[kind] if style == "-" and number == 0 else None)
            if own(kind) == "float":
                left.plot(samples, path["curves"]["integer"][1], color=COLOURS[kind],
                          linestyle="--", linewidth=1)
            for loss, values in path["line"].items():
                right.plot(found["alphas"], values, color=COLOURS[kind], linewidth=1,
                           linestyle="-" if loss == own(kind) else "--")
    left.set(xscale="log", yscale="log", xlabel="samples", ylabel="loss (bit)",
             title="along the path: test; dotted: stream; dashed: float, rounded")
    right.set(yscale="log", xlabel="start = 0, end = 1",
              title="straight from start to end; dashed: float, rounded")
    for x in (0, 1):
        right.axvline(x, color="black", linewidth=0.7)
    for axes in (left, right):
        ticks = (0.2, 0.5, 1, 2, 5, 10, 20)
        axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.grid(alpha=0.3)
    left.legend(fontsize="small")
    save(figure, folder / "landscape_paths.png", plt)


def plot_sharpness(found: dict, folder: Path, plt) -> None:
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    for axes, what in zip(panels, SHARPNESS, strict=True):
        amplitudes = found[what]
        for loss, style in (("integer", "-"), ("float", "--")):
            axes.plot(amplitudes, np.array(found["start"][loss][what])[:, 0], color="black",
                      linestyle=style, label="start" if loss == "integer" else "start, float loss")
        for kind, paths in found["paths"].items():
            for loss in paths[0]["sharpness"]:
                values = np.array([path["sharpness"][loss][what] for path in paths])[..., 0]
                style = "-" if loss == "integer" else "--"
                label = NAMES[kind] + {"float": ", float loss", "integer": ""}[loss]
                label += ", rounded" if loss != own(kind) else ""
                axes.plot(amplitudes, values.mean(0), color=COLOURS[kind], linestyle=style,
                          marker=".", label=label)
                axes.fill_between(amplitudes, values.min(0), values.max(0), color=COLOURS[kind],
                                  alpha=0.15, linewidth=0)
        axes.set(yscale="log")
        axes.grid(alpha=0.3)
        ticks = (0.2, 0.5, 1, 2, 5, 10, 20)
        axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    panels[0].set(xlabel="amplitude / norm of a row of weights (filter-normalized)",
                  ylabel="mean loss (bit)", title="Gaussian directions")
    panels[1].set(xlabel="amplitude (weight steps)", title="random signs, all weights alike")
    panels[0].legend(fontsize="small")
    save(figure, folder / "landscape_sharpness.png", plt)


def save(figure, path: Path, plt) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def plot(found: dict, folder: Path) -> None:
    """The four figures."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for draw in (plot_planes, plot_own, plot_paths, plot_sharpness):
        draw(found, Path(folder), plt)

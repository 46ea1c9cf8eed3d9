"""A grid of settings of rule np on the compiled golden model: which of them learns best?

Every combination learns from the same streams as in the recovery experiment, one run a seed. It is
judged by the validation split, which appears in no stream; test images are not looked at.
"""
import functools
import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path

import joblib
import numpy as np
from rich.table import Table

from firmware_models.fast import FastLearner
from firmware_models.network import Network
from firmware_models.settings import Settings

from . import data
from .errors import HwgenError
from .recover import POINTS, accuracy, stream

SETTINGS = ("lr_shift", "head_shift", "sigma_log2", "probes", "lr_decay", "skip", "turn", "lmin",
            "lmax", "standardize")
BACKENDS = ("loky", "dask", "ray")
VALIDATION_NOISE_SEED = 2_000_000
BEST = 5                        # curves in the figure
_load = functools.cache(data.load)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is run.

    Parameters
    ----------
    disturbance : str
    layers : tuple of int
        Stages that learn.
    grid : dict of setting name to tuple of int
        Every combination is run; settings that are not named keep their defaults.
    samples : int
        To learn from, in each run.
    seeds : tuple of int
        One run each of every combination: order of samples, their noise, the core's first seed.
    residual : int

    Raises
    ------
    HwgenError
        For values that the core does not know.
    """
    disturbance: str
    layers: tuple[int, ...]
    grid: dict[str, tuple[int, ...]]
    samples: int = 4000
    seeds: tuple[int, ...] = (1,)
    residual: int = 4

    def __post_init__(self):
        if self.samples < 1:
            raise HwgenError(f"samples must be at least 1, not {self.samples}")
        if min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise HwgenError(f"seeds are different numbers from 0 on, not {list(self.seeds)}")
        if not 0 <= self.residual <= 8:
            raise HwgenError(f"residual must be 0 to 8 bits, not {self.residual}")
        for combination in self.combinations:
            self.settings(combination, self.seeds[0])

    @property
    def combinations(self) -> list[dict[str, int]]:
        return [dict(zip(self.grid, values, strict=True))
                for values in product(*self.grid.values())]

    def settings(self, combination: dict[str, int], seed: int) -> Settings:
        if combination.get("turn", 0) not in (0, 1):
            raise HwgenError(f"turn must be 0 or 1, not {combination['turn']}")
        options = combination | {"turn": bool(combination.get("turn", 0))}
        try:
            # The seed of the core is derived as in the recovery experiment.
            return Settings(rule="np", layers=self.layers, seed=0x9E3779B9 * seed % 0xFFFFFFFF + 1,
                            **options)
        except ValueError as error:
            raise HwgenError(str(error)) from None


def parse_grid(words: list[str]) -> dict[str, tuple[int, ...]]:
    """Grid from words such as ``lr_shift=8,9,10``.

    Raises
    ------
    HwgenError
        For an unknown or repeated setting, or for values that are not different numbers.
    """
    grid = {}
    for word in words:
        name, _, values = word.partition("=")
        name = name.replace("-", "_")
        if name not in SETTINGS:
            raise HwgenError(f"unknown setting {name!r}; a sweep takes {', '.join(SETTINGS)}")
        numbers = values.split(",")
        if not all(number.isdecimal() for number in numbers):
            raise HwgenError(f"{word!r} is not a setting with its values; write {name}=1,2")
        if name in grid or len(set(map(int, numbers))) < len(numbers):
            raise HwgenError(f"{word!r} names a setting or a value once more; once is enough")
        grid[name] = tuple(map(int, numbers))
    return grid


def evaluate(sweep: Sweep, network: Network, combination: dict[str, int], seed: int) -> list:
    """One run: its curve of (samples, validation accuracy in percent)."""
    dataset = _load(network.name)
    x, y = stream(dataset, sweep.disturbance, sweep.samples, seed)
    x_val, y_val = _validation(network.name, sweep.disturbance, seed)
    learner = FastLearner(network, sweep.settings(combination, seed), sweep.residual)
    ends = np.linspace(0, sweep.samples, min(POINTS, sweep.samples) + 1).astype(int)
    curve = [(0, accuracy(network, x_val, y_val))]
    for start, end in zip(ends, ends[1:], strict=False):
        learner.learn(x[start:end], y[start:end])
        curve.append((int(end), accuracy(learner.deployed_network(), x_val, y_val)))
    return curve


def _validation(name: str, disturbance: str, seed: int):
    """The validation split as the sensor of the stream `seed` delivers it.

    Columns that are stuck are those of the stream. Other noise is drawn once, and never learned.
    """
    x, y = _load(name).field_validation()
    return data.disturb(x, disturbance, VALIDATION_NOISE_SEED, sensor=seed).astype(np.int64), y


def run(sweep: Sweep, network: Network, backend: str = "loky", jobs: int | None = None,
        progress=None) -> list[list]:
    """Curves of all combinations, seed after seed; `progress()` is called behind each run.

    Parameters
    ----------
    backend : {"loky", "dask", "ray"}
        Of joblib: processes of this machine, or a cluster. DASK_SCHEDULER_ADDRESS and RAY_ADDRESS
        say where one is; else it is started here.
    jobs : int, optional
        Runs at a time; one a core by default.

    Raises
    ------
    HwgenError
        For a backend that is unknown or not installed, or a network that the model cannot run.
    """
    jobs = os.cpu_count() if jobs is None else jobs
    if jobs < 1:
        raise HwgenError(f"jobs must be at least 1, not {jobs}")
    runs = [(combination, seed) for combination in sweep.combinations for seed in sweep.seeds]
    with _backend(backend, jobs):
        data.disturb(_load(network.name).x_test[:1], sweep.disturbance, 0)
        try:
            # Compiles, so that the processes find it in numba's cache.
            learner = FastLearner(network, sweep.settings(*runs[0]), sweep.residual)
        except ValueError as error:
            raise HwgenError(str(error)) from None
        learner.learn(np.zeros((1, network.n_in), np.int64), [0])
        curves = []
        # Ray's backend delivers all results at the end.
        return_as = "list" if backend == "ray" else "generator"
        for curve in joblib.Parallel(n_jobs=jobs, return_as=return_as)(
                joblib.delayed(evaluate)(sweep, network, *one) for one in runs):
            curves.append(curve)
            if progress:
                progress()
    return curves


@contextmanager
def _backend(name: str, jobs: int):
    """Let joblib run on a backend."""
    if name not in BACKENDS:
        raise HwgenError(f"unknown backend {name!r}; there are {', '.join(BACKENDS)}")
    with ExitStack() as stack:
        try:
            if name == "dask":
                from distributed import Client
                stack.enter_context(Client(n_workers=jobs, threads_per_worker=1,
                                           dashboard_address=None))
            elif name == "ray":
                from ray.util.joblib import register_ray
                register_ray()
        except ImportError:
            raise HwgenError(f"backend {name} needs a package that is not installed; get the "
                             f"extra: pip install 'hwgen[{name}]'") from None
        stack.enter_context(joblib.parallel_config(backend=name))
        yield


def summarize(sweep: Sweep, network: Network, curves: list[list]) -> dict:
    """Contents of ``sweep.json``: a row of each combination, best first."""
    rows, seeds = [], len(sweep.seeds)
    for n, combination in enumerate(sweep.combinations):
        mine = np.array(curves[n * seeds:(n + 1) * seeds], float)
        final = mine[:, -1, 1]
        rows.append({"settings": combination, "accuracy": float(final.mean()),
                     "spread": float(final.max() - final.min()), "accuracies": final.tolist(),
                     "curve": [[int(samples), a] for samples, a in mine.mean(0)]})
    rows.sort(key=lambda row: -row["accuracy"])
    return {
        "example": network.name, "rule": "np", "disturbance": sweep.disturbance,
        "layers": [network.stages[i].dense.name for i in sweep.layers],
        "samples": sweep.samples, "seeds": list(sweep.seeds), "residual": sweep.residual,
        "validation_samples": len(_load(network.name).field_validation()[0]),
        "before": float(np.mean([curve[0][1] for curve in curves])),
        "grid": {name: list(values) for name, values in sweep.grid.items()},
        "network": network.digest(),
        "versions": {n: version(n) for n in ("hwgen", "hls4ml", "numpy", "numba")},
        "rows": rows,
    }


def table(summary: dict) -> Table:
    """The rows, best first."""
    seeds = len(summary["seeds"])
    out = Table(title=f"{summary['example']}, {summary['disturbance']}: rule np on "
                      f"{', '.join(summary['layers'])}, {summary['samples']:,} samples",
                caption=f"{summary['before']:.2f} % before learning; mean of {seeds} seed(s), "
                        "spread from the worst to the best")
    for name in (*summary["grid"], "validation %", "spread"):
        out.add_column(name, justify="right")
    for row in summary["rows"]:
        out.add_row(*(str(value) for value in row["settings"].values()),
                    f"{row['accuracy']:.2f}", f"{row['spread']:.2f}")
    return out


def write(summary: dict, folder: Path) -> None:
    """``sweep.json`` and ``sweep.png``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(summary, indent=1) + "\n")
    plot(summary, folder / "sweep.png")


def plot(summary: dict, path: Path) -> None:
    """Accuracy against samples of the best combinations, then against each swept setting.

    A dot is a combination; the line is the mean over all combinations that share the value.
    """
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    swept = [name for name, values in summary["grid"].items() if len(values) > 1]
    figure, panels = plt.subplots(1, 1 + len(swept), figsize=(5.5 + 3 * len(swept), 4.2),
                                  layout="constrained", squeeze=False)
    curves, *marginals = panels[0]
    for row in summary["rows"][:BEST]:
        label = ", ".join(f"{name} {row['settings'][name]}" for name in swept) or "the only one"
        curves.plot(*zip(*row["curve"], strict=True), label=f"{label}: {row['accuracy']:.1f} %")
    curves.axhline(summary["before"], color="tab:red", linestyle="--", label="not learning")
    curves.set(xlabel="samples learned from", ylabel="validation accuracy (%)",
               title=f"{summary['example']}, {summary['disturbance']}, best of "
                     f"{len(summary['rows'])} combinations")
    curves.legend(loc="lower right", fontsize="small")
    for axes, name in zip(marginals, swept, strict=True):
        values = sorted(summary["grid"][name])
        at = {value: [row["accuracy"] for row in summary["rows"] if row["settings"][name] == value]
              for value in values}
        # Values as categories: probes of 4, 8, 16 and an lr_decay of 0, 300 alike.
        for n, value in enumerate(values):
            axes.plot([n] * len(at[value]), at[value], "o", color="tab:blue", alpha=0.35)
        axes.plot(range(len(values)), [np.mean(at[value]) for value in values], color="tab:blue")
        axes.set(xlabel=name, xticks=range(len(values)), xticklabels=[str(v) for v in values])
    for axes in panels[0]:
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)

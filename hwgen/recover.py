"""The recovery experiment: disturb the input, let the simulated hardware learn, measure.

Learning runs in the Verilated core. The golden model takes the same steps beside it; predictions
of every sample and all state at every point of the curve must be equal. Accuracies are those of
the weights read back from the core, over the whole test set, by the golden model's inference.
"""
import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np

from firmware_models.cycles import CycleModel
from firmware_models.dense import forward
from firmware_models.fast import FastLearner
from firmware_models.fast_evolution import FastEvolution
from firmware_models.learner import Learner, compare
from firmware_models.line_rate_cycles import schedule
from firmware_models.network import Network
from firmware_models.rules.qzo import M_MAX
from firmware_models.settings import Settings
from sim.device import Device

from . import data
from .errors import HwgenError

CLOCK_MHZ = 200
TEST_NOISE_SEED = 1_000_000     # the test set's own noise, which is never learned
POINTS = 20                     # of the curve, beside the start
RULES = {
    "np": "node probes on the hidden layers and the delta rule for the last one",
    "es": "evolutionary strategy: P antithetic pairs per sample, sign or rank fitness",
    "qzo": "QZO-FF, sign-m-SPSA: m random directions, the sign of each loss difference",
    "delta": "the delta rule for the last layer alone, without probes",
}
# The circuit that a rule runs on, and options of the core that its settings may need by default.
FAMILY = {"np": "np", "es": "es", "qzo": "es", "delta": "np"}
IMPLIED = {"es": ("rank",)}
OPTIONS = {"np": ("probes", "head_shift", "turn", "skip", "lmin", "lmax", "standardize"),
           "es": ("pairs", "batch", "fitness", "vote", "sparse", "rank1", "kernel", "momentum",
                  "sharp", "sigma_decay", "rounding")}
COMMON = ("sigma_log2", "lr_shift", "lr_decay", "start", "stop", "restart")     # of every rule
# What a rule has fixed, or no use for.
FIXED = {"np": (), "es": (), "qzo": ("fitness", "batch", "vote"),
         "delta": ("probes", "sigma_log2", "lr_shift", "turn")}
# Found on the validation split of MNIST with noise:0.3.
DEFAULTS = {
    "np": {}, "delta": {"probes": 0},
    "es": {"pairs": 4, "batch": 2, "fitness": "sign", "sigma_log2": 3, "lr_shift": 7},
    "qzo": {"pairs": 2, "batch": 1, "fitness": "sign", "sigma_log2": 3, "lr_shift": 7, "vote": 0},
}


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What is run.

    Parameters
    ----------
    example, rule, disturbance : str
    settings : Settings
        Of every run; the seed of run s is derived from s.
    samples : int
        To learn from, in each run.
    seeds : tuple of int
        One run each: order of samples, their noise, the core's first seed.
    """
    example: str
    rule: str
    disturbance: str
    settings: Settings
    samples: int
    seeds: tuple[int, ...] = (1,)


def stream(dataset: data.Dataset, disturbance: str, samples: int, seed: int):
    """`samples` disturbed field samples in random order; reshuffled when the set is used up.

    They come from the sensor `seed`, whose stuck columns are also those of the test set.
    """
    x, y = dataset.field()
    rng = np.random.default_rng(seed)
    rounds = -(-samples // len(x))
    order = np.concatenate([rng.permutation(len(x)) for _ in range(rounds)])[:samples]
    return data.disturb(x[order], disturbance, seed, sensor=seed).astype(np.int64), y[order]


def accuracy(network: Network, x, y) -> float:
    """Percent of samples that the golden model classifies as labelled."""
    return float(100 * np.mean(forward(network, x).argmax(-1) == y))


def run(recovery: Recovery, network: Network, manifest: Path, seed: int, residual: int = 4,
        progress=None, journal: Path | None = None, points: int = POINTS,
        images: int = 1000) -> dict:
    """One seed of the experiment, in the Verilated core and in the golden model.

    `progress(samples)` is called with the number of samples learned from so far; `points` is how
    often all state is compared, `images` what the learned core classifies. Of a core with
    option "journal", the journal is read out at every point of the curve and written to `journal`.

    Returns
    -------
    dict
        seed, curve (samples, accuracy), before, after, samples, learned (from how many of them),
        passes, cycles, seconds (of the
        chip), simulated_hz (cycles per second of wall clock in Verilator), bit_exact, cycles_exact,
        interval_learning, interval_inference (cycles between samples in a steady stream).
    """
    dataset = data.load(recovery.example)
    x_test = data.disturb(dataset.x_test, recovery.disturbance, TEST_NOISE_SEED,
                          sensor=seed).astype(np.int64)
    x, y = stream(dataset, recovery.disturbance, recovery.samples, seed)
    settings = replace(recovery.settings, seed=0x9E3779B9 * seed % 0xFFFFFFFF + 1)
    curve = [(0, accuracy(network, x_test, dataset.y_test))]
    cycles, learned, simulating, bit_exact, cycles_exact = 0, 0, 0.0, True, True
    with Device(manifest, seed=seed) as device:
        learner = _model(network, settings, residual, device)
        device.configure(settings)
        records = device.journal() if journal else None
        ends = np.linspace(0, len(x), points + 1).astype(int)
        for start, end in zip(ends, ends[1:], strict=False):
            # The model goes first: it says which samples are learned from.
            batch_index = learner.state.batch_index
            older = learner.older if settings.rule == "es" else 0
            want = learner.learn(x[start:end], y[start:end])
            if settings.rule == "np":
                expected = schedule(network, end - start, settings, learner.learned,
                                    learned=learned, options=device.manifest["options"])
            else:
                expected = CycleModel(network, max_pairs=device.manifest["max_pairs"]).run(
                    end - start, settings, learner.learned, batch_index=batch_index, older=older)
            learned += int(learner.learned.sum())
            begun = perf_counter()
            got = device.partial_fit(x[start:end], y[start:end])
            simulating += perf_counter() - begun
            cycles += device.clock_cycles
            learning = _interval(device.in_cycles)
            cycles_exact &= device.clock_cycles == expected.clock_cycles
            bit_exact &= (got == want).all() and not compare(learner.state, device.state())
            curve.append((int(end), accuracy(learner.deployed_network(), x_test, dataset.y_test)))
            records = records.extended(device.journal()) if journal else None
            if progress:
                progress(int(end))
        passes = device.read("passes")
        # The learned core itself classifies what it has never seen; the model must agree.
        sample = x_test[:images]
        bit_exact &= device.predict(sample).tolist() == learner.predict(sample).tolist()
        inference = _interval(device.in_cycles)
    if journal:
        journal.write_text(records.to_json())
    return {"seed": seed, "before": curve[0][1], "after": curve[-1][1], "samples": len(x),
            "learned": learned, "passes": passes,
            "cycles": int(cycles), "seconds": cycles / CLOCK_MHZ / 1e6,
            "simulated_hz": round(cycles / simulating),
            "bit_exact": bool(bit_exact), "cycles_exact": bool(cycles_exact),
            "interval_learning": learning, "interval_inference": inference,
            "curve": [list(point) for point in curve]}


def _model(network: Network, settings: Settings, residual: int, device: Device):
    """The golden model of a core; where there is one, its compiled twin: tests show they agree."""
    bits, max_pairs = device.manifest["coefficient_bits"], device.manifest["max_pairs"]
    momentum = "momentum" in device.manifest["options"]
    chain = not network.branches
    if settings.rule == "np" and bits == 1 and chain:
        return FastLearner(network, settings, residual)
    if settings.rule == "es" and not device.journal_records and network.prompt is None \
            and chain:
        return FastEvolution(network, settings, residual, max_pairs, momentum)
    return Learner(network, settings, residual, bits, device.journal_records, max_pairs, momentum)


def _interval(in_cycles) -> float:
    """Cycles between samples in the second half of a job; an even number of them, for a schedule
    may alternate."""
    steps = max(len(in_cycles) // 4 * 2, 1)
    return float(in_cycles[-1] - in_cycles[-1 - steps]) / steps if len(in_cycles) > steps else 0.0


def summarize(recovery: Recovery, network: Network, runs: list[dict], residual: int) -> dict:
    """Contents of ``recover.json``: means over the seeds, and each run."""
    dataset = data.load(recovery.example)

    def mean(key):
        return float(np.mean([r[key] for r in runs]))
    curves = np.array([r["curve"] for r in runs], float)
    return {
        "example": recovery.example, "rule": recovery.rule, "disturbance": recovery.disturbance,
        "layers": [network.parts[i].dense.name for i in recovery.settings.layers],
        "probes": recovery.settings.probes if recovery.settings.rule == "np"
        else 2 * recovery.settings.pairs,
        "clean": accuracy(network, *dataset.known()),
        "levels": ["clean", "disturbed"] if dataset.x_known is None else ["known", "unseen"],
        "before": mean("before"), "after": mean("after"),
        "samples": runs[0]["samples"], "passes": runs[0]["passes"],
        "cycles_per_sample_learning": mean("interval_learning"),
        "cycles_per_sample_inference": mean("interval_inference"),
        "cycles": round(mean("cycles")), "clock_mhz": CLOCK_MHZ, "seconds": mean("seconds"),
        "simulated_hz": round(mean("simulated_hz")),
        "bit_exact": all(r["bit_exact"] for r in runs),
        "cycles_exact": all(r["cycles_exact"] for r in runs),
        "curve": [[int(n), a] for n, a in curves.mean(0)],
        "test_samples": len(dataset.x_test), "residual": residual,
        "settings": asdict(recovery.settings) | {"seed": "from the run's seed"},
        "network": network.digest(), "versions": {n: version(n) for n in ("hwgen", "hls4ml",
                                                                           "numpy", "verilator")},
        "runs": runs,
    }


def write(summary: dict, folder: Path) -> None:
    """``recover.json`` and ``recover.png``."""
    folder = Path(folder)
    (folder / "recover.json").write_text(json.dumps(summary, indent=1) + "\n")
    plot(summary, folder / "recover.png")


def plot(summary: dict, path: Path) -> None:
    """Accuracy against samples: each seed thin, the mean thick, the levels without disturbance and
    without learning dashed."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for one in summary["runs"]:
        axes.plot(*zip(*one["curve"], strict=True), color="tab:blue", alpha=0.35, linewidth=1)
    axes.plot(*zip(*summary["curve"], strict=True), color="tab:blue", linewidth=2,
              label=f"learning, mean of {len(summary['runs'])} seed(s)")
    clean, disturbed = summary["levels"]
    axes.axhline(summary["clean"], color="tab:green", linestyle="--", label=clean)
    axes.axhline(summary["before"], color="tab:red", linestyle="--",
                 label=f"{disturbed}, not learning")
    axes.set(xlabel="samples learned from", ylabel="test accuracy (%)",
             title=f"{summary['example']}, {summary['disturbance']}, rule {summary['rule']} on "
                   f"{', '.join(summary['layers'])}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def core_for(rules, options=()) -> dict:
    """What to build for rules by their names here: arguments `rules` and `options` of
    :func:`hwgen.build.build`.
    """
    for rule in rules:
        if rule not in RULES:
            raise HwgenError(f"unknown rule {rule!r}; there are {', '.join(RULES)}")
    implied = [option for rule in rules for option in IMPLIED.get(rule, ())]
    return {"rules": tuple(dict.fromkeys(FAMILY[rule] for rule in rules)),
            "options": tuple(dict.fromkeys([*options, *implied]))}


def settings_for(rule: str, layers: tuple[int, ...], **options) -> Settings:
    """Settings of a rule from the options that are not None; its own defaults otherwise.

    Raises
    ------
    HwgenError
        For an unknown rule, or an option that the rule or the core does not know.
    """
    if rule not in RULES:
        raise HwgenError(f"unknown rule {rule!r}; there are {', '.join(RULES)}")
    given = {name: value for name, value in options.items() if value is not None}
    for family, names in OPTIONS.items():
        for name in set(given) & set(names):
            if family != FAMILY[rule]:
                raise HwgenError(f"rule {rule} has no {name.replace('_', '-')}; it is for rule "
                                 f"{family}")
    if rule == "delta":
        for name in FIXED["delta"]:
            if given.get(name):
                raise HwgenError(f"rule delta has no {name.replace('_', '-')}: the last layer "
                                 "learns alone, at head-shift; with probes it is rule np")
    if rule == "qzo":
        if not 1 <= given.get("pairs", 1) <= M_MAX:
            raise HwgenError(f"rule qzo has 1 to {M_MAX} pairs, not {given['pairs']}")
        for name in FIXED["qzo"]:
            if given.get(name, DEFAULTS["qzo"][name]) != DEFAULTS["qzo"][name]:
                raise HwgenError(f"rule qzo has {name} {DEFAULTS['qzo'][name]}; for "
                                 f"{given[name]} use rule es")
    try:
        return Settings(rule=FAMILY[rule], layers=layers, **DEFAULTS[rule] | given)
    except ValueError as error:
        raise HwgenError(str(error)) from None

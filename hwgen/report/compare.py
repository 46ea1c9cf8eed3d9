"""What learning adds: the resources and cycles of a core with and without it."""
from pathlib import Path

from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from firmware_models.cycles import CycleModel
from firmware_models.line_rate_cycles import shadow
from firmware_models.network import described
from firmware_models.settings import Settings

from ..build import read_manifest
from ..devices import DEVICES, RESOURCES
from ..errors import HwgenError
from ..recover import CLOCK_MHZ
from ..vivado import reports as vivado
from . import energy
from .manifest import inference_part, parts
from .memories import memories, window
from .resources import difference
from .synthesis import earlier_counts, synthesize

__all__ = ["CYCLE_SAMPLES", "NOTE", "report"]

NOTE = ("Estimated by Yosys for UltraScale (xcu), before place and route. Timing, and what Vivado "
        "packs together or moves into DSP and block RAM, only Vivado can confirm.")
CYCLE_SAMPLES = 64          # the schedule is periodic after a few samples; the first half settles


def report(learning_manifest: Path, inference_manifest: Path, *, flatten: bool = False) -> dict:
    """Resources of a learning core, of the same core without learning, and the difference.

    What is not yet synthesized is, side by side, with a progress line on the terminal.

    Parameters
    ----------
    learning_manifest, inference_manifest : Path
        Of the same network built with and without learning.
    flatten : bool
        Add the totals of synthesis across block borders, which doubles the time.

    Returns
    -------
    dict, JSON-ready
        ``learning``, ``inference`` and ``training`` (the difference) each hold ``blocks``,
        ``total``, ``percent`` of each device and, if asked for, ``flattened``. The first two
        also ``vivado``, of :func:`hwgen.vivado.reports.of`, where Vivado has run on them. Beside
        them cycles, energy and memories.
    """
    paths = {"learning": Path(learning_manifest), "inference": Path(inference_manifest)}
    manifests = {core: read_manifest(path) for core, path in paths.items()}
    for core, manifest in manifests.items():
        if manifest["learning"] != (core == "learning"):
            raise HwgenError(f"{paths[core]} is not of a core built for {core}; build it "
                             f"with learning={core == 'learning'}")
    if inference_part(manifests["learning"]) != inference_part(manifests["inference"]):
        raise HwgenError(f"{paths['learning']} and {paths['inference']} describe different "
                         "networks; build both from the same one")

    jobs = [(core, flat) for flat in ((False, True) if flatten else (False,)) for core in paths]
    results = _side_by_side(paths, manifests, jobs)
    cores = {core: {"blocks": results[core, False]["blocks"],
                    "total": results[core, False]["total"],
                    **({"flattened": results[core, True]["total"]} if flatten else {})}
             for core in paths}
    more, less = cores["learning"], cores["inference"]
    zero = dict.fromkeys(RESOURCES, 0)
    changed = {name: difference(more["blocks"].get(name, zero), less["blocks"].get(name, zero))
               for name in [*more["blocks"], *(less["blocks"].keys() - more["blocks"].keys())]}
    cores["training"] = {
        "blocks": {name: block for name, block in changed.items() if any(block.values())},
        **{key: difference(more[key], less[key]) for key in more if key != "blocks"}}
    for core in cores.values():
        core["percent"] = {device.name: {
            r: round(100 * core["total"][r] / getattr(device, r), 3) for r in RESOURCES}
            for device in DEVICES}

    for core, path in paths.items():
        if found := vivado.of(path):
            cores[core]["vivado"] = found

    manifest = manifests["learning"]
    cycles = _cycles_per_sample(manifest)
    return {
        "network": manifest["network"]["name"],
        "digest": manifest["digest"],
        "trainable": [part["name"] for part in parts(manifest) if part["trainable"]],
        "rules": manifest["rules"],
        "options": manifest["options"],
        "residual": manifest["residual"],
        "max_pairs": manifest["max_pairs"],
        "per_lane": _per_lane(manifest, cores["training"]["blocks"]),
        "yosys": results["learning", False]["yosys"],
        "note": NOTE,
        **cores,
        "cycles_per_sample": cycles,
        "clock_mhz": CLOCK_MHZ,
        "energy": energy.estimate(less["total"], more["total"], cycles),
        "memories": memories(_verilog(paths["learning"], manifest), manifest),
        "window": window(manifest),
    }


def _verilog(manifest_path, manifest):
    return (manifest_path.parent / manifest["verilog"]).read_text(encoding="utf-8")


def _per_lane(manifest, added):
    """Added LUTs of each trainable memory by weight lane."""
    return {stage["name"]: round(added[f"weights {stage['name']}"]["lut"] / stage["lanes"], 1)
            for stage in parts(manifest)
            if stage["trainable"] and f"weights {stage['name']}" in added}


def _side_by_side(paths, manifests, jobs):
    """Results of the (core, flatten) `jobs`; Yosys runs in processes, so threads suffice."""
    missing = sum(earlier_counts(paths[core], manifests[core], flat) is None for core, flat in jobs)
    progress = Progress(SpinnerColumn(), TextColumn("{task.description}"),
                        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
                        TimeElapsedColumn(), transient=True, disable=not missing,
                        console=Console(stderr=True))
    results = {}
    with progress:
        task = progress.add_task("synthesizing with Yosys (about a minute each)", total=len(jobs))

        def one(core, flat):
            return (core, flat), synthesize(paths[core], flatten=flat)

        runs = Parallel(n_jobs=-1, prefer="threads", return_as="generator_unordered")(
            delayed(one)(core, flat) for core, flat in jobs)
        for key, result in runs:
            results[key] = result
            progress.advance(task)
    return results


def _cycles_per_sample(manifest):
    """Steady-state cycles per sample by the cycle model, with learning off and on."""
    network = described(manifest["network"])        # cycles do not depend on the weights

    def steady(settings):
        out = CycleModel(network, learning=settings is not None).run(
            CYCLE_SAMPLES, settings).out_cycles
        return float(out[-1] - out[CYCLE_SAMPLES // 2 - 1]) / (CYCLE_SAMPLES // 2)

    cycles = {"inference": steady(None)}
    if "np" in manifest["rules"]:
        settings = Settings(layers=network.trainable)
        found = shadow(network, settings, manifest["options"])
        cycles["np"] = {"probes": settings.probes, "free": found["free"],
                        "learning": found["intervals"][settings.probes],
                        "per_probe": found["per_probe"], "intervals": found["intervals"]}
    if "es" in manifest["rules"]:
        settings = Settings(rule="es", layers=network.trainable,
                            pairs=min(4, manifest["max_pairs"]))
        cycles["es"] = {"learning": steady(settings), "pairs": settings.pairs}
    return cycles

"""Backpropagation on a Cortex-M7 beside the rules of the core: the same network, the same samples.

    python -m examples.beside -o docs/results/beside.json [--only NAME ...]

The examples' networks and disturbances of ``hwgen recover``. Every method starts with the same
quantized weights, learns from the same disturbed samples in the same order, and is judged by the
test split. Rules of the core have the settings of ``hwgen recover --rule``; they run on the
compiled golden models, which tests hold equal to the Verilated core. Fully quantized training runs
as C on this machine and, for its instructions, on an emulated board. Its learning rate is chosen
on the validation samples with a seed of its own; all else in its settings is the default.
"""
import argparse
import json
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.progress import track

from firmware_models.cycles import CycleModel
from firmware_models.fast import FastLearner
from firmware_models.fast_evolution import FastEvolution
from firmware_models.fqt import integer, paper
from firmware_models.fqt.affine import CODE_MAX
from firmware_models.fqt.layers import Layer, dense, sequential
from firmware_models.line_rate_cycles import schedule
from firmware_models.loss import LOSS_WIDTH
from firmware_models.network import Network
from hwgen import data, example, firmware
from hwgen.firmware.integer import row_columns
from hwgen.firmware.memory import WORD
from hwgen.recover import CLOCK_MHZ, settings_for, stream

from .beside_costs import core_bits, core_operations, firmware_bytes, operations, sizes_of
from .study import RESIDUAL, core_seed, judge, judged_by, scores

EXAMPLES = ("digits", "mnist")
FOLDER = Path("build") / "beside"
RULES = {"np": ("fc1", "fc3"), "delta": ("fc3",), "qzo": ("fc1", "fc3"), "es": ("fc1", "fc3")}
# Among which learning rates the validation samples choose.
METHODS = {
    "FQT, integers": (integer, [{"lr_shift": shift} for shift in range(3, 12)]),
    "FQT, uint8": (paper, [{"lr": lr} for lr in (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01,
                                                 0.02, 0.05, 0.1)]),
}
VALIDATION_SEED = 101
CALIBRATION = 200       # clean training samples that the formats follow before learning starts
BOARD, BOARD_SAMPLES, BOARD_PREDICTED = "m7", 320, 20
BOARD_MHZ = 600


def layers_of(network: Network) -> tuple[Layer, ...]:
    """The network as layers that train by backpropagation."""
    return sequential((1, 1, network.n_in), *(dense(stage.dense.n_out)
                                              for stage in network.stages))


def start(network: Network, arithmetic, x, y):
    """The state of the network's own weights and biases.

    The core reads pixel / 256, and so do integers; the scale of the bytes is 1 / 255, and the first
    layer's weights make up for it. `x` [n, n_in] and `y` [n] are training samples, from which
    nothing is learned: the formats of the features follow them, as they do in a network that has
    been trained in this arithmetic.
    """
    layers = layers_of(network)
    weights, biases = {}, {}
    for layer, stage in zip(layers, network.stages, strict=True):
        of = stage.dense
        weights[layer.name] = of.weight_codes * 2.0 ** -of.weight.frac
        biases[layer.name] = of.bias_codes * 2.0 ** -of.bias.frac
    if arithmetic is paper:
        weights[layers[0].name] *= CODE_MAX * 2.0 ** -network.input.frac
    state = arithmetic.init(layers, weights, biases)
    nothing = paper.Settings(batch=len(x) + 1) if arithmetic is paper else \
        integer.Settings(skip=(1 << LOSS_WIDTH) - 1)
    for row, label in zip(x, y, strict=True):
        state = arithmetic.train_step(layers, state, row, int(label), nothing)
    if arithmetic is paper:
        state.gradients = paper.no_gradients(layers)
    state.samples = 0
    return layers, state


def backpropagation(name: str, network: Network, method: str, seeds) -> dict:
    """A row of the table: fully quantized training."""
    experiment, (arithmetic, among) = example.EXPERIMENTS[name], METHODS[method]
    disturbance, samples = experiment["disturb"], experiment["samples"]
    dataset, folder = data.load(name), FOLDER / f"{name}-{arithmetic.__name__.split('.')[-1]}"
    x, y = dataset.training()
    layers, state = start(network, arithmetic, x[:CALIBRATION], y[:CALIBRATION])

    def learned(settings, seed) -> firmware.Firmware:
        firmware.generate(layers, state, folder, settings=settings)
        one = firmware.Firmware(folder)
        for row, label in zip(*stream(dataset, disturbance, samples, seed), strict=True):
            one.train_step(row, label)
        return one

    def right(one, seed, split) -> float:
        held, labels = judged_by(name, disturbance, seed, split)
        return scores(one.predict(held), labels)[0]

    tried = [[right(learned(arithmetic.Settings(**one), VALIDATION_SEED), VALIDATION_SEED,
                    "validation"), one]
             for one in track(among, f"{name}, {method}: learning rates")]
    settings, runs = arithmetic.Settings(**max(tried, key=lambda one: one[0])[1]), []
    for seed in seeds:
        one = learned(settings, seed)
        after = right(one, seed, "test")
        one.reset()
        runs.append({"seed": seed, "before": right(one, seed, "test"), "after": after})
    scratch = WORD * row_columns(layers, state, settings) if arithmetic is integer else 0
    plan = firmware.generate(layers, state, folder, settings=settings)
    return {
        "settings": asdict(settings), "tried": tried,
        "layers": [stage.dense.name for stage in network.stages], "runs": runs,
        "memory": firmware_bytes(layers, plan, scratch),
        "operations": asdict(operations(
            sizes_of(network), learning=range(len(network.stages)), backward=True,
            batch=settings.batch if arithmetic is paper else 1)),
        "board": on_board(folder, *stream(dataset, disturbance, BOARD_SAMPLES + BOARD_PREDICTED,
                                          seeds[0]))}


def on_board(folder: Path, x, y) -> dict:
    """Instructions of a step and of a prediction of the firmware in a folder."""
    if lacking := firmware.board.missing(BOARD):
        raise SystemExit(lacking)
    one = firmware.Firmware(folder)
    for row, label in zip(x[:BOARD_SAMPLES], y[:BOARD_SAMPLES], strict=True):
        one.train_step(row, label)
    done = firmware.board.run(folder, BOARD, x, y, range(BOARD_SAMPLES),
                              range(BOARD_SAMPLES, len(x)))
    if done.state != one.state():
        raise SystemExit(f"{folder}: the board's state differs from the host's; please report this "
                         "with the folder")
    return {"core": BOARD, "mhz": BOARD_MHZ, "samples": BOARD_SAMPLES, "equal": True,
            "train_instructions": round(done.train_instructions),
            "predict_instructions": round(done.test_instructions)}


def on_core(name: str, rule: str, seeds) -> dict:
    """A row of the table: a rule of the core."""
    experiment = example.EXPERIMENTS[name]
    disturbance, samples = experiment["disturb"], experiment["samples"]
    network, _ = example.prepare(name, FOLDER / f"{name}-{rule}", train=list(RULES[rule]))
    settings = settings_for(rule, network.trainable)
    runs = []
    for seed in seeds:
        own = replace(settings, seed=core_seed(seed))
        learner = FastLearner(network, own, RESIDUAL) if own.rule == "np" else \
            FastEvolution(network, own, RESIDUAL)
        held = judged_by(name, disturbance, seed, "test")
        before = judge(learner.deployed_network(), *held)[0]
        learner.learn(*stream(data.load(name), disturbance, samples, seed))
        runs.append({"seed": seed, "before": before,
                     "after": judge(learner.deployed_network(), *held)[0]})
    bits = core_bits(network, settings, RESIDUAL)
    clocked = schedule(network, samples, settings) if settings.rule == "np" else \
        CycleModel(network).run(samples, settings)
    return {
        "settings": asdict(settings) | {"seed": "from the run's seed"},
        "layers": [network.stages[i].dense.name for i in settings.layers], "runs": runs,
        "memory": {"bits": bits, "extra": -(-sum(bits.values()) // 8)},
        "operations": asdict(core_operations(network, settings)),
        "core": {"mhz": CLOCK_MHZ, "cycles": clocked.clock_cycles, "passes": clocked.passes}}


def inference(name: str, network: Network) -> dict:
    """What a sample takes that is only classified: multiply-accumulates and cycles."""
    samples = example.EXPERIMENTS[name]["samples"]
    sizes = sizes_of(network)
    return {"forward": sum(int(np.prod(pair)) for pair in zip(sizes, sizes[1:], strict=False)),
            "cycles": CycleModel(network, learning=False).run(samples).clock_cycles,
            "mhz": CLOCK_MHZ}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.beside", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[*METHODS, *RULES],
                        help="rows to run anew: " + "; ".join([*METHODS, *RULES]))
    args = parser.parse_args()
    kept = json.loads(args.output.read_text())["examples"] if args.output.exists() else {}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for name in EXAMPLES:
        experiment = example.EXPERIMENTS[name]
        network, _ = example.prepare(name, FOLDER / name)
        rows = kept.get(name, {}).get("rows", {})
        kept[name] = {"disturbance": experiment["disturb"], "samples": experiment["samples"],
                      "sizes": sizes_of(network), "inference": inference(name, network)}
        for method in args.only or [*METHODS, *RULES]:
            rows[method] = backpropagation(name, network, method, experiment["seeds"]) \
                if method in METHODS else on_core(name, method, experiment["seeds"])
            print(f"{name}, {method}:", ", ".join(f"{one['before']:.1f} to {one['after']:.1f} %"
                                                  for one in rows[method]["runs"]))
            kept[name]["rows"] = {one: rows[one] for one in [*METHODS, *RULES] if one in rows}
            args.output.write_text(json.dumps({
                "command": "python -m examples.beside -o docs/results/beside.json",
                "validation_seed": VALIDATION_SEED, "residual": RESIDUAL, "examples": kept,
                "versions": {n: version(n) for n in ("hwgen", "hls4ml", "numpy", "numba")}
                | firmware.board.versions()}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The example networks of the firmware: what they start from, and what they learn."""
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from firmware_models.fqt import integer, paper
from firmware_models.fqt.integer import Settings
from firmware_models.fqt.layers import Layer, conv, dense, depthwise, max_pool, sequential
from hwgen import data

from ..errors import HwgenError
from .network_file import load

CHECKPOINTS = Path(__file__).parents[2] / "examples" / "checkpoints"
TEST_NOISE_SEED = 2024
OBSERVED = 64           # training samples for the ranges of bytes
# Floats of a Cortex-M0+ are slow to emulate.
PAPER_BOARD_SAMPLES = 48


@dataclass(frozen=True, kw_only=True)
class Task:
    """A network and what it learns.

    Parameters
    ----------
    layers : tuple of Layer
    data : str
        Data set.
    disturb : str
        What befalls the samples; see :func:`hwgen.data.disturb`.
    samples : int
        How many it learns from by default.
    board_samples : int
        How many of them on each board.
    settings : integer.Settings
    paper : dict of paper.Settings by mode
    pretraining : dict of (settings, int) by mode
        How its checkpoints, in integers and in float32, were trained on undisturbed training
        samples, and for how many epochs; empty where it starts from random weights.
    balanced : bool
        Draw each class equally often, and count it alike in the accuracy.
    """
    layers: tuple[Layer, ...]
    data: str
    disturb: str = "none"
    samples: int
    board_samples: int = 300
    settings: Settings
    paper: dict[str, paper.Settings]
    pretraining: dict[str, tuple] = field(default_factory=dict)
    balanced: bool = False

    def settings_of(self, mode: str):
        """How it trains in one of the modes of :data:`.state.ARITHMETICS`."""
        return self.settings if mode == "integer" else self.paper[mode]


def _images(rows: int, columns: int) -> tuple[Layer, ...]:
    return sequential((rows, columns, 1), conv(8, 3), max_pool(2), conv(16, 3), max_pool(2),
                      dense(32), dense(10))


def _by_mode(**settings) -> dict[str, paper.Settings]:
    return {mode: paper.Settings(**settings) for mode in paper.MODES}


# Settings were chosen on the validation splits.
TASKS = {
    "digits": Task(data="digits", layers=sequential((8, 8, 1), dense(32), dense(10)),
                   samples=3 * 1400, board_samples=3 * 1400,
                   settings=Settings(lr_shift=3, lr_decay=1400), paper=_by_mode(lr=0.005)),
    "depthwise": Task(data="digits", layers=sequential(
                          (8, 8, 1), conv(8, 3, same=True), depthwise(3, same=True), conv(16, 1),
                          max_pool(2), dense(10)),
                      samples=3 * 1400, settings=Settings(lr_shift=4, lr_decay=1400),
                      paper=_by_mode(lr=0.01)),
    "fashion": Task(data="fashion", layers=_images(28, 28), samples=3 * 55_000,
                    settings=Settings(lr_shift=7, lr_decay=82_000),
                    paper=_by_mode(lr=0.004, batch=48)),
    "mnist": Task(data="mnist", layers=_images(28, 28), disturb="noise:0.5", samples=8000,
                  settings=Settings(lr_shift=8), paper=_by_mode(lr=0.004, batch=48),
                  pretraining={"integer": (Settings(lr_shift=6, lr_decay=55_000), 3),
                               "float32": (paper.Settings(lr=0.004, batch=48), 2)}),
    "speech": Task(data="speech", layers=_images(32, 16), samples=1200,
                   settings=Settings(lr_shift=7), paper=_by_mode(lr=0.002),
                   pretraining={"integer": (Settings(lr_shift=6, lr_decay=5400), 10),
                                "float32": (paper.Settings(lr=0.002, batch=16), 10)}),
    "ecg": Task(data="ecg", layers=sequential(
                    (1, 128, 1), conv(8, (1, 7), strides=(1, 2)), conv(16, (1, 5), strides=(1, 2)),
                    conv(16, (1, 5), strides=(1, 2)), dense(16), dense(2)),
                samples=2000, settings=Settings(lr_shift=7), balanced=True,
                paper=_by_mode(lr=0.004),
                pretraining={"integer": (Settings(lr_shift=6, lr_decay=8000), 3),
                             "float32": (paper.Settings(lr=0.0005, batch=16), 4)}),
}


def task(name: str) -> Task:
    """The task of an example, or HwgenError for an unknown one."""
    if name not in TASKS:
        raise HwgenError(f"unknown example {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]


def random_state(layers, seed: int, mean=None, mode: str = "integer"):
    """Weights of He's uniform distribution, biases of 0; means count in integers alone."""
    rng = np.random.default_rng(seed)
    linear = [layer for layer in layers if layer.is_linear]
    weights = {layer.name: rng.uniform(-1, 1, (layer.rows, layer.columns))
               * np.sqrt(6 / layer.columns) for layer in linear}
    biases = {layer.name: np.zeros(layer.rows) for layer in linear}
    if mode == "integer":
        return integer.init(layers, weights, biases, mean)
    return paper.init(layers, weights, biases, mode)


def checkpoint(name: str, mode: str) -> Path:
    """Where an example's network in integers is, or in float32 for all other modes."""
    return CHECKPOINTS / f"firmware_{name}{'' if mode == 'integer' else '_float32'}.npz"


def start(name: str, seed: int, mode: str = "integer"):
    """The state that an example begins with: its checkpoint, or random weights.

    The network in integers takes the mean off each input, which biases of a convolution cannot:
    that is why the other modes have a checkpoint of their own.
    """
    chosen = task(name)
    if not chosen.pretraining:
        return random_state(chosen.layers, seed, np.zeros(chosen.layers[0].n_in), mode)
    layers, state = load(checkpoint(name, mode))
    if mode != "integer":
        state = paper.init(layers, {key: s.weights for key, s in state.layers.items()},
                           {key: s.biases for key, s in state.layers.items()}, mode)
        x, _ = data.load(chosen.data).training()
        state = paper.observe(layers, state, x[::len(x) // OBSERVED])
    state.samples = 0
    return state


def order(rng, y, n: int, balanced: bool) -> np.ndarray:
    """Which n samples to learn from: all in turn, shuffled, or as many of each class."""
    if not balanced:
        rounds = -(-n // len(y))
        return np.concatenate([rng.permutation(len(y)) for _ in range(rounds)])[:n]
    classes = [np.flatnonzero(y == c) for c in np.unique(y)]
    turns = -(-n // len(classes))
    return np.stack([rng.choice(of, turns) for of in classes], 1).ravel()[:n]


def stream(name: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples uint8 [n, n_in] and labels [n] that an example learns from."""
    chosen = task(name)
    dataset = data.load(chosen.data)
    # Digits are few: all that are not for testing are learned from.
    x, y = (dataset.x_train, dataset.y_train) if chosen.data == "digits" else dataset.field()
    which = order(np.random.default_rng(seed), y, n, chosen.balanced)
    return data.disturb(x[which], chosen.disturb, seed), y[which]


def test_split(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The samples and labels on which an example is judged."""
    dataset = data.load(task(name).data)
    return data.disturb(dataset.x_test, task(name).disturb, TEST_NOISE_SEED), dataset.y_test


def accuracy(classes, y, balanced: bool) -> float:
    """Percent of right classes, or the mean of that over the classes."""
    right = np.asarray(classes) == y
    if balanced:
        return 100 * float(np.mean([right[y == c].mean() for c in np.unique(y)]))
    return 100 * float(right.mean())

"""The compiled evolutionary strategy is the plain one: predictions, all state, every integer."""
from dataclasses import replace

import numpy as np
import pytest

from firmware_models.directions import SPARSE
from firmware_models.fast_evolution import FastEvolution
from firmware_models.formats import Fixed
from firmware_models.learner import Learner, compare
from firmware_models.rounding import ROUNDINGS
from firmware_models.rules.es import FITNESSES
from firmware_models.settings import Settings
from hwgen import example
from hwgen.data import load
from hwgen.recover import stream

from . import compiled
from .networks import samples, small_network


def lockstep(network, parts, residual=4, seed=1, max_pairs=16):
    learners = (kind(network, parts[0][0], residual, max_pairs=max_pairs, momentum=True)
                for kind in (Learner, FastEvolution))
    return compiled.lockstep(*learners, network, parts, seed)


def random_settings(rng, network) -> Settings:
    """Rates are high, so that a few dozen samples move weights."""
    trainable = network.trainable
    layers = rng.choice(trainable, rng.integers(0, len(trainable) + 1), replace=False)
    start = int(rng.choice([0, 0, 600]))
    return Settings(
        rule="es", layers=tuple(layers.tolist()), sigma_log2=int(rng.integers(0, 8)),
        lr_shift=int(rng.integers(2, 11)), lr_decay=int(rng.choice([0, 1, 7])),
        seed=int(rng.integers(1, 1 << 32)), pairs=int(rng.choice([1, 2, 3, 5, 16])),
        batch=int(rng.choice([1, 1, 2, 7])), fitness=str(rng.choice(FITNESSES)),
        start=start, stop=start // 2, restart=bool(rng.integers(2)),
        vote=int(rng.choice([0, 0, 40])), sparse=str(rng.choice(SPARSE)),
        rank1=bool(rng.integers(2)), kernel=bool(rng.integers(2)),
        sharp=int(rng.choice([0, 0, 1, 3, 7])), momentum=bool(rng.integers(2)),
        sigma_decay=bool(rng.integers(2)), rounding=str(rng.choice(ROUNDINGS)))


@pytest.mark.parametrize("residual", range(9))
def test_random_networks(residual, seed):
    rng = np.random.default_rng([seed, residual])
    for _ in range(4):
        network = compiled.random_network(rng, prompts=True)
        lockstep(network, [(random_settings(rng, network), 24) for _ in range(3)], residual,
                 max_pairs=int(rng.choice([16, 64])))


@pytest.mark.parametrize("change", [
    {}, {"pairs": 1}, {"pairs": 16, "batch": 3}, {"batch": 7, "lr_decay": 3}, {"layers": (0, 2)},
    {"layers": (1,)}, {"layers": (2,)}, {"layers": ()},
    {"fitness": "rank"}, {"fitness": "zscore"}, {"fitness": "best"},
    {"fitness": "zscore", "pairs": 5, "batch": 2}, {"fitness": "zscore", "pairs": 1},
    {"vote": 150}, {"sparse": "hash"}, {"sparse": "static"}, {"sparse": "biases"},
    {"rank1": True}, {"kernel": True}, {"sharp": 1}, {"sharp": 7, "kernel": True},
    {"sharp": 3, "rank1": True, "sparse": "hash"}, {"momentum": True},
    {"momentum": True, "sparse": "hash", "rank1": True},
    {"lr_decay": 10}, {"lr_decay": 10, "sigma_decay": True},
    # Rates at which coefficients are no multiples of 16: rounding leaves something.
    *({"rounding": kind, "lr_shift": 9} for kind in ROUNDINGS[1:]),
    {"rounding": "replay", "lr_shift": 9, "pairs": 3, "momentum": True},
    {"rounding": "replay", "lr_shift": 10, "pairs": 16},
    {"rounding": "replay", "lr_shift": 6, "fitness": "zscore", "vote": 3, "kernel": True},
], ids=str)
def test_settings(change, seed):
    """Three layers, two generators in the first of them; several inputs and outputs a word."""
    network = small_network((12, 16, 8, 4), (0, 1, 2), {0: 4, 1: 4, 2: 2}, seed=seed)
    assert network.stages[0].dense.lanes > 32
    settings = Settings(**{"rule": "es", "layers": (0, 1, 2), "lr_shift": 5} | change)
    state = lockstep(network, [(settings, 60), (replace(settings, seed=99, sigma_log2=3), 40)])
    if settings.layers:
        assert state.updates >= 80 // settings.batch - 12 and state.passes > state.samples


@pytest.mark.parametrize("change", [{}, {"restart": True}, {"start": 600, "stop": 600}], ids=str)
def test_drift(change, seed):
    """Learning stops and starts again, also within a batch."""
    network = small_network((10, 8, 4), (0, 1), seed=seed)
    settings = Settings(**{"rule": "es", "layers": (0, 1), "batch": 3, "lr_shift": 5,
                           "lr_decay": 4, "sigma_decay": True, "start": 1500, "stop": 900} | change)
    plain, fast = (kind(network, settings) for kind in (Learner, FastEvolution))
    x, y = samples(network, 1200, seed=seed)
    # In turn the labels are those the network gives, and others.
    easy = plain.predict(x)
    y = np.where(np.arange(len(x)) // 300 % 2, easy, (easy + 1) % 4)
    for part in np.array_split(np.arange(len(x)), 7):
        assert fast.learn(x[part], y[part]).tolist() == plain.learn(x[part], y[part]).tolist()
        assert fast.learned.tolist() == plain.learned.tolist()
        assert not compare(plain.state, vars(fast.state))
    assert 0 < plain.state.updates < len(x) // 3


@pytest.mark.parametrize("width", [4, 12, 16, 26])
def test_widths(width, seed):
    """Weights of other widths; the widest do not go with 32 bits."""
    network = small_network((9, 6, 4), (0, 1), {0: 3}, seed=seed, weight=Fixed(width, width - 2),
                            bias=Fixed(width - 1, width - 4))
    settings = Settings(rule="es", layers=(0, 1), lr_shift=3, sharp=3, kernel=True)
    fast = FastEvolution(network, settings)
    assert fast._arrays.masters.dtype == (np.int64 if width == 26 else np.int32)
    for residual in (0, 8):
        lockstep(network, [(settings, 60)], residual)


def test_held_at_the_ends(seed):
    network = small_network((12, 8, 4), (0, 1), {0: 4, 1: 2}, seed=seed, extreme=True)
    settings = Settings(rule="es", layers=(0, 1), lr_shift=0)
    assert lockstep(network, [(settings, 60)]).saturations


def test_many_generators(seed):
    """A word of 160 weights: five generators, of which the last layer has two more."""
    network = small_network((10, 16, 40), (0, 1), {0: 1, 1: 16}, seed=seed)
    settings = Settings(rule="es", layers=(0, 1), lr_shift=9, rounding="stochastic",
                        sparse="hash", momentum=True)
    lockstep(network, [(settings, 30), (replace(settings, rank1=True, sparse="static"), 30)])


def test_loaded_masters():
    """Other masters within a batch are learned on from, as the plain learner would."""
    network = small_network([6, 8, 4], trainable=(0, 1))
    settings = Settings(rule="es", layers=(0, 1), lr_shift=4, batch=4)
    plain, fast = (kind(network, settings) for kind in (Learner, FastEvolution))
    x, y = samples(network, 50)
    rng = np.random.default_rng(1)
    for learner in (plain, fast):
        learner.learn(x[:10], y[:10])
    weights, biases = ({i: rng.integers(-2048, 2048, old.shape) for i, old in of.items()}
                       for of in (plain.state.weights, plain.state.biases))
    for learner in (plain, fast):
        learner.load(weights, biases)
        learner.learn(x[10:], y[10:])
    assert not compare(plain.state, vars(fast.state))


@pytest.mark.parametrize("change", [
    {}, {"layers": (0, 3)}, {"layers": (1, 3), "kernel": True}, {"layers": (0, 1)},
    {"layers": (2,)}, {"layers": ()}, {"sharp": 3, "sparse": "hash"},
    {"sparse": "static", "momentum": True}, {"sparse": "biases"},
    {"rank1": True, "rounding": "stochastic", "lr_shift": 9},
], ids=str)
@pytest.mark.parametrize("source", [Fixed(8, 8, False), Fixed(8, 4)], ids=str)
def test_prompt(change, source, seed):
    """It learns alone, with layers, and not at all; features without a sign, and with one."""
    network = small_network((12, 16, 8, 4), (0, 1, 2), {0: 4, 1: 4, 2: 2}, seed=seed,
                            source=source)
    prompt = np.random.default_rng(seed).integers(-256, 256, 12)
    settings = Settings(**{"rule": "es", "layers": (3,), "lr_shift": 4, "pairs": 2} | change)
    state = lockstep(replace(network, prompt=prompt),
                     [(settings, 60), (replace(settings, seed=99, sigma_log2=6), 40)])
    learned = (state.weights[3] >> 4 != prompt).any()
    assert learned == (3 in settings.layers and settings.sparse != "biases")


def test_digits(tmp_path):
    network, _ = example.prepare("digits", tmp_path, ["fc1", "fc3"])
    x, y = stream(load("digits"), "rotate:30", 100, 1)
    for layers in (network.trainable, (2,)):
        settings = Settings(rule="es", layers=layers, batch=2)
        plain, fast = Learner(network, settings), FastEvolution(network, settings)
        assert fast.learn(x, y).tolist() == plain.learn(x, y).tolist()
        assert not compare(plain.state, vars(fast.state))
        assert plain.state.updates == 50


def test_refusals():
    network = small_network((8, 6, 4), (1,))
    with pytest.raises(ValueError, match="has rule 'es' alone, not 'np'"):
        FastEvolution(network, Settings(layers=(1,)))
    es = Settings(rule="es", layers=(1,))
    with pytest.raises(ValueError, match=r"layers \(0,\) are not all trainable"):
        FastEvolution(network, replace(es, layers=(0,)))
    with pytest.raises(ValueError, match="momentum needs counters"):
        FastEvolution(network, replace(es, momentum=True))
    with pytest.raises(ValueError, match="fc1: its formats need up to 67 bits"):
        FastEvolution(small_network((8, 6, 4), (1,), source=Fixed(48, 8)), es)
    fast = FastEvolution(network, es)
    with pytest.raises(ValueError, match="has rule 'es' alone, not 'np'"):
        fast.configure(Settings(layers=(1,)))
    with pytest.raises(ValueError, match=r"samples have shape \(1, 7\), not \(n, 8\)"):
        fast.learn(np.zeros((1, 7), int), [0])

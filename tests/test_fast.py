"""The compiled learner is the plain one: predictions and all state, integer for integer."""
from dataclasses import replace

import numpy as np
import pytest

from firmware_models.dense import forward
from firmware_models.fast import FastLearner
from firmware_models.formats import Fixed
from firmware_models.learner import Learner, compare
from firmware_models.settings import Settings
from hwgen import example
from hwgen.data import load
from hwgen.recover import stream

from . import compiled
from .networks import samples, small_network


def lockstep(network, parts, residual=4, seed=1):
    learners = (kind(network, parts[0][0], residual) for kind in (Learner, FastLearner))
    return compiled.lockstep(*learners, network, parts, seed)


def test_loaded_masters():
    """Other masters are learned on from, as the plain learner would."""
    network = small_network([6, 8, 4], trainable=(0, 1))
    settings = Settings(layers=(0, 1), lr_shift=4, head_shift=4)
    plain, fast = (kind(network, settings) for kind in (Learner, FastLearner))
    rng = np.random.default_rng(1)
    weights, biases = ({i: rng.integers(-2048, 2048, old.shape) for i, old in of.items()}
                       for of in (plain.state.weights, plain.state.biases))
    plain.state = replace(plain.state, weights=weights, biases=biases)
    fast.load(weights, biases)
    assert not compare(plain.state, vars(fast.state))
    x, y = samples(network, 50)
    assert fast.learn(x, y).tolist() == [plain.step(*one).argmax()
                                         for one in zip(x, y, strict=True)]
    assert not compare(plain.state, vars(fast.state))
    with pytest.raises(ValueError, match="2048 is not a code of"):
        fast.load({i: old + 4096 for i, old in weights.items()} | {0: np.full((8, 6), 2048)},
                  biases)


def random_settings(rng, network) -> Settings:
    """Rates are high, so that a few dozen samples move weights."""
    trainable = network.trainable
    layers = rng.choice(trainable, rng.integers(0, len(trainable) + 1), replace=False)
    return Settings(
        layers=tuple(layers.tolist()), sigma_log2=int(rng.integers(0, 8)),
        lr_shift=int(rng.integers(3, 9)), head_shift=int(rng.integers(3, 9)),
        lr_decay=int(rng.choice([0, 1, 7])), seed=int(rng.integers(1, 1 << 32)),
        probes=int(rng.choice([0, 1, 8, 32])), turn=bool(rng.integers(2)),
        skip=int(rng.choice([0, 0, 300])), **of_head(rng, network))


def of_head(rng, network) -> dict:
    """Settings of the last layer, where it can learn."""
    if not network.stages[-1].dense.trainable:
        return {}
    lmin, lmax = sorted(int(share) for share in rng.choice([0, 26, 128, 256, 256], 2))
    return {"lmin": lmin, "lmax": lmax, "standardize": int(rng.choice([0, 0, 1, 16, 256]))}


@pytest.mark.parametrize("residual", [0, 2, 4, 8])
def test_random_networks(residual, seed):
    rng = np.random.default_rng([seed, residual])

    def trains(layer, source):
        return source.width >= residual - 2 \
            and min(layer.weight.width, layer.bias.width) >= max(3, 5 - residual)

    for _ in range(8):
        network = compiled.random_network(rng, trains)
        lockstep(network, [(random_settings(rng, network), 25) for _ in range(3)], residual)


@pytest.mark.parametrize("change", [
    {}, {"turn": True}, {"skip": 400}, {"lr_decay": 10}, {"probes": 0}, {"probes": 32},
    {"layers": (0, 2), "turn": True}, {"layers": (1,)}, {"lmin": 26}, {"lmin": 0, "skip": 400},
    {"standardize": 16, "head_shift": 8}, {"lmin": 64, "lmax": 200, "standardize": 1},
], ids=str)
def test_settings(change, seed):
    """Three layers with other words than outputs, so that the drain order shows."""
    network = small_network((12, 16, 8, 4), (0, 1, 2), {0: 6, 1: 4, 2: 2}, seed=seed)
    settings = Settings(**{"layers": (0, 1, 2), "lr_shift": 6, "head_shift": 5} | change)
    state = lockstep(network, [(settings, 60), (replace(settings, seed=99, sigma_log2=3), 40)])
    assert state.updates > 60 and state.passes > state.samples * bool(settings.probes)


@pytest.mark.parametrize("change", [{}, {"restart": True}, {"start": 600, "stop": 600}], ids=str)
def test_drift(change):
    """Learning goes on and off; the same samples are learned from."""
    network = small_network((8, 6, 4), (0, 1))
    settings = replace(Settings(layers=(0, 1), lr_shift=8, head_shift=7, probes=2, lr_decay=9,
                                start=700, stop=600), **change)
    x, _ = samples(network, 3000)
    logits = forward(network, x)
    y = np.where(np.arange(3000) // 300 % 2, logits.argmin(-1), logits.argmax(-1))
    plain, fast = Learner(network, settings), FastLearner(network, settings)
    bits = np.random.default_rng(1).random(3000) < 0.9
    for part in (slice(0, 1), slice(1, 200), slice(200, 1290), slice(1290, 3000)):
        assert (fast.learn(x[part], y[part], bits[part])
                == plain.learn(x[part], y[part], bits[part])).all()
        np.testing.assert_array_equal(fast.learned, plain.learned)
        assert not compare(plain.state, vars(fast.state))
        if part.start == 1:
            for learner in (plain, fast):
                learner.configure(settings)
    changes = np.diff(plain.learned[bits[part]].astype(int))
    assert (changes == 1).sum() >= 2 and (changes == -1).sum() >= 2


def test_held_at_the_ends(seed):
    network = small_network((12, 8, 4), (0, 1), {0: 4, 1: 2}, seed=seed, extreme=True)
    settings = Settings(layers=(0, 1), lr_shift=4, head_shift=3)
    assert lockstep(network, [(settings, 60)]).saturations


def test_wide_sums(seed):
    """Weights and inputs for which 32 bits are too few."""
    network = small_network((9, 6, 4), (0, 1), seed=seed, weight=Fixed(14, 12),
                            bias=Fixed(12, 6), source=Fixed(16, 12))
    fast = FastLearner(network, Settings(layers=(0, 1)))
    assert fast.deployed_network().digest() == network.digest()
    lockstep(network, [(Settings(layers=(0, 1), lr_shift=5, head_shift=5), 60)])


def test_digits(tmp_path):
    network, _ = example.prepare("digits", tmp_path, ["fc1", "fc3"])
    x, y = stream(load("digits"), "rotate:30", 300, 1)
    settings = Settings(layers=network.trainable)
    plain, fast = Learner(network, settings), FastLearner(network, settings)
    want = [plain.step(*one).argmax() for one in zip(x, y, strict=True)]
    # In two parts, between which everything must stay.
    assert [*fast.learn(x[:120], y[:120]), *fast.learn(x[120:], y[120:])] == want
    assert not compare(plain.state, vars(fast.state))
    assert plain.state.updates == 299


def test_refusals():
    network = small_network((8, 6, 4), (1,))
    with pytest.raises(ValueError, match="has rule 'np' alone, not 'es'"):
        FastLearner(network, Settings(rule="es", layers=(1,)))
    with pytest.raises(ValueError, match=r"layers \(0,\) are not all trainable"):
        FastLearner(network, Settings(layers=(0,)))
    with pytest.raises(ValueError, match="fc1: its formats need up to 67 bits"):
        FastLearner(small_network((8, 6, 4), (1,), source=Fixed(48, 8)), Settings())
    with pytest.raises(ValueError, match="inputs of 2 bits, .* do not go with 8 residual bits"):
        FastLearner(small_network((8, 4), (0,), source=Fixed(2, 1)), Settings(), 8)
    fast = FastLearner(network, Settings(layers=(1,)))
    with pytest.raises(ValueError, match=r"layers \(0, 1\) are not all trainable"):
        fast.configure(Settings(layers=(0, 1)))
    with pytest.raises(ValueError, match="label"):
        fast.learn(np.zeros((1, 8), int), [4])
    with pytest.raises(ValueError, match="256 is not a code of ufixed<8,0>"):
        fast.learn(np.full((1, 8), 256), [0])
    with pytest.raises(ValueError, match=r"samples have shape \(1, 7\), not \(n, 8\)"):
        fast.learn(np.zeros((1, 7), int), [0])

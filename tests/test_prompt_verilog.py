"""Lockstep: the Verilated core and the golden learner with an input prompt."""
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from firmware_models.cycles import CycleModel
from firmware_models.formats import Fixed
from firmware_models.journal import replay
from firmware_models.learner import Learner, compare
from firmware_models.settings import Settings
from hwgen.build import build
from sim.device import Device
from sim.verilate import lint

from .lockstep import lockstep
from .networks import samples, small_network

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
SETTINGS = Settings(rule="es", pairs=3, lr_shift=3, sigma_log2=4, seed=61)
CORES = {
    # name: network, residual, max_pairs, options
    "frozen first layer": (
        small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3}, source=Fixed(12, 12, False)), 4, 8,
        ("journal", "rank")),
    "all learn, one word": (
        small_network((6, 5, 4, 3), (0, 1, 2), {0: 1}, source=Fixed(5, 3), seed=2, extreme=True),
        0, 4, ("sparse", "rank1", "kernel", "vote", "sharp", "momentum", "sigma_decay",
               "rounding", "replay")),
    "alone": (small_network((7, 3), source=Fixed(1, 0, False), seed=3), 8, 3,
              ("load", "snapshot")),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        network, residual, max_pairs, options = CORES[name]
        return network.with_prompt(), residual, build(
            network, tmp_path_factory.mktemp("core"), residual=residual, rules=("es",),
            max_pairs=max_pairs, options=(*options, "prompt"))
    return get


@pytest.mark.parametrize("layers", [(3,), (1, 3), (1, 2, 3)], ids=str)
def test_it_learns(core, layers):
    """Alone, and with layers behind a first one that learns nothing."""
    learner = lockstep(core("frozen first layer"), (replace(SETTINGS, layers=layers, batch=2), 150),
                       learn_share=0.8, predict_share=0.1)
    assert np.abs(learner.deployed_network().prompt).max() > 4


def test_layers_in_turn(core):
    """What the prompt has learned stays while others learn, and is learned on from."""
    parts = [(replace(SETTINGS, layers=layers, pairs=1 + n % 4, lr_decay=n, seed=70 + n), 20)
             for n, layers in enumerate([(0, 3), (1,), (3,), (0, 1, 2, 3), (2,), (0,), (2, 3)])]
    lockstep(core("all learn, one word"), *parts, learn_share=0.7, predict_share=0.2)


@pytest.mark.parametrize("form", [
    {"sparse": "hash"}, {"sparse": "static", "rank1": True}, {"sparse": "biases"}, {"rank1": True},
    {"kernel": True}, {"vote": 1}, {"momentum": True}, {"sharp": 4}, {"rounding": "stochastic"},
    {"rounding": "replay", "lr_shift": 5},
    {"sharp": 1, "momentum": True, "sparse": "hash", "sigma_decay": True, "lr_decay": 9}], ids=str)
def test_forms_of_the_directions(core, form):
    """With the largest steps and noise, at the ends of the ranges."""
    settings = Settings(rule="es", layers=(0, 3), pairs=2, sigma_log2=7, seed=62,
                        **{"lr_shift": 0} | form)
    learner = lockstep(core("all learn, one word"), (settings, 40))
    # The static mask may leave nothing of a prompt this small.
    assert learner.deployed_network().prompt.any() or form.get("sparse") in ("static", "biases")
    if not form.get("vote"):
        assert learner.state.saturations > 0


def test_features_of_one_bit(core):
    settings = replace(SETTINGS, layers=(1,), lr_shift=1, sigma_log2=0)
    learner = lockstep(core("alone"), (settings, 60))
    assert learner.state.weights.keys() == {1}


def test_loaded_kept_and_restored(core):
    network, residual, manifest = core("alone")
    settings = replace(SETTINGS, layers=(1,), lr_shift=1)
    x, y = samples(network, 40)
    p = np.random.default_rng(1).integers(-2 << residual, 2 << residual, (1, 7))
    learner = Learner(network, settings, residual)
    with Device(manifest) as device:
        device.configure(settings)
        for both in (learner, device):
            both.load({1: p}, {1: [5]})
            both.snapshot()
            both.write_master(1, -3, 0, 6)
        assert device.predict(x, y).tolist() == learner.learn(x, y, learn=False).tolist()
        for _ in range(2):
            assert device.partial_fit(x, y).tolist() == learner.learn(x, y).tolist()
            assert compare(learner.state, device.state()) == ""
            assert (learner.state.weights[1] != p).any()
            learner.restore()
            device.restore()
            assert compare(learner.state, device.state()) == ""
            assert (learner.state.weights[1] == p).all()


def test_rebuilt_from_the_journal(core):
    network, residual, manifest = core("frozen first layer")
    x, y = samples(network, 60)
    with Device(manifest) as device:
        device.configure(replace(SETTINGS, layers=(2, 3)))
        device.partial_fit(x, y)
        state = device.state()
    weights, biases = replay(network, residual, state["records"])
    assert weights.keys() == {1, 2, 3} and len(state["records"]) == 180
    for index in weights:
        np.testing.assert_array_equal(weights[index], state["weights"][index])
        np.testing.assert_array_equal(biases[index], state["biases"][index])


@pytest.mark.parametrize("name", CORES)
def test_cycles(core, name):
    network, _, manifest = core(name)
    x, y = samples(network, 24)
    bits = np.random.default_rng(6).random(24) < 0.6
    prompt = len(network.stages)
    with Device(manifest) as device:
        for layers in {(prompt,), network.trainable[-2:], network.trainable, network.trainable[:1]}:
            settings = replace(SETTINGS, layers=layers, batch=2,
                               sharp=2 * ("sharp" in device.manifest["options"]))
            device.configure(settings)
            device.partial_fit(x, y, learn=bits)
            expected = CycleModel(network).run(24, settings, bits)
            start = device.in_cycles[0]
            np.testing.assert_array_equal(device.in_cycles - start, expected.in_cycles)
            np.testing.assert_array_equal(device.out_cycles - start, expected.out_cycles)
            device.state()              # settles


@pytest.mark.parametrize("name", CORES)
def test_lint(core, name):
    lint(core(name)[2].parent / "core.v", "core")

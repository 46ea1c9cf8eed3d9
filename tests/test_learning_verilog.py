"""Lockstep: after every update, the Verilated core and the golden learner hold the same state."""
import shutil
from functools import cache
from pathlib import Path

import pytest

from firmware_models.formats import Fixed
from firmware_models.learner import Learner, compare
from firmware_models.settings import Settings
from hwgen.build import build
from sim.device import Device

from .lockstep import lockstep
from .networks import samples, small_network

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
UPDATES = 300
CORES = {
    # name: network, residual, max_pairs, options if not those by default
    "two of three": (small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3}), 4, 16),
    "all, no residual": (small_network((6, 5, 4, 3), (0, 1, 2), {0: 2}, seed=2, extreme=True), 0,
                         4),
    "shaping": (small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3}), 4, 16,
                ("rank", "shaping")),
    "shaping alone": (small_network((6, 5, 4, 3), (0, 1, 2), {0: 2}, seed=2, extreme=True), 0, 5,
                      ("shaping",)),
    "votes": (small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3}), 4, 16, ("rank", "vote")),
    "votes, no residual": (small_network((6, 5, 4, 3), (0, 1, 2), {0: 2}, seed=2, extreme=True), 0,
                           5, ("vote",)),
    "votes, all residual": (small_network((5, 6, 3), (0, 1), {1: 1}, weight=Fixed(5, 3),
                                          bias=Fixed(7, 4), seed=3, extreme=True), 8, 3,
                            ("shaping", "vote")),
    "one pair": (small_network((5, 6, 3), (0, 1), {1: 1}, weight=Fixed(5, 3), bias=Fixed(7, 4),
                               seed=3, extreme=True), 8, 1),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        network, residual, max_pairs, options = (*CORES[name], None)[:4]
        folder: Path = tmp_path_factory.mktemp("core")
        return network, residual, build(network, folder, residual=residual, rules=("es",),
                                        max_pairs=max_pairs, options=options)
    return get


@pytest.mark.parametrize("settings", [
    Settings(rule="es", layers=(1, 2), pairs=4, fitness="sign", batch=2, lr_shift=4, seed=21),
    Settings(rule="es", layers=(1, 2), pairs=6, fitness="rank", lr_shift=5, lr_decay=40, seed=22),
    Settings(rule="es", layers=(2,), pairs=3, fitness="sign", lr_shift=3, sigma_log2=1, seed=23),
], ids=["es-sign", "es-rank", "qzo"])
def test_every_rule(core, settings):
    learner = lockstep(core("two of three"), (settings, UPDATES))
    start = Learner(learner.network, settings, learner.residual).state
    for index in settings.layers:
        assert (learner.state.weights[index] != start.weights[index]).any()


@pytest.mark.parametrize("settings", [
    Settings(rule="es", layers=(1, 2), pairs=6, fitness="zscore", batch=2, lr_shift=5, lr_decay=40,
             seed=41),
    Settings(rule="es", layers=(1, 2), pairs=5, fitness="best", lr_shift=3, seed=42),
], ids=["zscore", "best"])
def test_shaped_fitness(core, settings):
    learner = lockstep(core("shaping"), (settings, UPDATES))
    start = Learner(learner.network, settings, learner.residual).state
    for index in settings.layers:
        assert (learner.state.weights[index] != start.weights[index]).any()


def test_every_fitness_in_turn(core):
    """Largest steps and populations; what one fitness found out does not reach the next."""
    common = {"rule": "es", "layers": (0, 1, 2), "sigma_log2": 7, "seed": 43}
    parts = [Settings(**common, fitness=fitness, pairs=pairs, lr_shift=lr_shift)
             for fitness, pairs, lr_shift in (("zscore", 5, 0), ("sign", 1, 7), ("best", 5, 0),
                                              ("zscore", 1, 15), ("best", 1, 4), ("zscore", 3, 9))]
    learner = lockstep(core("shaping alone"), *[(settings, 20) for settings in parts],
                       predict_share=0.2)
    assert learner.state.saturations > 100


@pytest.mark.parametrize("settings", [
    Settings(rule="es", layers=(1, 2), pairs=6, vote=2, batch=2, seed=51),
    Settings(rule="es", layers=(1, 2), pairs=16, fitness="rank", vote=100, lr_shift=6, lr_decay=100,
             seed=52),
], ids=["sign", "rank"])
def test_votes(core, settings):
    learner = lockstep(core("votes"), (settings, UPDATES))
    start = Learner(learner.network, settings, learner.residual).state
    for index in settings.layers:
        moved = learner.state.weights[index] - start.weights[index]
        # Whole weight steps, but for those that met an end of the range.
        assert moved.any() and (moved % 16 == 0).mean() > 0.5


@pytest.mark.parametrize("name, fitness", [
    ("votes, no residual", "sign"), ("votes, all residual", "best")])
def test_votes_off_and_on(core, name, fitness):
    """Largest steps at the ends of the range; the highest threshold moves nothing."""
    common = {"rule": "es", "layers": core(name)[0].trainable, "pairs": 3, "fitness": fitness,
              "sigma_log2": 5, "seed": 53}
    parts = [Settings(**common, vote=vote, lr_shift=lr_shift)
             for vote, lr_shift in ((1, 7), (0, 0), (126, 0), (127, 0), (16383, 0), (1, 6))]
    learner = lockstep(core(name), *[(settings, 15) for settings in parts], predict_share=0.2)
    assert learner.state.saturations > 0


def test_largest_population(core):
    lockstep(core("two of three"),
             (Settings(rule="es", layers=(1, 2), pairs=16, batch=3, lr_shift=6, seed=24), 40))


def test_lower_layer_alone(core):
    """Probes pass through a trainable layer that they do not perturb."""
    lockstep(core("two of three"),
             (Settings(rule="es", layers=(1,), pairs=3, lr_shift=4, seed=25), 40))


@pytest.mark.parametrize("layers", [(0, 1, 2), (2,)])
def test_mixed_learn_bits(core, layers):
    lockstep(core("all, no residual"),
             (Settings(rule="es", layers=layers, pairs=3, batch=4, lr_shift=7, seed=26), 40),
             learn_share=0.4)


def test_all_layers_saturate(core):
    """No residual bits, weights at the ends of their range, the largest steps and probes."""
    learner = lockstep(core("all, no residual"), (Settings(
        rule="es", layers=(0, 1, 2), pairs=4, fitness="rank", sigma_log2=7, lr_shift=0,
        seed=27), 100))
    assert learner.state.saturations > 1000


@pytest.mark.parametrize("fitness", ["sign", "rank"])
def test_one_pair(core, fitness):
    """A rank among one pair is 0: the weights stay, and everything else goes on."""
    learner = lockstep(core("one pair"), (Settings(
        rule="es", layers=(0, 1), pairs=1, fitness=fitness, sigma_log2=4, lr_shift=0, seed=28), 60))
    moved = any((learner.state.weights[k] != Learner(learner.network, learner.settings, 8)
                 .state.weights[k]).any() for k in (0, 1))
    assert moved == (fitness == "sign")
    if moved:
        assert learner.state.saturations > 0


def test_settings_change_between_samples(core):
    """A new population and rate while the weights stay; inference alone now and then."""
    network, residual, manifest = core("two of three")
    x, y = samples(network, 60, seed=5)
    first = Settings(rule="es", layers=(1, 2), pairs=4, batch=4, lr_decay=2, seed=31)
    second = Settings(rule="es", layers=(2,), pairs=7, fitness="sign", lr_shift=3, seed=32)
    learner = Learner(network, first, residual)
    with Device(manifest) as device:
        device.configure(first)
        for n in range(60):
            if n == 30:                     # in the middle of a batch
                learner.configure(second)
                device.configure(second)
            learner.step(x[n], int(y[n]), learn=n % 7 != 0)
            run = device.partial_fit if n % 7 else device.predict
            run(x[n:n + 1], y[n:n + 1])
            assert compare(learner.state, device.state()) == "", f"step {n}"


def test_reset_at_any_cycle(core):
    """Weights are those of the last complete update, or the core says that they are not."""
    network, residual, manifest = core("two of three")
    x, y = samples(network, 1, seed=7)
    settings = Settings(rule="es", layers=(1, 2), pairs=2, fitness="sign", lr_shift=2, seed=33)
    learner = Learner(network, settings, residual)
    before = learner.state
    learner.step(x[0], int(y[0]))
    assert learner.state.deltas.any()

    def holds(device, state):
        got = device.state()
        return all((got[kind][k] == getattr(state, kind)[k]).all()
                   for kind in ("weights", "biases") for k in (1, 2))

    outcomes = set()
    for delay in range(0, 60):
        with Device(manifest) as device:
            device.configure(settings)
            device.partial_fit(x, y)
            for _ in range(delay):          # a read is a few cycles
                device.read("id")
            device.reset()
            torn = device.read("status")
            outcome = "torn" if torn else "old" if holds(device, before) else \
                "new" if holds(device, learner.state) else "wrong"
            outcomes.add(outcome)
            if torn:
                device.write("status", torn=1)
                assert device.read("status") == 0
            assert device.read("updates") == device.read("busy") == 0
    assert outcomes == {"old", "torn", "new"}

"""Lockstep of rule "np": the Verilated core and the golden learner hold the same state.

Streams of 1 to 12 samples overlap in the pipeline, under random pauses; all state is compared
after each of them.
"""
import shutil
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

from firmware_models.activation import Relu
from firmware_models.dense import trace
from firmware_models.formats import Fixed
from firmware_models.learner import Learner, compare
from firmware_models.sample_packets import LEARN, beat_layout, pack
from firmware_models.settings import Settings
from hwgen.build import build
from sim.device import Device

from .lockstep import lockstep
from .networks import activated, samples, slopes, small_network

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
# Activations that fill their format, for steps of weights are taken from their upper bits.
network = partial(small_network, hidden=Fixed(8, 6, False, "RND", "SAT"))
CORES = {
    # name: network, residual, rules
    "two of three": (network((12, 8, 6, 4), (0, 2), {0: 4, 1: 4, 2: 3}), 4, ("np",)),
    "all three": (network((10, 8, 6, 4), (0, 1, 2), {0: 5, 2: 2}, seed=2), 4, ("np",)),
    "one word": (network((6, 11, 4), (0, 1), {0: 1, 1: 1}, seed=3, extreme=True), 2,
                 ("np",)),
    # Drains of 5 words with 3 lanes, and of 7 with 1; the head stays.
    "odd": (network((9, 15, 7, 3), (0, 1), {0: 3, 1: 5, 2: 7}, seed=4), 0, ("np",)),
    "wide": (network((9, 70, 4), (0, 1), {1: 14}, seed=5), 8, ("np",)),
    # Slopes in the first; in the second, outputs of the ReLU that wrap to below 0 are active.
    "activations": (activated(network((12, 8, 6, 4), (0, 1, 2), {0: 4, 1: 4, 2: 3}), {
        0: [slopes("slopes", 8, Fixed(8, 6, True, "RND", "SAT"))],
        1: [Relu(name="wraps", n=6, result=Fixed(8, 7))]}), 4, ("np", "es")),
    "single layer": (network((11, 5), (0,), seed=6, source=Fixed(9, 4)), 3, ("np",)),
    "head alone": (network((12, 8, 6, 4), (2,), {0: 4, 2: 3}, seed=9), 4, ("np",)),
    "multipliers": (network((8, 9, 6, 4), (0, 2), {0: 4, 1: 3, 2: 3}, seed=8), 4, ("np",)),
    "both rules": (network((10, 8, 4), (0, 1), {0: 5, 1: 4}, seed=7), 4, ("es", "np")),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        net, residual, rules = CORES[name]
        return net, residual, build(net, tmp_path_factory.mktemp("core"),
                                    residual=residual, rules=rules, max_pairs=4,
                                    multipliers=name == "multipliers")
    return get


def moved(learner) -> set[int]:
    """Stages whose weights are not those of the start."""
    start = Learner(learner.network, learner.settings, learner.residual).state
    return {k for k in start.weights if (learner.state.weights[k] != start.weights[k]).any()}


def test_hidden_and_head(core):
    learner = lockstep(core("two of three"), (
        Settings(layers=(0, 2), probes=4, lr_shift=7, head_shift=6, seed=41), 300),
        predict_share=0.1)
    assert moved(learner) == {0, 2}
    # Of the samples learned from, all but the last have become an update.
    state = learner.state
    assert state.updates >= 300 and state.passes == state.samples + 4 * (state.updates + 1)


@pytest.mark.parametrize("layers, probes", [((2,), 0), ((0, 2), 0), ((0,), 7)],
                         ids=["head", "no probes", "hidden"])
def test_parts_of_it(core, layers, probes):
    learner = lockstep(core("two of three"), (
        Settings(layers=layers, probes=probes, lr_shift=5, head_shift=4, seed=42), 60),
        learn_share=0.7)
    assert moved(learner) == ({2} if not probes else set(layers))


@pytest.mark.parametrize("change", [
    {"turn": True}, {"turn": True, "layers": (1, 2)}, {"lr_decay": 7}, {"lr_decay": 1},
    {"skip": 300}, {"probes": 32}, {"probes": 1, "layers": (1,)}, {"sigma_log2": 7},
    {"sigma_log2": 0, "lr_shift": 0, "head_shift": 0}, {"lr_shift": 15, "head_shift": 12}], ids=str)
def test_settings(core, change):
    settings = Settings(**{"layers": (0, 1, 2), "probes": 3, "lr_shift": 6, "head_shift": 5,
                           "seed": 43} | change)
    learner = lockstep(core("all three"), (settings, 45), learn_share=0.8)
    if "lr_decay" in change:
        assert learner.state.decays == min(learner.state.updates // change["lr_decay"], 15)
    elif settings.lr_shift <= 6:
        assert moved(learner) == set(settings.layers)


@pytest.mark.parametrize("pauses", [True, False])
def test_one_word_passes(core, pauses):
    """Weights at the ends of their range are held there."""
    learner = lockstep(core("one word"), (
        Settings(layers=(0, 1), probes=2, lr_shift=3, head_shift=2, seed=44), 120), pauses=pauses)
    assert moved(learner) == {0, 1} and learner.state.saturations > 100


@pytest.mark.parametrize("name, layers", [
    ("odd", (0, 1)), ("odd", (1,)), ("wide", (0, 1)), ("single layer", (0,)),
    ("head alone", (2,)), ("multipliers", (0, 2))])
def test_shapes(core, name, layers):
    """Outputs that are no power of two; more than 32 of them; 0, 3 and 8 residual bits."""
    learner = lockstep(core(name), (
        Settings(layers=layers, probes=5, lr_shift=6, head_shift=5, seed=45), 40),
        learn_share=0.9, predict_share=0.1)
    assert moved(learner) == set(layers)


def test_activations(core):
    network, *_ = core("activations")
    outputs = trace(network, samples(network, 40)[0])["wraps"]
    assert (outputs < 0).any() and (outputs == 0).any()
    learner = lockstep(core("activations"), (
        Settings(layers=(0, 1, 2), probes=5, lr_shift=6, head_shift=5, seed=45), 60),
        (Settings(rule="es", layers=(0, 1, 2), pairs=3, seed=47), 6),
        learn_share=0.9, predict_share=0.1)
    assert moved(learner) == {0, 1, 2}


def test_rules_in_turn(core):
    by_nodes = Settings(layers=(0, 1), probes=4, lr_shift=6, head_shift=5, seed=46)
    by_weights = Settings(rule="es", layers=(0, 1), pairs=3, batch=2, lr_shift=4, lr_decay=4,
                          seed=47)
    learner = lockstep(
        core("both rules"), (by_nodes, 30), (by_weights, 6), (replace(by_nodes, seed=48), 30),
        (replace(by_weights, layers=(1,), pairs=4), 4), (replace(by_nodes, turn=True), 10),
        learn_share=0.8, predict_share=0.15)
    assert learner.state.updates >= 80


def test_configure_drops_what_is_pending(core):
    """Two updates are still to come when new settings arrive; weights and means stay."""
    settings = Settings(layers=(0, 1, 2), probes=4, lr_shift=4, head_shift=3, seed=49)
    lockstep(core("all three"), *[(replace(settings, seed=49 + n, turn=n % 2 == 1), 3)
                                  for n in range(12)])


@pytest.mark.parametrize("last", [{}, {"rule": "es", "pairs": 3}], ids=["np", "es"])
def test_registers_written_while_learning(core, last):
    """No answer is lost; and new settings give a core that is the golden one with its weights."""
    net, residual, manifest = core("both rules")
    x, y = samples(net, 120, seed=50)
    settings = Settings(layers=(0, 1), probes=6, lr_shift=6, head_shift=5, seed=51)
    changes = [("layers", {"value": 1}), ("probes", {"value": 0}), ("layers", {"value": 2}),
               ("sigma", {"value": 3}), ("probes", {"value": 32}), ("rule", {"np": 0}),
               ("skip", {"value": 100}), ("seed", {"value": 52}), ("layers", {"value": 3}),
               ("rule", {"np": 1, "turn": 1}), ("seed", {"value": 53}), ("seed", {"value": 54}),
               ("probes", {"value": 63}), ("pairs", {"value": 0}), ("rule", {"np": 0, "turn": 0}),
               ("rate", {"lr_shift": 4, "lr_decay": 1}), ("rule", {"np": 1})]
    learner = Learner(net, settings, residual)
    with Device(manifest, seed=50) as device:
        device.configure(settings)
        first = 0
        for n, (name, fields) in enumerate(changes):
            count = 1 + n % 7
            part = slice(first, first + count)
            assert len(device.partial_fit(x[part], y[part], stall=0.2 * (n % 3))) == count
            device.write(name, **fields)
            first += count
        # The means of the first stage are not known: from here on it does not learn.
        settings = replace(settings, layers=(1,), **last)
        device.configure(settings)
        state = device.state()
        assert state["samples"] == first and not state["errors"].any()
        learner.configure(settings)
        learner.state = replace(learner.state, **{k: state[k] for k in (
            "weights", "biases", "samples", "passes", "updates", "saturations", "loss",
            "loss_average")})
        assert compare(learner.state, state) == ""
        part = slice(first, first + 20)
        expected = [learner.step(row, int(label)).argmax()
                    for row, label in zip(x[part], y[part], strict=True)]
        assert device.partial_fit(x[part], y[part]).tolist() == expected
        assert compare(learner.state, device.state()) == ""


def test_single_settings_change_without_a_restart(core):
    """Written while nothing is learned from: they hold from the next sample on."""
    net, residual, manifest = core("all three")
    x, y = samples(net, 200, seed=55)
    settings = Settings(layers=(0, 1, 2), probes=4, lr_shift=6, head_shift=5, seed=56)
    learner = Learner(net, settings, residual)
    first = 0
    with Device(manifest, seed=55) as device:
        device.configure(settings)
        for n, (register, values, changed) in enumerate([
                ("probes", {"value": 2}, {"probes": 2}),
                ("layers", {"value": 3}, {"layers": (0, 1)}),
                ("rule", {"turn": 1}, {"turn": True}), ("skip", {"value": 200}, {"skip": 200}),
                ("sigma", {"value": 2}, {"sigma_log2": 2}),
                ("rate", {"lr_shift": 4, "head_shift": 3}, {"lr_shift": 4, "head_shift": 3}),
                ("layers", {"value": 0}, {"layers": ()}),
                ("layers", {"value": 4}, {"layers": (2,)}),
                ("probes", {"value": 32}, {"probes": 32}), ("rule", {"turn": 0}, {"turn": False}),
                ("layers", {"value": 7}, {"layers": (0, 1, 2)})]):
            part = slice(first, first + 2 + n)
            expected = [learner.step(row, int(label)).argmax()
                        for row, label in zip(x[part], y[part], strict=True)]
            assert device.partial_fit(x[part], y[part]).tolist() == expected
            assert compare(learner.state, device.state()) == "", f"before {register}"
            device.write(register, **values)
            learner.settings = replace(learner.settings, **changed)
            first = part.stop


def test_reset_at_any_cycle(core):
    """Weights are those of complete sweeps, or the core says that they are not."""
    net, residual, manifest = core("both rules")
    x, y = samples(net, 6, seed=57)
    settings = Settings(layers=(0, 1), probes=3, lr_shift=4, head_shift=3, seed=58)
    learner = Learner(net, settings, residual)
    for row, label in zip(x[:5], y[:5], strict=True):
        learner.step(row, int(label))
    before = learner.state
    learner.step(x[5], int(y[5]))
    beats = pack(x[5:], beat_layout(net)).ravel()

    def holds(device, state):
        got = device.state()
        return all((got[kind][k] == getattr(state, kind)[k]).all()
                   for kind in ("weights", "biases") for k in (0, 1))

    outcomes = []
    for silence in range(75):
        with Device(manifest) as device:
            device.configure(settings)
            device.partial_fit(x[:5], y[:5])
            while device.read("busy"):
                pass
            device.core.stream(beats, np.full(len(beats), y[5] + LEARN),
                               np.arange(len(beats)) == len(beats) - 1, 2, 0, 0, 1)
            device.core.run(2, 1 + silence)         # so long without a transfer
            device.reset()
            torn = device.read("status")
            outcomes.append("torn" if torn else "old" if holds(device, before) else
                            "new" if holds(device, learner.state) else "wrong")
            if torn:
                device.write("status", torn=1)
                assert device.read("status") == 0
            assert device.read("updates") == device.read("busy") == 0
    assert not holds_same(before, learner.state)
    assert sorted(set(outcomes)) == ["new", "old", "torn"]
    assert outcomes == sorted(outcomes, key=["old", "torn", "new"].index)


def holds_same(one, other) -> bool:
    return all((one.weights[k] == other.weights[k]).all() for k in one.weights)


def test_reset_forgets_all_but_the_memories(core):
    """After a reset, or new settings, the core is a new one with the weights it had."""
    net, residual, manifest = core("two of three")
    x, y = samples(net, 60, seed=59)
    settings = Settings(layers=(0, 2), probes=4, lr_shift=6, head_shift=5, seed=60)
    learner = Learner(net, settings, residual)
    with Device(manifest) as device:
        for part in (slice(0, 20), slice(20, 21), slice(21, 60)):
            device.configure(settings)
            learner.configure(settings)
            learner.state = replace(learner.state, samples=0, passes=0, updates=0, saturations=0,
                                    loss=0, loss_average=0)
            expected = [learner.step(row, int(label)).argmax()
                        for row, label in zip(x[part], y[part], strict=True)]
            assert device.partial_fit(x[part], y[part]).tolist() == expected
            assert compare(learner.state, device.state()) == ""
            device.reset()
            assert device.read("status") == 0

"""Lockstep around masters that the host writes: whole layers, and single bits of single weights."""
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from firmware_models.formats import Fixed
from firmware_models.learner import Learner, compare
from firmware_models.settings import Settings
from firmware_models.window_load import masters
from hwgen.build import build
from sim.device import Device
from sim.errors import SimulationError
from sim.runner import run_bench

from .networks import samples, small_network
from .test_window_load import WRONG, WRONG_ELEMENTS

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
HIDDEN = Fixed(8, 6, False, "RND", "SAT")
NP = Settings(layers=(0, 2), probes=3, lr_shift=6, head_shift=5, seed=61)
ES = Settings(rule="es", layers=(0, 2), pairs=3, batch=3, lr_shift=4, seed=62)
CORES = {
    # name: network, residual, rules
    "both": (small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3}, hidden=HIDDEN), 4,
             ("es", "np")),
    "one word": (small_network((6, 11, 4), (0, 1), {0: 1, 1: 1}, seed=3, hidden=HIDDEN), 0,
                 ("np",)),
    "first": (small_network((4, 3, 2), (0,)), 4, ("es",)),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    @cache
    def get(name) -> tuple:
        network, residual, rules = CORES[name]
        return network, residual, build(network, tmp_path_factory.mktemp("core"), rules=rules,
                                        residual=residual, max_pairs=4, options=("load",))
    return get


def draw(rng, learner) -> tuple[dict, dict]:
    """Masters of some stages, of the whole range."""
    given = {"weights": {}, "biases": {}}
    for index, kinds in learner.masters().items():
        for kind, of in kinds.items():
            if rng.random() < 0.5:
                low = -(1 << of.width - 1)
                given[kind][index] = rng.integers(low, -low, of.shape)
    return given["weights"], given["biases"]


def flip(rng, learner) -> tuple:
    """A bit of one stored master flips: arguments of write_master."""
    index = int(rng.choice(learner.network.trainable))
    kind = str(rng.choice(["weights", "biases"]))
    of = learner.masters()[index][kind]
    at = tuple(int(rng.integers(size)) for size in of.shape)
    value = int(getattr(learner.state, kind)[index][at]) ^ (1 << int(rng.integers(of.width)))
    sign = 1 << of.width - 1
    return index, ((value & 2 * sign - 1) ^ sign) - sign, *at


def run(core, *parts, rounds: int = 25) -> Learner:
    """Streams with idle and stall pauses, and writes between them; all state after each of both.

    A write comes while the last samples are still being learned from.
    """
    network, residual, manifest = core
    x, y = samples(network, 300, seed=9)
    rng = np.random.default_rng(parts[0].seed)
    with Device(manifest, seed=1) as device:
        learner = Learner(network, parts[0], residual)
        for settings in parts:
            learner.configure(settings)
            device.configure(settings)
            for n in range(rounds):
                rows = rng.integers(0, len(x), rng.integers(1, 9))
                bits = rng.random(len(rows)) < 0.8
                idle, stall = rng.choice([0, 0.3, 0.8], 2)
                got = device.partial_fit(x[rows], y[rows], learn=bits, idle=idle, stall=stall)
                expected = [learner.step(x[k], int(y[k]), bool(bit)).argmax()
                            for k, bit in zip(rows, bits, strict=True)]
                assert got.tolist() == expected, f"round {n}"
                if n % 3 == 0:
                    given = draw(rng, learner)
                    learner.load(*given)
                    device.load(*given)
                elif n % 3 == 1:
                    for _ in range(rng.integers(1, 5)):
                        change = flip(rng, learner)
                        learner.write_master(*change)
                        device.write_master(*change)
                assert compare(learner.state, device.state()) == "", f"round {n}"
        assert device.read("status") == 0
    return learner


@pytest.mark.parametrize("settings", [
    (NP,), (ES,), (NP, ES, replace(NP, seed=63, turn=True))], ids=["np", "es", "both"])
def test_lockstep(core, settings):
    learner = run(core("both"), *settings)
    assert learner.state.updates > 15 * len(settings)


def test_one_word(core):
    """Words that hold a whole layer; no residual bits."""
    run(core("one word"), replace(NP, layers=(0, 1)), rounds=12)


@pytest.mark.parametrize("settings", [NP, ES], ids=["np", "es"])
def test_write_waits_for_learning(core, settings):
    """Written right behind a stream, without a look at `busy`: it is the last thing to happen."""
    network, residual, manifest = core("both")
    x, y = samples(network, 40, seed=12)
    rng = np.random.default_rng(12)
    learner = Learner(network, settings, residual)
    with Device(manifest, seed=12) as device:
        device.configure(settings)
        busy = 0
        for n in range(10):
            part = slice(4 * n, 4 * n + 3)
            device.partial_fit(x[part], y[part])
            learner.learn(x[part], y[part])
            index, value, *at = flip(rng, learner)
            kind = "weights" if len(at) == 2 else "biases"
            word, lane = (int(a[tuple(at)]) for a in learner.masters()[index][kind].points())
            busy += device.read("busy")
            points = device._points(index, np.array([word]), np.array([lane]))
            # The upper bits of the word that is written do not count.
            width = learner.masters()[index][kind].width
            device.core.poke(*points, np.array([value ^ 1 << width]))
            learner.write_master(index, value, *at)
            assert compare(learner.state, device.state()) == "", f"write {n}"
        assert busy


def test_power_up_and_back(core):
    """Weights of a core go to a new one, which then is the golden one with these weights."""
    network, residual, manifest = core("both")
    x, y = samples(network, 60, seed=13)
    learner = Learner(network, NP, residual)
    learner.learn(x, y)
    kept = learner.state
    with Device(manifest) as device:
        device.load(kept.weights, kept.biases)
        assert (device.predict(x) == learner.predict(x)).all()
        state = device.state()
        for kind in ("weights", "biases"):
            for index in network.trainable:
                np.testing.assert_array_equal(state[kind][index], getattr(kept, kind)[index])


def test_refused(core):
    """By the device, before anything is written; and by the registers."""
    network, _, manifest = core("first")
    with Device(manifest) as device:
        device.configure(replace(ES, layers=(0,)))
        before = device.state()
        for given, message in WRONG:
            with pytest.raises(ValueError, match=message):
                device.load(*given)
        for element, message in WRONG_ELEMENTS:
            with pytest.raises(ValueError, match=message):
                device.write_master(*element)
        stage = network.stages[0]
        lanes, words = stage.dense.lanes, stage.dense.reuse_factor
        for space, word, lane in [(1, 0, 0), (15, 0, 0), (14, 0, 0), (0, 0, lanes),
                                  (0, words, stage.drain_lanes),
                                  (0, words + stage.drain_words, 0)]:
            device.write("window", space=space, word=word, lane=lane)
            with pytest.raises(SimulationError, match="writing window_data: SLVERR"):
                device.write("window_data", value=3)
        assert {k: str(v) for k, v in before.items()} == {
            k: str(v) for k, v in device.state().items()}


def test_without_the_option(tmp_path):
    network = small_network((4, 3, 2), (0,))
    with Device(build(network, tmp_path)) as device:
        with pytest.raises(ValueError, match="built without option load"):
            device.load({}, {})
        with pytest.raises(ValueError, match="built without option load"):
            device.write_master(0, 1, 0)
        with pytest.raises(SimulationError, match="writing window_data: SLVERR"):
            device.write("window_data", value=3)


@pytest.mark.parametrize("settings", [NP, ES], ids=["np", "es"])
def test_bench(tmp_path, cocotb_run, settings):
    """The same over AXI4-Lite as others model it, while the streams pause."""
    network, residual, _ = CORES["both"]
    manifest = build(network, tmp_path, residual=residual, rules=(settings.rule,), max_pairs=4,
                     options=("load",))
    assert run_bench(manifest, "sim.core", data={"network": network, "settings": settings},
                     only="loads", **cocotb_run) == 2


def test_one_name_for_both_sides(core):
    """What the device takes from the manifest is what the learner takes from the network."""
    for name in CORES:
        network, residual, manifest = core(name)
        with Device(manifest) as device:
            assert device._loadable() == Learner(
                network, Settings(rule="es"), residual).masters()
    assert masters("a", 2, 3, 3, 2, 8, 8)["weights"].shape == (2, 3)

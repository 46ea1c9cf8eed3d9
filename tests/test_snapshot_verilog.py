"""Lockstep around snapshots: learn, take, learn on, restore, learn on."""
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from firmware_models.learner import Learner, compare
from hwgen.build import build
from sim.device import Device
from sim.runner import run_bench

from .networks import samples, small_network
from .test_window_load_verilog import ES, HIDDEN, NP

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
SLVERR = 2
CORES = {
    # name: network, residual, rules, options
    "both": (small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3}, hidden=HIDDEN), 4,
             ("es", "np"), ("load", "snapshot")),
    "one word": (small_network((6, 11, 4), (0, 1), {0: 1, 1: 1}, seed=3, hidden=HIDDEN), 0,
                 ("np",), ("snapshot",)),
    "many words": (small_network((40, 5, 3), (0, 1), seed=4, hidden=HIDDEN), 8, ("es",),
                   ("snapshot",)),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    @cache
    def get(name) -> tuple:
        network, residual, rules, options = CORES[name]
        return network, residual, build(network, tmp_path_factory.mktemp("core"), rules=rules,
                                        residual=residual, max_pairs=4, options=options)
    return get


def run(core, *parts, rounds: int = 16) -> None:
    """Streams with pauses; between them takes, and restores with and without a restart."""
    network, residual, manifest = core
    x, y = samples(network, 300, seed=14)
    rng = np.random.default_rng(parts[0].seed)
    with Device(manifest, seed=2) as device:
        learner = Learner(network, parts[0], residual)
        with pytest.raises(ValueError, match="no snapshot was taken"):
            device.restore()
        device.write("snapshot", restore=1)             # without one: dropped
        for settings in parts:
            learner.configure(settings)
            device.configure(settings)
            for n in range(rounds):
                rows = rng.integers(0, len(x), rng.integers(3, 9))
                idle, stall = rng.choice([0, 0.3, 0.8], 2)
                expected = learner.learn(x[rows], y[rows])
                got = device.partial_fit(x[rows], y[rows], idle=idle, stall=stall)
                assert got.tolist() == expected.tolist(), f"round {n}"
                if n % 4 == 0:
                    learner.snapshot()
                    device.snapshot()
                elif n % 4 > 1:
                    before = learner.state
                    for side in (learner, device):
                        side.restore(restart=n % 8 < 4)
                    assert any((before.weights[i] != learner.state.weights[i]).any()
                               for i in before.weights)
                assert compare(learner.state, device.state()) == "", f"round {n}"
        assert device.read("status") == device.read("busy") == 0


@pytest.mark.parametrize("settings", [
    (NP,), (ES,), (NP, ES, replace(NP, seed=65))], ids=["np", "es", "both"])
def test_lockstep(core, settings):
    run(core("both"), *settings)


def test_one_word(core):
    run(core("one word"), replace(NP, layers=(0, 1), lr_shift=3, head_shift=2), rounds=8)


def test_many_words(core):
    run(core("many words"), replace(ES, layers=(0, 1), batch=1), rounds=8)


@pytest.mark.parametrize("settings", [NP, ES], ids=["np", "es"])
def test_asked_for_while_learning(core, settings):
    """Right behind a stream, and with a load right behind it: all in the order in which it came."""
    network, residual, manifest = core("both")
    x, y = samples(network, 40, seed=15)
    learner = Learner(network, settings, residual)
    with Device(manifest, seed=15) as device:
        device.configure(settings)
        for n, what in enumerate(["take", "restore"] * 5):
            part = slice(4 * n, 4 * n + 4)
            learner.learn(x[part], y[part])
            device.partial_fit(x[part], y[part])
            device.write("snapshot", **{what: 1})
            point = learner.masters()[0]["weights"].points()
            device.core.poke(*device._points(0, point[0][3, :1], point[1][3, :1]), [n - 7])
            learner.snapshot() if what == "take" else learner.restore(restart=False)
            learner.write_master(0, n - 7, 3, 0)
            assert compare(learner.state, device.state()) == "", what


def test_reset_at_any_cycle(core):
    """A restore is done, or not begun, or said to be torn; a take is done, or there is none."""
    network, residual, manifest = core("many words")
    x, y = samples(network, 4, seed=16)
    settings = replace(ES, layers=(0, 1), batch=1)
    learner = Learner(network, settings, residual)
    start = learner.state
    learner.learn(x, y)

    def holds(device, state):
        got = device.state()
        return all((got[kind][k] == getattr(state, kind)[k]).all()
                   for kind in ("weights", "biases") for k in (0, 1))

    outcomes = {"take": [], "restore": []}
    for what, found in outcomes.items():
        for delay in range(0, 52, 3):
            with Device(manifest) as device:
                device.configure(settings)
                if what == "restore":
                    device.snapshot()
                device.partial_fit(x, y)
                device._settle()
                device.write("snapshot", **{what: 1})
                device.core.idle(delay)
                device.reset()
                torn, valid = device.read("status"), device.read("snapshot", "valid")
                if what == "take":
                    found.append("valid" if valid else "none")
                    assert not torn and holds(device, learner.state)
                    if valid:
                        device.configure(settings)
                        device.partial_fit(x, y)
                        device.restore()
                        assert holds(device, learner.state)
                else:
                    assert valid
                    found.append("torn" if torn else "old" if holds(device, learner.state) else
                                 "new" if holds(device, start) else "wrong")
                    if torn:                # the snapshot is still whole
                        device.write("status", torn=1)
                        assert device.read("status") == 0
                        device.restore()
                        assert holds(device, start)
    assert sorted(set(outcomes["take"])) == ["none", "valid"]
    assert outcomes["take"] == sorted(outcomes["take"])
    assert set(outcomes["restore"]) >= {"torn", "new"} and "wrong" not in outcomes["restore"]


def test_forget_and_options(core, tmp_path):
    network, _, manifest = core("one word")
    with Device(manifest) as device:
        device.snapshot()
        assert device.read("snapshot") == {"take": 0, "restore": 0, "valid": 1}
        device.reset()
        assert device.read("snapshot", "valid") == 1
        device.write("snapshot", valid=1)
        with pytest.raises(ValueError, match="no snapshot was taken"):
            device.restore()
        with pytest.raises(ValueError, match="built without option load"):
            device.load({}, {})
    with Device(build(network, tmp_path)) as device:
        for call in (device.snapshot, device.restore):
            with pytest.raises(ValueError, match="built without option snapshot"):
                call()
        assert device.core.write(0x70, 1) == SLVERR


@pytest.mark.parametrize("settings", [NP, ES], ids=["np", "es"])
def test_bench(tmp_path, cocotb_run, settings):
    """In the middle of streams that pause, over AXI4-Lite as others model it."""
    network, residual, *_ = CORES["both"]
    manifest = build(network, tmp_path, residual=residual, rules=(settings.rule,), max_pairs=4,
                     options=("snapshot",))
    assert run_bench(manifest, "sim.core", data={"network": network, "settings": settings},
                     only="snapshots", **cocotb_run) == 2

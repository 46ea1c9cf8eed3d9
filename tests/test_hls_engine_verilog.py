"""The core around an HLS core in lockstep: hls4ml's C++ infers behind the ports of its module."""
import json
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from firmware_models import dense
from firmware_models.activation import Lookup
from firmware_models.formats import Fixed
from firmware_models.learner import Learner
from firmware_models.settings import Settings
from hwgen import report
from hwgen.build import build
from hwgen.errors import HwgenError
from hwgen.frontend import around_hls, from_layers, lower
from hwgen.frontend.quiet import quiet
from hwgen.frontend.tables import entries
from sim.device import Device
from sim.errors import SimulationError
from sim.runner import run_bench
from sim.verilate import lint

from .frontends import spec_of
from .lockstep import lockstep
from .networks import HIDDEN, activated, samples, slopes, small_network
from .test_backend import convert
from .test_branches import network as branches

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
UPDATES = 150
TABLE = Fixed(12, 10)
CORES = {
    # name: network, residual bits, options
    "frozen between": (small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3}), 4,
                       ("rank", "sparse")),
    "head": (small_network((9, 6, 3), (1,), {1: 2}), 0, ("rank",)),
    "all, every option": (small_network((6, 5, 4, 3), (0, 1, 2), {0: 2}, seed=2, extreme=True), 4,
                          ("rank", "shaping", "vote", "sparse", "rank1", "kernel", "sigma_decay",
                           "momentum", "rounding", "replay", "load", "snapshot", "drift")),
    "journal": (small_network((5, 6, 3), (0, 1), seed=3), 8, ("journal",)),
    "activations": (activated(small_network((8, 6, 5, 3), (0, 1, 2), seed=4), {
        0: (slopes("slopes", 6),),
        1: (Lookup(name="sigmoid", n=5, result=HIDDEN, function="sigmoid", size=128, table=TABLE,
                   table_codes=entries("sigmoid", 128, TABLE)),)}), 4, ()),
    "branches": (branches("parallel"), 4, ("rank",)),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        network, residual, options = CORES[name]
        folder = tmp_path_factory.mktemp("hls")
        trainable = [network.stages[i].dense.name for i in network.trainable]
        return network, residual, around_hls(
            from_layers(spec_of(network), folder), folder / "core", trainable, rules=("es",),
            residual=residual, max_pairs=6, options=options)
    return get


@pytest.mark.parametrize("settings", [
    Settings(rule="es", layers=(0, 2), pairs=4, fitness="sign", batch=2, lr_shift=4, seed=21),
    Settings(rule="es", layers=(0, 2), pairs=6, fitness="rank", lr_shift=5, lr_decay=40, seed=22),
    Settings(rule="es", layers=(0, 2), pairs=1, lr_shift=3, sigma_log2=0, seed=23),
    Settings(rule="es", layers=(2,), pairs=3, lr_shift=3, sparse="hash", seed=24),
    Settings(rule="es", layers=(0,), pairs=2, batch=3, lr_shift=2, sparse="static", seed=25),
], ids=["sign", "rank", "qzo", "head", "first"])
def test_lockstep(core, settings):
    """Golden learner and core hold the same state after every update."""
    learner = lockstep(core("frozen between"), (settings, UPDATES), learn_share=0.8,
                       predict_share=0.2)
    for index in settings.layers:
        start = learner.network.stages[index].dense.weight_codes
        assert (learner.deployed_network().stages[index].dense.weight_codes != start).any()


def test_branches(core):
    """Of other layers than those of the stage before, in an order of our own."""
    settings = Settings(rule="es", layers=(0, 1, 2), pairs=2, lr_shift=3, seed=26)
    learner = lockstep(core("branches"), (settings, 30), (replace(settings, layers=(1,)), 10))
    assert learner.state.passes > 0


def test_head_alone(core):
    """A vector that is longer than all weights; no residual bits."""
    lockstep(core("head"),
             (Settings(rule="es", layers=(1,), pairs=6, fitness="rank", lr_shift=1, seed=3), 100),
             (Settings(rule="es", layers=(1,), pairs=2, batch=4, lr_shift=0, sigma_log2=5, seed=4),
              50))


def test_options_in_turn(core):
    common = {"rule": "es", "layers": (0, 1, 2), "lr_shift": 4, "seed": 31}
    forms = [{"fitness": "rank", "pairs": 3, "sparse": "hash", "rank1": True},
             {"fitness": "best", "pairs": 6, "kernel": True, "vote": 40, "layers": (1, 2)},
             {"pairs": 2, "momentum": True, "sparse": "static"},
             {"pairs": 5, "fitness": "zscore", "rounding": "stochastic", "batch": 2},
             {"pairs": 1, "rounding": "replay", "sigma_decay": True, "lr_decay": 5,
              "sigma_log2": 6},
             {"pairs": 4, "sparse": "biases", "sigma_log2": 7, "lr_shift": 0}]
    lockstep(core("all, every option"), *[(Settings(**common | form), 25) for form in forms])


def test_journal(core):
    lockstep(core("journal"),
             (Settings(rule="es", layers=(0, 1), pairs=3, lr_shift=3, seed=5), 60))


def test_activations(core):
    """They lie between layers that learn: all of them learn through the tables of the C++."""
    learner = lockstep(core("activations"),
                       (Settings(rule="es", layers=(0, 1, 2), pairs=6, lr_shift=2, seed=6), 60))
    start = CORES["activations"][0]
    for now, before in zip(learner.deployed_network().stages, start.stages, strict=True):
        assert (now.dense.weight_codes != before.dense.weight_codes).any()


def test_under_cocotb(core, cocotb_run):
    """The bench of every core, with bus models written by others."""
    network, _, manifest = core("frozen between")
    settings = Settings(rule="es", layers=(0, 2), pairs=3, batch=2, lr_shift=3, seed=7)
    assert run_bench(manifest, "sim.core", data={"network": network, "settings": settings},
                     **cocotb_run) == 9


def test_equals_the_native_core(core, tmp_path):
    """Logits, and all state after each stream, are those of the core with engines of our own."""
    network, residual, manifest = core("frozen between")
    native = build(network, tmp_path, rules=("es",), residual=residual, max_pairs=6,
                   options=CORES["frozen between"][2])
    settings = Settings(rule="es", layers=(0, 2), pairs=4, fitness="rank", batch=2, lr_shift=4)
    x, y = samples(network, 120, seed=8)
    with Device(manifest) as around, Device(native) as plain:
        for device in (around, plain):
            np.testing.assert_array_equal(device.logits(x, y), dense.forward(network, x))
            device.configure(settings)
        for part in np.array_split(np.arange(120), 10):
            got = [device.partial_fit(x[part], y[part], idle=0.2, stall=0.3)
                   for device in (around, plain)]
            np.testing.assert_array_equal(*got)
            states = [device.state() for device in (around, plain)]
            assert states[0].keys() == states[1].keys()
            for name, value in states[1].items():
                np.testing.assert_equal(states[0][name], value, name)
        assert states[1]["updates"] == 60


def test_reset_at_any_time(core):
    """Weights are those of the last complete update, or the core says that they are not; and the
    passes after it are right, though the HLS core may have been cut off in the middle of one.
    """
    network, residual, manifest = core("frozen between")
    x, y = samples(network, 3, seed=7)
    settings = Settings(rule="es", layers=(0, 2), pairs=2, lr_shift=2, seed=33)
    learner = Learner(network, settings, residual)
    states = {"old": learner.deployed_network()}
    learner.step(x[0], int(y[0]))
    states["new"] = learner.deployed_network()
    outcomes = set()
    for delay in range(0, 160, 2):
        with Device(manifest) as device:
            device.configure(settings)
            device.partial_fit(x[:1], y[:1])
            for _ in range(delay):              # a read is a few cycles
                device.read("id")
            device.reset()
            assert device.read("updates") == device.read("busy") == 0
            if device.read("status", "torn"):
                outcomes.add("torn")
                continue
            logits = device.logits(x)
            outcomes.add(next(name for name, state in states.items()
                              if (logits == dense.forward(state, x)).all()))
    assert outcomes == {"old", "torn", "new"}


def test_lint(core):
    """Beside a module of these ports, the core's Verilog passes as every other core's."""
    _, _, manifest = core("frozen between")
    hls = json.loads(manifest.read_text())["hls"]
    ports = ", ".join(f"{'input' if way == 'i' else 'output'} [{width - 1}:0] {port}"
                      for port, (way, width) in hls["ports"].items())
    both = manifest.parent / "both.v"
    both.write_text("/* verilator lint_off UNDRIVEN */\n"
                    f"module {hls['name']}({ports}); endmodule\n"
                    "/* verilator lint_on UNDRIVEN */\n" + (manifest.parent / "core.v").read_text())
    lint(both, "core")


def test_from_the_configuration(tmp_path):
    """Back end Hwgen: conversion to learning, with hls4ml's own predictions before it."""
    with quiet(tmp_path):
        graph = convert(tmp_path, (8, 6, 5, 4), ("fc2",), Learning={
            "Rules": ["es"], "Engine": "hls", "MaxPairs": 2, "Options": []})
        manifest = graph.config.backend.manifest(graph)
        graph.compile()
        x = np.random.default_rng(1).normal(size=(60, 8)) * 4
        expected = graph.predict(x, engine="golden")
        for engine in ("cpp", "rtl"):
            np.testing.assert_array_equal(graph.predict(x, engine=engine), expected, engine)
        lockstep((lower(graph), 4, manifest), (Settings(rule="es", layers=(1,), pairs=2), 20))
        with pytest.raises(HwgenError, match="engine hls: Vitis HLS synthesizes the layers, and"):
            graph.build(vitis=False)


def test_refusals(core, tmp_path):
    with quiet(tmp_path):
        with pytest.raises(HwgenError, match="unknown engine 'vitis'; there are dense, hls"):
            convert(tmp_path / "a", (8, 6, 4), ("fc1",), Learning={"Engine": "vitis"})
        graph = convert(tmp_path / "b", (8, 6, 4), ("fc1",), Learning={"Engine": "hls"})
        with pytest.raises(HwgenError, match="with engine hls use rule es"):
            graph.config.backend.manifest(graph)
        graph = convert(tmp_path / "c", (8, 6, 4), ("fc1",), BramFactor=1, Learning={
            "Engine": "hls", "Rules": ["es"]})
        with pytest.raises(HwgenError, match="b4, w4: arguments of the top function, and no layer"):
            graph.config.backend.manifest(graph)
    with pytest.raises(HwgenError, match="myproject is a module that only Vitis HLS can make"):
        report.synthesize(core("frozen between")[2])
    folder = tmp_path / "moved"
    shutil.copytree(core("frozen between")[2].parent, folder)
    with pytest.raises(SimulationError, match="myproject.cpp is not there; write hls4ml's"):
        Device(folder / "manifest.json")

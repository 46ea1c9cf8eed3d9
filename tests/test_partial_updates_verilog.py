"""Lockstep of options topk and standardize: the Verilated core and the golden learner agree."""
import shutil
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

from firmware_models.formats import Fixed
from firmware_models.learner import Learner, compare
from firmware_models.line_rate_cycles import interval, schedule
from firmware_models.settings import Settings
from hwgen.build import build
from hwgen.errors import HwgenError
from sim.device import Device

from .lockstep import lockstep
from .networks import samples, small_network

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
network = partial(small_network, hidden=Fixed(8, 6, False, "RND", "SAT"))
BOTH = ("topk", "standardize")
CORES = {
    # name: network, arguments of build
    "topk": (network((12, 8, 6, 5), (0, 2), {0: 4, 2: 3}), {"options": ("topk",)}),
    "standardize": (network((12, 8, 6, 5), (2,), {0: 4, 2: 3}, seed=2),
                    {"options": ("standardize",)}),
    "both": (network((10, 8, 10), (0, 1), {0: 5, 1: 4}, seed=3), {"options": BOTH}),
    "single layer": (network((11, 3), (0,), seed=4), {"options": BOTH, "residual": 3}),
    "two classes": (network((8, 6, 2), (1,), seed=5), {"options": BOTH, "multipliers": True}),
    "both rules": (network((10, 8, 4), (0, 1), {0: 5, 1: 4}, seed=6),
                   {"options": (*BOTH, "drift", "snapshot"), "rules": ("es", "np")}),
}
DELTA = {"probes": 0, "head_shift": 5}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        net, given = CORES[name]
        return net, given.get("residual", 4), build(net, tmp_path_factory.mktemp("core"),
                                                    max_pairs=4, **given)
    return get


@pytest.mark.parametrize("name, settings", [
    ("topk", {"layers": (2,), "lmin": 26, **DELTA}),
    ("topk", {"layers": (0, 2), "lmin": 64, "lmax": 200, "probes": 3, "head_shift": 4,
              "lr_shift": 6}),
    ("topk", {"layers": (2,), "lmin": 0, "lmax": 0, **DELTA}),
    ("topk", {"layers": (2,), "lmin": 26, "skip": 300, **DELTA}),
    ("standardize", {"layers": (2,), "standardize": 16, **DELTA, "head_shift": 8}),
    ("standardize", {"layers": (2,), "standardize": 1, **DELTA, "head_shift": 9}),
    ("both", {"layers": (0, 1), "probes": 2, "lmin": 0, "standardize": 8, "head_shift": 7}),
    ("single layer", {"layers": (0,), "lmin": 100, "lmax": 255, "standardize": 20, **DELTA}),
    ("two classes", {"layers": (1,), "lmin": 1, **DELTA}),
    ("two classes", {"layers": (1,), "lmin": 0, "standardize": 256, **DELTA}),
], ids=str)
def test_lockstep(core, name, settings):
    """Both options change what is learned, and the core does what the model says."""
    learner = lockstep(core(name), (Settings(**settings, seed=71), 80), learn_share=0.9,
                       predict_share=0.1)
    plain = Learner(learner.network, replace(learner.settings, lmin=256, lmax=256, standardize=0),
                    learner.residual, learner.coefficient_bits)
    x, y = samples(learner.network, 80, seed=71)
    alike = Learner(learner.network, learner.settings, learner.residual, learner.coefficient_bits)
    for one in (plain, alike):
        one.learn(x, y)
    assert compare(plain.state, vars(alike.state))
    assert (learner.state.error_max > 0) == (learner.settings.lmin < 256)


def test_settings_in_turn(core):
    """The largest error starts over with new settings, and stays where nothing is selected."""
    by_delta = Settings(layers=(1,), lmin=26, standardize=4, seed=72, **DELTA)
    by_weights = Settings(rule="es", layers=(0, 1), pairs=3, seed=73)
    lockstep(core("both rules"), (by_delta, 30), (by_weights, 4),
             (replace(by_delta, lmin=256, standardize=0), 20),
             (replace(by_delta, lmin=0, layers=(0, 1), probes=3, seed=74), 20),
             (replace(by_delta, start=100, stop=50), 5), predict_share=0.1)


def test_registers(core):
    """Both options are off after reset; shares beyond 256 count as 256; each alone changes."""
    net, residual, manifest = core("both rules")
    x, y = samples(net, 100, seed=75)
    settings = Settings(layers=(1,), seed=76, **DELTA)
    learner, first = Learner(net, settings, residual), 0
    with Device(manifest, seed=75) as device:
        assert device.read("topk") == {"lmin": 256, "lmax": 256}
        assert device.read("standardize") == device.read("error_max") == 0
        device.configure(settings)
        for register, values, changed in [
                ("topk", {"lmin": 511, "lmax": 0}, {"lmin": 256}),
                ("topk", {"lmin": 10, "lmax": 400}, {"lmin": 10}),
                ("standardize", {"value": 30}, {"standardize": 30}),
                ("topk", {"lmin": 0, "lmax": 128}, {"lmin": 0, "lmax": 128}),
                ("standardize", {"value": 0}, {"standardize": 0})]:
            device.write(register, **values)
            learner.settings = replace(learner.settings, **changed)
            part = slice(first, first + 20)
            first = part.stop
            expected = learner.learn(x[part], y[part])
            assert device.partial_fit(x[part], y[part]).tolist() == expected.tolist()
            assert compare(learner.state, device.state()) == "", f"{register} {values}"
        largest = device.read("error_max")
        assert largest == learner.state.error_max > 0
        device.write("seed", value=5)
        assert not device.state()["error_max"]


@pytest.mark.parametrize("learn", [1, 0.5])
@pytest.mark.parametrize("name, settings", [
    ("topk", {"layers": (2,)}), ("topk", {"layers": (0, 2), "probes": 3}), ("topk", {}),
    ("topk", {"layers": (0,), "probes": 2}), ("both", {"layers": (0, 1), "probes": 8}),
    ("standardize", {"layers": (2,)}), ("single layer", {"layers": (0,)}),
    ("two classes", {"layers": (1,)})], ids=str)
def test_cycles(core, name, settings, learn):
    """Every packet in the predicted cycle; a second job starts with an update on its way."""
    net, _, manifest = core(name)
    count = 40
    settings = Settings(**{"probes": 0} | settings)
    x, y = samples(net, count)
    bits = np.random.default_rng(6).random(count) < learn
    with Device(manifest) as device:
        device.configure(settings)
        for job in range(2):
            device.partial_fit(x, y, learn=bits)
            expected = schedule(net, count, settings, bits, learned=job * int(bits.sum()),
                                options=device.manifest["options"])
            start = device.in_cycles[0]
            np.testing.assert_array_equal(device.in_cycles - start, expected.in_cycles)
            np.testing.assert_array_equal(device.out_cycles - start, expected.out_cycles)
            device.state()              # settles


def test_walk_hides_behind_a_long_first_layer():
    """784-32-16-10 pays nothing for it; where the first layer is short, the walk sets the pace."""
    large = small_network((784, 32, 16, 10), (2,))
    settings = Settings(layers=(2,), probes=0)
    assert interval(large, settings, options=BOTH) == 784
    short = small_network((64, 32, 16, 10), (2,))
    assert interval(short, settings, options=("standardize",)) == 64
    assert interval(short, settings, options=BOTH) > 120


def test_refused(core, tmp_path):
    for name in BOTH:
        with pytest.raises(HwgenError, match=f"option {name} is for the delta rule of the last "
                                             "layer, and fc2 is not trainable"):
            build(network((6, 5, 3), (0,)), tmp_path, options=(name,))
        with pytest.raises(HwgenError, match=f"option {name} needs rule np"):
            build(network((6, 5, 3), (1,)), tmp_path, rules=("es",), options=(name,))
    _, _, manifest = core("standardize")
    with Device(manifest) as device, pytest.raises(ValueError, match="with option topk"):
        device.configure(Settings(layers=(2,), lmin=26))
    with Device(manifest) as device, pytest.raises(ValueError, match="9 bits"):
        device.write("standardize", value=512)

"""Lockstep: the Verilated core and the golden learner with momentum-guided sampling."""
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from firmware_models.learner import Learner, compare
from firmware_models.momentum import LIMIT
from firmware_models.options import needed
from firmware_models.registers import table
from firmware_models.rounding import ROUNDINGS
from firmware_models.settings import Settings
from hwgen.build import build
from hwgen.errors import HwgenError
from sim.device import Device

from .lockstep import lockstep
from .networks import samples, small_network
from .test_directions_verilog import unlike

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

CORES = {
    # name: network, rules, options
    "alone": (small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3}), ("es",), ("momentum",)),
    "every form": (unlike(small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3})), ("es",),
                   ("rank", "vote", "sparse", "rank1", "kernel", "momentum", "sharp")),
    "five generators": (small_network((6, 10, 9, 4), (0, 1, 2), {0: 1, 1: 5}, seed=2,
                                      extreme=True), ("es",), ("rank", "sparse", "momentum")),
    "rounded": (small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3}, seed=3), ("es",),
                ("momentum", "rounding", "replay", "vote")),
    "both rules": (small_network((10, 8, 6, 4), (0, 1, 2), {0: 5, 1: 4, 2: 3}), ("np", "es"),
                   ("momentum", "load", "snapshot", "drift")),
}
FORMS = [{}, {"sparse": "hash"}, {"sparse": "static"}, {"sparse": "biases"}, {"rank1": True},
         {"kernel": True, "fitness": "rank"}, {"vote": 30},
         {"sparse": "hash", "rank1": True, "kernel": True, "vote": 20, "fitness": "rank"},
         {"sharp": 4}, {"sparse": "hash", "rank1": True, "kernel": True, "sharp": 2}]


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        network, rules, options = CORES[name]
        return network, 4, build(network, tmp_path_factory.mktemp("core"), rules=rules,
                                 max_pairs=8, options=options)
    return get


@pytest.mark.parametrize("batch, lr_decay", [(1, 0), (3, 20)])
def test_alone(core, batch, lr_decay):
    learner = lockstep(core("alone"), (Settings(
        rule="es", layers=(1, 2), pairs=4, batch=batch, lr_shift=4, lr_decay=lr_decay, seed=81,
        momentum=True), 200), learn_share=0.9)
    for counters in learner.state.momenta.values():
        assert {-LIMIT, LIMIT} <= set(counters.ravel().tolist())


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_with_every_form(core, form):
    learner = lockstep(core("every form"), (Settings(
        rule="es", layers=(0, 2), pairs=3, batch=2, lr_shift=4, seed=82, momentum=True, **form),
        80))
    for index, counters in learner.state.momenta.items():
        assert (np.abs(counters).max() == LIMIT) == (form.get("sparse") != "biases"), index


def test_settings_in_turn(core):
    """Forms, layers, populations, and momentum on and off, one after the other."""
    parts = [(Settings(rule="es", layers=layers, pairs=1 + n, sigma_log2=n, lr_shift=2 + n,
                       batch=1 + n % 2, seed=83 + n, momentum=n != 2, **form), 15)
             for n, (layers, form) in enumerate((
                 ((0, 2), {}), ((2,), {"vote": 25}), ((0,), {"rank1": True}),
                 ((0,), FORMS[-1]), ((0, 2), {"sparse": "static"})))]
    before = lockstep(core("every form"), *parts[:2]).state.momenta
    # Where the layer, or momentum, is switched off, counters stay.
    after = lockstep(core("every form"), *parts[:3]).state.momenta
    assert all((before[k] == after[k]).all() for k in before)
    lockstep(core("every form"), *parts, learn_share=0.8, predict_share=0.2)


def test_several_generators(core):
    lockstep(core("five generators"),
             *[(Settings(rule="es", layers=layers, pairs=3, lr_shift=3, fitness="rank", seed=84,
                         momentum=True, sparse=sparse), 40)
               for layers, sparse in (((0, 1, 2), "off"), ((1,), "hash"))])


def test_rounded(core):
    """Counters follow changes as they are before rounding and votes."""
    parts = [(Settings(rule="es", layers=(1, 2), pairs=1 + n % 3, lr_shift=9, vote=n // 5 * 20,
                       rounding=ROUNDINGS[n % 5], seed=95 + n, momentum=True), 12)
             for n in range(10)]
    lockstep(core("rounded"), *parts)


def test_both_rules(core):
    """Node probes leave counters alone, and neither do they meet them."""
    es = Settings(rule="es", layers=(0, 1, 2), pairs=2, lr_shift=4, seed=85, momentum=True)
    learner = lockstep(core("both rules"), (es, 25), (Settings(
        layers=(0, 2), probes=3, lr_shift=6, seed=86), 25), (es, 25),
        (replace(es, layers=(1, 2), momentum=False, start=300, stop=100), 10), (es, 10))
    assert np.abs(learner.state.momenta[1]).max() == LIMIT


def test_weights_from_elsewhere(core):
    """Snapshot, load and new settings leave the counters as they are."""
    network, residual, manifest = core("both rules")
    settings = Settings(rule="es", layers=(0, 2), pairs=2, lr_shift=3, seed=87, momentum=True)
    learner = Learner(network, settings, residual, momentum=True)
    x, y = samples(network, 40, seed=9)
    with Device(manifest) as device:
        device.configure(settings)

        def learn(first):
            device.partial_fit(x[first:first + 10], y[first:first + 10], idle=0.3)
            learner.learn(x[first:first + 10], y[first:first + 10])
            assert compare(learner.state, device.state()) == ""

        learn(0)
        device.snapshot()
        learner.snapshot()
        learn(10)
        counters = learner.state.momenta
        device.restore()
        learner.restore()
        learn(20)
        for twin in (device, learner):
            twin.write_master(0, -5, output=3, input=2)
            twin.configure(replace(settings, seed=5))
        assert compare(learner.state, device.state()) == ""
        learn(30)
        assert any((counters[k] != learner.state.momenta[k]).any() for k in counters)
        # Counters are there to be read only.
        word = device.read("window", "word")
        device.write("window", word=1 << 15 | 1, lane=0, space=0)
        offset = device.registers["window_data"]["offset"]
        assert device.core.write(offset, 3) == 2        # SLVERR
        device.write("window", word=word)
        assert compare(learner.state, device.state()) == ""


def test_reset_at_any_cycle(core):
    """Each word's counters have followed where its weights have changed; learning goes on so."""
    network, residual, manifest = core("alone")
    settings = Settings(rule="es", layers=(1, 2), pairs=2, lr_shift=2, seed=88, momentum=True)
    learner = Learner(network, settings, residual, momentum=True)
    x, y = samples(network, 20, seed=7)
    learner.learn(x[:9], y[:9])
    before = learner.state
    learner.step(x[9], int(y[9]))
    outcomes = set()
    for delay in range(0, 60, 2):
        with Device(manifest) as device:
            device.configure(settings)
            device.partial_fit(x[:9], y[:9])
            device.read("busy")
            device.partial_fit(x[9:10], y[9:10])
            for _ in range(delay):
                device.read("id")
            device.reset()
            torn, got = bool(device.read("status")), device.state()
            new = 0
            for index in network.trainable:
                words = network.stages[index].dense.words
                for word in range(words(before.weights[index]).shape[0]):
                    same = [all((words(got[kind][index])[word]
                                 == words(getattr(state, kind)[index])[word]).all()
                                for kind in ("weights", "momenta"))
                            for state in (before, learner.state)]
                    assert any(same), (delay, index, word)
                    new += not same[0]
            outcomes.add("torn" if torn else "new" if new else "old")
            device.configure(settings)
            twin = Learner(network, settings, residual, momentum=True)
            twin.state = replace(twin.state, **{
                kind: got[kind] for kind in ("weights", "biases", "momenta")})
            device.partial_fit(x[10:16], y[10:16])
            twin.learn(x[10:16], y[10:16])
            assert compare(twin.state, device.state()) == "", delay
    assert outcomes == {"old", "torn", "new"}


def test_registers_and_options(tmp_path):
    def fields(*options):
        return {f.name for r in table(True, ("es",), options) if r.name == "rule"
                for f in r.fields}

    assert fields("momentum") - fields() == {"momentum"}
    assert needed(Settings(rule="es", momentum=True)) == ("momentum",)
    assert needed(Settings(momentum=True)) == ()
    with pytest.raises(HwgenError, match="option momentum does not go with journal"):
        build(CORES["alone"][0], tmp_path, rules=("es",), options=("momentum", "journal"))

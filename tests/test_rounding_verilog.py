"""Lockstep: the Verilated core and the golden learner with every rounding of updates."""
import shutil
from functools import cache

import numpy as np
import pytest

from firmware_models.cycles import CycleModel
from firmware_models.formats import Fixed
from firmware_models.learner import Learner, compare
from firmware_models.rounding import ROUNDINGS, most_older
from firmware_models.settings import Settings
from hwgen.build import build
from sim.device import Device

from .lockstep import lockstep
from .networks import samples, small_network
from .test_directions_verilog import unlike

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
DIRECTIONS = ("rank", "vote", "sparse", "rank1", "kernel", "momentum", "sharp")
CORES = {
    # name: network, residual, max_pairs, options
    "rounding": (small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3}), 4, 6,
                 ("rank", "vote", "rounding")),
    "replay": (unlike(small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3})), 0, 6,
               (*DIRECTIONS, "rounding", "replay")),
    "two generators": (unlike(small_network((6, 10, 4), (0, 1), {0: 1, 1: 5}, seed=2,
                                            extreme=True)), 4, 4,
                       (*DIRECTIONS, "rounding", "replay")),
    "one pair": (small_network((5, 6, 3), (0, 1), {1: 1}, weight=Fixed(5, 3), bias=Fixed(7, 4),
                               seed=3, extreme=True), 0, 1, ("rounding", "replay")),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        network, residual, max_pairs, options = CORES[name]
        return network, residual, build(network, tmp_path_factory.mktemp("core"), rules=("es",),
                                        residual=residual, max_pairs=max_pairs, options=options)
    return get


@pytest.mark.parametrize("kind", ROUNDINGS[:-1])
def test_every_rounding(core, kind):
    settings = Settings(rule="es", layers=(1, 2), pairs=5, fitness="rank", batch=2, lr_shift=7,
                        lr_decay=60, seed=71, rounding=kind)
    learner = lockstep(core("rounding"), (settings, 150))
    start = Learner(learner.network, settings, learner.residual).state
    for index in settings.layers:
        assert (learner.state.weights[index] != start.weights[index]).any()


def test_replay(core):
    """Far more updates than slots, without residual bits: what is kept wraps around 18 times."""
    settings = Settings(rule="es", layers=(1, 2), pairs=1, batch=2, lr_shift=6, seed=72,
                        rounding="replay")
    learner = lockstep(core("replay"), (settings, 150))
    assert len(learner.evolution.past) == most_older(6, 1)
    start = Learner(learner.network, settings, learner.residual).state
    assert (learner.state.weights[2] != start.weights[2]).any()


@pytest.mark.parametrize("name", [
    "replay", pytest.param("two generators", marks=pytest.mark.nightly)])
def test_all_in_turn(core, name):
    """Every rounding with every form of the directions, with votes and without."""
    forms = [{}, {"sparse": "hash"}, {"sparse": "static"}, {"rank1": True}, {"kernel": True},
             {"sparse": "static", "rank1": True, "kernel": True}, {"sparse": "biases"},
             {"momentum": True}, {"momentum": True, "sparse": "hash", "sharp": 2}]
    layers, most = core(name)[0].trainable, CORES[name][2]
    parts = [(Settings(rule="es", layers=layers, pairs=n % most + 1, batch=n % 2 + 1, sigma_log2=2,
                       fitness=("sign", "rank")[n % 3 == 0], lr_shift=4 + n % 3, seed=80 + n,
                       vote=(0, 0, 3)[n % 3], rounding=kind, **form), 7)
             for n, (kind, form) in enumerate((kind, form) for form in forms
                                              for kind in ("replay", *ROUNDINGS))]
    lockstep(core(name), *parts, learn_share=0.8, predict_share=0.1)


@pytest.mark.parametrize("kind", ROUNDINGS)
def test_one_pair(core, kind):
    """No residual bits, and in a ring of one no pair but the population's own."""
    learner = lockstep(core("one pair"), (Settings(
        rule="es", layers=(0, 1), pairs=1, lr_shift=5, seed=90, rounding=kind), 60))
    assert len(learner.evolution.past) == 0


def test_population_of_all_sizes(core):
    """Older pairs give way to a larger population; a new seed drops them all."""
    parts = [(Settings(rule="es", layers=(1, 2), pairs=pairs, lr_shift=6, seed=91 + pairs,
                       rounding="replay"), updates)
             for pairs, updates in ((6, 3), (1, 20), (3, 5), (2, 1), (5, 2), (4, 9))]
    lockstep(core("replay"), *parts, learn_share=0.7)


def test_cycles(core):
    """Job after job: a sweep grows with the pairs that are kept, until the ring is full."""
    network, residual, manifest = core("replay")
    settings = Settings(rule="es", layers=(1, 2), pairs=2, lr_shift=6, seed=3, rounding="replay")
    learner = Learner(network, settings, residual, max_pairs=6)
    x, y = samples(network, 9)
    with Device(manifest) as device:
        device.configure(settings)
        for _ in range(3):
            older = len(learner.evolution.past)
            device.partial_fit(x, y)
            expected = CycleModel(network, max_pairs=6).run(len(x), settings, older=older)
            start = device.in_cycles[0]
            np.testing.assert_array_equal(device.out_cycles - start, expected.out_cycles)
            learner.learn(x, y)
            assert compare(learner.state, device.state()) == ""
        assert older == most_older(6, settings.pairs)

"""Lockstep: sharpness-aware pairs, decay of the amplitude, and weights of 16 bits."""
import shutil
from dataclasses import replace
from functools import cache

import pytest

from firmware_models import directions as model
from firmware_models.formats import Fixed
from firmware_models.learner import Learner
from firmware_models.options import needed
from firmware_models.registers import table
from firmware_models.settings import Settings
from hwgen.build import build

from .lockstep import lockstep
from .networks import small_network
from .test_directions_verilog import unlike

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
FORMS = ("sparse", "rank1", "kernel")
WIDE = {"weight": Fixed(16, 12), "bias": Fixed(16, 11)}
CORES = {
    # name: network, residual, max_pairs, options
    "forms": (unlike(small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3})), 4, 8,
              ("rank", "vote", *FORMS, "sharp", "sigma_decay", "momentum")),
    "two generators": (unlike(small_network((6, 10, 4), (0, 1), {0: 1, 1: 5}, seed=2,
                                            extreme=True)), 4, 8,
                       ("shaping", *FORMS, "sharp", "sigma_decay", "load", "snapshot", "journal")),
    "alone": (small_network((6, 5, 4, 3), (0, 1, 2), {0: 2}, seed=2, extreme=True), 0, 5,
              ("sharp",)),
    "one pair": (small_network((5, 6, 3), (0, 1), {1: 1}, seed=3), 8, 1, ("sharp", "sigma_decay")),
    "rounding": (small_network((6, 5, 4), (0, 1), {0: 2}, seed=7), 0, 5,
                 ("rank", "sharp", "rounding", "replay", "momentum")),
    "both rules": (small_network((6, 5, 4), (0, 1), {0: 3}, seed=4), 4, 4,
                   ("rank", "sharp", "sigma_decay")),
    "wide, no residual": (small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3}, **WIDE), 0, 4,
                          ()),
    "wide, all residual": (unlike(small_network((6, 8, 4), (0, 1), {0: 3}, seed=5, extreme=True,
                                                **WIDE)), 8, 4, ("kernel", "sharp", "vote")),
    "wide weights alone": (small_network((6, 8, 4), (0, 1), {0: 3}, seed=6, weight=Fixed(16, 12),
                                         bias=Fixed(11, 6)), 2, 4, ("rank", "sharp")),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        network, residual, max_pairs, options = CORES[name]
        rules = ("np", "es") if name == "both rules" else ("es",)
        return network, residual, build(network, tmp_path_factory.mktemp("core"), rules=rules,
                                        residual=residual, max_pairs=max_pairs, options=options)
    return get


@pytest.mark.parametrize("form", [
    {}, {"sparse": "hash"}, {"sparse": "static"}, {"rank1": True}, {"kernel": True},
    {"momentum": True}, {"sparse": "hash", "rank1": True, "kernel": True, "vote": 4},
    {"sparse": "hash", "rank1": True, "kernel": True, "momentum": True}], ids=str)
def test_every_form(core, form):
    settings = Settings(rule="es", layers=(1, 2), pairs=4, fitness="rank", batch=2, lr_shift=5,
                        sharp=3, seed=41, **form)
    learner = lockstep(core("forms"), (settings, 60))
    start = Learner(learner.network, replace(settings, momentum=False)).state
    for index in settings.layers:
        assert (learner.state.biases[index] != start.biases[index]).any()
        assert (learner.state.weights[index] != start.weights[index]).any()


def test_in_turn(core):
    """Every distance, populations of 1 to 5 pairs, with single samples and batches."""
    parts = [(Settings(rule="es", layers=((0, 1), (1,), (0,))[n % 3], pairs=1 + n * 2 % 5,
                       batch=1 + n % 3, sigma_log2=n * 3 % 8, sharp=n % 8, lr_shift=n % 5,
                       fitness=("sign", "zscore", "best")[n % 3], lr_decay=3 * (n % 2),
                       sigma_decay=n % 4 == 1, sparse=model.SPARSE[n // 2 % 4],
                       rank1=n % 3 == 1, kernel=n % 5 == 2, seed=50 + n), 10) for n in range(16)]
    learner = lockstep(core("two generators"), *parts, learn_share=0.8, predict_share=0.1)
    assert learner.state.saturations > 50


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_alone(core, pairs):
    """The largest distance and amplitude at the ends of the range; all layers learn."""
    lockstep(core("alone"), (Settings(rule="es", layers=(0, 1, 2), pairs=pairs, sharp=7,
                                      sigma_log2=7, lr_shift=3, seed=60), 40))


def test_one_pair(core):
    """Without further pairs it changes nothing; the amplitude decays down to one step."""
    lockstep(core("one pair"), (Settings(rule="es", layers=(0, 1), pairs=1, sigma_log2=4, sharp=2,
                                         lr_decay=3, sigma_decay=True, seed=61), 40))


def test_with_rounding(core):
    """Seeds of earlier pairs are in the same memory as the first one's."""
    common = {"rule": "es", "layers": (0, 1), "sigma_log2": 2, "lr_shift": 8}
    lockstep(core("rounding"), *[(Settings(
        pairs=pairs, batch=batch, sharp=sharp, rounding=rounding, momentum=momentum, seed=90,
        **common), 15) for pairs, batch, sharp, rounding, momentum in (
            (2, 2, 2, "replay", False), (5, 1, 1, "replay", True), (3, 1, 3, "stochastic", True),
            (1, 2, 4, "pseudo", False), (4, 3, 5, "replay", False))])


def test_amplitude_decays(core):
    """Through all amplitudes, and back with the rate; without the setting it stays."""
    common = {"rule": "es", "layers": (1, 2), "pairs": 3, "lr_shift": 0, "lr_decay": 2,
              "sharp": 1, "seed": 62}
    learner = lockstep(core("forms"), (Settings(sigma_log2=7, sigma_decay=True, **common), 34),
                       (Settings(sigma_log2=3, sigma_decay=True, **common), 10),
                       (Settings(sigma_log2=3, **common), 10))
    assert learner.state.decays == 5


def test_rules_in_turn(core):
    """Probes of nodes are not measured at a neighbour."""
    es = Settings(rule="es", layers=(0, 1), pairs=3, sharp=4, seed=63)
    lockstep(core("both rules"), (es, 10), (Settings(rule="np", layers=(0, 1), seed=64), 20),
             (es, 10))


@pytest.mark.parametrize("settings", [
    Settings(rule="es", layers=(1, 2), pairs=2, sigma_log2=3, lr_shift=0, seed=65),
    Settings(rule="es", layers=(2,), pairs=1, sigma_log2=7, lr_shift=2, seed=66)],
    ids=["two layers", "head"])
def test_wide_weights(core, settings):
    """Sign-m-SPSA with 16 bits of weights and 8 of activations, without residual bits."""
    learner = lockstep(core("wide, no residual"), (settings, 100))
    start = Learner(learner.network, settings, learner.residual).state
    for index in settings.layers:
        assert (learner.state.weights[index] != start.weights[index]).mean() > 0.9


def test_wide_weights_with_residual_bits(core):
    """The ends of the range, and rows of unlike size."""
    parts = [Settings(rule="es", layers=(0, 1), pairs=4, sigma_log2=n % 8, lr_shift=n % 3,
                      kernel=n % 2 == 1, sharp=n, vote=n % 3 * 100, seed=70 + n) for n in range(8)]
    learner = lockstep(core("wide, all residual"), *[(settings, 15) for settings in parts])
    assert learner.state.saturations > 0


def test_wide_weights_and_narrower_biases(core):
    """Of 16 and 11 bits, both amplitudes are 3 bits finer."""
    lockstep(core("wide weights alone"), (Settings(
        rule="es", layers=(0, 1), pairs=4, fitness="rank", sigma_log2=5, sharp=6, lr_shift=3,
        seed=80), 60))


def test_registers_of_the_options():
    def fields(*options):
        return {f.name for r in table(True, ("es",), options) if r.name == "rule"
                for f in r.fields}

    assert fields("sharp") == {"sharp"} and fields("sigma_decay") == {"sigma_decay"}
    assert needed(Settings(rule="es", sharp=1, sigma_decay=True)) == ("sharp", "sigma_decay")
    assert needed(Settings(sharp=1, sigma_decay=True)) == ()

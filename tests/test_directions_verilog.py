"""Lockstep: the Verilated core and the golden learner with every form of the directions."""
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from firmware_models.learner import Learner
from firmware_models.options import needed
from firmware_models.registers import table
from firmware_models.settings import Settings
from hwgen.build import build

from .lockstep import lockstep
from .networks import small_network
from .test_directions import unlike_rows

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
OPTIONS = ("sparse", "rank1", "kernel")


def unlike(network):
    """The network with rows of weights up to eight times as small as others."""
    return replace(network, layers=tuple(
        unlike_rows(layer, np.arange(layer.n_out) % 4) if hasattr(layer, "weight_codes") else layer
        for layer in network.layers))


CORES = {
    "two of three": unlike(small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3})),
    "two generators": unlike(small_network((6, 10, 4), (0, 1), {0: 1, 1: 5}, seed=2, extreme=True)),
}
FORMS = [{"sparse": "hash"}, {"sparse": "static"}, {"sparse": "biases"},
         {"rank1": True}, {"sparse": "static", "rank1": True}, {"kernel": True},
         {"sparse": "hash", "rank1": True, "kernel": True}]


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        return CORES[name], 4, build(CORES[name], tmp_path_factory.mktemp("core"), rules=("es",),
                                     max_pairs=8, options=("rank", "vote", *OPTIONS))
    return get


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form(core, form):
    settings = Settings(rule="es", layers=(1, 2), pairs=4, fitness="rank", batch=2, lr_shift=5,
                        seed=41, **form)
    learner = lockstep(core("two of three"), (settings, 150))
    start = Learner(learner.network, settings).state
    for index in settings.layers:
        assert (learner.state.biases[index] != start.biases[index]).any()
        moved = (learner.state.weights[index] != start.weights[index]).mean()
        low, high = {"static": (0.1, 0.5), "biases": (0, 0)}.get(form.get("sparse"), (0.9, 1))
        assert low <= moved <= high


def test_forms_in_turn(core):
    """Each for some updates, with sign fitness and single samples, by votes in every other."""
    parts = []
    for n, form in enumerate((*FORMS, {}, FORMS[-1], FORMS[0])):
        parts.append((Settings(rule="es", layers=(0, 1), pairs=3, sigma_log2=n % 8, lr_shift=n % 5,
                               vote=n % 2 * 40, seed=50 + n, **form), 15))
    learner = lockstep(core("two generators"), *parts, learn_share=0.8)
    assert learner.state.saturations > 50


def test_registers_of_the_options():
    """Only what a core is built with can be set."""
    def fields(*options):
        return {f.name for r in table(True, ("es",), options) if r.name == "rule"
                for f in r.fields}

    assert fields() == set()
    for name in OPTIONS:
        assert fields(name) == {name}


def test_settings_need_the_options():
    assert needed(Settings(rule="es")) == needed(Settings(**FORMS[0])) == ()
    for form in FORMS:
        assert needed(Settings(rule="es", **form)) == tuple(form)

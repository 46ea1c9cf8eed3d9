"""Random cores: rules, options and settings drawn together, in lockstep with the golden model."""
import shutil

import numpy as np
import pytest

from firmware_models import fused_update
from firmware_models.cycles import CycleModel
from firmware_models.line_rate_cycles import schedule
from firmware_models.network import PROMPT
from firmware_models.options import APART, NEEDS, OF_HEAD, OPTIONS, needed
from firmware_models.rounding import ROUNDINGS
from firmware_models.rules.es import FITNESSES
from firmware_models.settings import Settings
from hwgen.build import build
from hwgen.frontend import from_layers, lower
from sim.device import Device

from .lockstep import lockstep
from .networks import samples
from .random_networks import random_spec

CORES, NIGHTLY_CORES, PER_GROUP = 8, 300, 10
PARTS, UPDATES = 3, 8       # settings one after the other in a core, and updates with each
CLOCKED = 20

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def draw_core(rng, network) -> dict:
    """Arguments of :func:`hwgen.build.build` that the formats of `network` allow."""
    core = {"residual": int(rng.integers(0, 9)), "multipliers": bool(rng.integers(4) == 0),
            "max_pairs": int(rng.integers(1, 9))}
    rules = [("es",), ("np",), ("np", "es")][rng.integers(3)]
    try:
        for stage in network.stages:
            fused_update.check(stage, core["residual"], 4 if core["multipliers"] else 1)
    except ValueError:          # too narrow for node probes
        rules = ("es",)
    options = [name for name, option in OPTIONS.items()
               if set(option.rules) & set(rules) and rng.integers(2)]
    for pair in APART:
        if set(pair) <= set(options):
            options.remove(str(rng.choice(pair)))
    options = [name for name in options if NEEDS.get(name, name) in options]
    if "np" in rules and PROMPT in options:
        options.remove(PROMPT)
    if not network.stages[-1].dense.trainable:
        options = [name for name in options if name not in OF_HEAD]
    return core | {"rules": rules, "options": tuple(options)}


def draw_settings(rng, network, core) -> Settings:
    """Settings that a core can have, each of its rules as often as the other."""
    rule = str(rng.choice(core["rules"]))
    while True:
        lmin, lmax = sorted(int(share) for share in rng.choice([0, 1, 26, 128, 200, 256], 2))
        settings = Settings(
            rule=rule, seed=int(rng.integers(1, 2**32)),
            layers=tuple(i for i in network.trainable if rng.integers(2)) or network.trainable[-1:],
            sigma_log2=int(rng.integers(0, 8)), lr_shift=int(rng.integers(0, 16)),
            lr_decay=int(rng.integers(0, 4)), probes=int(rng.integers(0, 9)),
            head_shift=int(rng.integers(0, 10)), turn=bool(rng.integers(2)),
            skip=int(rng.choice([0, 100])), pairs=int(rng.integers(1, core["max_pairs"] + 1)),
            batch=int(rng.integers(1, 3)), fitness=str(rng.choice(FITNESSES)),
            vote=int(rng.choice([0, 0, 5, 100])), rank1=bool(rng.integers(2)),
            sparse=str(rng.choice(["off", "hash", "static", "biases"])),
            kernel=bool(rng.integers(2)), momentum=bool(rng.integers(2)),
            sharp=int(rng.choice([0, 0, 1, 2, 4, 7])), sigma_decay=bool(rng.integers(2)),
            rounding=str(rng.choice(ROUNDINGS)), lmin=lmin, lmax=lmax,
            standardize=int(rng.choice([0, 1, 16, 100, 256])))
        if set(needed(settings)) <= set(core["options"]):
            return settings


def agree(seed: int, folder) -> None:
    rng = np.random.default_rng(seed)
    network = lower(from_layers(random_spec(rng, f"random{seed}"), folder / "hls"))
    network = network.with_trainable([stage.dense.name for stage in network.stages
                                      if not stage.dense.constant])
    core = draw_core(rng, network)
    network = network.with_prompt() if PROMPT in core["options"] else network
    parts = [(draw_settings(rng, network, core), UPDATES) for _ in range(PARTS)]
    manifest = build(network, folder / "core", **core)
    lockstep((network, core["residual"], manifest), *parts, learn_share=0.8, predict_share=0.1)
    settings = parts[0][0]
    x, y = samples(network, CLOCKED, seed)
    with Device(manifest) as device:
        device.configure(settings)
        device.partial_fit(x, y)
        expected = schedule(network, CLOCKED, settings, options=core["options"]) \
            if settings.rule == "np" else \
            CycleModel(network, max_pairs=core["max_pairs"]).run(CLOCKED, settings)
        assert device.clock_cycles == expected.clock_cycles, (core, settings)


@pytest.mark.parametrize("seed", range(CORES))
def test_cores_agree(seed, tmp_path):
    agree(seed, tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("group", range(NIGHTLY_CORES // PER_GROUP))
def test_cores_agree_nightly(group, tmp_path):
    for seed in range(group * PER_GROUP, (group + 1) * PER_GROUP):
        agree(1000 + seed, tmp_path / str(seed))

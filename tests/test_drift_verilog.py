"""Lockstep of continuous operation: core and golden learner start and stop at the same samples."""
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import firmware_models.drift
import rtl.drift
from firmware_models.cycles import CycleModel
from firmware_models.dense import forward
from firmware_models.formats import Fixed
from firmware_models.learner import Learner, compare
from firmware_models.line_rate_cycles import schedule
from firmware_models.settings import Settings
from hwgen.build import build
from sim.device import Device

from .networks import samples, small_network

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
HIDDEN = Fixed(8, 6, False, "RND", "SAT")
CORES = {
    "np": (small_network((12, 8, 6, 4), (0, 2), {0: 4, 1: 4, 2: 3}, hidden=HIDDEN), ("np",)),
    "es": (small_network((10, 8, 6, 4), (1, 2), {0: 5, 1: 4, 2: 3}), ("es",)),
    "both": (small_network((10, 8, 4), (0, 1), {0: 5, 1: 4}, seed=7, hidden=HIDDEN), ("es", "np")),
}
SETTINGS = {
    "np": Settings(layers=(0, 2), probes=3, lr_shift=9, head_shift=8, lr_decay=50, seed=71,
                   start=450, stop=350, restart=True),
    "es": Settings(rule="es", layers=(1, 2), pairs=2, batch=3, lr_shift=7, lr_decay=20, seed=72,
                   start=450, stop=350, restart=True),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        network, rules = CORES[name]
        return network, build(network, tmp_path_factory.mktemp("core"), rules=rules, max_pairs=4,
                              options=("drift",))
    return get


def stream(network, count, seed, period=300):
    """Samples whose labels are the network's best class for a while, then its worst, in turn."""
    x, _ = samples(network, count, seed)
    logits = forward(network, x)
    hard = np.arange(count) // period % 2 == 1
    return x, np.where(hard, logits.argmin(-1), logits.argmax(-1))


class Switches:
    """How often learning went on and off, and the decay started over."""

    def __init__(self):
        self.on = self.off = self.restarts = 0

    def see(self, before, after):
        self.on += after.on > before.on
        self.off += after.on < before.on
        self.restarts += after.decays < before.decays


@pytest.mark.parametrize("name, rule, pauses, change", [
    ("np", "np", True, {}), ("np", "np", False, {"restart": False}),
    ("np", "np", True, {"stop": 450, "layers": (2,), "probes": 0}),
    ("es", "es", True, {}), ("es", "es", False, {"restart": False, "batch": 1}),
    ("both", "np", True, {"layers": (0, 1), "turn": True}), ("both", "es", True, {"layers": (1,)}),
], ids=str)
def test_lockstep(core, name, rule, pauses, change):
    """Streams of 1 to 200 samples; all state after each; bad packets, predictions between them."""
    network, manifest = core(name)
    settings = replace(SETTINGS[rule], **change)
    rng = np.random.default_rng(settings.seed)
    count = 2400
    x, y = stream(network, count, settings.seed)
    seen, step = Switches(), 0
    with Device(manifest, seed=settings.seed) as device:
        learner = Learner(network, settings)
        device.configure(settings)
        while step < count:
            rows = slice(step, min(step + int(rng.choice([1, 2, 5, 11, 40, 200])), count))
            idle, stall = rng.choice([0, 0.3, 0.8], 2) if pauses else (0, 0)
            bits = rng.random(len(x[rows])) < 0.9
            if rng.random() < 0.1:
                bits[:] = False
                got = device.predict(x[rows], y[rows], idle=idle, stall=stall)
            else:
                got = device.partial_fit(x[rows], y[rows], learn=bits, idle=idle, stall=stall)
            expected = []
            for row, label, bit in zip(x[rows], y[rows], bits, strict=True):
                before = learner.state
                expected.append(learner.step(row, int(label), bool(bit)).argmax())
                seen.see(before, learner.state)
            assert got.tolist() == expected, f"step {step}"
            difference = compare(learner.state, device.state())
            assert difference == "", f"step {step}: {difference}"
            if rng.random() < 0.2:          # too short, and with a label that is no class
                beats = device.layout.beats
                device.send_raw([([0] * (beats - 1 or 2), 0), ([0] * beats, 200)], 100)
            step = rows.stop
        assert device.read("dropped") > 0 and device.read("status") == 0
    assert seen.on >= 2 and seen.off >= 2
    assert (seen.restarts >= 2) == settings.restart


@pytest.mark.parametrize("rule", ["np", "es"])
def test_new_settings_and_reset_switch_on(core, rule):
    """Both while learning is off; the period goes on, or starts over."""
    network, manifest = core("both")
    settings = replace(SETTINGS[rule], layers=(0, 1), start=16383, stop=16383)
    x, y = stream(network, 700, 3)
    with Device(manifest) as device:
        learner = Learner(network, settings)
        for part in (slice(0, 200), slice(200, 420), slice(420, 700)):
            device.configure(settings)
            learner.configure(settings)
            assert learner.learn(x[part], y[part]).tolist() \
                == device.partial_fit(x[part], y[part]).tolist()
            assert compare(learner.state, device.state()) == ""
            assert 0 < learner.learned.sum() < len(learner.learned) and not learner.state.on
            if part.start:
                device.reset()
                learner.state = replace(learner.state, samples=0, passes=0, updates=0,
                                        saturations=0, loss=0, loss_average=0)
        device.configure(replace(settings, start=0, stop=0))        # always on
        device.partial_fit(x[:300], y[:300])
        assert device.read("progress", "on") == 1


@pytest.mark.parametrize("rule", ["np", "es"])
def test_cycles(core, rule):
    """The cycle models count with what the learner says was learned from."""
    network, manifest = core("both")
    settings = replace(SETTINGS[rule], layers=(0, 1))
    x, y = stream(network, 1600, 4)
    learner, learned = Learner(network, settings), 0
    with Device(manifest) as device:
        device.configure(settings)
        for part in (slice(0, 700), slice(700, 1600)):
            batch_index = learner.state.batch_index
            device.partial_fit(x[part], y[part])
            learner.learn(x[part], y[part])
            count = len(x[part])
            expected = schedule(network, count, settings, learner.learned, learned=learned) \
                if rule == "np" else CycleModel(network).run(
                    count, settings, learner.learned, batch_index=batch_index)
            start = device.in_cycles[0]
            np.testing.assert_array_equal(device.in_cycles - start, expected.in_cycles)
            np.testing.assert_array_equal(device.out_cycles - start, expected.out_cycles)
            assert compare(learner.state, device.state()) == ""
            learned += int(learner.learned.sum())
    assert 300 < learned < 1300


def test_restart_waits_for_the_last_update(tmp_path, monkeypatch):
    """Node errors are still walked over when the sample arrives that switches learning on.

    With a period of 128 that takes more nodes than a test should compile, so it is 32 here.
    """
    for module in (firmware_models.drift, rtl.drift):
        monkeypatch.setattr(module, "PERIOD", 32)
        monkeypatch.setattr(module, "DELAY", 24)
    network = small_network((1, 128, 2), (0,), {1: 2}, seed=8)
    settings = Settings(layers=(0,), probes=0, lr_decay=1, start=300, stop=300, restart=True)
    count = 400
    x, _ = samples(network, count, 5)
    logits, learner = forward(network, x), Learner(network, settings)
    # Labels that take the average through the threshold with every decision.
    hard = np.arange(count) // 32 % 2 == 1
    y = np.where(hard, logits.argmin(-1), logits.argmax(-1))
    starts, at = [], 0
    for n in range(count):
        before = learner.state.on
        learner.step(x[n], int(y[n]))
        starts += [n] * (learner.state.on > before)
    assert len(starts) >= 3, starts
    learner = Learner(network, settings)
    with Device(build(network, tmp_path, options=("drift",))) as device:
        device.configure(settings)
        for start in starts:
            end = start + 5
            assert learner.learn(x[at:end], y[at:end]).tolist() \
                == device.partial_fit(x[at:end], y[at:end]).tolist()
            # An update of before would have halved the rate once more.
            assert learner.state.on and learner.state.decays == 5
            assert compare(learner.state, device.state()) == ""
            at = end

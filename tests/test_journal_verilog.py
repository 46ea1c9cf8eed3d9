"""The journal in the Verilated core: in lockstep, and weights rebuilt from it alone."""
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from firmware_models.journal import check, from_json, replay
from firmware_models.learner import Learner, compare
from firmware_models.settings import Settings
from hwgen.build import build
from sim.device import Device

from .lockstep import lockstep
from .networks import samples, small_network

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
NETWORK = small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3})
RESIDUAL, UPDATES = 4, 300
CORES = {
    # name: rules, options, records
    "ring": (("es",), ("rank", "journal"), 16),
    "whole": (("es",), ("rank", "journal"), 4096),
    "every option": (("es",), ("rank", "shaping", "vote", "sparse", "rank1", "kernel", "rounding",
                               "journal"), 4096),
    "other hands": (("es",), ("load", "snapshot", "drift", "journal"), 4096),
    "both rules": (("np", "es"), ("journal",), 64),
    "none": (("es",), ("rank",), 16),
}


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """Network, residual bits and manifest of a core by name, built when first asked for."""
    @cache
    def get(name) -> tuple:
        rules, options, records = CORES[name]
        folder: Path = tmp_path_factory.mktemp("core")
        return NETWORK, RESIDUAL, build(NETWORK, folder, residual=RESIDUAL, rules=rules,
                                        max_pairs=6, options=options, journal_records=records)
    return get


def rebuilt(journal) -> dict:
    """Masters by name, from a journal that went through its file."""
    journal = from_json(journal.to_json())
    check(journal, NETWORK, RESIDUAL)
    weights, biases = replay(NETWORK, RESIDUAL, journal.records)
    return {"weights": weights, "biases": biases}


def same(masters: dict, state: dict) -> bool:
    return all((masters[kind][index] == state[kind][index]).all()
               for kind in masters for index in masters[kind])


@pytest.mark.parametrize("fitness, lr_decay", [("sign", 0), ("rank", 40)])
def test_ring(core, fitness, lr_decay):
    """The last 16 records and their number, after each of 300 updates of three pairs."""
    learner = lockstep(core("ring"), (Settings(
        rule="es", layers=(0, 2), pairs=3, fitness=fitness, lr_shift=3, lr_decay=lr_decay,
        seed=51), UPDATES))
    assert learner.state.written == 3 * UPDATES and len(learner.state.records) == 16


def test_settings_in_turn(core):
    """Layers, populations and batches change; the ring wraps within an update."""
    lockstep(core("ring"),
             *[(Settings(rule="es", layers=layers, pairs=pairs, batch=batch, lr_shift=4,
                         seed=52 + pairs), 5)
               for layers, pairs, batch in (((2,), 1, 1), ((0,), 5, 2), ((0, 2), 6, 1))],
             learn_share=0.8)


def test_replayed_weights_are_the_core_s(core):
    """300 updates: the masters read from the core, and those rebuilt from start and journal."""
    _, _, manifest = core("whole")
    x, y = samples(NETWORK, UPDATES, seed=3)
    first = Settings(rule="es", layers=(0, 2), pairs=4, fitness="rank", lr_shift=2, sigma_log2=3,
                     seed=61)
    second = Settings(rule="es", layers=(2,), pairs=6, batch=2, lr_shift=1, lr_decay=20, seed=62)
    with Device(manifest) as device:
        start = device.state()
        for settings, rows in ((first, slice(0, 200)), (second, slice(100, 300))):
            device.configure(settings)
            device.partial_fit(x[rows], y[rows], idle=0.3, stall=0.3)
        journal, state = device.journal(), device.state()
    assert state["updates"] == UPDATES and state["saturations"] > 0
    assert journal.numbers.tolist() == list(range(200 * 4 + 100 * 6))
    assert same(rebuilt(journal), state) and not same(rebuilt(journal), start)


def test_replay_with_every_option(core):
    """What updates depend on changes from one to the next; records say so, core and model agree."""
    network, residual, manifest = core("every option")
    first = Settings(rule="es", layers=(0, 2), pairs=3, lr_shift=2, seed=71)
    parts = [(Settings(**{"rule": "es", "layers": (0, 2), "pairs": 3, "lr_shift": 2,
                          "seed": 71 + k} | more), 25)
             for k, more in enumerate((
                 {}, {"vote": 30}, {"sparse": "hash"}, {"sparse": "static", "rank1": True},
                 {"sparse": "biases"}, {"kernel": True, "fitness": "zscore"},
                 {"rank1": True, "kernel": True, "vote": 20, "fitness": "best"}, {},
                 {"rounding": "nearest", "lr_shift": 6}, {"rounding": "pseudo", "vote": 1},
                 {"rounding": "stochastic", "sparse": "hash", "lr_shift": 9}))]
    learner = lockstep((network, residual, manifest), *parts)
    assert len({tuple(row) for row in learner.state.records[:, 4:].tolist()}) == 10
    # The same without a twin, from what is read out alone.
    x, y = samples(NETWORK, 60, seed=8)
    with Device(manifest) as device:
        for settings, _ in parts:
            device.configure(settings)
            device.partial_fit(x[:20], y[:20])
        # New settings between two samples that belong to one update count for that update.
        device.configure(Settings(rule="es", layers=(0, 2), pairs=3, batch=2, lr_shift=2, seed=90))
        for n in range(20, 60):
            device.write("vote", value=10 * (n % 3))
            device.write("rule", sparse=n % 4, rank1=n % 2, kernel=n % 2, rounding=n % 3)
            device.partial_fit(x[n:n + 1], y[n:n + 1])
        journal, state = device.journal(), device.state()
        assert same(rebuilt(journal), state)
    plain = Learner(NETWORK, first, RESIDUAL).state
    assert (state["weights"][0] != plain.weights[0]).any()


def test_read_in_parts(core):
    """A ring of 16 is enough for any number of updates when it is read often enough."""
    _, _, manifest = core("ring")
    x, y = samples(NETWORK, 60, seed=4)
    with Device(manifest) as device:
        device.configure(Settings(rule="es", layers=(0, 2), pairs=3, lr_shift=3, seed=63))
        journal = device.journal()
        for n in range(0, 60, 5):
            device.partial_fit(x[n:n + 5], y[n:n + 5])
            journal = journal.extended(device.journal())
        assert same(rebuilt(journal), device.state())
        with pytest.raises(ValueError, match="wrote 180 records and the journal has 16"):
            rebuilt(device.journal())


def test_reset_at_any_cycle(core):
    """After a reset the journal leads to the weights, torn or not, or says that it does not."""
    _, _, manifest = core("whole")
    x, y = samples(NETWORK, 2, seed=7)
    settings = Settings(rule="es", layers=(0, 2), pairs=2, lr_shift=2, seed=33)
    outcomes = set()
    for delay in range(0, 60):
        with Device(manifest) as device:
            device.configure(settings)
            device.partial_fit(x[:1], y[:1])
            for _ in range(delay):          # a read is a few cycles
                device.read("id")
            device.reset()
            torn, journal = device.read("status", "torn"), device.journal()
            assert journal.written == 0 and len(journal.records) == 0
            assert journal.lost or not torn and same(rebuilt(journal), device.state())
            outcomes.add((torn, journal.lost))
            # The core goes on, and what it writes now is in its place.
            device.write("status", lost=1, torn=1)
            assert device.read("status") == {"torn": 0, "lost": 0}
            device.configure(settings)
            device.partial_fit(x[1:], y[1:])
            after = device.journal()
            assert after.written == 2 and after.records[:, 2].tolist() == [0, 1]
    assert outcomes == {(0, False), (1, True), (0, True)}


def test_updates_of_the_other_rule(core):
    """Node probes leave no records; a journal beside their updates is refused."""
    _, _, manifest = core("both rules")
    x, y = samples(NETWORK, 12, seed=5)
    es = Settings(rule="es", layers=(0, 2), pairs=2, seed=64)
    learner = Learner(NETWORK, es, RESIDUAL, journal_records=64)
    with Device(manifest) as device:
        for settings in (es, Settings(layers=(0, 2), probes=2, lr_shift=2, head_shift=2, seed=65),
                         es):
            learner.configure(settings)
            device.configure(settings)
            assert device.partial_fit(x, y).tolist() == learner.learn(x, y).tolist()
            assert compare(learner.state, device.state()) == ""
            if settings is es and learner.state.written == 24:
                assert same(rebuilt(device.journal()), device.state())
        with pytest.raises(ValueError, match=r"made \d+ updates and the journal has 24"):
            rebuilt(device.journal())


@pytest.mark.parametrize("hand", ["load", "one master", "restore", "none"])
def test_weights_written_by_others(core, hand):
    """Masters that the host writes or restores are in no record; a snapshot changes nothing."""
    _, _, manifest = core("other hands")
    x, y = samples(NETWORK, 12, seed=9)
    with Device(manifest) as device:
        device.configure(Settings(rule="es", layers=(0, 2), pairs=2, lr_shift=2, seed=67))
        device.snapshot()
        device.partial_fit(x, y)
        assert same(rebuilt(device.journal()), device.state())
        if hand == "load":
            device.load({2: np.zeros((4, 6), int)}, {})
        elif hand == "one master":
            device.write_master(0, 5, 1)
        elif hand == "restore":
            device.restore()
        device.partial_fit(x, y)
        if hand == "none":
            assert same(rebuilt(device.journal()), device.state())
        else:
            with pytest.raises(ValueError, match="its weights were written or restored"):
                rebuilt(device.journal())


def test_learning_that_stops_and_starts(core):
    """Option drift: samples that are not learned from leave no records."""
    learner = lockstep(core("other hands"), (Settings(
        rule="es", layers=(0, 2), pairs=3, lr_shift=3, seed=68, start=700, stop=600,
        restart=True, lr_decay=3), 20))
    assert learner.state.written == 3 * learner.state.updates


def test_without_the_option(core):
    _, _, manifest = core("none")
    with Device(manifest) as device:
        assert "journal" not in device.registers
        assert device.state()["records"].shape == (0, 9)
        with pytest.raises(ValueError, match="keeps no journal; build it with option journal"):
            device.journal()


def test_costs_no_cycle(core):
    cycles = []
    x, y = samples(NETWORK, 20, seed=6)
    for name in ("whole", "none"):
        with Device(core(name)[2]) as device:
            device.configure(Settings(rule="es", layers=(0, 2), pairs=3, batch=2, seed=66))
            device.partial_fit(x, y)
            cycles.append(device.in_cycles.tolist() + device.out_cycles.tolist())
    assert np.array_equal(*cycles)

"""The cycle model predicts every cycle of the simulated core."""
import shutil
from dataclasses import replace

import numpy as np
import pytest

from firmware_models.cycles import CycleModel, interval_cycles
from firmware_models.line_rate_cycles import interval, schedule, shadow
from firmware_models.settings import Settings
from hwgen.build import build
from sim.device import Device

from .networks import activated, samples, slopes, small_network
from .random_networks import ending, soft

needs_cpp = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
COUNT = 40
NETWORKS = {
    "one layer": (small_network((7, 3), (0,), seed=1), (0,)),
    "short readers": (ending(soft(6), small_network((12, 10, 6), (1,), {0: 1, 1: 2}, seed=2)),
                      (1,)),
    "two trained": (small_network((24, 12, 6, 5), (0, 2), {0: 6, 1: 4}, seed=3), (0, 2)),
    "activations": (activated(small_network((12, 10, 6, 4), (0, 1, 2), {0: 3, 1: 1, 2: 2}, seed=5),
                              {0: [slopes("a", 10), slopes("b", 10)], 1: [slopes("c", 6)]}),
                    (0, 1, 2)),
    "slow head": (small_network((4, 20, 10), (0, 1), {0: 2}, seed=4), (0, 1)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request, tmp_path_factory):
    network, trained = NETWORKS[request.param]
    return network, trained, build(network, tmp_path_factory.mktemp("core"),
                                   rules=("np", "es"), max_pairs=4,
                                   options=("rank", "shaping", "sharp"))


def check(network, device, job, **options) -> None:
    """Run `job` on the device and compare each packet's cycles with the model's."""
    job()
    expected = CycleModel(network, device.learning).run(COUNT, **options)
    start = device.in_cycles[0]
    np.testing.assert_array_equal(device.in_cycles - start, expected.in_cycles)
    np.testing.assert_array_equal(device.out_cycles - start, expected.out_cycles)
    assert device.clock_cycles == expected.clock_cycles


@needs_cpp
@pytest.mark.parametrize("logits", [False, True])
def test_inference(case, logits):
    network, _, manifest = case
    x, y = samples(network, COUNT)
    with Device(manifest) as device:
        run = device.logits if logits else device.predict
        check(network, device, lambda: run(x), logits=logits)


@needs_cpp
@pytest.mark.parametrize("learn", ["all", "mixed", "few"])
@pytest.mark.parametrize("options", [
    {"pairs": 4, "fitness": "rank", "batch": 2}, {"pairs": 1, "fitness": "sign"},
    {"pairs": 3, "fitness": "sign", "batch": 3, "last": True}, {"pairs": 3, "fitness": "zscore"},
    {"pairs": 4, "fitness": "best", "batch": 2}, {"pairs": 3, "batch": 2, "sharp": 1},
    {"pairs": 1, "sharp": 7}, {"pairs": 2, "sharp": 2, "last": True}],
    ids=["rank", "qzo", "last", "zscore", "best", "sharp", "one sharp pair", "sharp last"])
def test_learning(case, options, learn):
    network, trained, manifest = case
    options = dict(options)
    layers = trained[-1:] if options.pop("last", False) else trained
    settings = Settings(rule="es", layers=layers, **options)
    x, y = samples(network, COUNT)
    share = {"all": 1, "mixed": 0.5, "few": 0.1}[learn]
    bits = np.random.default_rng(6).random(COUNT) < share
    with Device(manifest) as device:
        device.configure(settings)
        check(network, device, lambda: device.partial_fit(x, y, learn=bits),
              settings=settings, learn=bits)


@needs_cpp
def test_inference_core(tmp_path):
    """Without the loss unit behind it, the last stage waits for the readout only."""
    network = small_network((12, 10, 6), (1,), {0: 3, 1: 2})
    x, _ = samples(network, COUNT)
    with Device(build(network, tmp_path, learning=False)) as device:
        check(network, device, lambda: device.predict(x))
        check(network, device, lambda: device.logits(x), logits=True)


@needs_cpp
@pytest.mark.parametrize("learn", ["all", "mixed", "few"])
@pytest.mark.parametrize("options", [
    {"probes": 8}, {"probes": 1}, {"probes": 32, "turn": True}, {"probes": 0}, {"hidden": True}],
    ids=["many", "one", "turn", "none", "hidden"])
def test_node_probes(case, options, learn):
    """Two jobs after each other: the second starts with an update on its way."""
    network, trained, manifest = case
    options = dict(options)
    layers = network.hidden if options.pop("hidden", False) else trained
    settings = Settings(layers=layers, **options)
    x, y = samples(network, COUNT)
    bits = np.random.default_rng(6).random(COUNT) < {"all": 1, "mixed": 0.5, "few": 0.1}[learn]
    with Device(manifest) as device:
        device.configure(settings)
        learned = 0
        for _ in range(2):
            device.partial_fit(x, y, learn=bits)
            expected = schedule(network, COUNT, settings, bits, learned=learned)
            start = device.in_cycles[0]
            np.testing.assert_array_equal(device.in_cycles - start, expected.in_cycles)
            np.testing.assert_array_equal(device.out_cycles - start, expected.out_cycles)
            device.state()              # settles
            learned += int(bits.sum()) if layers else 0


def test_models_agree_without_learning():
    for network, _ in NETWORKS.values():
        for logits in (False, True):
            one = CycleModel(network).run(COUNT, logits=logits)
            other = schedule(network, COUNT, Settings(), logits=logits)
            np.testing.assert_array_equal(one.in_cycles, other.in_cycles)
            np.testing.assert_array_equal(one.out_cycles, other.out_cycles)
            assert one.passes == other.passes == COUNT


def test_shadow():
    """784-32-16-10: node probes on the first layer cost nothing, up to the end of its shadow."""
    network = small_network((784, 32, 16, 10), (0, 2))
    settings = Settings(layers=(0, 2))
    found = shadow(network, settings)
    assert found["inference"] == 784 and found["free"] >= 16
    assert found["intervals"][8] / found["inference"] == 1
    assert found["per_probe"] == 32
    assert interval(network, Settings(layers=())) == 784


def test_by_hand():
    """One layer 5-3: a feature a cycle in, 5 words, 3 outputs, 7 cycles of pipeline."""
    network = small_network((5, 3), (0,))
    stage = network.stages[0]
    assert interval_cycles(stage) == 5
    alone = CycleModel(network, learning=False).run(3)
    # Beat taken in 0, features written in 1 to 5, offered in 6, answered 5 + 3 + 7 cycles later.
    assert alone.in_cycles.tolist() == [0, 5, 10]
    assert alone.out_cycles.tolist() == [6 + 15, 11 + 15, 16 + 15]
    assert (alone.clock_cycles, alone.passes) == (32, 3)
    # Two multipliers behind the sums, of two cycles each.
    slower = CycleModel(activated(small_network((5, 3, 3)), {0: [slopes("a", 3), slopes("b", 3)]}))
    assert slower.run(1).out_cycles - CycleModel(small_network((5, 3, 3))).run(1).out_cycles == 4
    # Base and two probes follow each other after 5 cycles; then loss, fitness, sweep, release.
    settings = Settings(rule="es", layers=(0,), pairs=1, fitness="sign")
    learned = CycleModel(network).run(1, settings)
    loss = 6 + 1 + 2 * 5 + 15 + 3 + 4
    assert learned.passes == 3
    assert learned.idle_cycle == loss + 2 + 3 + ((5 + 1) + 3 + 2 + 1) + 1
    # A second pair enters with the cycle after the first one's last loss.
    two = CycleModel(network).run(1, replace(settings, pairs=2, sharp=1))
    loss += 1 + 5 + 15 + 3 + 4
    assert two.idle_cycle == loss + 2 + 2 * 3 + (2 * (5 + 1) + 3 + 2 + 1) + 1

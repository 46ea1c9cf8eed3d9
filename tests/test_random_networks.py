"""Random networks: hls4ml's C++, golden model and Verilog agree bit for bit."""
import shutil

import numpy as np
import pytest

from firmware_models import dense
from firmware_models.cycles import CycleModel
from firmware_models.softmax import readout
from hwgen.build import build
from hwgen.frontend import from_layers, lower
from hwgen.frontend.layer_list import model_graph
from hwgen.frontend.quiet import quiet
from sim.device import Device
from tests.random_networks import random_codes, random_spec

GROUPS, NIGHTLY_GROUPS, PER_GROUP = 2, 60, 5    # 10 and 300 networks; a group compiles together
SAMPLES = 200

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def emulate(specs, xs, folder) -> list[dict]:
    """Values of every layer of each network, by hls4ml's C++; one compilation for all."""
    prefixes = [f"n{k}_" for k in range(len(specs))]
    graph = model_graph(specs, prefixes, folder, trace=True)
    graph.config.trace_output = True
    graph.config.get_writer_config()["WriteWeightsTxt"] = True      # see Emulation: much faster
    with quiet(folder):
        outputs, layers = graph.trace([np.ascontiguousarray(x * 2.0 ** -spec.input.frac)
                                       for spec, x in zip(specs, xs, strict=True)])
    found = []
    for spec, prefix, output in zip(specs, prefixes, outputs, strict=True):
        values = {layer.name: layers[prefix + layer.name].reshape(len(xs[0]), -1)
                  for layer in spec.layers}
        assert (values[spec.layers[-1].name].ravel() == output.ravel()).all()
        found.append(values)
    return found


def compare(network, trace: dict, values: dict, what: str) -> None:
    """Codes of our layers with hls4ml's values; a cast may be part of the layer before it."""
    last = None
    for name in list(values):
        if name in trace:
            last = name
        else:
            values[last] = values.pop(name)
    assert list(trace) == list(values), what
    for layer in network.layers:
        np.testing.assert_array_equal(trace[layer.name] * 2.0 ** -layer.result.frac,
                                      values[layer.name], f"{what}: {layer.name}")


def agree(group: int, folder) -> None:
    seeds = range(group * PER_GROUP, (group + 1) * PER_GROUP)
    rngs = [np.random.default_rng(seed) for seed in seeds]
    specs = [random_spec(rng, f"random{seed}") for rng, seed in zip(rngs, seeds, strict=True)]
    xs = [random_codes(rng, spec.input, (SAMPLES, spec.dense[0].n_in))
          for rng, spec in zip(rngs, specs, strict=True)]
    emulated = emulate(specs, xs, folder / "joint")
    for seed, spec, x, expected in zip(seeds, specs, xs, emulated, strict=True):
        network = lower(from_layers(spec, folder / f"hls{seed}"))
        compare(network, dense.trace(network, x), expected, f"seed {seed}: {spec}")
        delivered = readout(network, dense.forward(network, x))
        in_verilog(seed, network, x, delivered, folder / f"core{seed}")


def in_verilog(seed: int, network, x, delivered, folder) -> None:
    with Device(build(network, folder, learning=False)) as device:
        np.testing.assert_array_equal(device.logits(x), delivered, f"seed {seed}")
        schedule = CycleModel(network, learning=False).run(SAMPLES, logits=True)
        assert device.clock_cycles == schedule.clock_cycles
        np.testing.assert_array_equal(device.logits(x, idle=0.4, stall=0.4), delivered)


@pytest.mark.parametrize("group", range(GROUPS))
def test_engines_agree(group, tmp_path):
    agree(group, tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("group", range(NIGHTLY_GROUPS))
def test_engines_agree_nightly(group, tmp_path):
    agree(group, tmp_path)

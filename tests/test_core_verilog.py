"""Whole cores in Verilator under cocotb: sim/core.py says what is compared."""
from dataclasses import replace

import numpy as np
import pytest

from firmware_models.activation import Relu
from firmware_models.formats import Fixed
from firmware_models.network import Dense, Network
from firmware_models.options import needed
from firmware_models.settings import Settings
from hwgen.build import build
from sim.errors import SimulationError
from sim.runner import run_bench

from .random_networks import ending, soft


def small_network(trainable=(), input_width=8) -> Network:
    """12-6-4 with a hidden ReLU."""
    rng = np.random.default_rng(3)
    hidden = Fixed(6, 3, signed=False, rounding="RND", overflow="SAT")

    def dense(name, n_in, n_out, reuse_factor):
        return Dense(name=name, n_in=n_in, n_out=n_out, reuse_factor=reuse_factor,
                     weight=Fixed(6, 4), bias=Fixed(6, 3), accum=Fixed(20, 10),
                     result=Fixed(10, 4), weight_codes=rng.integers(-32, 32, (n_out, n_in)),
                     bias_codes=rng.integers(-32, 32, n_out), trainable=name in trainable)
    return Network(name="small", input=Fixed(input_width, 6, signed=False), layers=(
        dense("fc1", 12, 6, 4), Relu(name="relu1", n=6, result=hidden), dense("fc2", 6, 4, 3)))


@pytest.mark.parametrize("input_width", [8, 10])
def test_inference_core(tmp_path, cocotb_run, input_width):
    network = small_network(input_width=input_width)
    if input_width == 10:
        network = ending(soft(4, network.output), network)
    manifest = build(network, tmp_path, learning=False)
    assert run_bench(manifest, "sim.core", data={"network": network}, **cocotb_run) == 6


@pytest.mark.parametrize("trainable, settings", [
    (("fc1", "fc2"), Settings(rule="es", layers=(0, 1), pairs=3, batch=2, lr_shift=3, seed=7)),
    pytest.param(("fc2",), Settings(rule="es", layers=(1,), pairs=4, fitness="sign", lr_shift=2,
                                    seed=3), marks=pytest.mark.nightly),
    (("fc2", "prompt"), Settings(rule="es", layers=(1, 2), pairs=2, lr_shift=3, seed=5)),
    (("fc1", "fc2"), Settings(layers=(0, 1), probes=5, lr_shift=6, head_shift=5, seed=7)),
    pytest.param(("fc1",), Settings(layers=(0,), probes=3, lr_shift=5, lr_decay=5, skip=9, seed=3),
                 marks=pytest.mark.nightly),
    (("fc2",), Settings(layers=(1,), probes=0, head_shift=8, lmin=0, lmax=128, standardize=2,
                        seed=9)),
], ids=["es-both", "es-last", "es-prompt", "np-both", "np-hidden", "delta-partial"])
def test_learning_core(tmp_path, cocotb_run, trainable, settings):
    network = small_network().with_trainable(trainable)
    if "fc1" in trainable:
        network = ending(soft(4, network.output), network)
    options = ("rank", "journal") if settings.rule == "es" else needed(settings)
    manifest = build(network, tmp_path, rules=(settings.rule,), max_pairs=4, options=options,
                     journal_records=16)
    assert run_bench(manifest, "sim.core", data={"network": network, "settings": settings},
                     **cocotb_run) == 9


def test_failures_are_seen(tmp_path, seed):
    """A bench that fails, one that finds no test, one that is none; and a recorded run."""
    network = small_network()
    manifest = build(network, tmp_path, learning=False)

    def run(bench="sim.core", of=network, **options):
        return run_bench(manifest, bench, data={"network": of}, seed=seed, **options)

    other = replace(network, layers=(
        replace(network.layers[0], bias_codes=network.layers[0].bias_codes ^ 16),
        *network.layers[1:]))
    with pytest.raises(SimulationError, match=r"6 of 6 tests of sim.core failed \(inference"):
        run(of=other, only="inference|bad_packets", results=tmp_path / "failed.xml")
    assert "failure" in (tmp_path / "failed.xml").read_text()
    with pytest.raises(SimulationError, match="holds no test|left no results"):
        run(only="no such test")
    with pytest.raises(SimulationError, match="holds no test|left no results|did not run"):
        run("sim.no_such_bench")
    assert run(only="bad_packets", waves=True) == 2
    assert "s_axis_tvalid" in (tmp_path / "cocotb" / "dump.vcd").read_text()

"""Backpropagation beside the rules of the core: what each costs, by hand, and starts with."""
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from examples import beside, beside_page
from examples.beside_costs import (
    core_bits,
    core_operations,
    firmware_bytes,
    operations,
    sizes_of,
)
from firmware_models.fqt import affine, integer, paper
from firmware_models.fqt.layers import dense, sequential
from firmware_models.settings import Settings
from hwgen import data
from hwgen.firmware import generate

from .networks import small_network

SIZES = [4, 3, 2]                               # 12 and 6 weights
NETWORK = small_network(SIZES, (0, 1))          # features of 8 bits, an input a cycle
BOTH = (0, 1)


@pytest.mark.parametrize("settings, passes, forward, update", [
    (Settings(layers=BOTH, probes=2), 3, 18 + 2 * 6, 18),       # probes begin behind the first
    (Settings(layers=BOTH, probes=0), 1, 18, 18),
    (Settings(layers=(1,), probes=8), 1, 18, 6),                # delta: nothing is probed
    (Settings(layers=(0,), probes=8), 9, 18 + 8 * 6, 12),
    (Settings(rule="es", layers=BOTH, pairs=2), 5, 18 + 4 * 18, 3 * 18),
    (Settings(rule="es", layers=(1,), pairs=4, batch=2), 9, 18 + 8 * 6, 5 * 6 / 2),
], ids=str)
def test_operations_of_a_core(settings, passes, forward, update):
    assert asdict(core_operations(NETWORK, settings)) == {
        "passes": passes, "forward": forward, "backward": 0, "update": update}


def test_operations_of_backpropagation():
    """A product a weight for gradients; one a weight behind the first layer for errors."""
    assert sizes_of(NETWORK) == SIZES
    assert asdict(operations(SIZES, learning=BOTH, backward=True)) == {
        "passes": 1, "forward": 18, "backward": 18 + 6, "update": 18}
    assert asdict(operations(SIZES, learning=(1,), backward=True, batch=4)) == {
        "passes": 1, "forward": 18, "backward": 6, "update": 6 / 4}


def test_bits_of_node_probes():
    """15 and 8 weights and biases, 5 nodes."""
    assert core_bits(NETWORK, Settings(layers=BOTH, probes=2), 4) == {
        "residual": 4 * 23, "logits": 4 * 2 * 12,       # rings of four vectors
        "inputs": 2 * (4 * 8 + 3 * 8), "means": 4 * 14, "coefficients": 4 * 2 * 5,
        "errors": 14 * 5, "noise": 32, "signs and activity": 2 * 2 * 3}
    assert core_bits(NETWORK, Settings(layers=(1,), probes=0), 3) == {
        "residual": 3 * 8, "logits": 96, "inputs": 2 * 3 * 8, "means": 0, "coefficients": 4 * 2 * 2,
        "errors": 14 * 2, "noise": 0, "signs and activity": 0}


def test_bits_of_weight_probes():
    """Lanes: 3 in the first layer, 2 in the second. Differences of a batch of two: 16 bits."""
    settings = Settings(rule="es", layers=BOTH, pairs=3, batch=2)
    assert core_bits(NETWORK, settings, 4) == {
        "residual": 92, "logits": 96, "seeds": 32 * 4, "differences": 3 * 16,
        "coefficients": 3 * 8, "noise": 3 * 32 * 2, "sums of changes": 5 * (8 + 2)}


@pytest.mark.parametrize("arithmetic, scratch, state, gradients", [
    # Samples and two ranges of 12 or 24 bytes; biases of 4, masters of 2 bytes or weights of 1.
    (integer, 8, 4 + 2 * 12 + 5 * 4 + 18 * 2, 0),
    (paper, 0, 4 + 2 * 24 + 5 * 4 + 18 + 2, 23 * 4)])       # two bytes up to a whole word
def test_bytes_of_firmware(tmp_path, arithmetic, scratch, state, gradients):
    """Inference: 18 + 20 bytes of weights and biases; logits 8, inputs 4 and 3, and its scratch."""
    layers = sequential((1, 1, 4), dense(3), dense(2))
    begin = arithmetic.init(layers, {"dense1": np.eye(3, 4), "dense2": np.eye(2, 3)},
                            {"dense1": np.zeros(3), "dense2": np.zeros(2)})
    plan = generate(layers, begin, tmp_path)
    found = firmware_bytes(layers, plan, scratch)
    # The first input is gone when the logits come, so that both have the same place.
    arena = 8 + scratch + 4
    assert found == {"state": state, "arena": plan["arena_bytes"], "gradients": gradients,
                     "inference": 38 + arena,
                     "extra": state + plan["arena_bytes"] + gradients - 38 - arena}


@pytest.mark.parametrize("arithmetic", [integer, paper])
def test_start_has_the_weights_of_the_core(arithmetic):
    """Masters stand for them exactly, bytes as their scale allows; nothing has been learned."""
    x, y = data.load("digits").training()
    layers, state = beside.start(NETWORK, arithmetic, x[:3, :4], y[:3] % 2)
    assert state.samples == 0
    for layer, stage in zip(layers, NETWORK.stages, strict=True):
        of, s = stage.dense, state.layers[layer.name]
        weights = of.weight_codes * 2.0 ** -of.weight.frac
        if arithmetic is integer:
            half = 1 << integer.RESIDUAL_BITS - 1
            unit = 2.0 ** -(s.weight_frac + integer.RESIDUAL_BITS)
            assert ((s.master - half) * unit == weights).all()
            biases = s.bias
        else:
            # Pixels count as 1/255 and not as 1/256.
            scaled = (weights * (255 / 256 if stage.index == 0 else 1)).astype(affine.F)
            scale, zero = affine.scale_of(*affine.span(scaled))
            assert (s.scale, s.zero) == (scale, zero)
            assert (s.weights == affine.quantize(scaled, scale, zero)).all()
            biases = s.biases
            assert not state.gradients[layer.name].weights.any()
        assert (biases == of.bias_codes << integer.BIAS_FRAC - of.bias.frac).all()


def test_formats_have_followed_the_samples():
    """Outputs of the first layer leave the format they begin with; nothing else moves."""
    x, y = data.load("digits").training()
    layers, state = beside.start(NETWORK, paper, x[:3, :4], y[:3] % 2)
    assert state.layers["dense1"].peak != paper.LayerState(None, None).peak


def test_table():
    row = {"layers": ["fc1", "fc2"], "runs": [{"before": 40.0, "after": 90.0},
                                              {"before": 42.0, "after": 91.0}]}
    done = {"passes": 1, "forward": 18, "backward": 24, "update": 4.5}
    rows = {
        "FQT": row | {"tried": [[80.0, {"lr": 0.1}], [90.0, {"lr": 0.5}]],
                      "memory": {"extra": 1234}, "operations": done, "board": {
            "mhz": 600, "train_instructions": 60_000, "predict_instructions": 6_000}},
        "np": row | {"memory": {"extra": 56}, "operations": done | {"backward": 0},
                     "core": {"mhz": 200, "cycles": 200_000}}}
    one = {"sizes": SIZES, "disturbance": "none", "samples": 100, "rows": rows,
           "inference": {"forward": 18, "cycles": 20_000, "mhz": 200}}
    assert beside_page.table({"examples": {"tiny": one}}).splitlines()[2:] == [
        "| **`tiny`** 4-3-2, none | nothing | - | - | 1 | 18 | - | - | 1.00 µs | 0.100 ms | "
        "10.0 µs | 1.00 ms |",
        "| FQT, `lr` 0.5 | fc1, fc2 | 41.0 to **90.5 %** (90.0, 91.0) | 1,234 B | 1 | 18 | 24 | 4 "
        "| - | - | 100 µs | 10.0 ms |",
        "| np | fc1, fc2 | 41.0 to **90.5 %** (90.0, 91.0) | 56 B | 1 | 18 | - | 4 | 10.0 µs | "
        "1.00 ms | - | - |"]


def test_document_has_the_table():
    docs = Path(__file__).parent.parent / "docs"
    text = (docs / "rules" / "fqt.md").read_text()
    found = json.loads((docs / "results" / "beside.json").read_text())
    assert text.split("<!-- beside -->\n")[1].split("\n<!-- end -->")[0] \
        == beside_page.table(found)


def test_a_run(monkeypatch):
    """A rule of the core on a shorter stream."""
    monkeypatch.setitem(beside.example.EXPERIMENTS, "digits",
                        {"disturb": "rotate:30", "samples": 200, "seeds": (1,)})
    row = beside.on_core("digits", "delta", (1,))
    assert row["core"]["passes"] == 200 and row["layers"] == ["fc3"]
    assert row["runs"][0]["before"] != row["runs"][0]["after"]

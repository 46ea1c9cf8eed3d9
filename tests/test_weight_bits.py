"""Weights of trained layers widened: the same inference, by hand, in hls4ml's C++ and the core."""
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from firmware_models.dense import forward
from firmware_models.directions import finer
from firmware_models.formats import Fixed
from hwgen import checkpoint, data, example
from hwgen.cli import main
from hwgen.errors import HwgenError
from hwgen.frontend import DenseSpec, Emulation, NetworkSpec


def layer(name, accum=None) -> DenseSpec:
    return DenseSpec(name=name, weight=Fixed(6, 4), bias=Fixed(7, 5), result=Fixed(12, 4),
                     weight_codes=np.array([[1, -32], [31, 0]]), bias_codes=np.array([-64, 3]),
                     accum=accum)


def test_by_hand():
    spec = NetworkSpec(name="two", input=Fixed(8, 8, False), layers=(layer("a"), layer("b")))
    wide = spec.with_weight_bits(9, ["b"])
    assert wide.layers[0] is spec.layers[0]
    b = wide.layers[1]
    assert (b.weight, b.bias, b.result) == (Fixed(9, 7), Fixed(10, 8), Fixed(12, 4))
    assert b.weight_codes.tolist() == [[8, -256], [248, 0]] and b.bias_codes.tolist() == [-512, 24]
    # Exact products have 12 fraction bits: an accumulator that has them gets those added.
    for accum, expected in ((Fixed(20, 12), Fixed(23, 15)), (Fixed(20, 11), Fixed(20, 11))):
        one = replace(spec, layers=(layer("a", accum),)).with_weight_bits(9, ["a"])
        assert one.layers[0].accum == expected


@pytest.mark.parametrize("bits, message", [
    (5, "b: weights of 6 bits cannot become 5; 6 to 16 are possible"), (17, "cannot become 17")])
def test_refusals(bits, message):
    spec = NetworkSpec(name="two", input=Fixed(8, 8, False), layers=(layer("a"), layer("b")))
    with pytest.raises(HwgenError, match=message):
        spec.with_weight_bits(bits, ["b"])


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_inference_stays_and_is_that_of_cpp(tmp_path):
    x = data.load("digits").x_test.astype(np.int64)
    network, _ = example.prepare("digits", tmp_path / "narrow")
    wide, graph = example.prepare("digits", tmp_path / "wide", weight_bits=16)
    assert [s.dense.weight.width for s in wide.stages] == [16, 8, 16]
    assert [finer(s.dense) for s in wide.stages] == [8, 0, 8]
    assert wide.digest() != network.digest()
    np.testing.assert_array_equal(forward(wide, x), forward(network, x))
    np.testing.assert_array_equal(Emulation(graph).logits(x), forward(wide, x))
    same, _ = example.prepare("digits", tmp_path / "same", weight_bits=8)
    assert same.digest() == network.digest()


def test_command_line(tmp_path, capsys):
    words = ["build", "--train", "fc3", "-o", str(tmp_path)]
    assert main([*words, "--weight-bits", "16"]) == 0
    stages = json.loads((tmp_path / "manifest.json").read_text())["stages"]
    assert [stage["weight"]["width"] for stage in stages] == [8, 8, 16]
    assert stages[2]["master_width"] == 20
    capsys.readouterr()
    assert main([*words, "--weight-bits", "7"]) == 2
    assert "fc3: weights of 8 bits cannot become 7; 8 to 16 are possible" in capsys.readouterr().err


def test_checkpoints_have_eight_bits():
    """What the documents call 8w8a."""
    for name in example.NAMES:
        assert {dense.weight.width for dense in checkpoint.load(name).dense} == {8}

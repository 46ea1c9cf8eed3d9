"""The network description: word layout by hand, stages, refusals."""
import json
from dataclasses import replace

import numpy as np
import pytest

from firmware_models.activation import Linear, PRelu, Relu
from firmware_models.formats import Fixed
from firmware_models.network import Dense, Network, described

from .networks import small_network


def dense(name="fc", n_in=4, n_out=2, reuse_factor=2, **other) -> Dense:
    return Dense(**{
        "name": name, "n_in": n_in, "n_out": n_out, "reuse_factor": reuse_factor,
        "weight": Fixed(6, 4), "bias": Fixed(6, 4), "accum": Fixed(16, 8), "result": Fixed(8, 4),
        "weight_codes": np.arange(n_in * n_out).reshape(n_out, n_in),
        "bias_codes": np.zeros(n_out, int)} | other)


def network(*layers, name="net") -> Network:
    return Network(name=name, input=Fixed(8, 4), layers=layers)


@pytest.mark.parametrize("reuse_factor, words", [
    # Row j of the weights is output j; the flat elements are 0 to 7.
    (1, [[0, 1, 2, 3, 4, 5, 6, 7]]),
    (2, [[0, 2, 4, 6], [1, 3, 5, 7]]),
    (4, [[0, 4], [1, 5], [2, 6], [3, 7]]),
])
def test_word_layout_by_hand(reuse_factor, words):
    layer = dense(reuse_factor=reuse_factor)
    assert (layer.inputs_per_word, layer.lanes) == (4 // reuse_factor, 8 // reuse_factor)
    np.testing.assert_array_equal(layer.words(layer.weight_codes), words)
    np.testing.assert_array_equal(layer.matrix(np.array(words)), layer.weight_codes)
    many = np.arange(3 * 5 * 8).reshape(3, 5, 2, 4)
    assert layer.words(many).shape == (3, 5, reuse_factor, 8 // reuse_factor)
    np.testing.assert_array_equal(layer.matrix(layer.words(many)), many)


def test_stages():
    net = small_network((12, 6, 4), (1,), {0: 4, 1: 3})
    first, last = net.stages
    # The outputs of a stage leave in the words that the next one reads.
    assert (first.drain_words, first.drain_lanes) == (3, 2)
    assert (last.drain_words, last.drain_lanes) == (4, 1)
    assert first.source == net.input and last.source == first.result == net.layers[1].result
    assert last.result == net.layers[2].result
    assert (net.n_in, net.n_classes, net.trainable) == (12, 4, (1,))
    assert net.with_trainable(["fc1", "fc2"]).trainable == (0, 1)
    assert net.with_trainable([]).trainable == ()
    with pytest.raises(ValueError, match=r"unknown layer 'fc3'; the dense layers are \['fc1'"):
        net.with_trainable(["fc3"])


def test_digest_sees_every_part():
    net = small_network((4, 3, 2))
    fc1, relu1, fc2 = net.layers
    other = fc2.weight_codes.copy()
    other[1, 2] ^= 1
    variants = [
        net, replace(net, name="other"), replace(net, input=replace(net.input, rounding="RND")),
        replace(net, layers=(replace(fc1, reuse_factor=2), relu1, fc2)),
        replace(net, layers=(fc1, relu1, replace(fc2, weight_codes=other))),
        replace(net, layers=(fc1, relu1, replace(fc2, bias_codes=fc2.bias_codes ^ 1))),
        net.with_trainable(["fc2"]),
    ]
    assert len({v.digest() for v in variants}) == len(variants)
    assert net.digest() == small_network((4, 3, 2)).digest()


def test_activations_of_a_stage():
    logits = Linear(name="logits", n=2, result=Fixed(9, 3))
    layers = dense("a"), RELU, prelu(), dense("b", n_in=2), logits
    first, last = network(*layers).stages
    assert first.activation == layers[1:3] and last.activation == (logits,)
    assert (first.result, last.source, last.result) == (Fixed(8, 4), Fixed(8, 4), Fixed(9, 3))
    assert (first.delay_cycles, last.delay_cycles) == (2, 0)
    # Nodes are off where a ReLU comes last, and soon enough.
    for between, gated in (((), False), ((RELU,), True), ((logits, RELU), True),
                           ((RELU, logits), False), ((prelu(), RELU), False)):
        assert network(dense("a"), *between, dense("b", n_in=2)).stages[0].gated == gated
    changed = network(*layers[:2], prelu(slope_codes=[-3, 4]), *layers[3:])
    assert changed.digest() != network(*layers).digest()


@pytest.mark.parametrize("prompt", [False, True])
def test_described(prompt):
    net = network(dense("a"), RELU, prelu(), dense("b", n_in=2, trainable=True))
    net = net.with_prompt() if prompt else net
    got = described(json.loads(json.dumps(net.describe())))
    assert got.describe() == net.describe() and got.trainable == net.trainable
    assert not got.stages[0].dense.weight_codes.any() and not got.layers[2].slope_codes.any()


@pytest.mark.parametrize("change, message", [
    ({"n_out": 0}, "fc: 4 inputs and 0 outputs"),
    ({"reuse_factor": 3}, "fc: reuse factor 3 does not divide its 4 inputs"),
    ({"reuse_factor": 0}, "fc: reuse factor 0 does not divide"),
    ({"accum": Fixed(16, 8, True, "TRN", "SAT")}, r"fc: accumulator .*SAT> saturates; needs WRAP"),
    ({"trainable": True, "weight": Fixed(6, 4, False)}, "fc: trainable weights .* are signed"),
    ({"trainable": True, "bias": Fixed(6, 4, False)}, "fc: trainable weights .* are signed"),
    ({"weight_codes": np.zeros((4, 2), int)}, r"weight codes have shape \(4, 2\), not \(2, 4\)"),
    ({"bias_codes": np.zeros(3, int)}, r"fc: bias codes have shape \(3,\), not \(2,\)"),
    ({"weight_codes": np.full((2, 4), 32)}, "32 is not a code of fixed<6,2>"),
    ({"bias_codes": np.zeros(2)}, "codes are integers, not float64"),
])
def test_refused_layers(change, message):
    with pytest.raises(ValueError, match=message):
        dense(**change)


def prelu(**more):
    return PRelu(**{"name": "slopes", "n": 2, "result": Fixed(8, 4), "slope": Fixed(4, 2),
                    "slope_codes": [-3, 5]} | more)


RELU = Relu(name="relu", n=2, result=Fixed(8, 4, False))


@pytest.mark.parametrize("layers, message", [
    ((), "net: a network needs at least one Dense layer"),
    ((dense("a"), dense("b")), "b: 4 inputs after 2 outputs"),
    ((dense("a"), dense("a", n_in=2)), "net: two layers of the same name"),
    ((RELU, dense("a")), "relu: 2 outputs must follow a Dense layer of the same size"),
    ((dense("a", n_out=3), RELU), "relu: 2 outputs must follow"),
    ((dense("a"), RELU, replace(RELU, name="again", n=3)), "again: 3 outputs must follow"),
    ((dense("a"), RELU), "relu: behind the last Dense layer only Linear and Add can stand"),
    ((dense("a"), prelu(slope=Fixed(60, 2)), dense("b", n_in=2)), "slopes: .* 68 bits"),
])
def test_refused_chains(layers, message):
    with pytest.raises(ValueError, match=message):
        network(*layers)

"""Small networks made directly from the golden models, without a front end."""
from dataclasses import replace

import numpy as np

from firmware_models.activation import PRelu, Relu
from firmware_models.formats import Fixed
from firmware_models.network import Dense, Network

INPUT = Fixed(8, 8, signed=False)
HIDDEN = Fixed(8, 4, False, "RND", "SAT")
WEIGHT, BIAS = Fixed(8, 6), Fixed(8, 5)
LOGITS = Fixed(16, 8, True, "RND", "SAT")


def small_network(sizes, trainable=(), reuse=None, *, seed: int = 1, extreme: bool = False,
                  weight: Fixed = WEIGHT, bias: Fixed = BIAS, source: Fixed = INPUT,
                  hidden: Fixed = HIDDEN) -> Network:
    """Dense layers of `sizes` with ReLUs between them and exact accumulators.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, then the outputs of every layer.
    trainable : sequence of int
        Layers that learn, by number.
    reuse : dict of int to int
        Reuse factors that are not the number of inputs.
    extreme : bool
        Weights and biases are their formats' ends, or next to them.
    """
    rng = np.random.default_rng(seed)

    def draw(of, shape):
        if extreme:
            return rng.choice([of.min, of.min + 1, of.max - 1, of.max], shape)
        return rng.integers(of.min // 3, of.max // 3 + 1, shape)

    layers, features = [], source
    for k, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        last = k == len(sizes) - 2
        accum = Fixed(source.width + weight.width + n_in.bit_length() + 2,
                      source.frac + weight.frac)
        layers.append(Dense(
            name=f"fc{k + 1}", n_in=n_in, n_out=n_out, reuse_factor=(reuse or {}).get(k, n_in),
            weight=weight, bias=bias, accum=accum, result=LOGITS if last else accum,
            weight_codes=draw(weight, (n_out, n_in)), bias_codes=draw(bias, n_out),
            trainable=k in trainable))
        if not last:
            layers.append(Relu(name=f"relu{k + 1}", n=n_out, result=hidden))
            source = hidden
    return Network(name="small", input=features, layers=tuple(layers))


def activated(network: Network, activations: dict) -> Network:
    """The network with other layers behind some of its stages, by number."""
    return replace(network, layers=tuple(
        layer for stage in network.stages
        for layer in (stage.dense, *activations.get(stage.index, stage.activation))))


def constant(network: Network, *stages: int) -> Network:
    """The network with some of its stages as constant logic."""
    names = [network.stages[k].dense.name for k in stages]
    return replace(network, layers=tuple(
        replace(layer, constant=True) if layer.name in names else layer
        for layer in network.layers))


def slopes(name: str, n: int, result: Fixed = HIDDEN, seed: int = 1) -> PRelu:
    """A slope for each node, from -1 to less than 1; signed results."""
    slope = Fixed(6, 5)
    return PRelu(name=name, n=n, result=replace(result, signed=True), slope=slope,
                 slope_codes=np.random.default_rng(seed).integers(slope.min, slope.max + 1, n))


def samples(network: Network, count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Random input codes [count, n_in], the ends of their format among them, and labels."""
    rng = np.random.default_rng(seed)
    of = network.input
    x = rng.integers(of.min, of.max + 1, (count, network.n_in))
    x = np.where(rng.random(x.shape) < 0.1, rng.choice([of.min, of.max], x.shape), x)
    return x, rng.integers(0, network.n_classes, count)

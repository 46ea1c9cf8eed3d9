"""Networks that train by backpropagation, of every kind of layer."""
import numpy as np

from firmware_models.fqt.layers import (
    average_pool,
    conv,
    dense,
    depthwise,
    max_pool,
    sequential,
)

DIGITS = sequential((8, 8, 1), dense(32), dense(10))
EVERY_KIND = sequential(
    (8, 8, 1), conv(6, 3, same=True), max_pool(2), depthwise(3, same=True),
    conv(8, (1, 3), strides=(1, 2)), average_pool((2, 1)), dense(12), dense(10))
PARTS = sequential(
    (8, 8, 1), conv(6, 3, same=True, trainable=False), max_pool(2), depthwise(3, same=True),
    conv(8, (1, 3), strides=(1, 2), trainable=False), average_pool((2, 1)),
    dense(12, trainable=False), dense(10))


def weights_of(layers, seed=1, scale=6.0) -> tuple[dict, dict]:
    """Weights of He's uniform distribution, and some biases."""
    rng = np.random.default_rng(seed)
    linear = [layer for layer in layers if layer.is_linear]
    return ({layer.name: rng.uniform(-1, 1, (layer.rows, layer.columns))
             * np.sqrt(scale / layer.columns) for layer in linear},
            {layer.name: rng.normal(0, 0.1, layer.rows) for layer in linear})


def drawn(rng):
    """A network, and samples for it."""
    shape = (int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(1, 4)))
    layers, (h, w, _) = [], shape
    for _ in range(rng.integers(0, 4)):
        kind = rng.choice(["conv", "depthwise", "max_pool", "average_pool"])
        kernel = int(rng.integers(1, min(h, 4) + 1)), int(rng.integers(1, min(w, 4) + 1))
        trainable = bool(rng.random() < 0.7)
        if kind in ("max_pool", "average_pool"):
            layers.append({"max_pool": max_pool, "average_pool": average_pool}[kind](kernel))
        else:
            common = dict(strides=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
                          same=bool(rng.random() < 0.5), trainable=trainable)
            layers.append(depthwise(kernel, **common) if kind == "depthwise" else
                          conv(int(rng.integers(1, 6)), kernel, **common))
        h, w, _ = sequential(shape, *layers, dense(2))[-2].shape_out
    if rng.random() < 0.5:
        layers.append(dense(int(rng.integers(1, 20)), trainable=bool(rng.random() < 0.7)))
    n_classes = int(rng.integers(2, 12))
    made = sequential(shape, *layers, dense(n_classes))
    x = rng.integers(0, 256, (60, made[0].n_in))
    return made, x, rng.integers(0, n_classes, 60)

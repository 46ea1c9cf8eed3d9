"""How a firmware with scales and zero points, or in float32, keeps its layers and its state."""
from dataclasses import replace

import numpy as np

from firmware_models.fqt import paper
from firmware_models.fqt.affine import F
from firmware_models.fqt.paper import (
    LayerState,
    Settings,
    State,
    float_from,
    init,
    no_gradients,
)

from .values import Reader, Values, joined

MODEL = paper
MODES = paper.MODES
SOURCES = ("affine.h", "batch.c", "float32_layer.c", "paper.c", "paper.h", "paper_layers.h",
           "pool_back.h", "softmax.c", "softmax.h", "uint8_layer.c")
HEADER = "paper.h"

RANGE = np.dtype([("scale", "<f4"), ("peak", "<f4"), ("low", "<f4"), ("high", "<f4"),
                  ("error_max", "<u4"), ("zero", "<i4")])


def floats(layers, state: State) -> int:
    """The first layer of floats."""
    return float_from(layers, state.mode)


def row_columns(layers, state: State, settings: Settings) -> int:
    """Columns of the longest gradient that a layer of bytes adds up for a sample."""
    return max((layer.columns for layer in layers[:floats(layers, state)] if layer.trainable),
               default=0)


def values_of(layer, s: LayerState) -> Values:
    """What a layer with weights begins with."""
    in_floats = s.weights.dtype == F
    return Values(
        weights=s.weights, weight_type="float" if in_floats else "uint8_t", field="weights",
        biases=s.biases, bias_type="float" if in_floats else "int32_t",
        range={name: getattr(s, name) for name in RANGE.names})


def _trained(layers, state: State):
    """Layers that train: in their order, and those of floats first, which are whole words."""
    found = [layer for layer in layers if layer.trainable]
    return found, sorted(found, key=lambda layer: state.layers[layer.name].weights.dtype != F)


def types_of(s: LayerState) -> dict[str, str]:
    """Types in memory and in a file of what training changes."""
    in_floats = s.weights.dtype == F
    return {"weights": "<f4" if in_floats else "u1", "biases": "<f4" if in_floats else "<i4"}


def empty(layers, mode: str) -> State:
    """A state of zeros."""
    linear = [layer for layer in layers if layer.is_linear]
    return init(layers, {layer.name: np.zeros((layer.rows, layer.columns)) for layer in linear},
                {layer.name: np.zeros(layer.rows) for layer in linear}, mode)


def pack(layers, state: State) -> bytes:
    """Samples, ranges, biases, weights of floats, weights of bytes; no gradients."""
    ranges = np.zeros(len(state.layers), RANGE)
    for row, s in zip(ranges, state.layers.values(), strict=True):
        for name in RANGE.names:
            row[name] = getattr(s, name)
    in_order, by_size = ([state.layers[layer.name] for layer in some]
                         for some in _trained(layers, state))
    return joined([np.array([state.samples], "<u4"), ranges,
                   *(s.biases.astype(types_of(s)["biases"]) for s in in_order),
                   *(s.weights.astype(types_of(s)["weights"]) for s in by_size)])


def unpack(layers, state: State, packed: bytes) -> State:
    """The state that the bytes hold, at the beginning of a batch's gradient."""
    take = Reader(packed)
    samples = int(take("<u4", 1)[0])
    found = {}
    for (name, before), of in zip(state.layers.items(), take(RANGE, len(state.layers)),
                                  strict=True):
        found[name] = replace(before, scale=of["scale"], peak=of["peak"], low=of["low"],
                              high=of["high"], error_max=int(of["error_max"]),
                              zero=int(of["zero"]))
    in_order, by_size = _trained(layers, state)
    for layer in in_order:
        s = found[layer.name]
        s.biases = take(types_of(s)["biases"], s.biases.shape)
    for layer in by_size:
        s = found[layer.name]
        s.weights = take(types_of(s)["weights"], s.weights.shape)
    return State(state.mode, found, no_gradients(layers), samples)

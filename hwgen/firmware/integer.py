"""How a firmware that trains in integers keeps its layers and its state."""
import numpy as np

from firmware_models.fqt import integer
from firmware_models.fqt.integer import RESIDUAL_BITS, LayerState, Settings, State

from .values import Reader, Values, joined

MODEL = integer
MODES = ("integer",)
SOURCES = ("backward.c", "forward.c", "head.c", "passes.h", "training.c", "training.h")
HEADER = "training.h"

RANGE = np.dtype([("peak", "<i4"), ("error_max", "<u4"), ("weight_frac", "i1"), ("out_frac", "i1"),
                  ("unused", "V2")])


def floats(layers, state: State) -> None:
    """The first layer of floats: nothing is a float."""


def row_columns(layers, state: State, settings: Settings) -> int:
    """Words of what is written down of a row.

    Its gradient, or in half words what kernels see at two positions. Dense layers have one
    position, and need their gradient for its mean alone.
    """
    return max(layer.columns if layer.kind != "dense" or settings.standardize
               else -(-layer.columns // 2) for layer in layers if layer.is_linear)


def values_of(layer, s: LayerState) -> Values:
    """What a layer with weights begins with."""
    return Values(
        weights=s.master if layer.trainable else s.master >> RESIDUAL_BITS,
        weight_type="int16_t" if layer.trainable else "int8_t",
        field="masters" if layer.trainable else "weights", biases=s.bias, bias_type="int32_t",
        range={"peak": s.peak, "error_max": s.error_max, "weight_frac": s.weight_frac,
               "out_frac": s.out_frac})


def types_of(s: LayerState) -> dict[str, str]:
    """Types in a file of what training changes."""
    return {"master": "<i2", "bias": "<i4"}


def empty(layers, mode: str) -> State:
    """A state of zeros."""
    return State({layer.name: LayerState(np.zeros((layer.rows, layer.columns), np.int64),
                                         np.zeros(layer.rows, np.int64), 0)
                  for layer in layers if layer.is_linear})


def pack(layers, state: State) -> bytes:
    """Samples, ranges, biases, masters, means."""
    ranges = np.zeros(len(state.layers), RANGE)
    linear = [layer for layer in layers if layer.is_linear]
    for row, layer in zip(ranges, linear, strict=True):
        s = state.layers[layer.name]
        row["peak"], row["error_max"] = s.peak, s.error_max
        row["weight_frac"], row["out_frac"] = s.weight_frac, s.out_frac
    trained = [state.layers[layer.name] for layer in linear if layer.trainable]
    parts = [np.array([state.samples], "<u4"), ranges,
             *(s.bias.astype("<i4") for s in trained), *(s.master.astype("<i2") for s in trained)]
    if state.mean is not None:
        parts.append(state.mean.astype("<u2"))
    return joined(parts)


def unpack(layers, state: State, packed: bytes) -> State:
    """The state that the bytes hold."""
    take = Reader(packed)
    linear = [layer for layer in layers if layer.is_linear]
    samples = int(take("<u4", 1)[0])
    ranges = dict(zip((layer.name for layer in linear), take(RANGE, len(linear)), strict=True))
    biases = {layer.name: take("<i4", layer.rows) for layer in linear if layer.trainable}
    masters = {layer.name: take("<i2", (layer.rows, layer.columns)) for layer in linear
               if layer.trainable}
    mean = None if state.mean is None else take("<u2", len(state.mean))
    found = {}
    for name, before in state.layers.items():
        of = ranges[name]
        found[name] = LayerState(
            masters.get(name, before.master), biases.get(name, before.bias),
            int(of["weight_frac"]), int(of["out_frac"]), int(of["peak"]), int(of["error_max"]))
    return State(found, mean, samples)

"""The state of a firmware as the bytes that it keeps in memory and saves."""
import zlib

import numpy as np

from firmware_models.fqt.integer import LayerState, State

RANGE = np.dtype([("peak", "<i4"), ("error_max", "<u4"), ("weight_frac", "i1"), ("out_frac", "i1"),
                  ("unused", "V2")])


def layout_of(layers, state: State) -> int:
    """A number of 32 bits that networks with other states do not share."""
    text = repr([(layer.kind, layer.shape_in, layer.shape_out, layer.kernel, layer.strides,
                  layer.pads, layer.trainable) for layer in layers])
    return zlib.crc32(f"{text} {state.mean is not None}".encode())


def pack(layers, state: State) -> bytes:
    """The bytes of a state: samples, ranges, then what trains; little endian."""
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
    packed = b"".join(part.tobytes() for part in parts)
    return packed + bytes(-len(packed) % 4)


def unpack(layers, state: State, packed: bytes) -> State:
    """The state that the bytes hold; `state` is any one of the same network.

    Raises
    ------
    ValueError
        Where the bytes are not as many as this network's.
    """
    if len(packed) != len(pack(layers, state)):
        raise ValueError(f"a state of {len(packed)} bytes; this network's has "
                         f"{len(pack(layers, state))}")
    at = 0

    def take(dtype, shape):
        nonlocal at
        found = np.frombuffer(packed, dtype, int(np.prod(shape)), at).reshape(shape)
        at += found.nbytes
        return found if found.dtype.names else found.astype(np.int64)

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

"""The state of a firmware as the bytes that it keeps in memory and saves."""
import zlib

from . import integer, paper

# What knows a state of each mode.
ARITHMETICS = {mode: module for module in (integer, paper) for mode in module.MODES}


def mode_of(state) -> str:
    """One of :data:`ARITHMETICS`."""
    return getattr(state, "mode", "integer")


def arithmetic_of(state):
    """The module that knows a state: :mod:`.integer` or :mod:`.paper`."""
    return ARITHMETICS[mode_of(state)]


def layout_of(layers, state) -> int:
    """A number of 32 bits that networks with other states do not share."""
    text = repr([(layer.kind, layer.shape_in, layer.shape_out, layer.kernel, layer.strides,
                  layer.pads, layer.trainable) for layer in layers])
    kind = getattr(state, "mode", None) or state.mean is not None
    return zlib.crc32(f"{text} {kind}".encode())


def pack(layers, state) -> bytes:
    """The bytes of a state: samples, ranges, then what trains; little endian."""
    return arithmetic_of(state).pack(layers, state)


def unpack(layers, state, packed: bytes):
    """The state that the bytes hold; `state` is any one of the same network.

    Raises
    ------
    ValueError
        Where the bytes are not as many as this network's.
    """
    expected = len(pack(layers, state))
    if len(packed) != expected:
        raise ValueError(f"a state of {len(packed)} bytes; this network's has {expected}")
    return arithmetic_of(state).unpack(layers, state, packed)

"""A network and its state in one file, from which firmware is generated."""
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from driver.weights import write_arrays
from firmware_models.fqt.layers import Layer

from ..errors import HwgenError
from .state import ARITHMETICS, arithmetic_of, mode_of, pack, unpack

INTEGER = "integer"
TUPLES = ("shape_in", "shape_out", "kernel", "strides", "pads")


def save(path, layers, state) -> Path:
    """Write a network's layers and state as .npz; the same network gives the same bytes."""
    path = Path(path)
    arrays = {"structure": np.array(json.dumps([asdict(layer) for layer in layers])),
              "state": np.frombuffer(pack(layers, state), np.uint8),
              "centred": np.array(getattr(state, "mean", None) is not None)}
    if mode_of(state) != INTEGER:       # which the first files did not name
        arrays["mode"] = np.array(mode_of(state))
    for layer in layers:
        if layer.is_linear and not layer.trainable:
            frozen = state.layers[layer.name]
            for name, dtype in arithmetic_of(state).types_of(frozen).items():
                arrays[f"{layer.name}.{name}"] = getattr(frozen, name).astype(dtype)
    write_arrays(path, arrays)
    return path


def load(path) -> tuple[tuple[Layer, ...], object]:
    """Layers and state, of any arithmetic, of a file that :func:`save` wrote.

    Raises
    ------
    HwgenError
        For a file that is missing or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise HwgenError(f"{path}: there is no such file; write one with hwgen.firmware.save")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        layers = tuple(Layer(**{key: tuple(value) if key in TUPLES else value
                                for key, value in layer.items()})
                       for layer in json.loads(str(arrays["structure"])))
        mode = str(arrays.get("mode", INTEGER))
        arithmetic = ARITHMETICS[mode]
        state = arithmetic.empty(layers, mode)
        for layer in layers:
            if layer.is_linear and not layer.trainable:
                frozen = state.layers[layer.name]
                for name in arithmetic.types_of(frozen):
                    setattr(frozen, name, getattr(frozen, name) + arrays[f"{layer.name}.{name}"])
        if arrays["centred"]:
            state.mean = np.zeros(layers[0].n_in, np.int64)
        return layers, unpack(layers, state, arrays["state"].tobytes())
    except Exception as error:      # a damaged archive raises nearly anything
        raise HwgenError(f"{path}: not a network of hwgen.firmware.save ({error}); write it "
                         "anew") from error

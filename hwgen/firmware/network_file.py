"""A network and its state in one file, from which firmware is generated."""
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from firmware_models.fqt.integer import LayerState, State
from firmware_models.fqt.layers import Layer

from ..checkpoint import write_arrays
from ..errors import HwgenError
from .state import pack, unpack

TUPLES = ("shape_in", "shape_out", "kernel", "strides", "pads")


def save(path, layers, state: State) -> Path:
    """Write a network's layers and state as .npz; the same network gives the same bytes."""
    path = Path(path)
    arrays = {"structure": np.array(json.dumps([asdict(layer) for layer in layers])),
              "state": np.frombuffer(pack(layers, state), np.uint8),
              "centred": np.array(state.mean is not None)}
    for layer in layers:
        if layer.is_linear and not layer.trainable:
            frozen = state.layers[layer.name]
            arrays[f"{layer.name}.master"] = frozen.master.astype(np.int16)
            arrays[f"{layer.name}.bias"] = frozen.bias.astype(np.int32)
    write_arrays(path, arrays)
    return path


def load(path) -> tuple[tuple[Layer, ...], State]:
    """Layers and state of a file that :func:`save` wrote.

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
        frozen = {}
        for layer in layers:
            if layer.is_linear:
                master = np.zeros((layer.rows, layer.columns), np.int64)
                bias = np.zeros(layer.rows, np.int64)
                if not layer.trainable:
                    master += arrays[f"{layer.name}.master"]
                    bias += arrays[f"{layer.name}.bias"]
                frozen[layer.name] = LayerState(master, bias, 0)
        mean = np.zeros(layers[0].n_in, np.int64) if arrays["centred"] else None
        return layers, unpack(layers, State(frozen, mean), arrays["state"].tobytes())
    except Exception as error:      # a damaged archive raises nearly anything
        raise HwgenError(f"{path}: not a network of hwgen.firmware.save ({error}); write it "
                         "anew") from error

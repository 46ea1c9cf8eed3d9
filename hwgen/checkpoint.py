"""Integer checkpoints of the example networks.

A checkpoint is an .npz file: one int8 array per weight tensor, and a JSON text that gives the
structure, the number formats and a SHA-256 over all of it.
"""
import hashlib
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from driver.weights import write_arrays
from firmware_models.activation import Relu
from firmware_models.formats import Fixed

from .errors import HwgenError
from .frontend.layer_list import DenseSpec, NetworkSpec

FOLDER = Path(__file__).parent.parent / "examples" / "checkpoints"


def load(name: str, folder: Path = FOLDER) -> NetworkSpec:
    """The network `name` as its checkpoint holds it.

    Raises
    ------
    HwgenError
        For a checkpoint that is missing or corrupt.
    """
    path = Path(folder) / f"{name}.npz"
    remedy = f"restore the file, or train it anew: python -m examples.train {name}"
    if not path.is_file():
        raise HwgenError(f"{name}: checkpoint {path.name} is missing; {remedy}")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        structure = json.loads(str(arrays.pop("structure")))
        if structure.pop("sha256") != _digest(structure, arrays):
            raise ValueError("checksum does not match")
        return _parse(structure, arrays)
    except Exception as error:      # a damaged archive raises nearly anything
        raise HwgenError(f"{name}: checkpoint {path.name} is corrupt ({error}); "
                         f"{remedy}") from error


def _parse(structure: dict, arrays: dict[str, np.ndarray]) -> NetworkSpec:
    layers = []
    for layer in structure["layers"]:
        key = layer["name"]
        formats = {what: Fixed(**layer[what]) for what in ("weight", "bias", "accum", "result")
                   if layer.get(what)}
        if layer["kind"] == "dense":
            layers.append(DenseSpec(
                name=key, reuse_factor=layer["reuse_factor"], **formats,
                weight_codes=arrays[f"{key}.weight"].astype(np.int64),
                bias_codes=arrays[f"{key}.bias"].astype(np.int64)))
        else:
            layers.append(Relu(name=key, n=layers[-1].n_out, **formats))
    return NetworkSpec(name=structure["name"], input=Fixed(**structure["input"]),
                       layers=tuple(layers))


def save(spec: NetworkSpec, folder: Path = FOLDER) -> Path:
    """Write the checkpoint of `spec`; the same network gives the same bytes."""
    layers, arrays = [], {}
    for layer in spec.layers:
        if not isinstance(layer, DenseSpec | Relu) or getattr(layer, "reads", None):
            raise ValueError(f"{layer.name}: checkpoints hold chains of Dense and ReLU alone")
        plain = {"kind": "dense" if isinstance(layer, DenseSpec) else "relu"}
        for key, value in vars(layer).items():
            # What the layer before delivers; and without what is not used, bytes stay as they were.
            if key in ("n", "reads") or (key == "constant" and not value):
                continue
            if isinstance(value, np.ndarray):
                small = value.astype(np.int8)
                if (small != value).any():
                    raise ValueError(f"{layer.name}: {key} do not fit 8 bits")
                arrays[f"{layer.name}.{key.removesuffix('_codes')}"] = small
            else:
                plain[key] = asdict(value) if isinstance(value, Fixed) else value
        layers.append(plain)
    structure = {"name": spec.name, "input": asdict(spec.input), "layers": layers}
    structure["sha256"] = _digest(structure, arrays)
    path = Path(folder) / f"{spec.name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, {"structure": np.array(json.dumps(structure)), **arrays})
    return path


def _digest(structure: dict, arrays: dict[str, np.ndarray]) -> str:
    h = hashlib.sha256(json.dumps(structure, sort_keys=True).encode())
    for key in sorted(arrays):
        h.update(f"{key} {arrays[key].dtype.str} {arrays[key].shape}".encode())
        h.update(arrays[key].tobytes())
    return h.hexdigest()

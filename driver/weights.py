"""Checkpoints of learned weights: files that a core, a journal or a golden model leaves.

An .npz file: per trainable layer, and for a prompt, ``<layer>.weight`` [n_out, n_in] and
``<layer>.bias`` [n_out], the codes that the multipliers see, and ``<layer>.weight_master`` and
``<layer>.bias_master``, with their residual bits; and ``core``, a JSON text that says which cores
may have them.
"""
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from firmware_models.weight_memory import deployed

KINDS = ("weight", "bias")


def save(path, manifest: dict, weights: dict, biases: dict) -> None:
    """Write masters; the same ones give the same bytes.

    Parameters
    ----------
    path : path
        Made with its folder; an earlier file is replaced.
    manifest : dict
        What ``manifest.json`` of the core says.
    weights, biases : dict of int to int64 array
        By trainable stage, as :meth:`driver.driver.Driver.masters` returns them.

    Raises
    ------
    OSError
        When the file cannot be written.
    """
    arrays = {"core": np.array(json.dumps(_core(manifest)))}
    for stage, name in _layers(manifest).items():
        for what, masters in zip(KINDS, (weights[stage], biases[stage]), strict=True):
            arrays[f"{name}.{what}"] = deployed(masters, manifest["residual"])
            arrays[f"{name}.{what}_master"] = masters
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, arrays)


def load(path, manifest: dict) -> tuple[dict, dict]:
    """Masters of a file, of weights and of biases, by trainable stage.

    Raises
    ------
    ValueError
        For a file that cannot be read, or of a core of another network, residual bits or layers.
    """
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        core = json.loads(str(arrays["core"]))
    except Exception as error:      # a damaged archive raises nearly anything
        raise ValueError(f"{path} is no checkpoint of weights ({error}); save one from a core") \
            from None
    for what, own in _core(manifest).items():
        if core.get(what) != own:
            raise ValueError(f"{path} is of a core with {what} {core.get(what)}, this one has "
                             f"{own}; save one from a core of this network and these options")
    return tuple({stage: arrays[f"{name}.{what}_master"]
                  for stage, name in _layers(manifest).items()} for what in KINDS)


def write_arrays(path, arrays: dict[str, np.ndarray]) -> None:
    """An .npz file; the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for key, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            # numpy's own savez would stamp the time of writing on every member.
            file.writestr(zipfile.ZipInfo(f"{key}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def _layers(manifest: dict) -> dict[int, str]:
    """Names of what learns, by stage; the prompt is behind the last one."""
    parts = [*manifest["stages"], *([manifest["prompt"]] if "prompt" in manifest else [])]
    return {n: part["name"] for n, part in enumerate(parts) if part["trainable"]}


def _core(manifest: dict) -> dict:
    """What a core has to share with the one whose weights it takes."""
    return {"network": manifest["digest"], "residual": manifest["residual"],
            "layers": list(_layers(manifest).values())}

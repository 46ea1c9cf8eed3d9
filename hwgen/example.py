"""The example networks on their way from checkpoint through hls4ml to a Network."""
from dataclasses import replace
from pathlib import Path

from firmware_models.network import PROMPT

from . import checkpoint
from .errors import HwgenError
from .frontend import from_layers, lower

# What the recovery experiment does with each by default.
EXPERIMENTS = {
    "digits": {"disturb": "rotate:30", "samples": 4_000, "seeds": (1, 2, 3)},
    "mnist": {"disturb": "noise:0.3", "samples": 4_000, "seeds": (1, 2, 3)},
    "fashion": {"disturb": "noise:0.3", "samples": 4_000, "seeds": (1, 2, 3)},
    # Recovery from people whom the network has not met.
    "speech": {"disturb": "none", "samples": 4_000, "seeds": (1, 2, 3)},
    "ecg": {"disturb": "none", "samples": 4_000, "seeds": (1, 2, 3)},
}
NAMES = tuple(EXPERIMENTS)


def prepare(name: str, folder: Path, train=None, reuse_factors=None, weight_bits=None):
    """Checkpoint to hls4ml's ModelGraph and to our Network.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    folder : Path
        Where hls4ml writes its project: ``<folder>/hls4ml``.
    train : list of str, optional
        Trainable layers; the first and the last one by default. With "prompt" among them the
        network gets a prompt.
    reuse_factors : dict of layer name to int, optional
        The number of inputs by default: one input per cycle.
    weight_bits : int, optional
        Bits of the weights of trainable layers; those of the checkpoint by default.

    Returns
    -------
    network : Network
    graph : hls4ml ModelGraph

    Raises
    ------
    HwgenError
        For an unknown example or layer, a corrupt checkpoint, or a reuse factor or number of
        bits that does not fit.
    """
    if name not in NAMES:
        raise HwgenError(f"unknown example {name!r}; there are {', '.join(NAMES)}")
    spec = checkpoint.load(name)
    known = [layer.name for layer in spec.dense]
    train = [known[0], known[-1]] if train is None else train
    layers = [layer for layer in train if layer != PROMPT]
    for layer in [*layers, *(reuse_factors or {})]:
        if layer not in known:
            raise HwgenError(f"unknown layer {layer!r} of {name}; its dense layers are "
                             f"{', '.join(known)}")
    if weight_bits is not None:
        spec = spec.with_weight_bits(weight_bits, layers)
    graph = from_layers(spec, Path(folder) / "hls4ml", reuse_factors)
    # hls4ml's own name for the network is that of its project.
    network = replace(lower(graph, trainable=layers), name=name)
    return network.with_prompt() if PROMPT in train else network, graph

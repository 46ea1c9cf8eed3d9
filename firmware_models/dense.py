"""Golden model of inference: Dense and what follows it, as hls4ml's Resource strategy does it."""
import numpy as np

from . import activation, branches
from .branches import Add
from .formats import Fixed
from .network import Dense, Network, Stage
from .prompt import prompted
from .requantize import requantize
from .softmax import readout


def accumulate(layer: Dense, source: Fixed, x, weight_codes=None, bias_codes=None) -> np.ndarray:
    """Pre-activations before the result cast: accum codes [..., n_out] of inputs [..., n_in].

    Of a frame [..., n_in and more], the vector in front is multiplied.
    Each exact product is cast to the accumulator type before it is added. The accumulator wraps,
    so the order of the terms does not matter and the wrap is taken once, at the end.
    Weights may carry leading axes that broadcast against those of `x` (one weight set per pass).
    """
    w = layer.weight_codes if weight_codes is None else weight_codes
    b = layer.bias_codes if bias_codes is None else bias_codes
    x = np.asarray(x, np.int64)[..., :layer.n_in]
    product_frac = source.frac + layer.weight.frac
    if product_frac <= layer.accum.frac:
        # Nothing is dropped from a product: the sum of exact products, then the cast, is the same.
        if w.ndim == 2:
            total = _matmul(x, w.T, source, layer)
        else:
            total = np.einsum("...i,...ji->...j", x, w)
        total = total << layer.accum.frac - product_frac
    else:
        total = requantize(x[..., None, :] * w, product_frac, layer.accum).sum(-1)
    total = total + requantize(b, layer.bias.frac, layer.accum)
    return requantize(total, layer.accum.frac, layer.accum)


def _matmul(x, w_t, source: Fixed, layer: Dense) -> np.ndarray:
    """Integer matrix product, by float64 BLAS where every partial sum is exact (below 2**53)."""
    if source.width + layer.weight.width + layer.n_in.bit_length() <= 52:
        return (x.astype(np.float64) @ w_t.astype(np.float64)).astype(np.int64)
    return x @ w_t


def activate(stage: Stage, acc, frame=None) -> np.ndarray:
    """What a stage delivers [..., codes], from its accumulators and the frame that it received.

    That is its nodes' output codes, or the frame of the next stage.
    """
    return leaving(stage, outputs(stage, acc, frame), frame)


def leaving(stage: Stage, made: dict[str, np.ndarray], frame) -> np.ndarray:
    """What a stage delivers of its layers' :func:`outputs` and of the frame that it received."""
    if not stage.branches:
        return made[stage.outputs.name]
    vectors = branches.split(stage.frame, frame) | made
    lead = made[stage.outputs.name].shape[:-1]
    return np.concatenate([np.broadcast_to(vectors[vector.name], (*lead, vector.n))
                           for vector in stage.leaving], -1)


def nodes(stage: Stage, acc, frame=None) -> np.ndarray:
    """Output codes [..., n_out] of a stage's own nodes."""
    return outputs(stage, acc, frame)[stage.outputs.name]


def outputs(stage: Stage, acc, frame=None) -> dict[str, np.ndarray]:
    """Output codes of a stage's layers from its accumulators, by name."""
    dense = stage.dense
    received = {} if frame is None else branches.split(stage.frame, frame)
    formats = {vector.name: vector.of for vector in stage.frame}
    y, source = requantize(acc, dense.accum.frac, dense.result), dense.result
    found = {dense.name: y}
    for layer in stage.activation:
        if isinstance(layer, Add):
            y = branches.add(layer, y, source, received[layer.other], formats[layer.other])
        else:
            y = activation.apply(layer, y, source)
        found[layer.name], source = y, layer.result
    formats[stage.outputs.name] = source
    for layer in stage.joined:
        found[layer.name] = branches.concatenate(layer, [
            ((received | found)[part], formats[part]) for part in layer.parts])
        formats[layer.name] = layer.result
    return found


def forward(network: Network, x, start: int = 0) -> np.ndarray:
    """Logit codes [..., n_classes] of input codes of stage `start`: [..., n_in], or its frame."""
    if start == 0 and network.prompt is not None:
        x = prompted(x, network.prompt, network.input)
    for stage in network.stages[start:]:
        x = activate(stage, accumulate(stage.dense, stage.source, x), x)
    return x


def trace(network: Network, x) -> dict[str, np.ndarray]:
    """Output codes of every layer, by name; as hls4ml's ``ModelGraph.trace``."""
    found = {}
    if network.prompt is not None:
        x = prompted(x, network.prompt, network.input)
    for stage in network.stages:
        made = outputs(stage, accumulate(stage.dense, stage.source, x), x)
        found |= made
        x = leaving(stage, made, x)
    if network.softmax:
        found[network.softmax.name] = readout(network, x)
    return found


def quantize(values, to: Fixed) -> np.ndarray:
    """Codes of real `values` in format `to`: how hls4ml's bridge assigns float inputs.

    Raises
    ------
    ValueError
        For NaN or infinity.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("features hold NaN or infinity; clean the data first")
    # 40 extra bits are exact for any feature a sensor delivers; rounding acts on what is left.
    extra = min(40, 60 - to.frac)
    scaled = np.clip(values * 2.0 ** (to.frac + extra), -2.0 ** 61, 2.0 ** 61)
    return requantize(np.floor(scaled).astype(np.int64), to.frac + extra, to)

"""Nodes that hls4ml keeps beside its Dense and ReLU, made part of the layer before them."""
from dataclasses import replace

import numpy as np

from firmware_models.activation import Relu
from firmware_models.formats import Fixed
from firmware_models.network import Dense

from ..errors import HwgenError


def holds(outer: Fixed, inner: Fixed) -> bool:
    """Whether every value of format `inner` is one of format `outer`."""
    more = outer.frac - inner.frac
    return more >= 0 and outer.min <= inner.min << more and inner.max << more <= outer.max


def merge_linear(result: Fixed, layer, source: Fixed):
    """The layer before a linear activation, which casts its output once more; None if it cannot be.

    Where the type of the activation holds every output, nothing happens to it (a Dropout).

    Parameters
    ----------
    result : Fixed
        Format that the activation casts to: what is left of a Quant node, or of
        ``activation="linear"``.
    layer : Dense or one of :mod:`firmware_models.activation`
        The layer before it.
    source : Fixed
        Format before the layer's own cast: its accumulator's, or its input's.
    """
    if holds(result, layer.result):
        return layer
    # A first cast that changes nothing leaves the second one alone.
    if isinstance(layer, Dense | Relu) and holds(layer.result, source):
        return replace(layer, result=result)
    return None


def merge_scale(name: str, factors: dict, result: Fixed, layer: Dense, source: Fixed) -> Dense:
    """The Dense layer before a scale of its outputs, with the same function.

        result(x_j s_j + t_j), x_j = sum_i w_ji x_i + b_j   becomes
        result(sum_i (s_j w_ji) x_i + s_j b_j + t_j)

    The products are exact, so the new weights have as many bits as these need.

    Parameters
    ----------
    name : str
        The ApplyAlpha: what is left of a scale of QONNX that is not the same power of two for all
        outputs.
    factors : dict of str to (array of int64 [n_out], Fixed)
        Codes and formats of ``scale`` and ``bias``.
    result : Fixed
        Format of what it returns.
    layer : Dense
    source : Fixed
        Format of the layer's inputs.

    Raises
    ------
    HwgenError
        If the layer rounds its sums before they are scaled, or the weights need too many bits.
    """
    exact = exact_accum(layer, source)
    if not (holds(layer.accum, exact) and holds(layer.result, layer.accum)):
        raise HwgenError(f"{name}: scales what {layer.name} has rounded to {layer.result}; set "
                         f"LayerName: {layer.name}: Precision: accum and result to auto")
    (scale, scale_type), (shift, shift_type) = factors["scale"], factors["bias"]
    weight = layer.weight_codes.astype(object) * scale.astype(object)[:, None]
    bias = layer.bias_codes.astype(object) * scale.astype(object)
    frac = max(layer.bias.frac + scale_type.frac, shift_type.frac)
    bias = (bias << frac - layer.bias.frac - scale_type.frac) \
        + (shift.astype(object) << frac - shift_type.frac)
    try:
        weight, weight_codes = _narrowest(weight, layer.weight.frac + scale_type.frac)
        bias, bias_codes = _narrowest(bias, frac)
        merged = replace(layer, weight=weight, bias=bias, weight_codes=weight_codes,
                         bias_codes=bias_codes, result=result)
        return replace(merged, accum=exact_accum(merged, source))
    except ValueError as error:
        raise HwgenError(f"{name}: merged into the weights of {layer.name}: {error}; set LayerName:"
                         f" {name}: Precision: scale and bias to narrower types") from error


def exact_accum(layer: Dense, source: Fixed) -> Fixed:
    """Accumulator that holds the layer's sums exactly, whatever the weights of its types.

    Raises
    ------
    ValueError
        For more than 62 bits.
    """
    frac = max(source.frac + layer.weight.frac, layer.bias.frac)
    more = frac - source.frac - layer.weight.frac
    products = [w * x for w in (layer.weight.min, layer.weight.max)
                for x in (source.min, source.max)]
    more_bias = frac - layer.bias.frac
    low = (layer.n_in * min(products) << more) + (layer.bias.min << more_bias)
    high = (layer.n_in * max(products) << more) + (layer.bias.max << more_bias)
    return Fixed(1 + max((~low if low < 0 else low).bit_length(), max(high, 0).bit_length()), frac)


def narrowest_sum(layer, source: Fixed) -> tuple[int, int]:
    """Bits of the narrowest of the exact sums of a layer's weights, and their fraction bits.

    Outputs that are always 0 do not count.
    """
    frac = max(source.frac + layer.weight.frac, layer.bias.frac)
    weight = layer.weight_codes.astype(object) << frac - source.frac - layer.weight.frac
    bias = layer.bias_codes.astype(object) << frac - layer.bias.frac
    up, down = np.maximum(weight, 0).sum(1), np.minimum(weight, 0).sum(1)
    low = bias + up * source.min + down * source.max
    high = bias + up * source.max + down * source.min
    widths = [max((end ^ -(end < 0)).bit_length() for end in ends) + (ends[0] < 0)
              for ends in zip(low, high, strict=True) if any(ends)]
    return min(widths, default=62), frac


def _narrowest(codes: np.ndarray, frac: int) -> tuple[Fixed, np.ndarray]:
    """Codes and the signed format of fewest bits for integers of weight ``2**-frac``."""
    gcd = int(np.gcd.reduce(np.abs(codes), axis=None)) or 1
    drop = (gcd & -gcd).bit_length() - 1
    codes = codes >> drop
    width = 1 + max(int(c if c >= 0 else ~c).bit_length() for c in codes.flat)
    return Fixed(width, frac - drop), codes.astype(np.int64)

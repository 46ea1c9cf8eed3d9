"""hls4ml's Dense in our terms: strategy Resource, or constant logic."""
from dataclasses import replace

import numpy as np

from firmware_models.formats import Fixed
from firmware_models.network import Dense

from ..errors import HwgenError
from .codes import check_cast, fixed, refuse_ternary, result_of, weights
from .merge import exact_accum, narrowest_sum

# hls4ml's strategy that makes constant logic of a layer.
CONSTANT = "distributed_arithmetic"


def dense(node, source: Fixed, reads: str | None, trainable: bool) -> Dense:
    """A Dense node fed by codes of format `source`.

    Parameters
    ----------
    node : hls4ml layer
    source : Fixed
    reads : str, optional
        The vector that feeds it, if that is not what the layer before makes.
    trainable : bool
        Whether it will learn.

    Raises
    ------
    HwgenError
        For what the C++ would compute otherwise, or cannot.
    """
    if node.get_attr("strategy") == CONSTANT:
        return replace(_constant(node, source, trainable), reads=reads)
    layer = _resource(node)
    product = source.width + layer.weight.width, source.frac + layer.weight.frac
    check_cast(layer.name, "accum", *product, layer.accum)
    check_cast(layer.name, "accum", layer.bias.width, layer.bias.frac, layer.accum)
    check_cast(layer.name, "result", layer.accum.width, layer.accum.frac, layer.result)
    return replace(layer, reads=reads)


def _resource(node) -> Dense:
    name, config = node.name, node.model.config
    strategy = node.get_attr("strategy")
    if strategy != "resource":
        raise HwgenError(f"{name}: strategy {strategy}, needs Resource; set LayerName: {name}: "
                         "Strategy: Resource (and no Compression), or distributed_arithmetic")
    n_in, n_out = int(node.get_attr("n_in")), int(node.get_attr("n_out"))      # ONNX: int64
    asked, got = config.get_reuse_factor(node), node.get_attr("reuse_factor")
    # hls4ml replaces an invalid reuse factor by the nearest valid one and only prints a warning.
    if got != asked or n_in % got:
        raise HwgenError(f"{name}: reuse factor {asked} does not divide its {n_in} inputs (hls4ml "
                         f"would use {got}); set LayerName: {name}: ReuseFactor to one of "
                         f"{_divisors(n_in)}")
    accum = fixed(node.types["accum_t"].precision, name, "accum")
    if accum.overflow != "WRAP":
        raise HwgenError(f"{name}: accumulator {accum} saturates, needs WRAP; set LayerName: {name}"
                         ": Precision: accum to auto")
    formats, codes = {}, {}
    for what in ("weight", "bias"):
        variable = node.weights[what]
        formats[what], codes[what] = weights(variable, name, what)
        if what == "weight":
            refuse_ternary(variable, name, what)
    return Dense(name=name, n_in=n_in, n_out=n_out, reuse_factor=got, accum=accum,
                 result=result_of(node), weight=formats["weight"], bias=formats["bias"],
                 weight_codes=codes["weight"].reshape(n_out, n_in), bias_codes=codes["bias"])


def _divisors(n_in: int) -> str:
    return ", ".join(str(k) for k in range(1, n_in + 1) if n_in % k == 0)


def _constant(node, source: Fixed, trainable: bool) -> Dense:
    """A layer of strategy distributed_arithmetic: exact sums, whatever its accumulator type."""
    name, remedy = node.name, f"set LayerName: {node.name}: Strategy: Resource"
    if trainable:
        raise HwgenError(f"{name}: strategy {CONSTANT} makes constant logic, which cannot learn; "
                         f"{remedy}")
    kept = node.get_attr("kept_weights")
    if kept is None:
        raise HwgenError(f"{name}: strategy {CONSTANT}, of which backend Vitis keeps no weights; "
                         f"convert with backend='Hwgen', or {remedy}")
    if "model_inp_q_" in node.get_attr("da_codegen").code:
        raise HwgenError(f"{name}: hls4ml made a quantizer with a type for every element part of "
                         "its constant logic, needs one type for all; give HGQ2's QuantizerConfig "
                         f"of place 'datalane' heterogeneous_axis=(), or {remedy}")
    n_in, n_out = int(node.get_attr("n_in")), int(node.get_attr("n_out"))
    words = int(node.get_attr("input_words", 1))
    if words < 1 or n_in % words:
        raise HwgenError(f"{name}: {words} words do not divide its {n_in} inputs; set LayerName: "
                         f"{name}: InputWords to one of {_divisors(n_in)}")
    formats, codes = {}, {}
    for what in ("weight", "bias"):
        formats[what], codes[what] = of, _ = weights(kept[what], name, what)
        values = np.asarray(kept[what].data, np.float64).reshape(codes[what].shape)
        if (off := codes[what] * 2.0 ** -of.frac != values).any():
            raise HwgenError(f"{name}: {what} {float(values[off][0])!r} is not a value of {of}, "
                             "and constant logic takes it as it is; round the values before the "
                             f"conversion, or {remedy}")
    try:
        layer = Dense(name=name, n_in=n_in, n_out=n_out, reuse_factor=words, constant=True,
                      weight=formats["weight"], bias=formats["bias"], accum=Fixed(1, 0),
                      result=result_of(node), weight_codes=codes["weight"].reshape(n_in, n_out).T,
                      bias_codes=codes["bias"])
    except ValueError as error:
        raise HwgenError(f"{error}; {remedy}") from error
    try:
        layer = replace(layer, accum=exact_accum(layer, source))
    except ValueError as error:
        raise HwgenError(f"{name}: sums: {error}; {remedy}") from error
    # In the C++ each sum is as wide as it can become.
    check_cast(name, "result", *narrowest_sum(layer, source), layer.result)
    return layer

"""What a layer must fulfil beyond bit-exact inference to be trained on the chip."""
import itertools
import math
from fractions import Fraction

from firmware_models.formats import Fixed
from firmware_models.network import Dense

from ..errors import HwgenError

# hls4ml's name for a type that no layer's configuration gives.
DEFAULT = "model_default_t"


def check_trainable(node, layer: Dense, source: Fixed) -> None:
    """Refuse a Dense layer whose types or project would break once its weights change.

    Parameters
    ----------
    node : hls4ml layer
        The layer as hls4ml sees it, after all its passes.
    layer : Dense
        The same layer, lowered.
    source : Fixed
        Format of its inputs.
    """
    name = layer.name
    check_bias(node)
    if not value_sized(node):           # else they are declared ones already
        for what in ("weight", "bias"):
            _check_explicit(node, what, getattr(layer, what))
    _check_accum(layer, source)
    if node.model.config.get_writer_config().get("WriteWeightsTxt", True):
        raise HwgenError(f"{name}: the first call of hls4ml's C++ would reload weights from text "
                         "files over the trained ones; convert with write_weights_txt=False")


def check_bias(node) -> None:
    """A learning layer has biases, which learn too."""
    if node.weights["bias"].data.size and node.get_attr("bias_data") is None:
        raise HwgenError(f"{node.name}: has no bias, a trainable layer needs one; give it a bias "
                         "of zeros (use_bias=True) and an explicit bias type")


def value_sized(node) -> bool:
    """Whether hls4ml took the node's types from values, as it does for HGQ2."""
    model = node.model.config.get_config_value("HLSConfig").get("Model", {})
    return bool(model.get("BitExact") or node.get_attr("bit_exact_transformed"))


def _check_explicit(node, what: str, got: Fixed) -> None:
    """The type must be one that the configuration or a Quant node gives, not one from values."""
    from hls4ml.model.types import UnspecifiedPrecisionType
    remedy = f"set LayerName: {node.name}: Precision: {what} to an ap_fixed type"
    asked, by = node.model.config.get_precision(node, what)
    # QONNX: Quant nodes declare the types, and the configuration has only the model's default.
    quantized = by == DEFAULT and node.get_attr("weight_quantizer") is not None
    if isinstance(asked, UnspecifiedPrecisionType):
        raise HwgenError(f"{node.name}: {what} type is auto, a trainable layer needs an explicit "
                         f"one; {remedy}")
    if not quantized and (asked.width, asked.integer, bool(asked.signed)) != \
            (got.width, got.width - got.frac, got.signed):
        raise HwgenError(f"{node.name}: {what} type {got} is not the {asked} asked for, it was "
                         f"sized from values; {remedy} and convert with bit_exact=False")
    if not got.signed:
        raise HwgenError(f"{node.name}: {what} type {got} is unsigned, a trainable layer needs a "
                         f"signed one; {remedy}")


def _check_accum(layer: Dense, source: Fixed) -> None:
    """No weights whatsoever may make the accumulator wrap."""
    def ends(fixed):
        return _value(fixed.min, fixed), _value(fixed.max, fixed)

    lsb = Fraction(2) ** -layer.accum.frac
    products = [w * x for w, x in itertools.product(ends(layer.weight), ends(source))]
    # Every term is rounded to the accumulator's LSB, by less than one of them.
    low = layer.n_in * _floor(min(products), lsb) + _floor(ends(layer.bias)[0], lsb)
    high = layer.n_in * -_floor(-max(products), lsb) - _floor(-ends(layer.bias)[1], lsb)
    if low < _value(layer.accum.min, layer.accum) or high > _value(layer.accum.max, layer.accum):
        raise HwgenError(f"{layer.name}: accumulator {layer.accum} can overflow: its weights may "
                         f"sum to {float(low):g} or {float(high):g}; set LayerName: {layer.name}: "
                         "Precision: accum to auto")


def _value(code: int, fixed: Fixed) -> Fraction:
    return code * Fraction(2) ** -fixed.frac


def _floor(value: Fraction, lsb: Fraction) -> Fraction:
    return math.floor(value / lsb) * lsb

"""Types that hls4ml sized from values (HGQ2, ``bit_exact``), widened where weights will change.

Such types hold what the weights of today make. They are exact, and stay as they are in front of
the first layer that learns. From there on they become what the declared types of weights and
features can make; with the weights of today nothing changes, which is checked.
"""
from dataclasses import dataclass, replace

import numpy as np

from firmware_models.activation import Relu
from firmware_models.formats import Fixed
from firmware_models.network import Dense

from ..errors import HwgenError
from .codes import fixed
from .contract import check_bias, value_sized
from .merge import exact_accum

# Quantizers of a HGQ2 layer.
QUANTIZERS = {"weight": "kq", "bias": "bq"}


def widen(nodes, layers, network_input: Fixed, trainable) -> list:
    """The layers, with types for any weights from the first trainable one on.

    Prints a line for each layer that changes, once per model.

    Parameters
    ----------
    nodes : list of hls4ml layers
    layers : list of Dense and Relu
        The same, lowered.
    network_input : Fixed
    trainable : tuple of str

    Raises
    ------
    HwgenError
        For a trainable layer whose weights or biases have no declared type, or where wider types
        would change what is computed now.
    """
    first = next((k for k, layer in enumerate(layers) if layer.name in trainable), len(layers))
    if not any(map(value_sized, nodes[first:])):
        return list(layers)
    for layer in layers:
        if not isinstance(layer, Dense | Relu):
            raise HwgenError(f"{layer.name}: {type(layer).__name__} in a model whose types were "
                             "sized from values (bit_exact, HGQ2), needs Dense and ReLU where a "
                             "layer learns; convert with bit_exact=False and explicit types")
    done, source = [], network_input
    reach = Reach(*(np.full(layers[0].n_in, end, object)
                    for end in (network_input.min, network_input.max)), network_input.frac)
    for k, (node, layer) in enumerate(zip(nodes, layers, strict=True)):
        feeds_dense = k + 1 < len(layers) and isinstance(layers[k + 1], Dense)
        wide = layer
        if isinstance(layer, Relu):
            reach, fits = reach.rectified().cast(layer.result)
        else:
            sums = reach.sums(layer)
            reach, fits = sums.accumulated(layer.accum).cast(layer.result)
        if k >= first and value_sized(node):
            if isinstance(layer, Dense):
                wide = _wide_dense(node, layer, source, sums, layer.name in trainable)
            if fits and layer.result.overflow == "WRAP":
                wide = _wide_result(wide, feeds_dense)
        if wide is not layer:
            say(node, f"types sized from values, widened to learn: {_changes(layer, wide)}")
        done.append(wide)
        source = wide.result
    return done


def _wide_dense(node, layer: Dense, source: Fixed, sums: "Reach", trainable: bool) -> Dense:
    """The layer with weights of their declared types and an accumulator for any of them."""
    if not (sums.exact and sums.cast(layer.accum)[1]):
        raise HwgenError(f"{layer.name}: its accumulator {layer.accum} is too narrow for its "
                         "weights as they are, so it cannot be widened; convert with "
                         "bit_exact=False and set Precision: accum to auto")
    wide = layer
    if trainable:
        check_bias(node)
        for what in ("weight", "bias"):
            of = getattr(layer, what)
            to = _declared(node, what)
            codes = _codes(getattr(layer, f"{what}_codes"), of, to)
            if codes is None:
                raise HwgenError(f"{layer.name}: {what} type {to} does not hold its {what} values, "
                                 f"which need {of}; set LayerName: {layer.name}: Precision: {what} "
                                 "to a wider ap_fixed type")
            wide = replace(wide, **{what: to, f"{what}_codes": codes})
    try:
        return replace(wide, accum=exact_accum(wide, source))
    except ValueError as error:
        raise HwgenError(f"{layer.name}: accumulator: {error}; set LayerName: {layer.name}: "
                         "Precision: weight and bias to narrower types") from error


def _wide_result(layer: Dense | Relu, feeds_dense: bool) -> Dense | Relu:
    """The layer with a result that does not wrap; now it does not either.

    The next accumulator may be sized for the format that it is fed: there the result saturates.
    """
    result = layer.result
    if isinstance(layer, Relu) or feeds_dense:
        return replace(layer, result=replace(result, overflow="SAT"))
    # Rounding up may need one bit more than the sum has.
    width = layer.accum.width - layer.accum.frac + result.frac + (result.rounding != "TRN")
    return replace(layer, result=replace(result, signed=True, width=max(width, 1)))


def _declared(node, what: str) -> Fixed:
    """Signed type of weights by name in the configuration, else that of HGQ2's quantizer."""
    config = node.model.config
    layer = config.get_config_value("HLSConfig").get("LayerName", {}).get(node.name, {})
    precision = layer.get("Precision")
    asked = precision.get(what, "auto") if isinstance(precision, dict) else "auto"
    if str(asked) != "auto":
        return fixed(config.backend.convert_precision_string(str(asked)), node.name, what)
    keras = config.config.get("KerasModel")
    try:
        # A quantizer has one (k, i, f) or one per weight; pruned weights have no bits.
        k, i, f = (np.ravel(np.asarray(part)).astype(int) for part in
                   getattr(keras.get_layer(node.name), QUANTIZERS[what]).quantizer.kif)
        used = np.broadcast_to(k + i + f > 0, np.broadcast_shapes(k.shape, i.shape, f.shape))
        integer, frac = (int(np.broadcast_to(part, used.shape)[used].max()) for part in (i, f))
        return Fixed(1 + integer + frac, frac)
    except (AttributeError, ValueError) as error:
        raise HwgenError(f"{node.name}: its types were sized from the values of its weights "
                         "(bit_exact, HGQ2), so a trained weight could overflow; set LayerName: "
                         f"{node.name}: Precision: {what} to an ap_fixed type") from error


def _codes(codes, of: Fixed, to: Fixed):
    """Codes of the same values in another format, None if it does not hold them."""
    more = to.frac - of.frac
    values = np.asarray(codes).astype(object)
    moved = values << more if more >= 0 else values >> -more
    same = more >= 0 or (moved << -more == values).all()
    return moved.astype(np.int64) if same and (moved >= to.min).all() and (moved <= to.max).all() \
        else None


def _changes(layer, wide) -> str:
    return ", ".join(f"{what} {getattr(layer, what)} to {getattr(wide, what)}"
                     for what in ("weight", "bias", "accum", "result")
                     if getattr(layer, what, None) != getattr(wide, what, None))


def say(node, text: str) -> None:
    """Print a line about a layer, once for its model."""
    said = node.get_attr("hwgen_said", ())
    if text not in said:
        node.set_attr("hwgen_said", (*said, text))
        print(f"{node.name}: {text}")


@dataclass(frozen=True)
class Reach:
    """What values a vector can have: Python integers of weight ``2**-frac``, least and greatest."""
    low: np.ndarray
    high: np.ndarray
    frac: int
    exact: bool = True          # nothing was rounded in between

    def sums(self, layer: Dense) -> "Reach":
        """Exact sums of a Dense layer; `exact` says whether its accumulator rounds none."""
        weight = layer.weight_codes.astype(object)
        frac = max(self.frac + layer.weight.frac, layer.bias.frac)
        more = frac - self.frac - layer.weight.frac
        bias = layer.bias_codes.astype(object) << frac - layer.bias.frac
        up, down = np.maximum(weight, 0), np.minimum(weight, 0)
        drop = max(self.frac + layer.weight.frac - layer.accum.frac, 0)
        drop_bias = max(layer.bias.frac - layer.accum.frac, 0)
        exact = not (weight % (1 << drop)).any() and \
            not (layer.bias_codes.astype(object) % (1 << drop_bias)).any()
        return Reach((up @ self.low + down @ self.high << more) + bias,
                     (up @ self.high + down @ self.low << more) + bias, frac, exact)

    def accumulated(self, to: Fixed) -> "Reach":
        """The sums in an accumulator of format `to`, which may wrap."""
        if self.exact and self.cast(to)[1]:
            return self
        return Reach(np.full_like(self.low, to.min), np.full_like(self.high, to.max), to.frac)

    def rectified(self) -> "Reach":
        """What a ReLU makes of it."""
        return replace(self, low=np.maximum(self.low, 0), high=np.maximum(self.high, 0))

    def cast(self, to: Fixed) -> tuple["Reach", bool]:
        """What an assignment to format `to` makes of it, and whether all of it is in range."""
        drop = self.frac - to.frac
        if drop <= 0:
            low, high = self.low << -drop, self.high << -drop
        elif to.rounding == "TRN":
            low, high = self.low >> drop, self.high >> drop
        else:
            low, high = self.low >> drop, -(-self.high >> drop)
        fits = bool((low >= to.min).all() and (high <= to.max).all())
        if not fits and to.overflow == "SAT":
            low, high = (np.clip(end, to.min, to.max) for end in (low, high))
        elif not fits:
            low, high = np.full_like(low, to.min), np.full_like(high, to.max)
        return Reach(low, high, to.frac), fits

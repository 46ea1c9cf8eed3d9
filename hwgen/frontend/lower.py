"""From a finished hls4ml ModelGraph to our own description of the network, or a clear refusal."""
from dataclasses import replace

import numpy as np

from firmware_models.activation import Linear
from firmware_models.formats import Fixed
from firmware_models.network import Dense, Network

from ..errors import HwgenError
from .activations import activation
from .codes import fixed, is_symmetric, key, refuse_ternary, result_of, size_of, weights
from .contract import check_trainable
from .merge import exact_accum, holds, merge_linear, merge_scale, narrowest_sum
from .softmax import softmax
from .value_types import say, widen

# hls4ml's layer that a scale of QONNX becomes: x * scale + bias.
SCALES = ("ApplyAlpha",)
# hls4ml's strategy that makes constant logic of a layer.
CONSTANT = "distributed_arithmetic"


def lower(model_graph, trainable=None) -> Network:
    """Describe an hls4ml model without hls4ml.

    Parameters
    ----------
    model_graph : hls4ml.model.ModelGraph
        Backend Hwgen or Vitis, io_parallel, types final (flow ``vitis:ip`` applied): an input,
        Dense layers of strategy Resource or, with backend Hwgen, distributed_arithmetic,
        activations between them (docs/layers.md), and raw logits or a softmax of them at the end.
    trainable : iterable of str, optional
        Names of the Dense layers that will learn, by default those with ``Trainable: True`` (back
        end Hwgen); they must fulfil the contract of :func:`check_trainable`.

    Returns
    -------
    firmware_models.network.Network

    Raises
    ------
    HwgenError
        For whatever would not be bit-exact, with the layer's name, what was found, what is needed
        and how to say it in hls4ml's configuration.
    """
    _check_model(model_graph)
    trainable = tuple(trainable) if trainable is not None else tuple(
        node.name for node in model_graph.get_layers() if node.get_attr("trainable"))
    first, *nodes = model_graph.get_layers()
    source = fixed(first.get_output_variable().type.precision, first.name, "result")
    network_input, layers, of_layers = source, [], []
    before = source                         # what the last layer casts to its result
    end = None                              # the softmax
    for node in nodes:
        if node.class_name == "Reshape":    # row-major, as vectors are
            continue
        if end is not None:
            raise HwgenError(f"{end.name}: a softmax before {node.name}, can only be the last "
                             f"layer; set LayerName: {end.name}: Skip: true")
        if node.class_name == "Softmax":
            end = _softmax(node, source)
            continue
        if node.class_name == "Dense":
            if node.get_attr("strategy") == CONSTANT:
                layer = _constant(node, source, node.name in trainable)
            else:
                layer = _dense(node)
                _check_casts(layer, source)
            before = layer.accum
        elif is_linear(node) and not layers:
            _check_features(node, source, first.name)
            continue
        elif is_linear(node) and (last := merge_linear(result_of(node), layers[-1], before)) \
                and (last.result == result_of(node) or not _feeds_softmax(node)):
            _check_cast(node.name, "result", before.width, before.frac, last.result)
            layers[-1], source = last, last.result
            continue
        elif node.class_name in SCALES and layers and isinstance(layers[-1], Dense) \
                and layers[-1].name not in trainable:
            layers[-1] = merge_scale(node.name, _factors(node), result_of(node), layers[-1],
                                     layers[-2].result if layers[1:] else network_input)
            _check_cast(node.name, "result", layers[-1].accum.width, layers[-1].accum.frac,
                        layers[-1].result)
            before, source = layers[-1].accum, layers[-1].result
            continue
        else:
            layer, before = activation(node), source
            if layer is None:
                raise HwgenError(_unknown(node, layers))
            try:
                layer.exact(source)
            except ValueError as error:
                raise HwgenError(str(error)) from error
            for width, frac in layer.values(source):
                _check_cast(node.name, "result", width, frac, layer.result)
        layers.append(layer)
        of_layers.append(node)
        source = layer.result
    layers = widen(of_layers, layers, network_input, trainable)
    if end is not None and layers and layers[-1].result != source:
        raise HwgenError(f"{end.name}: its tables are made for logits {source}, which learning "
                         f"widens to {layers[-1].result}; set LayerName: {end.name}: Skip: true")
    for k, layer in enumerate(layers):
        if isinstance(layer, Dense) and layer.name in trainable:
            check_trainable(of_layers[k], layer, layers[k - 1].result if k else network_input)
            for what in ("weight", "bias"):
                if is_symmetric(of_layers[k].weights[what].type.precision):
                    say(of_layers[k], f"{what} type is symmetric; it learns in the whole range of "
                                      f"{getattr(layer, what)}")
            layers[k] = replace(layer, trainable=True)
    names = [layer.name for layer in layers if isinstance(layer, Dense)]
    for name in trainable:
        if name not in names:
            raise HwgenError(f"{name}: no such layer to train; the layers with weights are "
                             f"{', '.join(names)}")
    if layers and not isinstance(layers[-1], Dense | Linear):
        raise HwgenError(f"{layers[-1].name}: the network ends with an activation, needs raw "
                         "logits at the end; remove the activation of the last Dense layer")
    try:
        return Network(name=model_graph.config.get_project_name(), input=network_input,
                       layers=(*layers, *([end] if end else [])))
    except ValueError as error:
        raise HwgenError(f"{error}; change the order of the model's layers") from error


def _check_model(model_graph) -> None:
    """What concerns the model as a whole."""
    config = model_graph.config
    if config.get_config_value("Backend") != "Vitis":
        raise HwgenError(f"the model is for hls4ml's backend {config.get_config_value('Backend')}, "
                         "needs Vitis; convert it with backend='Vitis'")
    if config.get_config_value("IOType") != "io_parallel":
        raise HwgenError(f"the model has {config.get_config_value('IOType')}, needs io_parallel; "
                         "convert it with io_type='io_parallel'")
    for what, names in (("inputs", model_graph.inputs), ("outputs", model_graph.outputs)):
        if not names:
            raise HwgenError(f"the model has no {what}; end an ONNX model with its last Dense, "
                             "without Identity, and convert it again")
        if len(names) != 1:
            raise HwgenError(f"the model has {len(names)} {what} ({', '.join(names)}), needs one; "
                             "split it")
    applied = {flow for flows in model_graph._applied_flows for flow in flows}
    if "vitis:ip" not in applied:
        raise HwgenError("the types of the model are not final; let model_graph.apply_flow"
                         "('vitis:ip') run first")
    previous = None
    for node in model_graph.get_layers():
        if previous is not None and list(node.inputs) != [previous.outputs[0]]:
            raise HwgenError(f"{node.name}: fed by {', '.join(node.inputs)}, needs the layer "
                             f"before it ({previous.name}) alone; branches are not supported, make "
                             "the model sequential")
        previous = node



def _dense(node) -> Dense:
    name, config = node.name, node.model.config
    strategy = node.get_attr("strategy")
    if strategy != "resource":
        raise HwgenError(f"{name}: strategy {strategy}, needs Resource; set LayerName: {name}: "
                         "Strategy: Resource (and no Compression), or distributed_arithmetic")
    n_in, n_out = int(node.get_attr("n_in")), int(node.get_attr("n_out"))      # ONNX: int64
    asked, got = config.get_reuse_factor(node), node.get_attr("reuse_factor")
    # hls4ml replaces an invalid reuse factor by the nearest valid one and only prints a warning.
    if got != asked or n_in % got:
        divisors = ", ".join(str(k) for k in range(1, n_in + 1) if n_in % k == 0)
        raise HwgenError(f"{name}: reuse factor {asked} does not divide its {n_in} inputs (hls4ml "
                         f"would use {got}); set LayerName: {name}: ReuseFactor to one of "
                         f"{divisors}")
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
        divisors = ", ".join(str(k) for k in range(1, n_in + 1) if n_in % k == 0)
        raise HwgenError(f"{name}: {words} words do not divide its {n_in} inputs; set LayerName: "
                         f"{name}: InputWords to one of {divisors}")
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
    _check_cast(name, "result", *narrowest_sum(layer, source), layer.result)
    return layer


def _softmax(node, source: Fixed):
    found = softmax(node, source)
    for what, width, frac, to in found.casts(source):
        _check_cast(node.name, what, width, frac, to)
    return found


def _feeds_softmax(node) -> bool:
    """Whether the type of a node decides which bits of its outputs a softmax looks up."""
    return any(after.class_name == "Softmax" or after.class_name == "Reshape"
               and _feeds_softmax(after) for after in node.get_output_nodes())


def _check_casts(layer: Dense, source: Fixed) -> None:
    product = source.width + layer.weight.width, source.frac + layer.weight.frac
    _check_cast(layer.name, "accum", *product, layer.accum)
    _check_cast(layer.name, "accum", layer.bias.width, layer.bias.frac, layer.accum)
    _check_cast(layer.name, "result", layer.accum.width, layer.accum.frac, layer.result)


def _check_cast(name: str, what: str, width: int, frac: int, to: Fixed) -> None:
    """Rounding looks at the highest dropped bit; hls4ml's C++ aborts where there is none."""
    if to.rounding != "TRN" and frac - to.frac > width:
        raise HwgenError(f"{name}: {what} type {to} rounds away {frac - to.frac} bits of a value "
                         f"that has {width}; set LayerName: {name}: {key(what)} to a type "
                         f"with at least {frac - width} fraction bits")





def _factors(node) -> dict:
    """Codes and formats of the scales and biases of an ApplyAlpha."""
    factors = {}
    for what in ("scale", "bias"):
        to, codes = weights(node.weights[what], node.name, what)
        if to.width < 3 and len(np.unique(codes)) > 1:
            # hls4ml takes such types for binary or ternary ones and does not multiply.
            raise HwgenError(f"{node.name}: {what} type {to}, needs 3 bits or more; set LayerName: "
                             f"{node.name}: Precision: {what} to a wider ap_fixed type")
        factors[what] = np.broadcast_to(np.ravel(codes), (size_of(node),)), to
    return factors




def _check_features(node, features: Fixed, name: str) -> None:
    """A linear activation of the features must leave them as they are."""
    result = result_of(node)
    if not holds(result, features):
        raise HwgenError(f"{node.name}: casts the features from {features} to {result}, and two "
                         f"casts of a feature are not one; set LayerName: {name}: Precision: "
                         f"result to {result}")


def is_linear(node) -> bool:
    """An activation that only casts: what is left of a Quant node, or ``activation="linear"``."""
    return node.class_name == "Activation" and node.get_attr("activation") == "linear"


def _unknown(node, layers) -> str:
    kind = node.class_name
    activation = node.get_attr("activation")
    if kind == "FixedPointQuantizer":
        return (f"{node.name}: quantizes every element by a type of its own, needs one type for "
                "all; give HGQ2's QuantizerConfig of place 'datalane' heterogeneous_axis=()")
    if kind in SCALES:
        before = layers[-1].name if layers else "the features"
        what = "which learns" if layers and isinstance(layers[-1], Dense) else "needs Dense there"
        return (f"{node.name}: scales the outputs of {before}, {what}; let hls4ml fuse it (set "
                f"LayerName: {before}: Precision: result to auto), or give the Quant nodes of a "
                "QONNX model scales that are one power of two per tensor")
    kind = f"{kind} {activation}" if activation else kind
    return (f"{node.name}: unknown layer kind {kind}, needs one of docs/layers.md; replace it in "
            "the model")

"""From a finished hls4ml ModelGraph to our own description of the network, or a clear refusal."""
from dataclasses import replace

import numpy as np

from firmware_models.activation import Linear
from firmware_models.branches import FEATURES, Add, Concatenate
from firmware_models.formats import Fixed
from firmware_models.network import Dense, Network

from ..errors import HwgenError
from .activations import activation
from .codes import check_cast, fixed, is_symmetric, result_of, size_of, weights
from .contract import check_trainable
from .dense import dense
from .graph import in_chains, join
from .merge import holds, merge_linear, merge_scale
from .softmax import softmax
from .value_types import say, widen

# hls4ml's layer that a scale of QONNX becomes: x * scale + bias.
SCALES = ("ApplyAlpha",)


def lower(model_graph, trainable=None) -> Network:
    """Describe an hls4ml model without hls4ml.

    Parameters
    ----------
    model_graph : hls4ml.model.ModelGraph
        Backend Hwgen or Vitis, io_parallel, types final (flow ``vitis:ip`` applied): an input,
        Dense layers of strategy Resource or, with backend Hwgen, distributed_arithmetic;
        activations between them, branches that are added or concatenated (docs/layers.md); raw
        logits or a softmax of them at the end.
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
    first, *nodes = in_chains(model_graph.get_layers())
    network_input = fixed(first.get_output_variable().type.precision, first.name, "result")
    layers, of_layers, feeding = [], [], []     # feeding: names of what they read
    names, formats = {first.outputs[0]: FEATURES}, {FEATURES: network_input}
    before = network_input                      # what the last layer casts to its result
    end = None                                  # the softmax
    for node in nodes:
        if not any(node.inputs):
            raise HwgenError(_unknown(node, layers))
        fed = [names[name] for name in node.inputs]
        source, last = formats[fed[0]], layers[-1].name if layers else FEATURES
        if end is not None and node.class_name != "Reshape":
            raise HwgenError(f"{end.name}: a softmax before {node.name}, can only be the last "
                             f"layer; set LayerName: {end.name}: Skip: true")
        if _changes_nothing(node, source):
            names[node.outputs[0]] = fed[0]
            continue
        if is_linear(node) and fed[0] == FEATURES:
            _check_features(node, source, first.name)
            names[node.outputs[0]] = FEATURES
            continue
        if node.class_name == "Softmax":
            end = _softmax(node, source)
            names[node.outputs[0]] = fed[0]
            continue
        # What nothing else reads can become part of the layer before it.
        part = None
        if layers and fed[0] == last and _readers(nodes, names, last) == 1:
            part, before = _merged(node, layers[-1], before, formats[feeding[-1]], trainable)
        if part is not None:
            check_cast(node.name, "result", before.width, before.frac, part.result)
            layers[-1], formats[last], names[node.outputs[0]] = part, part.result, last
            continue
        if node.class_name == "Dense":
            layer = dense(node, source, None if fed[0] == last else fed[0], node.name in trainable)
            before = layer.accum
        elif (layer := join(node, fed, last)) is not None:
            before = source
        else:
            layer, before = activation(node), source
            if layer is None:
                raise HwgenError(_unknown(node, layers))
            if not layers:
                raise HwgenError(f"{node.name}: fed by {first.name}, needs a Dense layer in front "
                                 "of it; change the order of the model's layers")
            if fed[0] != last:
                raise HwgenError(f"{node.name}: fed by {fed[0]}, needs the layer before it, "
                                 f"{last}; let it alone read the outputs of {fed[0]}, and branch "
                                 "off behind it")
        if not isinstance(layer, Dense):
            _check_values(layer, [formats[name] for name in fed])
        names[node.outputs[0]], formats[layer.name] = layer.name, layer.result
        layers.append(layer)
        of_layers.append(node)
        feeding.append(fed[0])
    if layers and (output := names[model_graph.outputs[0]]) != layers[-1].name:
        raise HwgenError(f"{layers[-1].name}: feeds nothing, for the model ends with {output}; "
                         "remove it from the model")
    layers = widen(of_layers, layers, network_input, trainable)
    if end is not None and layers and layers[-1].result != formats[layers[-1].name]:
        raise HwgenError(f"{end.name}: its tables are made for logits {formats[layers[-1].name]}, "
                         f"which learning widens to {layers[-1].result}; set LayerName: "
                         f"{end.name}: Skip: true")
    formats = {FEATURES: network_input} | {layer.name: layer.result for layer in layers}
    for k, layer in enumerate(layers):
        if isinstance(layer, Dense) and layer.name in trainable:
            check_trainable(of_layers[k], layer, formats[feeding[k]])
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
    if layers and not isinstance(layers[-1], Dense | Linear | Add):
        what = "a Concatenate" if isinstance(layers[-1], Concatenate) else "an activation"
        raise HwgenError(f"{layers[-1].name}: the network ends with {what}, needs raw "
                         "logits at the end; remove it from behind the last Dense layer")
    try:
        return Network(name=model_graph.config.get_project_name(), input=network_input,
                       layers=(*layers, *([end] if end else [])))
    except ValueError as error:
        raise HwgenError(str(error)) from error


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


def _changes_nothing(node, source: Fixed) -> bool:
    """Whether a node fed by codes of format `source` hands on the same values in the same order."""
    if node.class_name == "Reshape":            # row-major, as vectors are
        return True
    # The type of logits decides which of their bits a softmax looks up.
    return is_linear(node) and holds(result_of(node), source) \
        and (result_of(node) == source or not _feeds_softmax(node))


def _merged(node, layer, before: Fixed, source: Fixed, trainable):
    """A layer with the node behind it, and what it then casts to its result; None if it cannot be.

    `before` is what it casts now, `source` the format of what it is fed with.
    """
    if is_linear(node):
        part = merge_linear(result_of(node), layer, before)
        return (part if part and part.result == result_of(node) else None), before
    if node.class_name in SCALES and isinstance(layer, Dense) and layer.name not in trainable:
        part = merge_scale(node.name, _factors(node), result_of(node), layer, source)
        return part, part.accum
    return None, before


def _softmax(node, source: Fixed):
    found = softmax(node, source)
    for what, width, frac, to in found.casts(source):
        check_cast(node.name, what, width, frac, to)
    return found


def _feeds_softmax(node) -> bool:
    """Whether the type of a node decides which bits of its outputs a softmax looks up."""
    return any(after.class_name == "Softmax" or after.class_name == "Reshape"
               and _feeds_softmax(after) for after in node.get_output_nodes())


def _readers(nodes, names: dict[str, str], vector: str) -> int:
    """How many nodes read a vector, other than those that have become part of it."""
    same = [name for name, of in names.items() if of == vector]
    return sum(name in node.inputs for name in same for node in nodes) - (len(same) - 1)


def _check_values(layer, sources: list[Fixed]) -> None:
    """A layer without weights, fed by codes of these formats."""
    if not isinstance(layer, Concatenate):
        try:
            layer.exact(*sources)
        except ValueError as error:
            raise HwgenError(str(error)) from error
    for width, frac in layer.values(*sources):
        check_cast(layer.name, "result", width, frac, layer.result)


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

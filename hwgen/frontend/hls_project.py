"""hls4ml's own core with ours around it: its weights that learn are ports of its top function."""
from pathlib import Path

from firmware_models.network import Network
from rtl.hls_top import Argument, HlsTop, LayerArguments

from ..errors import HwgenError
from .emulation import text_weights
from .lower import lower
from .quiet import quiet


def around_hls(model_graph, folder, trainable=None, **options) -> Path:
    """Write hls4ml's project, and to `folder` the core around what Vitis HLS makes of it.

    Parameters
    ----------
    model_graph : hls4ml.model.ModelGraph
        As of :func:`hwgen.lower`.
    folder : path
    trainable : iterable of str, optional
        As of :func:`hwgen.lower`.
    **options
        Of :func:`hwgen.build`.

    Returns
    -------
    Path
        Of the manifest.

    Raises
    ------
    HwgenError
        For what :func:`hwgen.lower` or :func:`hwgen.build` refuses.
    """
    from ..build import build
    network = lower(model_graph, trainable)
    if name := network.softmax and network.softmax.name:
        raise HwgenError(f"{name}: a softmax, and with engine hls the loss needs the logits that "
                         f"hls4ml's C++ returns; set LayerName: {name}: Skip: true")
    expose(model_graph, trainable)
    project = model_graph.config.get_output_dir()
    manifest = build(network, folder, hls=hls_top(model_graph, network), project=project, **options)
    with quiet(project), text_weights(model_graph):
        model_graph.write()
    return manifest


def expose(model_graph, trainable=None) -> None:
    """Make the weights and biases of trainable layers arguments of the top function.

    They keep their values, so that hls4ml's own emulation still predicts as before.

    Parameters
    ----------
    model_graph : hls4ml.model.ModelGraph
        Types final (flow ``vitis:ip`` applied), nothing written yet.
    trainable : iterable of str, optional
        As of :func:`hwgen.frontend.lower.lower`.
    """
    from hls4ml.backends.fpga.fpga_types import BramWeightVariableConverter
    for node in model_graph.get_layers():
        if node.name in trainable if trainable is not None else node.get_attr("trainable"):
            for what, variable in node.weights.items():
                node.set_attr(what, BramWeightVariableConverter.convert(variable))


def hls_top(model_graph, network: Network) -> HlsTop:
    """The top function of the project that hls4ml writes for `model_graph`.

    Parameters
    ----------
    model_graph : hls4ml.model.ModelGraph
        After :func:`expose`.
    network : Network
        The same model, lowered.

    Raises
    ------
    HwgenError
        Where other weights are arguments than those of the layers that learn.
    """
    (x,), (logits,) = model_graph.get_input_variables(), model_graph.get_output_variables()
    arguments = {variable.name for variable in model_graph.get_weight_variables()
                 if variable.storage.lower() == "bram"}
    layers = []
    for index in network.trainable:
        dense = network.stages[index].dense
        pair = {}
        for what, of in (("weight", dense.weight), ("bias", dense.bias)):
            variable = model_graph.graph[dense.name].weights[what]
            if variable.name not in arguments:
                raise HwgenError(f"{dense.name}: its {what} is no argument of the top function; "
                                 "set Model: Learning: Engine: hls before the conversion")
            arguments.remove(variable.name)
            pair[what] = _argument(variable, variable.data_length, of)
        layers.append(LayerArguments(layer=dense.name, depth=dense.reuse_factor, **pair))
    if arguments:
        raise HwgenError(f"{', '.join(sorted(arguments))}: arguments of the top function, and no "
                         "layer with them learns; leave BramFactor out of the configuration")
    return HlsTop(name=model_graph.config.get_project_name(),
                  x=_argument(x, x.size(), network.input),
                  logits=_argument(logits, logits.size(), network.stages[-1].result),
                  layers=tuple(layers))


def _argument(variable, size: int, of) -> Argument:
    return Argument(name=variable.name, type=variable.type.name, size=int(size), width=of.width)

"""Front end without Keras: an integer description of a network becomes an hls4ml ModelGraph."""
from dataclasses import dataclass, replace

import numpy as np

from firmware_models import activation as elementwise
from firmware_models.branches import FEATURES, Add, Concatenate
from firmware_models.formats import Fixed
from firmware_models.network import Activation
from firmware_models.softmax import Softmax

from ..errors import HwgenError
from .dense import CONSTANT
from .quiet import quiet

WEIGHT_BITS_MAX = 16
PART = "xcku115-flvb2104-2-e"


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseSpec:
    """A fully connected layer in integers.

    Parameters
    ----------
    name : str
    weight, bias, result : Fixed
    weight_codes : array of int [n_out, n_in]
    bias_codes : array of int [n_out]
    reuse_factor : int, optional
        The number of inputs by default: one input per cycle. Of constant logic: words in which it
        reads its inputs, by default 1.
    accum : Fixed, optional
        hls4ml infers the accumulator from the types by default ("auto"), wide enough for any codes.
    constant : bool
        Strategy distributed_arithmetic: constant logic, whose sums are exact whatever `accum`.
    reads : str, optional
        The layer that feeds it, if not the one before; "features" for the input.
    """
    name: str
    weight: Fixed
    bias: Fixed
    result: Fixed
    weight_codes: np.ndarray
    bias_codes: np.ndarray
    reuse_factor: int | None = None
    accum: Fixed | None = None
    constant: bool = False
    reads: str | None = None

    @property
    def n_in(self) -> int:
        return self.weight_codes.shape[1]

    @property
    def n_out(self) -> int:
        return self.weight_codes.shape[0]


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What hls4ml is asked to build: layers in order, fed by features of format `input`.

    Other layers are described as everywhere: :mod:`firmware_models.activation`, ``branches`` and
    ``softmax``.
    """
    name: str
    input: Fixed
    layers: tuple[DenseSpec | Activation | Concatenate | Softmax, ...]

    @property
    def dense(self) -> tuple[DenseSpec, ...]:
        """The layers that have weights."""
        return tuple(layer for layer in self.layers if isinstance(layer, DenseSpec))

    def with_weight_bits(self, bits: int, names) -> "NetworkSpec":
        """The same function with weights of `bits` bits in the layers `names`.

        Weights and biases get as many fraction bits more as the weights get bits: values stay,
        steps of learning become finer. A given accumulator follows where its sums are exact, and
        keeps its type where it cuts products anyway.

        Raises
        ------
        HwgenError
            For fewer bits than a layer's weights have, or more than 16.
        """
        layers, results, before = [], {FEATURES: self.input}, FEATURES
        for layer in self.layers:
            if layer.name in names and isinstance(layer, DenseSpec):
                layer = _widened(layer, bits, results[layer.reads or before])
            layers.append(layer)
            results[layer.name], before = layer.result, layer.name
        return replace(self, layers=tuple(layers))


def _widened(layer: DenseSpec, bits: int, source: Fixed) -> DenseSpec:
    """The layer with weights of `bits` bits, fed by codes of format `source`."""
    more = bits - layer.weight.width
    if not 0 <= more <= WEIGHT_BITS_MAX - layer.weight.width:
        raise HwgenError(f"{layer.name}: weights of {layer.weight.width} bits cannot become "
                         f"{bits}; {layer.weight.width} to {WEIGHT_BITS_MAX} are possible")

    def finer(fixed):
        return replace(fixed, width=fixed.width + more, frac=fixed.frac + more)

    accum = layer.accum
    if accum and accum.frac >= max(source.frac + layer.weight.frac, layer.bias.frac):
        accum = finer(accum)
    return replace(layer, weight=finer(layer.weight), bias=finer(layer.bias), accum=accum,
                   weight_codes=layer.weight_codes << more, bias_codes=layer.bias_codes << more)


def from_layers(spec: NetworkSpec, output_dir, reuse_factors: dict[str, int] | None = None,
                trace: bool = False):
    """Build a finished hls4ml ModelGraph from `spec`.

    Parameters
    ----------
    spec : NetworkSpec
    output_dir : path
        Where hls4ml writes its C++ project.
    reuse_factors : dict, optional
        Reuse factors by layer name, in place of those in `spec`.
    trace : bool
        Compile in what :meth:`Emulation.trace` needs.

    Returns
    -------
    hls4ml.model.ModelGraph
        Backend Vitis, or Hwgen where a layer is constant; io_parallel, all types final (flow
        ``vitis:ip`` applied).
    """
    reuse_factors = reuse_factors or {}
    names = [layer.name for layer in spec.dense]
    for name in reuse_factors:
        if name not in names:
            raise HwgenError(f"{spec.name}: reuse factor for unknown layer {name!r}; its layers "
                             f"with weights are {', '.join(names)}")
    layers = tuple(replace(layer, reuse_factor=reuse_factors[layer.name])
                   if layer.name in reuse_factors else layer for layer in spec.layers)
    # Back end Vitis keeps no weights of a constant layer, which we need and its C++ does not.
    backend = "Hwgen" if any(layer.constant for layer in spec.dense) else "Vitis"
    return model_graph([replace(spec, layers=layers)], [""], output_dir, trace, backend)


def model_graph(specs, prefixes, output_dir, trace: bool, backend: str = "Vitis"):
    """One ModelGraph of independent networks, the names of each behind its prefix.

    hls4ml's C++ takes as long to compile for one small network as for ten.
    """
    nodes, settings, inputs, outputs = [], {}, [], []
    for spec, prefix in zip(specs, prefixes, strict=True):
        inputs.append(f"{prefix}features")
        nodes.append({"name": inputs[-1], "class_name": "InputLayer",
                      "input_shape": [spec.dense[0].n_in]})
        settings[inputs[-1]] = {"Precision": {"result": _type(spec.input)}, "Trace": False}
        before = FEATURES
        for layer in spec.layers:
            read = [before]
            if isinstance(layer, DenseSpec):
                node, setting = _dense(layer)
                read = [layer.reads or before]
            else:
                if isinstance(layer, Concatenate):
                    read = layer.parts
                elif isinstance(layer, Add):
                    read = [before, layer.other]
                node, precision = _activation(layer)
                setting = {"Precision": {"result": _type(layer.result)} | precision}
            name = prefix + layer.name
            nodes.append({"name": name, "inputs": [prefix + of for of in read], **node})
            settings[name] = {**setting, "Trace": trace}
            before = layer.name
        outputs.append(nodes[-1]["name"])
    with quiet(output_dir):
        from hls4ml.model import ModelGraph
        from hls4ml.utils.config import create_config
        config = create_config(output_dir=str(output_dir), backend=backend, part=PART,
                               io_type="io_parallel", write_weights_txt=False)
        config["HLSConfig"] = {
            "Model": {"Precision": "ap_fixed<16,6>", "ReuseFactor": 1, "Strategy": "Resource"},
            "LayerName": settings}
        return ModelGraph.from_layer_list(config, nodes, inputs, outputs)


def _dense(layer: DenseSpec) -> tuple[dict, dict]:
    """Node and configuration of a dense layer, in hls4ml's words."""
    for what in ("weight", "bias"):
        try:
            getattr(layer, what).check(getattr(layer, f"{what}_codes"))
        except ValueError as error:
            raise HwgenError(f"{layer.name}: {what} codes: {error}; clip them to the type"
                             ) from error
    # hls4ml keeps [n_in][n_out] here and transposes for the Resource strategy itself.
    node = {"class_name": "Dense", "n_in": layer.n_in, "n_out": layer.n_out,
            "weight_data": layer.weight_codes.T * 2.0 ** -layer.weight.frac,
            "bias_data": layer.bias_codes * 2.0 ** -layer.bias.frac}
    words = layer.reuse_factor
    setting = {
        **({"Strategy": CONSTANT, "ReuseFactor": 1, "InputWords": words or 1}
           if layer.constant else {"Strategy": "Resource", "ReuseFactor": words or layer.n_in}),
        "Precision": {"weight": _type(layer.weight), "bias": _type(layer.bias),
                      "accum": _type(layer.accum) if layer.accum else "auto",
                      "result": _type(layer.result)}}
    return node, setting


def _activation(layer) -> tuple[dict, dict]:
    """Node and types of a layer without weights, in hls4ml's words."""
    def node(class_name, activation, **more):
        return {"class_name": class_name, "n_in": layer.n, "activation": activation, **more}

    match layer:
        case Add():
            return {"class_name": "Merge", "op": "add"}, {}
        case Concatenate():
            return {"class_name": "Concatenate", "op": "concatenate1d", "axis": 1}, {}
        case elementwise.Relu():
            return node("Activation", "relu"), {}
        case elementwise.ReluMax():
            return node("Activation", f"relu{layer.limit}"), {}
        case elementwise.Linear():
            return node("Activation", "linear"), {}
        case elementwise.ThresholdedRelu():
            threshold = layer.threshold_code * 2.0 ** -layer.threshold.frac
            return (node("ThresholdedReLU", "thresholdedrelu", activ_param=threshold),
                    {"param": _type(layer.threshold)})
        case elementwise.PRelu():
            slopes, param = layer.slope_codes * 2.0 ** -layer.slope.frac, _type(layer.slope)
            if len(set(slopes)) == 1:
                return (node("LeakyReLU", "leakyrelu", activ_param=float(slopes[0])),
                        {"param": param})
            return node("PReLU", "prelu", param_data=slopes), {"param": param}
        case elementwise.Lookup():
            return (node("Activation", layer.function, table_size=layer.size),
                    {"table": _type(layer.table)})
        case elementwise.BatchNorm():
            values = {f"{what}_data": getattr(layer, f"{what}_codes")
                      * 2.0 ** -getattr(layer, what).frac for what in ("scale", "bias")}
            return ({"class_name": "BatchNormalization", "n_in": layer.n, "n_filt": -1, **values},
                    {what: _type(getattr(layer, what)) for what in ("scale", "bias")})
        case Softmax():
            more = {}
            if layer.tables:
                # hls4ml 1.3.0 ignores these in the configuration's Precision, but for accum.
                more = {f"{what}_t": _precision(getattr(layer, what))
                        for what in ("exp_table", "inv_table", "accum", "inv_inp")}
                more["table_size"] = layer.inv_size
            return node("Softmax", "softmax", axis=-1, implementation=layer.implementation,
                        **more), {}
        case elementwise.HardSigmoid():
            parameters = {}
            for what in ("slope", "shift"):
                of = getattr(layer, what)
                parameters |= {what: getattr(layer, f"{what}_code") * 2.0 ** -of.frac,
                               f"{what}_prec": _precision(of)}
            return node("HardActivation", "hard_tanh" if layer.tanh else "hard_sigmoid",
                        **parameters), {}


def _type(fixed: Fixed) -> str:
    """The type in hls4ml's configuration: ``ap_[u]fixed<W,I,Q,O>``."""
    return f"ap_{fixed}"


def _precision(of: Fixed):
    """The type as hls4ml's object, where its configuration cannot give one."""
    from hls4ml.model.types import FixedPrecisionType, RoundingMode, SaturationMode
    return FixedPrecisionType(of.width, of.width - of.frac, of.signed, RoundingMode[of.rounding],
                              SaturationMode[of.overflow])

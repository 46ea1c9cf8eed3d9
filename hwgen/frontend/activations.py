"""hls4ml's elementwise layers in our terms."""
import numpy as np

from firmware_models import activation as elementwise

from ..errors import HwgenError
from .codes import code_of, codes_of, fixed, refuse_ternary, result_of, size_of
from .tables import entries


def activation(node):
    """An elementwise layer of :mod:`firmware_models.activation`; None for what is none of them."""
    name, function = node.name, (node.get_attr("activation") or "").lower()
    common = {"name": name, "n": size_of(node), "result": result_of(node)}
    match node.class_name, function:
        case "Activation", "relu":
            return elementwise.Relu(**common)
        case "Activation", "relu1" | "relu6":
            return elementwise.ReluMax(**common, limit=int(function.removeprefix("relu")))
        case "Activation", "linear":
            return elementwise.Linear(**common)
        case "Activation", "sigmoid" | "tanh":
            size = int(node.get_attr("table_size"))
            try:
                table = fixed(node.types["table_t"].precision, name, "table")
                return elementwise.Lookup(**common, function=function, size=size, table=table,
                                          table_codes=entries(function, size, table))
            except ValueError as error:
                raise HwgenError(f"{error}; set LayerName: {name}: TableSize") from error
        case _, "thresholdedrelu":
            # hls4ml 1.3.0 turns the Keras 3 layer ReLU into a thresholded one whose threshold is 0.
            if node.get_attr("activ_param") == 0:
                return elementwise.Relu(**common)
            threshold = fixed(node.types["param_t"].precision, name, "param")
            code = code_of(node.get_attr("activ_param", 1.0), threshold, name, "param")
            return elementwise.ThresholdedRelu(**common, threshold=threshold, threshold_code=code)
        case _, "leakyrelu":
            slope = fixed(node.types["param_t"].precision, name, "param")
            code = code_of(node.get_attr("activ_param", 1.0), slope, name, "param")
            return elementwise.PRelu(**common, slope=slope, slope_codes=np.full(common["n"], code))
        case "PReLU", _:
            param = node.weights["param"]
            slope = fixed(param.type.precision, name, "param")
            codes = codes_of(param.data, slope, name, "param")
            return elementwise.PRelu(**common, slope=slope, slope_codes=codes.ravel())
        case "BatchNormalization", _:
            parameters = {}
            for what in ("scale", "bias"):
                variable = node.weights[what]
                of = fixed(variable.type.precision, name, what)
                refuse_ternary(variable, name, what)
                # As many as there are filters, which come around and around.
                codes = [code_of(value, of, name, what) for value in variable]
                parameters |= {what: of, f"{what}_codes": np.resize(codes, common["n"])}
            return elementwise.BatchNorm(**common, **parameters)
        case "HardActivation", "hard_sigmoid" | "hard_tanh":
            parameters = {}
            for what in ("slope", "shift"):
                of = fixed(node.get_attr(f"{what}_t").precision, name, what)
                code = code_of(node.get_attr(what), of, name, what)
                parameters |= {what: of, f"{what}_code": code}
            return elementwise.HardSigmoid(**common, **parameters, tanh=function == "hard_tanh")
    return None

"""Types and numbers of hls4ml as formats and codes."""
import math
from copy import copy
from dataclasses import replace
from fractions import Fraction

import numpy as np

from firmware_models.dense import quantize
from firmware_models.formats import OVERFLOWS, ROUNDINGS, Fixed
from firmware_models.requantize import requantize

from ..errors import HwgenError

# Types of a softmax that hls4ml 1.3.0 does not take from "Precision".
APART = ("exp_table", "inv_table", "inv_inp", "inp_norm")


def key(what: str) -> str:
    """What says a type of a layer in the configuration."""
    return f"{what}_t" if what in APART else f"Precision: {what}"


def fixed(precision, layer: str, what: str) -> Fixed:
    """An hls4ml type as a format; refuses what is not fixed point with known modes."""
    name = f"{layer}: {what} type {precision}"
    remedy = f"set LayerName: {layer}: {key(what)}"
    from hls4ml.model.types import FixedPrecisionType, IntegerPrecisionType
    if not isinstance(precision, FixedPrecisionType | IntegerPrecisionType):
        raise HwgenError(f"{name} is not fixed point; {remedy} to an ap_fixed or ap_ufixed type")
    rounding, overflow = str(precision.rounding_mode), str(precision.saturation_mode)
    if rounding not in ROUNDINGS:
        raise HwgenError(f"{name} rounds by {rounding}; {remedy} to a type with one of "
                         f"{', '.join('AP_' + mode for mode in ROUNDINGS)}")
    if overflow not in OVERFLOWS or precision.saturation_bits:
        raise HwgenError(f"{name} overflows by {overflow}; {remedy} to a type with one of "
                         f"{', '.join('AP_' + mode for mode in OVERFLOWS)} and no saturation bits")
    try:
        return Fixed(precision.width, precision.width - precision.integer, bool(precision.signed),
                     rounding, overflow)
    except ValueError as error:
        raise HwgenError(f"{name}: {error}; {remedy} to a narrower type") from error


def result_of(node) -> Fixed:
    return fixed(node.get_output_variable().type.precision, node.name, "result")


def size_of(node) -> int:
    """Outputs of a node."""
    return int(np.prod(node.get_output_variable().shape))


def weights(variable, name: str, what: str) -> tuple[Fixed, np.ndarray]:
    """Format and codes; a symmetric range shows in the codes alone."""
    precision = variable.type.precision
    symmetric = is_symmetric(precision)
    if symmetric:
        precision = copy(precision)
        precision.saturation_mode = "SAT"
    to = fixed(precision, name, what)
    codes = codes_of(variable.data, to, name, what)
    return to, np.maximum(codes, -to.max) if symmetric and to.signed else codes


def is_symmetric(precision) -> bool:
    return str(getattr(precision, "saturation_mode", "")) == "SAT_SYM"


def codes_of(values, to: Fixed, name: str, what: str) -> np.ndarray:
    """The codes that hls4ml's C++ has of weights.

    hls4ml prints a weight with as many decimals as its type has fraction bits and the C++ assigns
    that to its type. So a code survives exactly, and other values are cut to one; but where the
    type wraps, 0.999999 may become 1.0 and that -1.0, which is refused.
    """
    values = np.asarray(values, np.float64)
    digits = max(to.frac, 0)
    printed = np.array([float(f"{value:.{digits}f}") for value in values.flat]
                       ).reshape(values.shape)
    codes = quantize(printed, to)
    bad = np.abs(codes * 2.0 ** -to.frac - printed) >= 2.0 ** -to.frac
    if to.overflow == "WRAP" and bad.any():
        raise HwgenError(f"{name}: {what} {float(values[bad][0])!r} is not a value of {to}; round "
                         f"and clip the {what} values to multiples of {Fraction(2) ** -to.frac} "
                         f"from {to.min * 2.0 ** -to.frac} to {to.max * 2.0 ** -to.frac} "
                         "before the conversion, else hls4ml's C++ would wrap it")
    return codes


def code_of(value, to: Fixed, name: str, what: str) -> int:
    """Code of a parameter that hls4ml's C++ has as a decimal literal and casts to its type."""
    # What is cut off here is below every bit that a rounding of `to` looks at.
    frac = to.frac + 40
    code = int(requantize(math.floor(Fraction(float(str(value))) * 2 ** frac), frac,
                          replace(to, overflow="SAT")))
    if abs(code * Fraction(2) ** -to.frac - Fraction(float(str(value)))) >= Fraction(2) ** -to.frac:
        raise HwgenError(f"{name}: {what} {value} does not fit {to}; set LayerName: {name}: "
                         f"Precision: {what} to a wider type")
    return code


def refuse_ternary(variable, name: str, what: str) -> None:
    if str(variable.type.precision) == "int<2>":
        raise HwgenError(f"{name}: {what} type int<2> makes hls4ml multiply by -1, 0 and 1 only; "
                         f"set LayerName: {name}: Precision: {what} to ap_fixed<2,2>")


def check_cast(name: str, what: str, width: int, frac: int, to: Fixed) -> None:
    """Rounding looks at the highest dropped bit; hls4ml's C++ aborts where there is none."""
    if to.rounding != "TRN" and frac - to.frac > width:
        raise HwgenError(f"{name}: {what} type {to} rounds away {frac - to.frac} bits of a value "
                         f"that has {width}; set LayerName: {name}: {key(what)} to a type "
                         f"with at least {frac - width} fraction bits")

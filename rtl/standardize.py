"""Standardized errors of the nodes, as combinational logic."""
from amaranth import *

from firmware_models.standardize import ONE

from .loss import HEAD_ERROR

__all__ = ["standardize"]


def standardize(m: Module, error: Value, threshold: Value) -> Signal:
    """sgn(error) * 256 if |error| >= threshold else 0; the error itself where threshold is 0

    Latency: combinational. Bit-exact with :func:`firmware_models.standardize.standardize`.

    Source: Deutel et al., arXiv 2407.10734v2, gradient standardization.

    Parameters
    ----------
    m : Module
        Receives the statements.
    error : Value
        Of format :data:`rtl.loss.HEAD_ERROR`.
    threshold : Value
        Unsigned, in 1/256.
    """
    out = Signal(HEAD_ERROR)
    with m.If(threshold == 0):
        m.d.comb += out.eq(error)
    with m.Elif(abs(error) >= threshold):
        m.d.comb += out.eq(Mux(error < 0, -ONE, ONE))
    return out

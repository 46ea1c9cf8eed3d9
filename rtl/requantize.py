"""Assignment between fixed-point types, as combinational logic."""
from amaranth import *

from firmware_models.formats import Fixed

from .shapes import shape_of

__all__ = ["requantize", "saturate"]


def saturate(m: Module, value, to: Fixed) -> Signal:
    """Clip a signed value to the range of `to`, without a comparator.

    A value fits when all bits above the kept ones repeat the sign; only they are looked at.
    """
    wide = Signal(Shape(max(len(value) + (not value.shape().signed), to.width + 1), True))
    m.d.comb += wide.eq(value)
    out = Signal(shape_of(to))
    negative = wide[-1]
    above = wide[to.width - to.signed:-1]       # must repeat the sign, which unsigned has as 0
    with m.If(negative):
        if to.signed:
            m.d.comb += out.eq(Mux(above.all(), wide[:to.width], to.min))
        else:
            m.d.comb += out.eq(0)
    with m.Else():
        m.d.comb += out.eq(Mux(above.any(), to.max, wide[:to.width]))
    return out


def requantize(m: Module, value, frac: int, to: Fixed) -> Signal:
    """Assign a value with `frac` fraction bits to format `to`.

    y = overflow(round(value * 2**(to.frac - frac))); rounding and overflow as `to` says.

    Latency: combinational. Bit-exact with :func:`firmware_models.requantize.requantize`.

    Source: AMD UG1399, arbitrary precision fixed-point types.

    Parameters
    ----------
    m : Module
        Receives the statements.
    value : Value
        Signed or unsigned, of any width.
    frac : int
        Fraction bits of `value`.
    to : Fixed
        Target format.
    """
    drop = frac - to.frac
    if drop > 0:
        drop = min(drop, len(value) + 1)        # more only repeats the sign
        if to.rounding == "RND":
            value = value + (1 << drop - 1)
        elif to.rounding == "RND_CONV":
            # Half an LSB less one, plus the bit that decides whether the quotient is odd.
            value = value + ((1 << drop - 1) - 1) + (value >> drop)[0]
        if drop < len(value):
            value = value >> drop
        else:                   # the sign once: of copies, Verilator makes a loop that is none
            value = value[-1].as_signed() if value.shape().signed else Const(0)
    elif drop < 0:
        value = value << -drop
    if to.overflow == "SAT":
        return saturate(m, value, to)
    out = Signal(shape_of(to))
    m.d.comb += out.eq(value)                   # truncation keeps the low bits: WRAP
    return out

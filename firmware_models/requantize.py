"""Golden model of an assignment between fixed-point types."""
import numpy as np

from .formats import Fixed


def requantize(codes, frac: int, to: Fixed) -> np.ndarray:
    """Assign exact values ``codes * 2**-frac`` to variables of format `to`.

        y = overflow(round(codes * 2**(to.frac - frac)))

    with the rounding (TRN floor, RND half up, RND_CONV half to even) and the overflow (WRAP keeps
    the low bits, SAT clips) of `to`, as in an assignment between hls4ml's ``ap_fixed`` types.

    Parameters
    ----------
    codes : array of int, any shape
        Integers below 2**62 in magnitude, after the shift as well.
    frac : int
        Fraction bits of `codes`.
    to : Fixed
        Target format.

    Returns
    -------
    numpy.ndarray of int64, same shape

    Source: AMD UG1399, arbitrary precision fixed-point types (AP_TRN, AP_RND, AP_RND_CONV, AP_WRAP,
    AP_SAT).
    """
    codes = np.asarray(codes, np.int64)
    drop = frac - to.frac
    if drop <= 0:
        if codes.size and int(np.abs(codes).max()) << -drop >= 1 << 62:
            raise ValueError(f"{-drop} more fraction bits do not fit 62 bits")
        codes = codes << -drop
    else:
        drop = min(drop, 62)
        if to.rounding == "RND":
            codes = codes + (1 << drop - 1)
        elif to.rounding == "RND_CONV":
            # Half an LSB less one, plus the bit that decides whether the quotient is odd.
            codes = codes + ((1 << drop - 1) - 1) + (codes >> drop & 1)
        codes = codes >> drop
    if to.overflow == "SAT":
        return np.clip(codes, to.min, to.max)
    low = codes & (1 << to.width) - 1
    return np.where(low > to.max, low - (1 << to.width), low)


def boundary_codes(src: Fixed, dst: Fixed) -> list[int]:
    """Codes of `src` next to every point where `requantize` changes branch.

    Both ends of `src`, and both sides of the ties around zero and around the limits of `dst`.
    """
    drop = max(src.frac - dst.frac, 0)
    half = (1 << drop) >> 1
    ties = [(level + step << drop) + half + lsb
            for level in (dst.min, 0, dst.max) for step in (-1, 0, 1, 2) for lsb in (-1, 0, 1)]
    return sorted({code for code in [src.min, src.max, *ties] if src.min <= code <= src.max})

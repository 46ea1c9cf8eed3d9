"""Fixed-point number formats shared by models, hardware and benches."""
from dataclasses import dataclass

import numpy as np

ROUNDINGS = ("TRN", "RND", "RND_CONV")
OVERFLOWS = ("WRAP", "SAT")


@dataclass(frozen=True)
class Fixed:
    """Fixed point: value = code * 2**-frac, where code is an integer of `width` bits.

    hls4ml's ``ap_fixed<W,I,Q,O>`` is ``Fixed(W, W - I, True, Q, O)``; ``ap_ufixed`` is unsigned.

    Parameters
    ----------
    width : int
        Bits in all, sign included; 1 to 62.
    frac : int
        Fraction bits; may be negative or larger than `width`.
    signed : bool
        Two's complement, or unsigned.
    rounding : {"TRN", "RND", "RND_CONV"}
        What happens to dropped bits when a value is assigned: floor, half up, half to even.
    overflow : {"WRAP", "SAT"}
        What happens to a value outside the range: keep the low bits, or clip.

    Raises
    ------
    ValueError
        For a width that int64 arithmetic cannot hold, or an unknown mode.
    """
    width: int
    frac: int
    signed: bool = True
    rounding: str = "TRN"
    overflow: str = "WRAP"

    def __post_init__(self):
        if not 1 <= self.width <= 62:
            raise ValueError(f"width must be 1 to 62 bits, not {self.width}")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {ROUNDINGS}, not {self.rounding!r}")
        if self.overflow not in OVERFLOWS:
            raise ValueError(f"overflow must be one of {OVERFLOWS}, not {self.overflow!r}")

    @property
    def min(self) -> int:
        return -(1 << self.width - 1) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << self.width - self.signed) - 1

    def check(self, codes) -> np.ndarray:
        """Return `codes` as int64; raise ValueError if one of them is not a code of this format."""
        codes = np.asarray(codes)
        if codes.dtype.kind not in "iub":
            raise ValueError(f"codes are integers, not {codes.dtype}")
        codes = codes.astype(np.int64)
        outside = codes[(codes < self.min) | (codes > self.max)]
        if outside.size:
            raise ValueError(f"{outside.flat[0]} is not a code of {self}")
        return codes

    def __str__(self):
        """The name of the type in hls4ml's configuration."""
        modes = [self.rounding, self.overflow]
        text = "".join(f",{mode}" for mode in modes) if modes != ["TRN", "WRAP"] else ""
        name = "fixed" if self.signed else "ufixed"
        return f"{name}<{self.width},{self.width - self.frac}{text}>"

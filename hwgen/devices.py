"""FPGAs that reports compare with."""
from dataclasses import dataclass

__all__ = ["DEVICES", "RESOURCES", "Device"]

RESOURCES = ("lut", "ff", "dsp", "bram36")


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a device holds.

    Parameters
    ----------
    name : str
    lut, ff, dsp : int
        Look-up tables, flip-flops and DSP48E2 slices.
    bram36 : int
        Block RAMs of 36 kbit.

    Source: AMD DS890, UltraScale Architecture and Product Data Sheet: Overview.
    """
    name: str
    lut: int
    ff: int
    dsp: int
    bram36: int


DEVICES = (
    Device(name="KU040", lut=242_400, ff=484_800, dsp=1_920, bram36=600),
    Device(name="KU115", lut=663_360, ff=1_326_720, dsp=5_520, bram36=2_160),
)

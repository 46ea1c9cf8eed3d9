"""Resources of UltraScale primitives."""
from .. import yosys
from ..devices import RESOURCES
from ..errors import HwgenError

__all__ = ["add_up", "count_cells", "difference"]

# LUTs that a LUT RAM or shift register occupies. Source: AMD UG574, UltraScale Architecture CLB.
MEMORY_LUTS = {
    "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
    "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "SRL16E": 1, "SRLC32E": 1,
}
# An inverter is a LUT unless Vivado absorbs it, so it counts as one.
LUTS = {**{f"LUT{n}": 1 for n in range(1, 7)}, "INV": 1, **MEMORY_LUTS}
BRAM18 = {"RAMB36E2": 2, "RAMB18E2": 1}
FLIP_FLOPS = {"FDRE", "FDSE", "FDCE", "FDPE"}
# Beside the LUTs of their slice, in no scarce number.
UNCOUNTED = {"CARRY4", "CARRY8", "MUXF7", "MUXF8", "MUXF9", "GND", "VCC", "$scopeinfo"}


def count_cells(cells: dict[str, int]) -> dict:
    """Resources of a number of UltraScale primitives.

    Parameters
    ----------
    cells : dict of str to int
        How many there are of each type.

    Returns
    -------
    dict with lut, ff, dsp : int, and bram36 : float (a RAMB18E2 is half of one)

    Raises
    ------
    HwgenError
        For a primitive that would go uncounted.
    """
    lut = ff = dsp = bram18 = 0
    for kind, count in cells.items():
        if kind in LUTS:
            lut += LUTS[kind] * count
        elif kind in FLIP_FLOPS:
            ff += count
        elif kind == "DSP48E2":
            dsp += count
        elif kind in BRAM18:
            bram18 += BRAM18[kind] * count
        elif kind not in UNCOUNTED:
            raise HwgenError(f"Yosys used {count} cells of type {kind}, which the report cannot "
                             f"count; use the {yosys.PACKAGE} version that hwgen pins")
    return {"lut": lut, "ff": ff, "dsp": dsp, "bram36": bram18 / 2}


def add_up(counts) -> dict:
    """Sum of several counts."""
    counts = list(counts)
    return {r: sum(count[r] for count in counts) for r in RESOURCES}


def difference(more: dict, less: dict) -> dict:
    """What one count has more than another."""
    return {r: more[r] - less[r] for r in RESOURCES}

"""Boards that a block design is written for."""
from dataclasses import dataclass

__all__ = ["BOARDS", "Board"]


@dataclass(frozen=True, kw_only=True)
class Board:
    """What the block design and its constraints need to know of a board with a PCIe edge.

    Parameters
    ----------
    name, part : str
    pcie_block, quad : str
        Of PCIe's IP: the hard block, and the transceivers at lane 0 of the edge connector.
    refclk : str
        Pin of the positive side of PCIe's 100 MHz reference clock, at that quad.
    perst_n : str
        Pin of PCIe's reset, active low.
    io_standard : str
        Of that pin.
    config_voltage, cfgbvs : str
        Of the configuration bank.
    """
    name: str
    part: str
    pcie_block: str
    quad: str
    refclk: str
    perst_n: str
    io_standard: str
    config_voltage: str
    cfgbvs: str


# AMD UG917, KCU105 Board User Guide, has the pins; docs/vivado.md says what is not confirmed.
BOARDS = {board.name: board for board in (
    Board(name="kcu105", part="xcku040-ffva1156-2-e", pcie_block="X0Y0", quad="GTH_Quad_225",
          refclk="AB6", perst_n="K22", io_standard="LVCMOS18", config_voltage="1.8", cfgbvs="GND"),
)}

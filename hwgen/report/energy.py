"""Energy a sample takes, estimated from the counts: an order of magnitude, not a measurement."""
from dataclasses import asdict, dataclass

__all__ = ["ASSUMED", "Energy", "estimate"]


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What each primitive is taken to use; static power, clock tree and pins are left out.

    One value for all nodes of the fabric, so that the result can be followed by hand. The logic of
    an FPGA uses about 14 times the dynamic power of the same logic in an ASIC of its process (Kuon
    and Rose, IEEE TCAD 26(2), 2007); DSPs and block RAMs are ASIC logic. ASIC energies: Horowitz,
    ISSCC 2014, at 45 nm and 0.9 V, not scaled to the 20 nm of UltraScale: the estimate is high
    rather than low.

    Parameters
    ----------
    lut, ff : float
        pJ for each time an output changes: 14 times a bit of an 8-bit adder (0.03 pJ).
    dsp : float
        pJ for each cycle: a 32-bit product (3.1 pJ) scaled to 27 x 18 bits.
    bram36 : float
        pJ for each cycle: a read of 64 bits from 8 kB (10 pJ), and all are read every cycle.
    toggle : float
        Part of the cycles in which an output of a LUT or flip-flop changes: the rate that vendor
        tools assume without a simulation.
    """
    lut: float = 0.05
    ff: float = 0.05
    dsp: float = 1.5
    bram36: float = 10.0
    toggle: float = 0.125

    def per_cycle(self, counts: dict) -> float:
        """pJ that a cycle takes in a core of these counts."""
        return (self.toggle * (self.lut * counts["lut"] + self.ff * counts["ff"])
                + self.dsp * counts["dsp"] + self.bram36 * counts["bram36"])


ASSUMED = Energy()


def estimate(inference: dict, learning: dict, cycles: dict, energy: Energy = ASSUMED) -> dict:
    """nJ that a sample takes, inferred or learned from.

    Parameters
    ----------
    inference, learning : dict
        Counts of the two cores.
    cycles : dict
        ``cycles_per_sample`` of the report.

    Returns
    -------
    dict with assumed : dict, and nj : dict of float by "inference" and by rule
    """
    rules = {rule: cycles[rule]["learning"] for rule in ("np", "es") if rule in cycles}
    nj = {"inference": cycles["inference"] * energy.per_cycle(inference) / 1000,
          **{rule: count * energy.per_cycle(learning) / 1000 for rule, count in rules.items()}}
    return {"assumed": asdict(energy), "nj": {name: round(value, 4) for name, value in nj.items()}}

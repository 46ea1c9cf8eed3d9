"""Golden model of the fused sweep: the update that a base pass applies while it reads the words.

    u_ij = rnd(|c_j| (x_i - m_i) * 2**-shift),   M_ij -= sgn(c_j) u_ij,   m_i += (x_i - m_i) / 32

x is the input of the sample from which c was learned, two learning samples ago. In the first stage
it is centred by a running mean m: sensors deliver features with an offset, which is one direction
of large curvature that limits every other direction's rate. Later stages see activations behind a
ReLU, take x as it is, and have no m.
"""
from dataclasses import dataclass

import numpy as np

from .formats import Fixed
from .network import Stage
from .rules.node_probe import FRACTION

DELAY = 2               # learning samples between a base pass and the one that reads its update
MEAN_FRAC = 6           # fraction bits of the running mean
MEAN_SHIFT = 5          # it follows the last 2**5 samples
EDGE_BITS = 5           # upper bits of a master that say whether it is near the end of its range


@dataclass(frozen=True)
class Step:
    """How an input becomes the change of its weights.

    Parameters
    ----------
    source : Fixed
        Format of the stage's input codes.
    centred : bool
    residual : int
        Residual bits of the masters: they decide how fine a step can be.
    bits : int
        Of a coefficient, beside its sign: 1, or 4 with multipliers.
    """
    source: Fixed
    centred: bool
    residual: int
    bits: int = 1

    @property
    def largest(self) -> int:
        """Master steps of a full-scale input, and of the bias: a quarter of a weight step."""
        return 1 << max(self.residual - 2, 0)

    @property
    def shift(self) -> int:
        """Bits of an input that a step drops."""
        return self.source.width - max(self.residual - 2, 0)

    @property
    def width(self) -> int:
        """Bits of a signed step of coefficient 1."""
        return self.largest.bit_length() + 1

    @property
    def input_width(self) -> int:
        """Bits of a signed, centred input."""
        return self.source.width + 1

    @property
    def mean(self) -> Fixed:
        """Format of the running mean."""
        return Fixed(self.source.width + MEAN_FRAC, MEAN_FRAC, self.source.signed)

    def centre(self, x, mean) -> np.ndarray:
        """Input codes x [n_in] without their mean, where the stage has one."""
        return np.asarray(x, np.int64) - (np.asarray(mean) >> MEAN_FRAC if self.centred else 0)

    def steps(self, x, magnitude=1) -> np.ndarray:
        """u of centred inputs x for coefficients of this magnitude, half rounded up; broadcast.

        The bias counts as an input of full scale, ``1 << source.width``.
        """
        drop = self.shift + FRACTION[self.bits]
        return np.asarray(magnitude) * x + (1 << drop >> 1) >> drop


def step_of(stage: Stage, residual: int, bits: int = 1) -> Step:
    return Step(stage.source, stage.index == 0, residual, bits)


def check(stage: Stage, residual: int, bits: int = 1) -> None:
    """Raise ValueError where the guard of :func:`apply` could not keep a master in its range."""
    # The guarded end, 2**(width + residual - EDGE_BITS), is as wide as the largest step.
    need = EDGE_BITS + FRACTION[bits] - min(residual, 2)
    for what in ("weight", "bias"):
        fmt = getattr(stage.dense, what)
        if fmt.width < need:
            raise ValueError(f"{stage.dense.name}: {what} {fmt} is too narrow for node probes with "
                             f"{residual} residual bits; needs {need} bits")
    if stage.source.width < residual - 2:
        raise ValueError(f"{stage.dense.name}: inputs of {stage.source.width} bits are too narrow "
                         f"for node probes with {residual} residual bits; needs {residual - 2}")


def follow(mean, x) -> np.ndarray:
    """The running mean after one more sample."""
    mean = np.asarray(mean, np.int64)
    return mean + ((np.asarray(x, np.int64) << MEAN_FRAC) - mean >> MEAN_SHIFT)


def apply(master, c, u, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Masters after M -= sgn(c) * u, and where the guard held one back.

    A master in the outer sixteenth of its range is not moved further out. That is looked up in its
    upper bits before the addition, and no result needs to be clipped.

    Parameters
    ----------
    master : int64 array
    c : int64, broadcast
        Coefficients: their signs, and whether there is one.
    u : int64, broadcast
    width : int
        Bits of a master.
    """
    master, c, u = np.broadcast_arrays(np.asarray(master, np.int64), c, u)
    top = master >> width - EDGE_BITS
    outwards = np.where((c < 0) ^ (u < 0), top == (1 << EDGE_BITS - 1) - 1,
                        top == -(1 << EDGE_BITS - 1))
    held = (c != 0) & outwards
    return np.where(held, master, master - np.sign(c) * u), held

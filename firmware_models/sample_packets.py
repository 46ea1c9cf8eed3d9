"""How a sample's features sit in the beats of the input stream."""
from dataclasses import dataclass

from .network import Network

BEAT_WIDTH = 32
LABEL_WIDTH = 8         # tuser: label in bits 7:0, learn in bit 8
USER_WIDTH = 16


@dataclass(frozen=True, kw_only=True)
class BeatLayout:
    """Packing of one sample: features in natural order, the first one lowest, 0 after the last.

    Parameters
    ----------
    element_bits : int
        Slot of a feature: 8, 16 or 32 bits.
    elements_per_beat, beats : int
    """
    element_bits: int
    elements_per_beat: int
    beats: int


def beat_layout(network: Network) -> BeatLayout:
    """Packing of a network's samples.

    Raises
    ------
    ValueError
        For features wider than a beat.
    """
    width = network.input.width
    bits = next((bits for bits in (8, 16, 32) if width <= bits), None)
    if bits is None:
        raise ValueError(f"{network.name}: features of {width} bits do not fit a beat of "
                         f"{BEAT_WIDTH} bits")
    per_beat = BEAT_WIDTH // bits
    return BeatLayout(element_bits=bits, elements_per_beat=per_beat,
                      beats=-(-network.n_in // per_beat))

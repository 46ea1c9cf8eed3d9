"""Golden model of a snapshot: masters kept aside on the chip, and the cycles of a copy.

:class:`Snapshot` holds the masters of all trainable stages, weights and biases. Nothing else is
kept: noise, errors, populations and counters go on, or restart by the seed.
"""
from dataclasses import dataclass, replace

from .network import Network


@dataclass
class Snapshot:
    """Shadow memories of a core; `kept` is None where none was taken, or it was forgotten."""
    kept: tuple[dict, dict] | None = None

    def take(self, state) -> None:
        """Keep the masters of a :class:`firmware_models.learner.State`, instead of earlier ones."""
        self.kept = tuple({index: masters.copy() for index, masters in kind.items()}
                          for kind in (state.weights, state.biases))

    def restored(self, state):
        """`state` with the masters that were kept, or ValueError if none were."""
        if self.kept is None:
            raise ValueError("no snapshot was taken")
        weights, biases = ({index: masters.copy() for index, masters in kind.items()}
                           for kind in self.kept)
        return replace(state, weights=weights, biases=biases)


def copy_words(network: Network) -> int:
    """Words to copy one after the other: all memories at once, so those of the longest."""
    return max(max(network.parts[i].dense.reuse_factor, network.parts[i].drain_words)
               for i in network.trainable)


def copy_cycles(network: Network) -> int:
    """Cycles of a copy, from the first in which nothing else runs; a pass may start after them."""
    return copy_words(network) + 2

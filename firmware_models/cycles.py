"""Cycle model: when each sample enters and leaves the core, to the cycle.

Valid for a stream that always offers the next beat and a sink that always takes one. Every time
below is a clock cycle; the first beat of the first sample is taken in cycle 0.
"""
from collections import deque
from dataclasses import dataclass

import numpy as np

from .network import Network, Stage
from .rounding import most_older
from .rules.es import SHAPED
from .sample_packets import beat_layout
from .settings import Settings

SLOTS = 4                   # vectors in the rings before each stage, loss unit and readout
ENGINE_CYCLES = 7           # acceptance of a pass to its vector being offered, words not counted
LOSS_CYCLES = 4             # walk over the classes to the loss, classes not counted
SOFTMAX_CYCLES = 3          # from the walk for its sum to its first value, classes not counted


@dataclass(frozen=True)
class Schedule:
    """Cycles of a run.

    Parameters
    ----------
    in_cycles, out_cycles : int64 [samples]
        First beat taken; last beat of the answer delivered.
    idle_cycle : int
        First cycle in which no sample is being learned from.
    passes : int
    """
    in_cycles: np.ndarray
    out_cycles: np.ndarray
    idle_cycle: int
    passes: int

    @property
    def clock_cycles(self) -> int:
        """Cycles from the first beat taken to the last one delivered, both counted."""
        return int(self.out_cycles[-1] - self.in_cycles[0] + 1)


def answer_cycles(network: Network, logits: bool) -> int:
    """Cycles from the offer of a packet to its last beat: a beat a cycle, and the softmax's own."""
    if not logits:
        return 1
    walks = network.softmax is not None and network.softmax.tables
    return 1 + network.n_classes + walks * (network.n_classes + SOFTMAX_CYCLES)


def interval_cycles(stage: Stage) -> int:
    """Cycles between two passes of a stage's engine."""
    return max(stage.dense.reuse_factor, stage.drain_words, 3)


def sweep_cycles(stage: Stage, pairs: int) -> int:
    """Cycles of an update of a stage: every word once per pair, then the biases.

    `pairs` are all that are replayed, those of earlier updates included.
    """
    return (stage.dense.reuse_factor + 1) * pairs + stage.drain_words + 2


def fitness_cycles(settings: Settings) -> int:
    """Cycles of the walk over a population's differences."""
    if settings.fitness == "rank":
        return settings.pairs * (settings.pairs + 2)
    return settings.pairs * (4 if settings.fitness in SHAPED else 3)


class _Ring:
    """Slots of a vector buffer: a writer waits until the vector SLOTS before has left."""

    def __init__(self):
        self.released = deque([-1] * SLOTS, maxlen=SLOTS)

    @property
    def room(self) -> int:
        return self.released[0] + 1

    def reserve(self) -> None:
        self.released.append(None)      # filled in by release, in order

    def release(self, cycle: int) -> None:
        self.released[self.released.index(None)] = cycle


class CycleModel:
    """Walks passes through the stages in order; each waits for its vector, engine and a slot.

    Parameters
    ----------
    network : Network
    learning : bool
        Whether the core has a loss unit behind its last stage.
    max_pairs : int
        Pairs that the core can keep.
    """

    def __init__(self, network: Network, learning: bool = True, max_pairs: int = 16):
        self.network, self.learning, self.max_pairs = network, learning, max_pairs
        count = len(network.stages)
        self.rings = [_Ring() for _ in range(count)]
        self.loss_ring, self.readout_ring = _Ring(), _Ring()
        self.engine_free = [0] * count
        self.walk_free = self.output_free = 0

    def run(self, samples: int, settings: Settings | None = None, learn=True,
            logits: bool = False, batch_index: int = 0, older: int = 0) -> Schedule:
        """Schedule of `samples` samples.

        Parameters
        ----------
        samples : int
        settings : Settings, optional
            None: learning is off.
        learn : bool or array of bool [samples]
            Which samples carry the learn bit.
        logits : bool
            Logits follow each prediction.
        batch_index : int
            Samples already in the current batch.
        older : int
            Pairs kept of earlier updates, which rounding "replay" replays.
        """
        learn = np.broadcast_to(learn, (samples,))
        if not settings or not settings.layers:
            learn = np.zeros(samples, bool)
        n_in, beats = self.network.n_in, beat_layout(self.network).beats
        entry = self.network.entry(settings.layers) if learn.any() else len(self.network.stages)
        arrival, input_free, idle, passes = [], 0, 0, 0
        self.outputs = []
        self.answer_cycles = answer_cycles(self.network, logits)
        for n in range(samples):
            taken = max(input_free, self.rings[0].room)
            self.rings[0].reserve()
            arrival.append(taken)
            # A feature a cycle; a beat cannot be taken faster than its features are written.
            input_free = taken + max(n_in, beats)
            ready = input_free + 1
            passes += 1
            if not learn[n]:
                if entry < len(self.network.stages):
                    ready = self._walk(ready, 0, entry)
                    self._walk(max(ready, idle), entry, base=True)
                else:
                    self._walk(ready, 0, base=True)
                continue
            ready = self._walk(ready, 0, entry)
            # IDLE sees the vector, then PASSES offers one pass after the other.
            offered = max(ready, idle) + 1
            self._walk(offered, entry, base=True, owned=True)
            loss = 0
            for k in range(2 * settings.pairs):
                if k == 2 and settings.sharp:       # the others wait for the first pair's losses
                    offered = loss + 1
                loss = self._walk(offered, entry, owned=True)
            passes += 2 * settings.pairs
            batch_index += 1
            release = loss + 2
            if batch_index == settings.batch:
                batch_index = 0
                release += fitness_cycles(settings) + sum(
                    sweep_cycles(self.network.parts[i], settings.pairs
                                 + older * (settings.rounding == "replay")) + 1
                    for i in settings.layers)
                older = min(older + settings.pairs, most_older(self.max_pairs, settings.pairs))
            self.rings[entry].release(release)
            idle = release + 1
        return Schedule(np.array(arrival), np.array(self.outputs), idle, passes)

    def _walk(self, ready: int, start: int, stop: int | None = None, *, base: bool = False,
              owned: bool = False) -> int:
        """A pass from stage `start`, whose vector is offered at `ready`.

        Returns when the vector of stage `stop` is offered, or, at the end, the cycle of the loss.
        """
        stages = self.network.stages
        for index, stage in enumerate(stages[start:stop], start):
            last = index == len(stages) - 1
            room = max(self.loss_ring.room if self.learning else 0, self.readout_ring.room) \
                if last else self.rings[index + 1].room
            accept = max(ready, self.engine_free[index], room)
            self.engine_free[index] = accept + interval_cycles(stage)
            if not (owned and index == start):
                self.rings[index].release(accept + stage.dense.reuse_factor)
            if not last:
                self.rings[index + 1].reserve()
            ready = (accept + stage.dense.reuse_factor + stage.drain_words + ENGINE_CYCLES
                     + stage.sum_delay_cycles + stage.delay_cycles)
        if stop is not None:
            return ready
        if base:
            done = max(ready, self.output_free) + self.answer_cycles - 1
            self.output_free = done + 1
            self.readout_ring.reserve()
            self.readout_ring.release(done)
            self.outputs.append(done)
        if not self.learning:
            return ready
        walk = max(ready, self.walk_free)
        self.walk_free = walk + self.network.n_classes
        self.loss_ring.reserve()
        self.loss_ring.release(self.walk_free - 1)
        return walk + self.network.n_classes + LOSS_CYCLES

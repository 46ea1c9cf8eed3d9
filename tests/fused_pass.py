"""Base passes for the fused sweep, cycle by cycle: what an engine and the node errors drive."""
import random
from typing import NamedTuple

import numpy as np

from firmware_models.fused_update import DELAY, follow, step_of

from .pysim import packed

ENGINE_DRAIN = 4            # cycles from the last word read to the first bias word


class Pass(NamedTuple):
    """A pass: its input, its coefficients if it is the base pass of a learning sample, else None.

    `words` and `biases` are the cycles in which each of them is addressed.
    """
    x: np.ndarray
    c: np.ndarray | None
    words: list[int]
    biases: list[int]


class Plan:
    """A schedule that an engine could make: passes back to back or apart, some of them stalled.

    Coefficients learned from pass p are loaded when pass p + 1 has begun and p is drained. They
    are dropped where there is no pass under way.

    Parameters
    ----------
    stage : Stage
    passes : int
    gap : {"none", "some", "most"}
        How far events are apart.
    restart_after : int
        Number of passes after which coefficients are dropped.
    bits : int
        Of a coefficient's magnitude.
    """

    def __init__(self, stage, passes: int, gap: str, *, seed: int = 1,
                 restart_after: int | None = None, bits: int = 1):
        self.stage, self.bits, dense = stage, bits, stage.dense
        rng, draw = np.random.default_rng(seed), random.Random(seed)
        longest = {"none": 0, "some": 3, "most": 12}[gap]
        interval = max(dense.reuse_factor, stage.drain_words, 3)
        self.drive: dict[int, dict] = {}
        self.passes: list[Pass] = []
        free, ready, begun = 1, 0, 0
        nothing = np.zeros(dense.n_out, np.int64)
        known, drained = [nothing] * DELAY, []          # coefficients; ends of drains to learn from
        while len(self.passes) < passes:
            if restart_after == len(self.passes):
                free = max(free, *self.drive) + 2
                self._at(free - 1, restart=1)
                known, drained = [nothing] * DELAY, []
            learns = draw.random() < 0.75
            if learns and not known:
                known.append(rng.integers(1 - (1 << bits), 1 << bits, dense.n_out))
                ready = max(begun, drained.pop(0))
                for j, c in enumerate(known[0]):
                    ready += 1 + draw.randint(0, longest)
                    self._at(ready, shift=1, fired_in=abs(int(c)), negative_in=int(c < 0),
                             w_word=j % stage.drain_words, w_lane=j // stage.drain_words)
                ready += draw.randint(0, longest)
                self._at(ready, loaded=1)
            accept = max(free, ready + 1 if learns else 0) + draw.randint(0, longest)
            words = [accept + 1 + k for k in range(dense.reuse_factor)]
            words[-1] += draw.randint(0, longest)       # the last word waits for drains
            biases = [words[-1] + ENGINE_DRAIN + k for k in range(stage.drain_words)]
            of = stage.source
            x = rng.integers(of.min, of.max + 1, dense.n_in)
            x = np.where(rng.random(dense.n_in) < 0.3, rng.choice([of.min, of.max]), x)
            self._read(Pass(x, known.pop(0) if learns else None, words, biases), accept)
            if learns:
                begun = accept + 1
                drained.append(biases[-1])
            free = words[-1] + interval - dense.reuse_factor
        self.cycles = max(self.drive) + 6

    def _at(self, cycle: int, **levels) -> None:
        self.drive.setdefault(cycle, {}).update(levels)

    def _read(self, one: Pass, accept: int) -> None:
        self.passes.append(one)
        stage, dense = self.stage, self.stage.dense
        learns = int(one.c is not None)
        inputs = one.x.reshape(dense.inputs_per_word, dense.reuse_factor)
        self._at(accept, accepted=learns, next_addr=0)
        self._at(accept + 1, started=learns)
        before = accept
        for a, cycle in enumerate(one.words):
            for stalled in range(before + 1, cycle):
                self._at(stalled, next_addr=a, addr=a)
            self._at(cycle, addr=a, en=1, update=learns)
            if a + 1 < len(one.words):
                self._at(cycle, next_addr=a + 1)
            # The vector's memory answers a cycle after the address.
            self._at(cycle + 1, x=packed(inputs[:, a], stage.source.width))
            before = cycle
        for s, cycle in enumerate(one.biases):
            self._at(cycle, bias_addr=s, bias_update=learns,
                     bias_last=int(learns and s == len(one.biases) - 1))

    async def run(self, ctx, dut, seen) -> None:
        """Drive `dut`; `seen(cycle)` may look at what it shows in each cycle."""
        pulses = ("accepted", "started", "en", "update", "shift", "loaded", "bias_update",
                  "bias_last", "restart")
        members = dut.signature.members
        for cycle in range(self.cycles):
            levels = dict.fromkeys(pulses, 0) | self.drive.get(cycle, {})
            if "update" not in members:
                levels["en"] &= levels["update"]
            for name in levels.keys() & members:
                ctx.set(getattr(dut, name), levels[name])
            seen(cycle)
            await ctx.tick()

    def centred(self, residual: int) -> list:
        """Inputs [n_in] of the steps of every pass, None for those that do not learn."""
        step, n_in = step_of(self.stage, residual, self.bits), self.stage.dense.n_in
        kept, mean, out = [np.zeros(n_in, np.int64)] * DELAY, np.zeros(n_in, np.int64), []
        for one in self.passes:
            out.append(None)
            if one.c is not None:
                old, *newer = kept
                kept = [*newer, one.x]
                out[-1] = step.centre(old, mean)
                if step.centred:
                    mean = follow(mean, old)
        return out

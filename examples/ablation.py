"""What the parts of node probes are worth: the golden model with one of them changed at a time.

Settings are swept on the compiled model; what is here needs other arithmetic, so the plain model
(4 ms a sample) runs with a few of its functions replaced. examples/study.py runs all of it.
"""
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from firmware_models import fused_update, line_rate
from firmware_models.learner import Learner
from firmware_models.line_rate import LineRate
from firmware_models.network import Network
from firmware_models.rules import node_probe
from firmware_models.settings import Settings


@contextmanager
def replaced(*changes):
    """Let attributes of modules be others: (module, name, value) each."""
    old = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in old:
            setattr(module, name, value)


class Delayed(LineRate):
    """Updates that the base pass `delay` learning samples later is the first to see.

    1 is the least: the pass that the update was learned from has been, when it is known.
    """

    def __init__(self, network: Network, residual: int, delay: int):
        super().__init__(network, residual)
        self.delay = delay
        self.inputs = {i: rows[:1] * delay for i, rows in self.inputs.items()}

    def restart(self, seed: int) -> None:
        super().restart(seed)
        self.waiting = deque(dict(self.coefficients) for _ in range(self.delay - 2))

    def sweep(self, state, x):
        self.waiting.append(self.coefficients)
        self.coefficients = self.waiting.popleft()
        return super().sweep(state, x)

    def evaluate(self, state, settings, *run):
        state = super().evaluate(state, settings, *run)
        if self.delay == 1:
            state, self.complete = self._complete(state, settings), None
        return state


def not_centred(seed: int, residual: int):
    """u = rnd(x * 2**-step_shift) in the first stage, too."""
    return [(line_rate, "step_of",
             lambda stage, residual, bits: fused_update.Step(stage.source, False, residual))]


def not_gated(seed: int, residual: int):
    """e_j += sum_k D_k z_kj whether node j is active or not."""
    probe, signs, difference, accumulate = {}, node_probe.signs, node_probe.difference, \
        node_probe.accumulate

    def note_signs(k, s):
        probe["z"] = signs(k, s)
        return probe["z"]

    def note_difference(loss, base):
        probe["D"] = difference(loss, base)
        return probe["D"]

    def without_gate(errors, terms):
        # The head has no probe before it.
        return accumulate(errors, probe["z"] * probe.pop("D") if "D" in probe else terms)

    return [(node_probe, "signs", note_signs), (node_probe, "difference", note_difference),
            (node_probe, "accumulate", without_gate)]


def random_signs(seed: int, residual: int):
    """Signs of every probe drawn on their own, not orthogonal."""
    rng = np.random.default_rng(seed)
    return [(node_probe, "signs", lambda k, s: s if k == 0 else rng.choice((-1, 1), len(s)))]


def frozen_biases(seed: int, residual: int):
    """Biases stay."""
    def apply(master, c, u, width):
        if np.ndim(master) == 1:            # a bias
            return master, np.zeros(np.shape(master), bool)
        return fused_update.apply(master, c, u, width)
    return [(line_rate, "apply", apply)]


def exact_products(seed: int, residual: int):
    """M_ij -= rnd(e_j (x_i - m_i) 2**-(lr_shift + step_shift)); no error is carried over."""
    @dataclass(frozen=True)
    class Exact(fused_update.Step):
        def steps(self, x, magnitude):
            return magnitude * x * 2.0 ** -self.shift

    def coefficients(errors, shift, bits):
        return np.asarray(errors) * 2.0 ** -shift, np.zeros_like(errors)

    def apply(master, c, u, width):
        raw = master - np.floor(np.sign(c) * u + 0.5).astype(np.int64)
        new = np.clip(raw, -1 << width - 1, (1 << width - 1) - 1)
        return new, new != raw

    return [(line_rate, "step_of",
             lambda stage, residual, bits: Exact(stage.source, stage.index == 0, residual)),
            (node_probe, "coefficients", coefficients), (line_rate, "apply", apply)]


@dataclass(frozen=True)
class Variant:
    """One change: functions to replace, or another delay, or residual bits."""
    name: str
    changes: callable = lambda seed, residual: []
    delay: int = fused_update.DELAY
    residual: int = 4


VARIANTS = (
    Variant("as it is"),
    Variant("first layer's input not centred", not_centred),
    Variant("inactive nodes count", not_gated),
    Variant("random signs, not orthogonal", random_signs),
    Variant("biases frozen", frozen_biases),
    Variant("exact products, R = 4", exact_products),
    Variant("exact products, R = 8", exact_products, residual=8),
    Variant("update one sample later", delay=1),
    Variant("update three samples later", delay=3),
    Variant("update four samples later", delay=4),
)


def learner_of(variant: Variant, network: Network, settings: Settings) -> Learner:
    """The golden model with the variant's delay; its functions are replaced by :func:`learn`."""
    learner = Learner(network, settings, variant.residual)
    learner.line_rate = Delayed(network, variant.residual, variant.delay)
    learner.line_rate.restart(settings.seed)
    return learner


def learn(variant: Variant, learner: Learner, x, y) -> None:
    """Samples through the changed model."""
    with replaced(*variant.changes(learner.settings.seed, variant.residual)):
        for features, label in zip(x, y, strict=True):
            learner.step(features, int(label))

"""Golden model of a learning core: what one sample does to predictions, weights and counters."""
from dataclasses import dataclass, field, fields, replace

import numpy as np

from . import drift, fused_update, window_load
from .dense import accumulate, activate, forward
from .evolution import COLUMNS, Evolution
from .line_rate import LineRate
from .loss import cross_entropy, running_average
from .network import Network
from .options import check_head, needed
from .prompt import check_rule, prompted
from .settings import Settings
from .snapshot import Snapshot
from .weight_memory import deployed, to_master


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """All state of a learning core between two samples.

    Parameters
    ----------
    weights, biases : dict of stage index to int64 arrays [n_out, n_in] and [n_out]
        Masters of the trainable parts: stages, and a prompt with weights [1, n_in].
    seed : int
        "es": seed of the next probe.
    errors : int64 [outputs of the trainable stages]
        "np": accumulated error of each node, stage after stage.
    error_max : int
        "np" with `lmin` below 256: largest sum of the last layer's errors so far:
        :mod:`firmware_models.partial_updates`.
    seeds, deltas : int64 [pairs]
        "es": the population under evaluation: seeds and summed loss differences (1/256 bit).
    batch_index : int
        Samples of the current batch that have been evaluated.
    decays, decay_count : int
        Times the rate was halved; updates since.
    samples, passes, updates, saturations : int
        Counters. A saturation is a memory word in which the commit clipped a lane.
    loss, loss_average : int
        Loss of the last unperturbed pass (1/256 bit) and its running average (2**-16 bit).
    written : int
        "es" with a journal: records written to it, one per pair of each update; 32 bits.
    records : int64 [records, columns]
        The last of them: :data:`firmware_models.evolution.COLUMNS`, layers as in the register (bit
        l: stage l), sparse and rounding by position.
    momenta : dict of stage index to int64 arrays [n_out, n_in]
        "es" with momentum: counters of :mod:`firmware_models.momentum`.
    on, decided : int
        Whether learning is on, and the last decision: :mod:`firmware_models.drift`.
    """
    weights: dict
    biases: dict
    seed: int
    errors: np.ndarray
    error_max: int = 0
    seeds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    deltas: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    batch_index: int = 0
    decays: int = 0
    decay_count: int = 0
    samples: int = 0
    passes: int = 0
    updates: int = 0
    saturations: int = 0
    loss: int = 0
    loss_average: int = 0
    written: int = 0
    records: np.ndarray = field(default_factory=lambda: np.zeros((0, len(COLUMNS)), np.int64))
    momenta: dict = field(default_factory=dict)
    on: int = 1
    decided: int = 1


class Learner:
    """A network with learning state; the twin of one core.

    Parameters
    ----------
    network : Network
    settings : Settings
    residual : int
        Residual bits R below each trainable weight.
    coefficient_bits : int
        "np": 1, or 4 for a core with multipliers.
    journal_records : int
        "es": records that the journal keeps; 0 for a core without one.
    max_pairs : int
        "es": pairs that the core can keep.
    momentum : bool
        "es": whether the core has option momentum.
    """

    def __init__(self, network: Network, settings: Settings, residual: int = 4,
                 coefficient_bits: int = 1, journal_records: int = 0, max_pairs: int = 16,
                 momentum: bool = False):
        self.network, self.residual = network, residual
        self.coefficient_bits, self.guided = coefficient_bits, momentum
        self.settings = self._checked(settings)
        # Rule "np" is refused where there is a prompt, and knows nothing of it.
        self.line_rate = LineRate(replace(network, prompt=None), residual, coefficient_bits)
        self.state = State(
            weights={i: to_master(network.parts[i].dense.weight_codes, residual)
                     for i in network.trainable},
            biases={i: to_master(network.parts[i].dense.bias_codes, residual)
                    for i in network.trainable},
            seed=settings.seed,
            errors=np.zeros(self.line_rate.nodes, int),
            momenta={i: np.zeros_like(network.parts[i].dense.weight_codes)
                     for i in network.trainable} if momentum else {})
        self.evolution = Evolution(network, residual, max_pairs, journal_records)
        self.line_rate.restart(settings.seed)
        self.kept = Snapshot()

    def configure(self, settings: Settings) -> None:
        """New settings between two samples.

        Population, noise, rate decay and node errors restart, updates not yet applied are dropped
        and learning is on; weights, running means and counters stay.
        """
        self.settings = self._checked(settings)
        self.line_rate.restart(settings.seed)
        self.evolution.restart()
        none = np.zeros(0, np.int64)
        self.state = replace(self.state, seed=settings.seed, seeds=none, deltas=none,
                             batch_index=0, decays=0, decay_count=0, on=1, decided=1,
                             errors=np.zeros_like(self.state.errors), error_max=0)

    def _checked(self, settings: Settings) -> Settings:
        """`settings`, or ValueError where this network cannot have them."""
        if not set(settings.layers) <= set(self.network.trainable):
            raise ValueError(f"layers {settings.layers} are not all trainable: "
                             f"this network trains {self.network.trainable}")
        if settings.rule == "es" and settings.momentum and not self.guided:
            raise ValueError("momentum needs counters: a core with option momentum")
        check_rule(self.network, settings.rule)
        if settings.rule == "np":
            check_head(needed(settings), self.network)
            for index in self.network.trainable:
                fused_update.check(self.network.stages[index], self.residual,
                                   self.coefficient_bits)
        return settings

    def load(self, weights: dict, biases: dict) -> None:
        """Other masters of trainable stages, by stage as :class:`State` has them; all else stays.

        What rule "np" has not applied yet and a population of "es" go on from there.

        Raises
        ------
        ValueError
            For a stage that is not trainable, and for masters of another shape or width.
        """
        given = window_load.loaded(self.masters(), weights=weights, biases=biases)
        self.state = replace(self.state, **{
            kind: getattr(self.state, kind) | arrays for kind, arrays in given.items()})

    def write_master(self, stage: int, value: int, output: int, input: int | None = None) -> None:
        """One master: of the weight from `input` to `output`, or without `input` of the bias."""
        kind, at = window_load.target(output, input)
        of = window_load.of_stage(self.masters(), stage)[kind]
        array = getattr(self.state, kind)[stage].copy()
        array[at] = of.element(at, value)
        self.load(**({"weights": {}, "biases": {}} | {kind: {stage: array}}))

    def snapshot(self) -> None:
        """Keep the masters of all trainable stages aside."""
        self.kept.take(self.state)

    def restore(self, restart: bool = True) -> None:
        """Masters as they were at :meth:`snapshot`; ValueError if none are kept.

        With `restart`, noise, population, rate decay and node errors restart and updates not yet
        applied are dropped, as by :meth:`configure`; without it, they go on.
        """
        self.state = self.kept.restored(self.state)
        if restart:
            self.configure(self.settings)

    def masters(self) -> dict[int, dict[str, window_load.Masters]]:
        """What the host may write, by trainable stage."""
        found = {}
        for index in self.network.trainable:
            stage, dense = self.network.parts[index], self.network.parts[index].dense
            found[index] = window_load.masters(
                dense.name, dense.n_out, dense.n_in, dense.reuse_factor, stage.drain_words,
                dense.weight.width + self.residual, dense.bias.width + self.residual)
        return found

    def deployed_network(self) -> Network:
        """The network as its multipliers see it now."""
        layers, stage = [], -1
        for layer in self.network.layers:
            if hasattr(layer, "weight_codes"):
                stage += 1
                if layer.trainable:
                    weight_codes, bias_codes = self._codes(stage)
                    layer = replace(layer, weight_codes=weight_codes, bias_codes=bias_codes)
            layers.append(layer)
        prompt = None if self.network.prompt is None else self._prompt()
        return replace(self.network, layers=tuple(layers), prompt=prompt)

    def predict(self, x) -> np.ndarray:
        """Class of each row of input codes [n, n_in]; the first of equal logits wins."""
        return forward(self.deployed_network(), x).argmax(-1)

    def step(self, x, label: int, learn: bool = True) -> np.ndarray:
        """One sample through the core: base pass, probes, update. Returns the base logits.

        What the core delivers of them says :func:`.softmax.readout`.
        "es": the base pass sees the weights before this sample's update, the next sample's base
        pass those after it. "np": the order of events is that of :mod:`firmware_models.line_rate`.
        """
        x, self.state = np.asarray(x, np.int64), self._enter(self.state)
        learn = bool(learn and self.state.on and self.settings.layers)
        line_rate = learn and self.settings.rule == "np"
        if line_rate:
            self.state = self.line_rate.sweep(self.state, x)
        features = x if self.network.prompt is None \
            else prompted(x, self._prompt(), self.network.input)
        sums, activations = [], [features]
        for stage in self.network.stages:
            sums.append(self._accumulate(stage, activations[-1]))
            activations.append(activate(stage, sums[-1], activations[-1]))
        logits = activations[-1]
        loss = int(cross_entropy(logits, label, self.network.stages[-1].result))
        samples, average = self.state.samples + 1, running_average(self.state.loss_average, loss)
        decided = drift.decide(self.state.decided, samples, average, self.settings.start,
                               self.settings.stop)
        state = replace(self.state, samples=samples, passes=self.state.passes + 1, loss=loss,
                        loss_average=average, decided=decided)
        codes = [self._codes(part.index) for part in self.network.parts]
        if line_rate:
            state = self.line_rate.evaluate(state, self.settings, codes, sums, activations, label)
        elif learn:
            entry = self.network.entry(self.settings.layers)
            state = self.evolution.evaluate(state, self.settings, codes,
                                            activations[entry] if entry else x, label)
            if state.batch_index == self.settings.batch:
                state = self.evolution.update(state, self.settings)
        self.state = state
        return logits

    def learn(self, x, y, learn=True) -> np.ndarray:
        """Samples one after the other; the classes [n] predicted for them before learning.

        `learn` may be an array [n] of bool: which samples carry the learn bit. `learned` says
        afterwards which of these were learned from.
        """
        learn = np.broadcast_to(np.asarray(learn, bool), (len(x),))
        self.learned, predictions = np.zeros(len(x), bool), np.zeros(len(x), np.int64)
        for n, (row, label, bit) in enumerate(zip(x, y, learn, strict=True)):
            predictions[n] = self.step(row, int(label), bool(bit)).argmax()
            self.learned[n] = bit and self.state.on and self.settings.layers
        return predictions

    @property
    def older(self) -> int:
        """"es": pairs of earlier updates that rounding "replay" finds again."""
        return len(self.evolution.past)

    def _enter(self, state: State) -> State:
        """Learning switched on or off, where it is time for that."""
        on = drift.enter(state.on, state.decided, state.samples, self.settings.start)
        if on and not state.on and self.settings.restart:
            state = replace(state, decays=0, decay_count=0)
        return replace(state, on=on)

    def _codes(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Deployed weight and bias codes of a part."""
        dense = self.network.parts[index].dense
        if not dense.trainable:
            return dense.weight_codes, dense.bias_codes
        return (deployed(self.state.weights[index], self.residual),
                deployed(self.state.biases[index], self.residual))

    def _prompt(self) -> np.ndarray:
        """Deployed codes of the prompt."""
        return self._codes(len(self.network.stages))[0][0]

    def _accumulate(self, stage, x):
        return accumulate(stage.dense, stage.source, x, *self._codes(stage.index))


def compare(expected: State, got: dict) -> str:
    """First difference between a state and the same values read from a core; '' when equal."""
    if (missing := {f.name for f in fields(expected)} - set(got)):
        return f"not read back: {sorted(missing)}"
    for f in fields(expected):
        want, have = getattr(expected, f.name), got[f.name]
        pairs = [(f"{f.name}[{k}]", want[k], have[k]) for k in want] \
            if isinstance(want, dict) else [(f.name, want, have)]
        for name, a, b in pairs:
            a, b = np.asarray(a), np.asarray(b)
            if a.shape != b.shape:
                return f"{name}: shape {b.shape}, expected {a.shape}"
            if (a != b).any():
                at = tuple(int(i) for i in np.argwhere(a != b)[0])
                return f"{name}{list(at)}: {b[at]}, expected {a[at]}"
    return ""

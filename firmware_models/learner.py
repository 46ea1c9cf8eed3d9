"""Golden model of a learning core: what one sample does to predictions, weights and counters."""
from dataclasses import dataclass, field, fields, replace

import numpy as np

from . import noise
from .dense import accumulate, activate, forward
from .loss import cross_entropy, running_average
from .network import Network
from .rules import es
from .weight_memory import commit, deployed, perturbed, to_master

LR_SHIFT_MAX = 15


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Run-time settings of the core: the fields of its registers.

    Parameters
    ----------
    layers : tuple of int
        Stages that are perturbed and updated. The lowest one is where probe passes enter.
    pairs : int
        Antithetic probe pairs P per sample, 1 to the core's `max_pairs`.
    batch : int
        Samples that share a population before an update, 1 to 256.
    fitness : {"sign", "rank"}
    sigma_log2 : int
        Probe amplitude: 2**sigma_log2 weight steps, 0 to 7.
    lr_shift : int
        Learning rate: a fitness of 1 moves a master by 2**(7 - lr_shift) steps, 0 to 15.
    lr_decay : int
        Updates after which the rate halves, 0 for never, to 65535.
    seed : int
        First probe's seed, 1 to 2**32 - 1.
    """
    layers: tuple[int, ...] = ()
    pairs: int = 4
    batch: int = 1
    fitness: str = "rank"
    sigma_log2: int = 2
    lr_shift: int = 7
    lr_decay: int = 0
    seed: int = 1

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(sorted(self.layers)))
        limits = {"pairs": (1, 64), "batch": (1, 256), "sigma_log2": (0, 7),
                  "lr_shift": (0, LR_SHIFT_MAX), "lr_decay": (0, 65535), "seed": (1, noise.MASK)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {getattr(self, name)}")
        if self.fitness not in es.FITNESSES:
            raise ValueError(f"fitness must be one of {es.FITNESSES}, not {self.fitness!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """All state of a learning core between two samples.

    Parameters
    ----------
    weights, biases : dict of stage index to int64 arrays [n_out, n_in] and [n_out]
        Masters of the trainable stages.
    seed : int
        Seed of the next probe.
    seeds, deltas : int64 [pairs]
        The population under evaluation: seeds and summed loss differences (1/256 bit).
    batch_index : int
        Samples of the current batch that have been evaluated.
    decays, decay_count : int
        Times the rate was halved; updates since.
    samples, passes, updates, saturations : int
        Counters. A saturation is a memory word in which the commit clipped a lane.
    loss, loss_average : int
        Loss of the last unperturbed pass (1/256 bit) and its running average (2**-16 bit).
    """
    weights: dict
    biases: dict
    seed: int
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


class Learner:
    """A network with learning state; the twin of one core.

    Parameters
    ----------
    network : Network
    settings : Settings
    residual : int
        Residual bits R below each trainable weight.
    """

    def __init__(self, network: Network, settings: Settings, residual: int = 4):
        if not set(settings.layers) <= set(network.trainable):
            raise ValueError(f"layers {settings.layers} are not all trainable: "
                             f"this network trains {network.trainable}")
        self.network, self.settings, self.residual = network, settings, residual
        self.first_generator = first_generators(network)
        self.state = State(
            weights={i: to_master(network.stages[i].dense.weight_codes, residual)
                     for i in network.trainable},
            biases={i: to_master(network.stages[i].dense.bias_codes, residual)
                    for i in network.trainable},
            seed=settings.seed)

    def configure(self, settings: Settings) -> None:
        """New settings between two samples; the population restarts, weights and counters stay."""
        self.settings = settings
        self.state = replace(self.state, seed=settings.seed, batch_index=0, decays=0,
                             decay_count=0)

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
        return replace(self.network, layers=tuple(layers))

    def predict(self, x) -> np.ndarray:
        """Class of each row of input codes [n, n_in]; the first of equal logits wins."""
        return forward(self.deployed_network(), x).argmax(-1)

    def step(self, x, label: int, learn: bool = True) -> np.ndarray:
        """One sample through the core: base pass, probes, update. Returns the base logits.

        The base pass sees the weights before this sample's update, the next sample's base pass
        those after it: with these rules learning and inference never overlap in a trained layer.
        """
        entry = min(self.settings.layers) if self.settings.layers else len(self.network.stages)
        activations = [np.asarray(x, np.int64)]
        for stage in self.network.stages:
            activations.append(activate(stage, self._accumulate(stage, activations[-1])))
        logits = activations[-1]
        loss = int(cross_entropy(logits, label, self.network.stages[-1].result))
        state = replace(self.state, samples=self.state.samples + 1, passes=self.state.passes + 1,
                        loss=loss, loss_average=running_average(self.state.loss_average, loss))
        if learn and self.settings.layers:
            state = self._evaluate(state, activations[entry], label, entry)
            if state.batch_index == self.settings.batch:
                state = self._update(state)
        self.state = state
        return logits

    def _codes(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Deployed weight and bias codes of a stage."""
        dense = self.network.stages[index].dense
        if not dense.trainable:
            return dense.weight_codes, dense.bias_codes
        return (deployed(self.state.weights[index], self.residual),
                deployed(self.state.biases[index], self.residual))

    def _accumulate(self, stage, x):
        return accumulate(stage.dense, stage.source, x, *self._codes(stage.index))

    def _probes(self, seeds, index: int):
        """Signs of the probes in a stage: [pairs, n_out, n_in] and [pairs, n_out]."""
        dense = self.network.stages[index].dense
        words, bias = noise.probe(seeds, self.first_generator[index], dense.reuse_factor,
                                  dense.lanes, dense.n_out)
        return dense.matrix(words), bias

    def _evaluate(self, state: State, x, label: int, entry: int) -> State:
        """Two passes per pair from stage `entry` on, '+' before '-', and their loss differences."""
        settings = self.settings
        if state.batch_index == 0:
            seeds, seed = [], state.seed
            for _ in range(settings.pairs):
                seeds.append(seed)
                seed = noise.next_seed(seed)
            state = replace(state, seeds=np.array(seeds), seed=seed,
                            deltas=np.zeros(settings.pairs, np.int64))
        h = np.broadcast_to(x, (2, settings.pairs, len(x)))
        for stage in self.network.stages[entry:]:
            w, b = self._codes(stage.index)
            if stage.index in settings.layers:
                zw, zb = self._probes(state.seeds, stage.index)
                w = np.stack([perturbed(w, s * zw, settings.sigma_log2, stage.dense.weight)
                              for s in (1, -1)])
                b = np.stack([perturbed(b, s * zb, settings.sigma_log2, stage.dense.bias)
                              for s in (1, -1)])
            h = activate(stage, accumulate(stage.dense, stage.source, h, w, b))
        losses = cross_entropy(h, np.full(h.shape[:-1], label), self.network.stages[-1].result)
        return replace(state, deltas=state.deltas + losses[0] - losses[1],
                       batch_index=state.batch_index + 1,
                       passes=state.passes + 2 * settings.pairs)

    def _update(self, state: State) -> State:
        """Replay the population's seeds into every selected layer: M -= sum_i c_i z_i."""
        settings = self.settings
        lr_shift = min(settings.lr_shift + state.decays, LR_SHIFT_MAX)
        c = es.coefficient(es.fitness(state.deltas, settings.fitness), lr_shift)
        weights, biases, saturations = dict(state.weights), dict(state.biases), state.saturations
        for index in settings.layers:
            dense = self.network.stages[index].dense
            zw, zb = self._probes(state.seeds, index)
            weights[index], clipped = commit(weights[index], np.tensordot(c, zw, 1),
                                             dense.weight, self.residual)
            saturations += int(dense.words(clipped).any(-1).sum())
            biases[index], clipped = commit(biases[index], c @ zb, dense.bias, self.residual)
            # Biases are committed in the groups in which the stage drains its outputs.
            groups = clipped.reshape(-1, self.network.stages[index].drain_words)
            saturations += int(groups.any(0).sum())
        decays, count = state.decays, state.decay_count
        if settings.lr_decay:
            count += 1
            if count == settings.lr_decay:
                decays, count = min(decays + 1, LR_SHIFT_MAX), 0
        return replace(state, weights=weights, biases=biases, saturations=saturations,
                       updates=state.updates + 1, batch_index=0, decays=decays, decay_count=count)


def first_generators(network: Network) -> dict[int, int]:
    """Number of the first noise generator of each trainable stage; they count through the core."""
    first, total = {}, 0
    for index in network.trainable:
        first[index] = total
        total += noise.generators(network.stages[index].dense.lanes)
    return first


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

"""Golden model of learning at line rate: node probes, delta head, fused sweep, and their order.

For the m-th sample to learn from:

1. Its base pass reads every trained stage's words. Each word read gets the update of learning
   sample m - 2, is written back, and is used (:mod:`firmware_models.fused_update`); so do biases.
2. The nodes' errors after sample m - 1 become coefficients: sample m - 1 is complete by then.
3. In every probed stage, the sums of the base pass are drained K more times with noise, and the
   stages behind make K more passes. Differences of the losses, and the error of the logits, go
   into the errors (:mod:`firmware_models.rules.node_probe`).

So after the last sample of a stream two updates are still to come; the next sample brings them.
Samples that are not learned from read the weights as they are and change nothing.
docs/line-rate.md shows the order with its cycles.
"""
from dataclasses import replace

import numpy as np

from . import noise
from .dense import accumulate, activate, nodes
from .fused_update import DELAY, apply, follow, step_of
from .loss import cross_entropy, head_error
from .network import Network
from .partial_updates import partial
from .progress import decay
from .requantize import requantize
from .rules import node_probe
from .standardize import standardize


class LineRate:
    """What a learner keeps for node probes beside its :class:`firmware_models.learner.State`.

    Parameters
    ----------
    network : Network
    residual : int
    coefficient_bits : int
        1, or 4 for a core with multipliers.
    """

    def __init__(self, network: Network, residual: int, coefficient_bits: int = 1):
        self.network, self.residual, self.bits = network, residual, coefficient_bits
        self.head = len(network.stages) - 1
        self.first_node, nodes = {}, 0
        for index in network.trainable:
            self.first_node[index] = nodes
            nodes += network.stages[index].dense.n_out
        self.nodes = nodes
        self.inputs = {i: [np.zeros(network.stages[i].dense.n_in, np.int64)] * DELAY
                       for i in network.trainable}
        self.means = {i: np.zeros(network.stages[i].dense.n_in, np.int64)
                      for i in network.trainable}

    def restart(self, seed: int) -> None:
        """Noise from `seed` on; what has not been applied yet is dropped."""
        self.noise = {i: noise.start_state(seed, n) for n, i in enumerate(self.network.hidden)}
        self.coefficients = {i: np.zeros(self.network.stages[i].dense.n_out, np.int64)
                             for i in self.network.trainable}
        self.complete = None        # layers of the sample whose errors are to become coefficients
        self.last_turn = None

    def nodes_of(self, index: int) -> slice:
        """Where a stage's nodes are among the errors."""
        first = self.first_node[index]
        return slice(first, first + self.network.stages[index].dense.n_out)

    def schedule(self, settings) -> tuple[int, ...]:
        """Stages that learn from the next sample."""
        hidden = [i for i in settings.layers if i != self.head]
        if settings.turn and hidden:
            later = [i for i in hidden if self.last_turn is not None and i > self.last_turn]
            self.last_turn = (later or hidden)[0]
            hidden = [self.last_turn]
        return (*hidden, *(i for i in settings.layers if i == self.head))

    def sweep(self, state, x):
        """Step 1: masters as the base pass of the next learning sample reads them.

        `x` [n_in] is that sample's input: the stages' inputs follow from it.
        """
        weights, biases, saturations = dict(state.weights), dict(state.biases), state.saturations
        for index in self.network.trainable:
            stage = self.network.stages[index]
            dense, step = stage.dense, step_of(stage, self.residual, self.bits)
            c, old = self.coefficients[index], self.inputs[index][0]
            u = step.steps(step.centre(old, self.means[index]), np.abs(c)[:, None])
            weights[index], held = apply(weights[index], c[:, None], u,
                                         dense.weight.width + self.residual)
            saturations += int(dense.words(held).any(-1).sum())
            biases[index], held = apply(biases[index], c,
                                        step.steps(1 << stage.source.width, np.abs(c)),
                                        dense.bias.width + self.residual)
            saturations += int(held.reshape(-1, stage.drain_words).any(0).sum())
            if step.centred:
                self.means[index] = follow(self.means[index], old)
        return replace(state, weights=weights, biases=biases, saturations=saturations)

    def evaluate(self, state, settings, codes, sums, activations, label: int):
        """Steps 2 and 3, after the base pass.

        Parameters
        ----------
        codes : list of (weights, biases)
            Of every stage, as deployed.
        sums, activations : list of arrays
            Pre-activations of every stage; what it receives, and at the end the logits.
        """
        state = self._complete(state, settings)
        stages, last = self.network.stages, self.network.stages[-1]
        for index in self.network.trainable:
            read = activations[index][:stages[index].dense.n_in]
            self.inputs[index] = [*self.inputs[index][1:], np.array(read)]
        layers = self.schedule(settings)
        base = int(cross_entropy(activations[-1], label, last.result))
        errors, passes = state.errors.copy(), state.passes
        counts = base >= settings.skip
        error_max = state.error_max
        if self.head in layers:
            terms, error_max = partial(head_error(activations[-1], label, last.result),
                                       error_max, settings.lmin, settings.lmax)
            if counts:
                at = self.nodes_of(self.head)
                errors[at] = node_probe.accumulate(
                    errors[at], standardize(terms, settings.standardize))
        for index in reversed([i for i in layers if i != self.head]):
            if not settings.probes:
                break
            stage, at = stages[index], self.nodes_of(index)
            s = self._draw(stage)
            received = activations[index]
            active = nodes(stage, sums[index], received) != 0 if stage.gated \
                else np.ones(len(s), bool)
            for k in range(settings.probes):
                z = node_probe.signs(k, s)
                nu = z << node_probe.amplitude_shift(stage.dense.accum, settings.sigma_log2)
                h = activate(stage, requantize(sums[index] + nu, stage.dense.accum.frac,
                                               stage.dense.accum), received)
                for behind in stages[index + 1:]:
                    h = activate(behind, accumulate(behind.dense, behind.source, h,
                                                    *codes[behind.index]), h)
                loss = int(cross_entropy(h, label, last.result))
                if counts:
                    d = node_probe.difference(loss, base)
                    errors[at] = node_probe.accumulate(errors[at], active * z * d)
            passes += settings.probes
        self.complete = layers
        return replace(state, errors=errors, error_max=error_max, passes=passes)

    def _draw(self, stage) -> np.ndarray:
        """Signs of a sample [n_out], drawn in the order in which the stage drains its outputs."""
        drawn, self.noise[stage.index] = noise.serial(self.noise[stage.index], stage.dense.n_out)
        return drawn.reshape(stage.drain_words, stage.drain_lanes).T.ravel()

    def _complete(self, state, settings):
        """Step 2: coefficients from the errors of the sample before."""
        if self.complete is None:
            return state
        errors = state.errors.copy()
        for index in self.network.trainable:
            c = np.zeros(self.network.stages[index].dense.n_out, np.int64)
            if index in self.complete:
                shift = settings.head_shift if index == self.head else settings.lr_shift
                at = self.nodes_of(index)
                c, errors[at] = node_probe.coefficients(
                    errors[at], min(shift + state.decays, node_probe.SHIFT_MAX), self.bits)
            self.coefficients[index] = c
        decays, count = decay(state.decays, state.decay_count, settings.lr_decay)
        return replace(state, errors=errors, updates=state.updates + 1, decays=decays,
                       decay_count=count)

"""Golden model of learning by an evolutionary strategy: a population's passes, and its update.

For a sample that may be learned from, from the lowest selected stage on:

    base pass; for each pair: pass with +z, pass with -z
    after `batch` samples: coefficients from the loss differences, V = sum_i c_i z_i, M -= V

Source: AbdulQader et al. 2021 (arXiv 2103.14007); Feng et al. 2024 (arXiv 2411.04036). What the
settings add to this has its own file: :mod:`firmware_models.directions`, `momentum`, `rounding`,
and :mod:`firmware_models.rules.es` for fitness and votes.
"""
from dataclasses import replace

import numpy as np

from . import directions, momentum, noise, rounding
from .dense import accumulate, activate
from .loss import cross_entropy
from .network import Network
from .progress import decay
from .prompt import prompted
from .rules import es
from .weight_memory import commit, perturbed

# Generators left out before those of a prompt: of the next ones, some have a bit that is the
# same function of the seed as one of a 784x32 layer.
PROMPT_SKIPS = 3
# Of a journal's records: a pair, whether it is its update's last, and all else that counts there.
COLUMNS = ("seed", "coefficient", "last", "layers", "sparse", "rank1", "kernel", "rounding", "vote")


class Evolution:
    """What rule "es" does to the state of a :class:`firmware_models.learner.Learner`.

    Parameters
    ----------
    network : Network
    residual : int
    max_pairs : int
        Pairs that the core can keep, of the population and, for rounding "replay", of those before.
    journal_records : int
        Records that the journal keeps.
    """

    def __init__(self, network: Network, residual: int, max_pairs: int, journal_records: int = 0):
        self.network, self.residual, self.journal_records = network, residual, journal_records
        self.max_pairs = max_pairs
        self.first_generator = first_generators(network)
        self.restart()

    def restart(self) -> None:
        """Forget the pairs of earlier updates."""
        self.past = np.zeros((0, 2), np.int64)      # seed, coefficient

    def evaluate(self, state, settings, codes, x, label: int):
        """Two passes per pair, '+' before '-', and their loss differences.

        `codes` are the deployed weights and biases of every part, `x` the codes that the
        lowest selected stage gets in the base pass: the first one those without a prompt.
        """
        if state.batch_index == 0:
            seeds, seed = [], state.seed
            for _ in range(settings.pairs):
                seeds.append(seed)
                seed = noise.next_seed(seed)
            state = replace(state, seeds=np.array(seeds), seed=seed,
                            deltas=np.zeros(settings.pairs, np.int64))
        if settings.sharp:      # up from here is what the first pair says of this sample
            first = self._differences(state, settings, codes, x, label, state.seeds[:1])
            others = self._differences(state, settings, codes, x, label, state.seeds[1:],
                                       int(np.sign(first[0])))
            differences = np.concatenate([first, others])
        else:
            differences = self._differences(state, settings, codes, x, label, state.seeds)
        return replace(state, deltas=state.deltas + differences,
                       batch_index=state.batch_index + 1,
                       passes=state.passes + 2 * settings.pairs)

    def _differences(self, state, settings, codes, x, label, seeds, ahead: int = 0):
        """Loss differences of pairs, around w or `ahead` (-1, 1) along the first pair from it."""
        h = np.broadcast_to(x, (2, len(seeds), len(x)))
        first = self.network.entry(settings.layers)
        if first == 0 and self.network.prompt is not None:
            p, _ = self._noisy(state, settings, codes, len(self.network.stages), seeds, ahead)
            h = prompted(h, p[..., 0, :], self.network.input)
        for stage in self.network.stages[first:]:
            w, b = self._noisy(state, settings, codes, stage.index, seeds, ahead)
            h = activate(stage, accumulate(stage.dense, stage.source, h, w, b), h)
        losses = cross_entropy(h, np.full(h.shape[:-1], label), self.network.stages[-1].result)
        return losses[0] - losses[1]

    def _noisy(self, state, settings, codes, index, seeds, ahead):
        """Codes of a part in the passes of pairs: with noise, + before -, if it is selected."""
        w, b = codes[index]
        if index not in settings.layers:
            return w, b
        dense, w_ahead, b_ahead = self.network.parts[index].dense, 0, 0
        sigma_log2 = max(settings.sigma_log2 - state.decays * settings.sigma_decay, 0)
        zw, zb = self._probes(state, settings, seeds, index)
        sigma = self._amplitudes(settings, sigma_log2, dense)
        if ahead:
            zw_0, zb_0 = self._probes(state, settings, state.seeds[0], index)
            rho = self._amplitudes(settings, settings.sharp - 1, dense)
            w_ahead, b_ahead = ahead * (zw_0 << rho[:, None]), ahead * (zb_0 << rho)
        return (np.stack([perturbed(w, s * zw, sigma[:, None], dense.weight, w_ahead)
                          for s in (1, -1)]),
                np.stack([perturbed(b, s * zb, sigma, dense.bias, b_ahead) for s in (1, -1)]))

    def _amplitudes(self, settings, sigma_log2, dense):
        """Base-2 logarithms of a layer's rows' amplitudes."""
        return directions.row_amplitudes(
            sigma_log2, directions.row_shifts(dense, settings.kernel), directions.finer(dense))

    def _probes(self, state, settings, seeds, index: int):
        """Directions of the probes in a part: [..., n_out, n_in] and [..., n_out]."""
        return directions.probe(
            seeds, self.first_generator[index], self.network.parts[index].dense,
            sparse=settings.sparse, rank1=settings.rank1,
            counters=state.momenta[index] if settings.momentum else None)

    def update(self, state, settings):
        """Coefficients from the loss differences, and the update that they make."""
        c = es.coefficients(state.deltas, settings.fitness,
                            es.rate(settings.lr_shift, state.decays, settings.rounding))
        state = self._recorded(self.replayed(state, settings, state.seeds, c), settings, c)
        # The next population and those before it share the slots.
        past = np.concatenate([self.past, np.stack([state.seeds, c], 1)])
        self.past = past[max(len(past) - rounding.most_older(self.max_pairs, settings.pairs), 0):]
        decays, count = decay(state.decays, state.decay_count, settings.lr_decay)
        return replace(state, updates=state.updates + 1, batch_index=0, decays=decays,
                       decay_count=count)

    def replayed(self, state, settings, seeds, c):
        """Replay seeds with coefficients `c` into the selected layers: M -= sum_i c_i z_i."""
        weights, biases, momenta = dict(state.weights), dict(state.biases), dict(state.momenta)
        saturations = state.saturations
        for index in settings.layers:
            part, dense = self.network.parts[index], self.network.parts[index].dense
            v, v_bias = self._changes(state, settings, index, seeds, c)
            if settings.rounding == "replay":
                v, v_bias = (now + rounding.residual(past) for now, past in zip(
                    (v, v_bias), self._changes(state, settings, index, *self.past.T), strict=True))
            if settings.momentum:
                momenta[index] = momentum.follow(momenta[index], v)
            noises = directions.rounding_noise(int(seeds[-1]), self.first_generator[index], dense) \
                if settings.rounding == "stochastic" else (0, 0)
            v, v_bias = (
                es.voted(rounding.rounded(change, settings.rounding, noise), settings.vote,
                         self.residual)
                for change, noise in zip((v, v_bias), noises, strict=True))
            weights[index], clipped = commit(weights[index], v, dense.weight, self.residual)
            saturations += int(dense.words(clipped).any(-1).sum())
            biases[index], clipped = commit(biases[index], v_bias, dense.bias, self.residual)
            # Biases are committed in the groups in which the stage drains its outputs.
            saturations += int(clipped.reshape(-1, part.drain_words).any(0).sum())
        return replace(state, weights=weights, biases=biases, saturations=saturations,
                       momenta=momenta)

    def _changes(self, state, settings, index, seeds, c):
        """V of a part's weights and biases: sums of coefficients and signs."""
        zw, zb = self._probes(state, settings, seeds, index)
        rows = directions.row_coefficients(c, directions.row_shifts(
            self.network.parts[index].dense, settings.kernel))
        return np.einsum("pj,pji->ji", rows, zw), (rows * zb).sum(0)

    def _recorded(self, state, settings, c):
        """The update of the population with coefficients `c` in the journal, if there is one."""
        if not self.journal_records:
            return state
        records = np.zeros((len(c), len(COLUMNS)), np.int64)
        records[:, 0], records[:, 1], records[-1, 2] = state.seeds, c, 1
        records[:, 3] = sum(1 << index for index in settings.layers)
        records[:, 4:] = (directions.SPARSE.index(settings.sparse), settings.rank1,
                          settings.kernel, rounding.ROUNDINGS.index(settings.rounding),
                          settings.vote)
        return replace(state, written=state.written + len(c) & noise.MASK, records=np.concatenate(
            [state.records, records])[-self.journal_records:])


def first_generators(network: Network) -> dict[int, int]:
    """Number of the first noise generator of each trainable part; they count through the core."""
    first, total = {}, 0
    for index in network.trainable:
        first[index] = total + PROMPT_SKIPS * (index == len(network.stages))
        total += noise.generators(network.parts[index].dense.lanes)
    return first

"""The golden model of the evolutionary strategy once more, compiled: for long runs and for studies.

:class:`FastEvolution` gives the predictions and the state of
:class:`firmware_models.learner.Learner` with rule "es", integer for integer;
tests/test_fast_evolution.py compares them. What to compute is said there and in
:mod:`firmware_models.evolution`; here one loop over samples works on the flat arrays of
:mod:`firmware_models.compiled`. What makes it fast:

- a population's directions are drawn once, when its first sample comes, and kept for all its
  samples and for the update: one byte an element;
- a pass starts at the lowest selected stage, with what the base pass gave to it.
"""
from collections import namedtuple

import numpy as np
from numba import njit

from . import (
    compiled,
    compiled_directions,
    compiled_update,
    directions,
    momentum,
    noise,
    rounding,
)
from .compiled import BIAS, Compiled
from .learner import Learner
from .network import Network
from .rules import es
from .settings import Settings

STAGE = ("generator", "generators",         # the first one's number, and how many
         "inputs_per_word", "finer",
         "weight_low", "weight_high", "bias_low", "bias_high",
         "master_low", "master_high", "bias_master_low", "bias_master_high")
OPTIONS = ("sigma_log2", "sigma_decay", "pairs", "batch", "vote", "rank1", "sharp", "momentum",
           "entry",                         # the lowest selected stage
           "rank", "zscore", "best",        # fitness
           "hash", "masked",                # sparse: another mask with each probe, the same one
           "fraction", "stochastic", "pseudo", "replay")    # rounding
COUNTERS = ("seed", "batch_index", "population", "kept")    # pairs in `seeds`, and in `past`
CONSTANTS = {"noise_mask": noise.MASK, "guide_1": momentum.GUIDE_BITS[0],
             "guide_2": momentum.GUIDE_BITS[1], "momentum_limit": momentum.LIMIT,
             "mask_1": directions.MASK_BITS[0], "mask_2": directions.MASK_BITS[1],
             "rate_bits": es.RATE_BITS, "coefficient_max": (1 << es.COEFFICIENT_WIDTH - 1) - 1,
             compiled_directions.DIGEST: 0, compiled_update.DIGEST: 0}
# What the loop works on. All int64; but codes, masters and `steps` have one type, changes and
# `rows` are int32, and what is a bit or a sign, int8.
Arrays = namedtuple("Arrays", (
    *compiled.ARRAYS,
    "selected",         # [parts] whether settings.layers has it
    "shifts",           # [outputs] how much smaller steps are in the row
    "noise_shifts",     # [3] of a generator's step
    "seed_shifts",      # [3] from seed to seed
    "rotations",        # [generators, 2] from a seed to the start
    "random_bits",      # [4] of the rounding
    "seeds", "deltas",  # [pairs]
    "z", "z_bias",      # [pairs, weights], [pairs, outputs]
    "active",           # [weights] the mask that stays
    "momenta",          # [weights]
    "past",             # [kept pairs, 2] seed, coefficient
    "past_z", "past_z_bias",    # [1, ...] of one of them
    "features",         # [inputs] with the prompt
    "ones",             # [inputs] what meets the prompt
    "moved",            # perturbed codes
    "moved_bias",       # ... in the accumulators' format
    "steps",            # [2, outputs] of a stage: to the pair's middle, and from there
    "coefficients",     # [pairs]
    "rows",             # [outputs] one of them for each row
    "v", "v_bias",
    "words",            # [2, words of a stage] of its generators, and of bits next to them
    "bits",             # [weights] of such words
    "random", "random_bias"))   # what rounds the weights, and the biases


class FastEvolution(Compiled):
    """A network that learns by rule "es", as :class:`firmware_models.learner.Learner` does.

    Parameters
    ----------
    network : Network
    settings : Settings
        Of rule "es".
    residual : int
        Residual bits R below each trainable weight.
    max_pairs : int
        Pairs that the core can keep.
    momentum : bool
        Whether the core has option momentum.

    Raises
    ------
    ValueError
        For another rule, layers that are not trainable, or formats whose numbers could need more
        than 62 bits.
    """
    RULE = "es"

    def __init__(self, network: Network, settings: Settings, residual: int = 4,
                 max_pairs: int = 16, momentum: bool = False):
        self._check_rule(settings)
        for part in network.parts:
            # Two more for w, its neighbour and its probe; one to subtract.
            compiled.check_widths(part, part.dense.weight.width + max(residual, 2),
                                  part.dense.bias.width + max(residual, 2))
        plain = Learner(network, settings, residual, max_pairs=max_pairs, momentum=momentum)
        super().__init__(plain, _arrays(network, residual, plain.evolution))

    @property
    def older(self) -> int:
        """Pairs of earlier updates that rounding "replay" finds again; 0 with the others."""
        return int(self._arrays.counters[0]["kept"])

    def _loop(self, *arguments) -> None:
        _learn(*arguments)

    def _restart(self, settings: Settings) -> None:
        a, option, count = self._arrays, self._arrays.options[0], self._arrays.counters[0]
        option["entry"] = self.network.entry(settings.layers) if settings.layers else 0
        for name in ("rank", "zscore", "best"):
            option[name] = settings.fitness == name
        option["hash"] = settings.sparse == "hash"
        option["masked"] = settings.sparse in ("static", "biases")
        option["fraction"] = 0 if settings.rounding == "feedback" else rounding.FRACTION
        for name in ("stochastic", "pseudo", "replay"):
            option[name] = settings.rounding == name
        count["seed"], count["batch_index"] = settings.seed, 0
        count["population"] = count["kept"] = 0
        a.selected[:] = a.active[:] = a.shifts[:] = 0
        a.selected[list(settings.layers)] = 1
        for index in self.network.trainable:
            dense = self.network.parts[index].dense
            rows, outputs = compiled.parts(a.stages[index])
            a.shifts[outputs] = directions.row_shifts(dense, settings.kernel)
            if settings.sparse == "static":
                first = self._plain.evolution.first_generator[index]
                mask = directions.mask(directions.static_states(
                    first, dense.reuse_factor, dense.lanes))[:, :dense.lanes]
                a.active[rows] = dense.matrix(mask).T.ravel()
        kept = option["replay"] * rounding.most_older(
            self._plain.evolution.max_pairs, settings.pairs)
        self._arrays = a._replace(
            z=np.zeros((settings.pairs, len(a.codes)), np.int8),
            z_bias=np.zeros((settings.pairs, len(a.bias)), np.int8),
            seeds=np.zeros(settings.pairs, np.int64), deltas=np.zeros(settings.pairs, np.int64),
            coefficients=np.zeros(settings.pairs, np.int64), past=np.zeros((kept, 2), np.int64))

    def _own_state(self) -> dict:
        a, count = self._arrays, self._arrays.counters[0]
        population = int(count["population"])
        return {"seed": int(count["seed"]), "batch_index": int(count["batch_index"]),
                "seeds": a.seeds[:population].copy(), "deltas": a.deltas[:population].copy(),
                "momenta": self._matrices(a.momenta) if self._plain.guided else {}}


def _arrays(network: Network, residual: int, evolution) -> Arrays:
    """Arrays of a network, without weights and without settings."""
    shared = compiled.arrays(network, residual, stage=STAGE, options=OPTIONS, counters=COUNTERS,
                             narrow_masters=True, constants=CONSTANTS | {
        "n_stages": len(network.stages), "feature_low": network.input.min,
        "feature_high": network.input.max})
    generators = 0
    for part in network.parts:
        dense, own = part.dense, shared["stages"][part.index]
        own["inputs_per_word"], own["finer"] = dense.inputs_per_word, directions.finer(dense)
        for name, of in (("weight", dense.weight), ("bias", dense.bias)):
            own[f"{name}_low"], own[f"{name}_high"] = of.min, of.max
            name = "master" if name == "weight" else "bias_master"
            own[f"{name}_low"] = of.min << residual
            own[f"{name}_high"] = (of.max + 1 << residual) - 1
        if dense.trainable:
            own["generator"] = evolution.first_generator[part.index]
            own["generators"] = noise.generators(dense.lanes)
            generators = own["generator"] + own["generators"]
    weights, biases = len(shared["codes"]), len(shared["bias"])
    outputs = max(stage.dense.n_out for stage in network.stages)

    def zeros(*shape, dtype=np.int64):
        return np.zeros(shape, dtype)

    return Arrays(
        **shared, selected=zeros(len(network.parts)), shifts=zeros(biases),
        noise_shifts=np.array(noise.NOISE_SHIFTS), seed_shifts=np.array(noise.SEED_SHIFTS),
        # Rotated by nothing twice, a seed stays itself.
        rotations=np.array([(0, 0), *noise.START_ROTATIONS[:generators - 1]]),
        random_bits=np.array(rounding.RANDOM_BITS), seeds=None, deltas=None, z=None, z_bias=None,
        active=zeros(weights, dtype=np.int8), momenta=zeros(weights, dtype=np.int8), past=None,
        past_z=zeros(1, weights, dtype=np.int8), past_z_bias=zeros(1, biases, dtype=np.int8),
        features=zeros(network.n_in), ones=np.ones(network.n_in, int),
        moved=np.zeros_like(shared["codes"]), moved_bias=zeros(biases),
        steps=zeros(2, outputs, dtype=shared["codes"].dtype), coefficients=None,
        rows=zeros(outputs, dtype=np.int32), v=zeros(weights, dtype=np.int32),
        v_bias=zeros(biases, dtype=np.int32),
        words=zeros(2, max(noise.generators(part.dense.lanes) * part.dense.reuse_factor
                           for part in network.parts)),
        bits=zeros(weights, dtype=np.int8),
        random=zeros(weights, dtype=np.int8), random_bias=zeros(biases, dtype=np.int8))


@njit(cache=True, nogil=True)
def _learn(a, x, y, learn, predictions):
    """Learner.step for every sample."""
    count, constants, options = a.counters[0], a.constants[0], a.options[0]
    logits = a.base[len(a.base) - len(a.below):]
    for n in range(len(x)):
        compiled.enter(options, count, constants)
        learn[n] = learn[n] and count.on and options.learns
        features = x[n]
        if len(a.stages) > constants.n_stages:
            features = a.features
            _prompt(x[n], a.codes[len(a.codes) - len(features):], features, constants)
        compiled.base_pass(features, a.stages[:constants.n_stages], a.casts, a.layers,
                           a.layer_casts, a.parameters, a.codes, a.bias, a.totals, a.sums, a.base)
        predictions[n] = compiled.first_largest(logits)
        loss, _ = compiled.cross_entropy(logits, y[n], a.below, a.logit[0], constants,
                                         a.exp_table, a.log_table)
        compiled.count_sample(loss, options, count, constants)
        if learn[n]:
            if count.batch_index == 0:
                _populate(a, options, count)
            _evaluate(a, x[n], y[n], options, count)
            if count.batch_index == options.batch:
                _update(a, options, count, constants)


@njit
def _prompt(x, p, features, constants):
    """Features that the first stage sees."""
    for i in range(len(x)):
        features[i] = min(max(x[i] + p[i], constants.feature_low), constants.feature_high)


@njit
def _populate(a, options, count):
    """Seeds and directions of the next population."""
    count.population = options.pairs
    for pair in range(options.pairs):
        a.seeds[pair] = count.seed
        count.seed = compiled_directions.xorshift(count.seed, a.seed_shifts,
                                                  a.constants[0].noise_mask)
        a.deltas[pair] = 0
        for k in range(options.entry, len(a.stages)):
            if a.selected[k]:
                compiled_directions.draw(a, k, a.seeds[pair], a.z[pair], a.z_bias[pair])


@njit
def _evaluate(a, x, label, options, count):
    """Two passes per pair, '+' before '-', and their loss differences."""
    sigma_log2 = max(options.sigma_log2 - count.decays * options.sigma_decay, 0)
    entry, ahead = a.stages[options.entry], np.int64(0)    # or 0 would be compiled for itself
    for i in range(entry.x_at, entry.x_at + entry.n_in):
        a.probe[i] = a.base[i]
    for pair in range(options.pairs):
        delta = 0
        for sign in (1, -1):
            delta += sign * _probe(a, x, pair, sign, ahead, sigma_log2, label, options)
        if pair == 0 and options.sharp:
            ahead = np.int64((delta > 0) - (delta < 0))
        a.deltas[pair] += delta
    count.batch_index += 1
    count.passes += 2 * options.pairs


@njit
def _probe(a, x, pair, sign, ahead, sigma_log2, label, options):
    """Loss of a pass with noise, around w or `ahead` (-1, 1) along the first pair from it."""
    n_stages = a.constants[0].n_stages
    if len(a.stages) > n_stages and a.selected[n_stages]:
        _move(a, n_stages, a.ones, pair, sign, ahead, sigma_log2, options)
        _prompt(x, a.moved[len(a.moved) - len(x):], a.probe, a.constants[0])
    for k in range(options.entry, n_stages):
        stage = a.stages[k]
        at = stage.x_at + stage.n_in
        inputs, out = a.probe[stage.x_at:at], a.probe[at:at + stage.n_out]
        if a.selected[k]:
            _move(a, k, inputs, pair, sign, ahead, sigma_log2, options)
            compiled.accumulate(stage, a.casts[k], a.moved, a.moved_bias, a.totals, a.probe, out)
        else:
            compiled.accumulate(stage, a.casts[k], a.codes, a.bias, a.totals, a.probe, out)
        compiled.activate(stage, a.casts[k], a.layers, a.layer_casts, a.parameters, a.probe)
    loss, _ = compiled.cross_entropy(a.probe[len(a.probe) - len(a.below):], label, a.below,
                                     a.logit[0], a.constants[0], a.exp_table, a.log_table)
    return loss


@njit
def _move(a, k, x, pair, sign, ahead, sigma_log2, options):
    """Weights and biases of part k as a pass of a pair sees them that gives it inputs `x`."""
    stage, residual = a.stages[k], a.constants[0].residual
    rows, outputs = compiled_directions.parts(stage)
    n_out, shifts, biases = stage.n_out, a.shifts[outputs], a.moved_bias[outputs]
    masters, z_0, z = a.bias_masters[outputs], a.z_bias[0, outputs], a.z_bias[pair, outputs]
    for j in range(n_out):
        a.steps[0, j] = ahead << max(options.sharp - 1 - shifts[j], 0) + stage.finer
        a.steps[1, j] = sign << max(sigma_log2 - shifts[j], 0) + stage.finer
        b = (masters[j] >> residual) + z_0[j] * a.steps[0, j] + z[j] * a.steps[1, j]
        biases[j] = min(max(b, stage.bias_low), stage.bias_high)
    compiled.assign(biases, a.casts[k, BIAS])
    shape = (stage.n_in, n_out)
    codes, moved = a.codes[rows].reshape(shape), a.moved[rows].reshape(shape)
    if ahead:
        _move_twice(codes, a.z[0, rows].reshape(shape), a.steps[0, :n_out],
                    a.z[pair, rows].reshape(shape), a.steps[1, :n_out], x, stage.weight_low,
                    stage.weight_high, moved)
    else:
        _move_once(codes, a.z[pair, rows].reshape(shape), a.steps[1, :n_out], x,
                   stage.weight_low, stage.weight_high, moved)


@njit
def _move_once(codes, z, steps, x, low, high, moved):
    """Codes with noise, where an input is not 0; the others are not looked at."""
    integer = codes.dtype.type          # or everything were 64 bits wide
    lowest, highest = integer(low), integer(high)
    for i in range(len(codes)):
        if x[i]:
            for j in range(len(steps)):
                moved[i, j] = min(max(integer(codes[i, j] + z[i, j] * steps[j]), lowest), highest)


@njit
def _move_twice(codes, z_0, steps_0, z, steps, x, low, high, moved):
    """The same around a neighbour."""
    integer = codes.dtype.type
    lowest, highest = integer(low), integer(high)
    for i in range(len(codes)):
        if x[i]:
            for j in range(len(steps)):
                code = integer(codes[i, j] + z_0[i, j] * steps_0[j] + z[i, j] * steps[j])
                moved[i, j] = min(max(code, lowest), highest)


@njit
def _update(a, options, count, constants):
    """Coefficients from the loss differences, and M -= V in the selected stages."""
    compiled_update.coefficients(a.deltas, a.coefficients, options, count, constants)
    for k in range(options.entry, len(a.stages)):
        if a.selected[k]:
            compiled_update.commit(a, k, options, count, constants)
    if options.replay:
        compiled_update.keep(a.past, a.seeds, a.coefficients, count)
    count.batch_index = 0
    compiled.count_update(options, count, constants)

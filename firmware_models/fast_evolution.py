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

from . import compiled, directions, momentum, noise, rounding
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
             "rate_bits": es.RATE_BITS, "coefficient_max": (1 << es.COEFFICIENT_WIDTH - 1) - 1}
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
        compiled.base_pass(features, a.stages[:constants.n_stages], a.casts, a.codes, a.bias,
                           a.totals, a.sums, a.base)
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
        count.seed = _xorshift(count.seed, a.seed_shifts, a.constants[0].noise_mask)
        a.deltas[pair] = 0
        for k in range(options.entry, len(a.stages)):
            if a.selected[k]:
                _draw(a, k, a.seeds[pair], a.z[pair], a.z_bias[pair])


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
        compiled.activate(stage, a.casts[k], a.probe)
    loss, _ = compiled.cross_entropy(a.probe[len(a.probe) - len(a.below):], label, a.below,
                                     a.logit[0], a.constants[0], a.exp_table, a.log_table)
    return loss


@njit
def _move(a, k, x, pair, sign, ahead, sigma_log2, options):
    """Weights and biases of part k as a pass of a pair sees them that gives it inputs `x`."""
    stage, residual = a.stages[k], a.constants[0].residual
    rows, outputs = _parts(stage)
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
def _parts(stage):
    """A stage's weights and its outputs in the flat arrays."""
    return (slice(stage.w_at, stage.w_at + stage.n_in * stage.n_out),
            slice(stage.j_at, stage.j_at + stage.n_out))


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
    _coefficients(a.deltas, a.coefficients, options, count, constants)
    for k in range(options.entry, len(a.stages)):
        if a.selected[k]:
            _commit(a, k, options, count, constants)
    if options.replay:
        _keep(a.past, a.seeds, a.coefficients, count)
    count.batch_index = 0
    compiled.count_update(options, count, constants)


@njit
def _coefficients(deltas, coefficients, options, count, constants):
    """Fitness of each pair, times the rate."""
    shift = max(min(options.lr_shift + count.decays, constants.decays_max) - options.fraction, 0)
    pairs, total, first = len(deltas), 0, 0
    for pair in range(pairs):
        total += abs(deltas[pair])
        if abs(deltas[pair]) > abs(deltas[first]):
            first = pair
    if options.zscore:
        mean = total
        while pairs > 1:                    # ceil(log2(pairs)) times
            mean, pairs = mean >> 1, pairs + 1 >> 1
        while mean > 1:
            mean, shift = mean >> 1, shift + 1
    for pair in range(len(deltas)):
        fitness, delta = 0, deltas[pair]
        if options.zscore:
            fitness = delta
        elif options.rank:
            for other in range(len(deltas)):
                fitness += (delta > deltas[other]) - (delta < deltas[other])
        elif not options.best or pair == first:
            fitness = (delta > 0) - (delta < 0)
        c = (fitness << constants.rate_bits) + (1 << shift >> 1) >> shift
        coefficients[pair] = min(max(c, -constants.coefficient_max), constants.coefficient_max)


@njit
def _keep(past, seeds, coefficients, count):
    """The population goes to those before it; the oldest leave."""
    for pair in range(len(seeds)):
        if count.kept == len(past):
            for old in range(1, len(past)):
                past[old - 1, 0], past[old - 1, 1] = past[old, 0], past[old, 1]
            count.kept = max(len(past) - 1, 0)
        if len(past):
            past[count.kept, 0], past[count.kept, 1] = seeds[pair], coefficients[pair]
            count.kept += 1


@njit
def _commit(a, k, options, count, constants):
    """The update into stage k."""
    stage, residual = a.stages[k], constants.residual
    rows, outputs = _parts(stage)
    v, v_bias = a.v[rows], a.v_bias[outputs]
    v[:] = 0
    v_bias[:] = 0
    if options.replay:
        for old in range(count.kept):
            _draw(a, k, a.past[old, 0], a.past_z[0], a.past_z_bias[0])
            _add(a, stage, a.past[old, 1], a.past_z[0], a.past_z_bias[0])
        _keep_residual(v)
        _keep_residual(v_bias)
    for pair in range(len(a.seeds)):
        _add(a, stage, a.coefficients[pair], a.z[pair], a.z_bias[pair])
    if options.momentum:
        _follow(a.momenta[rows], v, constants.momentum_limit)
    if options.stochastic:
        _draw_random(a, stage, a.seeds[len(a.seeds) - 1])
    _round(v, a.random[rows], options, residual)
    _round(v_bias, a.random_bias[outputs], options, residual)
    shape = (stage.n_in, stage.n_out)
    count.saturations += _subtract(
        a.masters[rows].reshape(shape), v.reshape(shape), a.codes[rows].reshape(shape),
        stage.master_low, stage.master_high, residual, stage.reuse)
    # Biases are committed in the groups in which the stage drains its outputs.
    shape, biases = (stage.n_out, 1), a.bias[outputs]
    count.saturations += _subtract(
        a.bias_masters[outputs].reshape(shape), v_bias.reshape(shape), biases.reshape(shape),
        stage.bias_master_low, stage.bias_master_high, residual, stage.drain_words)
    compiled.assign(biases, a.casts[k, BIAS])


@njit
def _add(a, stage, c, z, z_bias):
    """V += c z."""
    if c == 0:
        return
    rows, outputs = _parts(stage)
    shifts, changes, signs = a.shifts[outputs], a.v_bias[outputs], z_bias[outputs]
    for j in range(stage.n_out):
        a.rows[j] = c >> shifts[j] if c > 0 else -(-c >> shifts[j])
        changes[j] += a.rows[j] * signs[j]
    shape = (stage.n_in, stage.n_out)
    _add_rows(a.v[rows].reshape(shape), z[rows].reshape(shape), a.rows[:stage.n_out])


@njit
def _add_rows(v, z, rows):
    for i in range(len(v)):
        for j in range(len(rows)):
            v[i, j] += z[i, j] * rows[j]


@njit
def _keep_residual(v):
    """What rounding left of changes that sum up to this: the low four bits, -8 to 7."""
    for n in range(len(v)):
        v[n] = (v[n] + 8 & 15) - 8


@njit
def _follow(momenta, v, limit):
    most = np.int32(limit)
    for n in range(len(v)):
        m = np.int32(momenta[n] + (v[n] > 0) - (v[n] < 0))
        momenta[n] = min(max(m, -most), most)


@njit
def _round(v, random, options, residual):
    """Changes in 2**-4 steps of a master to whole steps, or to what the votes say."""
    if options.stochastic:
        for n in range(len(v)):
            v[n] = np.int32(v[n] + random[n]) >> 4
    elif options.pseudo:
        for n in range(len(v)):
            v[n] = np.int32(v[n] + 15 * ((v[n] >> 2 & 3) > (v[n] & 3))) >> 4
    elif options.fraction:
        for n in range(len(v)):
            v[n] = np.int32(v[n] + 8) >> 4
    if options.vote:
        for n in range(len(v)):
            v[n] = (v[n] > options.vote) - (v[n] < -options.vote) << residual


@njit
def _subtract(masters, v, codes, low, high, residual, words):
    """M -= V, clipped, and the codes; the number of words of which an element was clipped."""
    integer = masters.dtype.type
    lowest, highest, shift, count = integer(low), integer(high), integer(residual), 0
    for word in range(words):
        clipped = integer(0)
        for i in range(word, len(masters), words):
            for j in range(masters.shape[1]):
                raw = integer(masters[i, j] - v[i, j])
                new = min(max(raw, lowest), highest)
                clipped = integer(clipped | new ^ raw)
                masters[i, j] = new
                codes[i, j] = new >> shift
        count += clipped != 0
    return count


@njit
def _xorshift(state, shifts, mask):
    state ^= state << shifts[0] & mask
    state ^= state >> shifts[1]
    return state ^ state << shifts[2] & mask


@njit
def _rotate(word, right):
    """32 bits with bit n + right where bit n was."""
    return word >> right | (word & (1 << right) - 1) << 32 - right


@njit
def _words(a, stage, seed, z_bias):
    """Words [words, generators] from which the stage replays a seed; the biases' signs."""
    words = a.words[0, :stage.reuse * stage.generators].reshape(stage.reuse, stage.generators)
    biases = z_bias[stage.j_at:stage.j_at + stage.n_out]
    for g in range(stage.generators):
        state = _start(a.rotations[stage.generator + g], seed)
        for j in range(g << 5, min(len(biases), g + 1 << 5)):
            biases[j] = 1 - 2 * (state >> (j & 31) & 1)
        for word in range(stage.reuse):
            state = _xorshift(state, a.noise_shifts, a.constants[0].noise_mask)
            words[word, g] = state
    return words


@njit
def _spread(words, inputs_per_word, bits):
    """Lanes [n_in, n_out] of words, bit by bit."""
    for word in range(len(words)):
        for p in range(inputs_per_word):
            row = bits[word + len(words) * p]
            if inputs_per_word == 1:
                for g in range(words.shape[1]):
                    state, block = words[word, g], row[g << 5:g + 1 << 5]
                    for n in range(len(block)):
                        block[n] = state >> n & 1
            else:
                lane = p
                for j in range(len(row)):
                    row[j] = words[word, lane >> 5] >> (lane & 31) & 1
                    lane += inputs_per_word


@njit
def _draw(a, k, seed, z, z_bias):
    """Directions of a seed in stage k."""
    stage, options, constants = a.stages[k], a.options[0], a.constants[0]
    rows, outputs = _parts(stage)
    step, shape, z_rows = stage.inputs_per_word, (stage.n_in, stage.n_out), z[rows]
    words = _words(a, stage, seed, z_bias)
    others = a.words[1, :words.size].reshape(words.shape)
    bits = a.bits[rows]
    if options.rank1:
        _rank1(words, z_bias[outputs], z_rows.reshape(shape))
    else:
        _spread(words, step, z_rows.reshape(shape))
        for n in range(len(z_rows)):
            z_rows[n] = 1 - 2 * z_rows[n]
    if options.momentum:
        for word in range(len(words)):
            for g in range(words.shape[1]):
                state = words[word, g]
                others[word, g] = _rotate(state, constants.guide_1) ^ _rotate(
                    state, constants.guide_2)
        _spread(others, step, bits.reshape(shape))
        _guide(z_rows, bits, a.momenta[rows], constants.momentum_limit)
    if options.hash:
        _beside(words, constants.mask_1, constants.mask_2, others)
        _spread(others, step, bits.reshape(shape))
        for n in range(len(z_rows)):
            z_rows[n] *= bits[n]
    elif options.masked:
        active = a.active[rows]
        for n in range(len(z_rows)):
            z_rows[n] *= active[n]


@njit
def _rank1(words, biases, z):
    """Products of the biases' signs, and of one per input of a word."""
    for i in range(len(z)):
        sign = 1 - 2 * (words[i % len(words), 0] >> (i // len(words) & 31) & 1)
        for j in range(len(biases)):
            z[i, j] = sign * biases[j]


@njit
def _beside(words, first, second, others):
    """Words whose bits are 1 where those that lie `first` and `second` above are both 1."""
    for word in range(len(words)):
        for g in range(words.shape[1]):
            state = words[word, g]
            others[word, g] = _rotate(state, first) & _rotate(state, second)


@njit
def _guide(z, leans, momenta, limit):
    """Signs of the counters in place of some."""
    for n in range(len(z)):
        m = momenta[n]
        sign = (m > 0) - (m < 0)
        z[n] = sign if leans[n] & (abs(m) >= limit - 1) else z[n]


@njit
def _draw_random(a, stage, seed):
    """Four noise bits for each weight and bias, from the words that replay a seed."""
    rows, outputs = _parts(stage)
    shape, random, bits = (stage.n_in, stage.n_out), a.random[rows], a.bits[rows]
    biases, starts = a.random_bias[outputs], a.past_z_bias[0, outputs]
    words = _words(a, stage, seed, a.past_z_bias[0])
    others = a.words[1, :words.size].reshape(words.shape)
    random[:] = 0
    biases[:] = 0
    for n in range(len(a.random_bits)):
        _beside(words, a.random_bits[n], a.random_bits[n], others)
        _spread(others, stage.inputs_per_word, bits.reshape(shape))
        for m in range(len(random)):
            random[m] += bits[m] << n
        _start_bits(a, stage, seed, a.random_bits[n], starts)
        for j in range(len(biases)):
            biases[j] += starts[j] << n


@njit
def _start_bits(a, stage, seed, beside, bits):
    """Bits of the start states that lie above each bias's own."""
    for j in range(len(bits)):
        state = _start(a.rotations[stage.generator + (j >> 5)], seed)
        bits[j] = _rotate(state, beside) >> (j & 31) & 1


@njit
def _start(rotation, seed):
    """The state from which a generator replays a seed."""
    return seed ^ _rotate(seed, 32 - rotation[0]) ^ _rotate(seed, 32 - rotation[1])

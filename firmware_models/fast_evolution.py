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
PLUS, MINUS = 0, 1
# What the loop works on. All int64, but for codes, masters and `steps` (one type), and directions
# (int8).
Arrays = namedtuple("Arrays", (
    *compiled.ARRAYS,
    "selected",         # [stages] whether settings.layers has it
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
    "past_v", "past_v_bias",    # what they changed
    "moved",            # perturbed codes
    "moved_bias",       # ... in the accumulators' format
    "steps",            # [2, outputs] of a stage: to the pair's middle, and from there
    "coefficients",     # [pairs]
    "v",                # [outputs] of a row
    "states",           # [generators] of a stage
    "words",            # [4, generators] of noise bits
    "bits",             # [4, outputs] of them for a row
    "hit"))


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
        for stage in network.stages:
            # Two more for w, its neighbour and its probe; one to subtract.
            compiled.check_widths(stage, stage.dense.weight.width + max(residual, 2),
                                  stage.dense.bias.width + max(residual, 2))
        plain = Learner(network, settings, residual, max_pairs=max_pairs, momentum=momentum)
        super().__init__(plain, _arrays(network, residual, plain.evolution))

    def _loop(self, *arguments) -> None:
        _learn(*arguments)

    def _restart(self, settings: Settings) -> None:
        a, option, count = self._arrays, self._arrays.options[0], self._arrays.counters[0]
        option["entry"] = min(settings.layers, default=0)
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
            dense = self.network.stages[index].dense
            rows, outputs = compiled.parts(a.stages[index])
            a.shifts[outputs] = directions.row_shifts(dense, settings.kernel)
            if settings.sparse == "static":
                first = self._plain.evolution.first_generator[index]
                mask = directions.mask(directions.static_states(
                    first, dense.reuse_factor, dense.lanes))[:, :dense.lanes]
                a.active[rows] = dense.matrix(mask).T.ravel()
        kept = max(self._plain.evolution.kept - settings.pairs, 0) * option["replay"]
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
                             constants=CONSTANTS, narrow_masters=True)
    generators = 0
    for stage in network.stages:
        dense, own = stage.dense, shared["stages"][stage.index]
        own["inputs_per_word"], own["finer"] = dense.inputs_per_word, directions.finer(dense)
        for name, of in (("weight", dense.weight), ("bias", dense.bias)):
            own[f"{name}_low"], own[f"{name}_high"] = of.min, of.max
            name = "master" if name == "weight" else "bias_master"
            own[f"{name}_low"] = of.min << residual
            own[f"{name}_high"] = (of.max + 1 << residual) - 1
        if dense.trainable:
            own["generator"] = evolution.first_generator[stage.index]
            own["generators"] = noise.generators(dense.lanes)
            generators += own["generators"]
    weights, biases = len(shared["codes"]), len(shared["bias"])
    outputs = max(stage.dense.n_out for stage in network.stages)

    def zeros(*shape, dtype=np.int64):
        return np.zeros(shape, dtype)

    return Arrays(
        **shared, selected=zeros(len(network.stages)), shifts=zeros(biases),
        noise_shifts=np.array(noise.NOISE_SHIFTS), seed_shifts=np.array(noise.SEED_SHIFTS),
        # Rotated by nothing twice, a seed stays itself.
        rotations=np.array([(0, 0), *noise.START_ROTATIONS[:generators - 1]]),
        random_bits=np.array(rounding.RANDOM_BITS), seeds=None, deltas=None, z=None, z_bias=None,
        active=zeros(weights, dtype=np.int8), momenta=zeros(weights, dtype=np.int8), past=None,
        past_z=zeros(1, weights, dtype=np.int8), past_z_bias=zeros(1, biases, dtype=np.int8),
        past_v=zeros(weights, dtype=np.int32), past_v_bias=zeros(biases, dtype=np.int32),
        moved=np.zeros_like(shared["codes"]), moved_bias=zeros(biases),
        steps=zeros(2, outputs, dtype=shared["codes"].dtype), coefficients=None,
        v=zeros(outputs, dtype=np.int32), states=zeros(generators), words=zeros(4, generators),
        bits=zeros(4, outputs, dtype=np.int8),
        hit=zeros(max(stage.drain_words for stage in network.stages)))


@njit(cache=True, nogil=True)
def _learn(a, x, y, learn, predictions):
    """Learner.step for every sample."""
    count, constants, options = a.counters[0], a.constants[0], a.options[0]
    for n in range(len(x)):
        compiled.enter(options, count, constants)
        learn[n] = learn[n] and count.on and options.learns
        predictions[n], _ = compiled.base_pass(a, x[n], y[n])
        if learn[n]:
            if count.batch_index == 0:
                _populate(a, options, count)
            _evaluate(a, y[n], options, count)
            if count.batch_index == options.batch:
                _update(a, options, count, constants)


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
def _evaluate(a, label, options, count):
    """Two passes per pair, '+' before '-', and their loss differences."""
    sigma_log2 = max(options.sigma_log2 - count.decays * options.sigma_decay, 0)
    entry, ahead = a.stages[options.entry], 0
    for i in range(entry.x_at, entry.x_at + entry.n_in):
        a.probe[i] = a.base[i]
    for pair in range(options.pairs):
        plus = _probe(a, pair, 1, ahead, sigma_log2, label, options)
        delta = plus - _probe(a, pair, -1, ahead, sigma_log2, label, options)
        if pair == 0 and options.sharp:
            ahead = (delta > 0) - (delta < 0)
        a.deltas[pair] += delta
    count.batch_index += 1
    count.passes += 2 * options.pairs


@njit
def _probe(a, pair, sign, ahead, sigma_log2, label, options):
    """Loss of a pass with noise, around w or `ahead` (-1, 1) along the first pair from it."""
    for k in range(options.entry, len(a.stages)):
        stage = a.stages[k]
        at = stage.x_at + stage.n_in
        out = a.probe[at:at + stage.n_out]
        if a.selected[k]:
            _move(a, k, pair, sign, ahead, sigma_log2, options)
            compiled.accumulate(stage, a.casts[k], a.moved, a.moved_bias, a.totals, a.probe, out)
        else:
            compiled.accumulate(stage, a.casts[k], a.codes, a.bias, a.totals, a.probe, out)
        compiled.activate(stage, a.casts[k], a.probe)
    loss, _ = compiled.cross_entropy(a.probe[len(a.probe) - len(a.below):], label, a.below,
                                     a.logit[0], a.constants[0], a.exp_table, a.log_table)
    return loss


@njit
def _move(a, k, pair, sign, ahead, sigma_log2, options):
    """Weights and biases of stage k as a pass of a pair sees them."""
    stage, residual = a.stages[k], a.constants[0].residual
    n_out, j_at, w_at = stage.n_out, stage.j_at, stage.w_at
    low, high = stage.bias_low, stage.bias_high
    for j in range(n_out):
        shift = a.shifts[j_at + j]
        a.steps[0, j] = ahead << max(options.sharp - 1 - shift, 0) + stage.finer
        a.steps[1, j] = sign << max(sigma_log2 - shift, 0) + stage.finer
        b = (a.bias_masters[j_at + j] >> residual) + a.z_bias[0, j_at + j] * a.steps[0, j] \
            + a.z_bias[pair, j_at + j] * a.steps[1, j]
        a.moved_bias[j_at + j] = min(max(b, low), high)
    compiled.assign(a.moved_bias[j_at:j_at + n_out], a.casts[k, BIAS])
    for i in range(stage.n_in):
        if a.probe[stage.x_at + i]:         # the others' weights are not looked at
            row = slice(w_at + i * n_out, w_at + (i + 1) * n_out)
            if ahead:
                _move_row(a.codes[row], a.z[0, row], a.steps[0], a.z[pair, row], a.steps[1],
                          stage.weight_low, stage.weight_high, a.moved[row])
            else:
                _move_row_once(a.codes[row], a.z[pair, row], a.steps[1], stage.weight_low,
                               stage.weight_high, a.moved[row])


@njit
def _move_row(codes, z_0, steps_0, z, steps, low, high, moved):
    for j in range(len(moved)):
        moved[j] = min(max(codes[j] + z_0[j] * steps_0[j] + z[j] * steps[j], low), high)


@njit
def _move_row_once(codes, z, steps, low, high, moved):
    for j in range(len(moved)):
        moved[j] = min(max(codes[j] + z[j] * steps[j], low), high)


@njit
def _update(a, options, count, constants):
    """Coefficients from the loss differences, and M -= V in the selected stages."""
    _coefficients(a.deltas, a.coefficients, options, count, constants)
    for k in range(options.entry, len(a.stages)):
        if a.selected[k]:
            if options.replay:
                _replay(a, k, count)
            _commit(a, k, options, count, constants)
            _commit_biases(a, k, options, count, constants)
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
def _of_row(c, shift):
    """A coefficient in a row whose steps are smaller: sgn(c) * (|c| >> shift)."""
    return c >> shift if c >= 0 else -(-c >> shift)


@njit
def _add(v, z, c, shifts):
    for j in range(len(v)):
        v[j] += np.int32(_of_row(c, shifts[j])) * z[j]


@njit
def _replay(a, k, count):
    """What the pairs that are kept changed in stage k."""
    stage = a.stages[k]
    n_out, outputs = stage.n_out, slice(stage.j_at, stage.j_at + stage.n_out)
    a.past_v[stage.w_at:stage.w_at + stage.n_in * n_out] = 0
    a.past_v_bias[outputs] = 0
    for old in range(count.kept):
        c = a.past[old, 1]
        if c:
            _draw(a, k, a.past[old, 0], a.past_z[0], a.past_z_bias[0])
            for i in range(stage.n_in):
                row = slice(stage.w_at + i * n_out, stage.w_at + (i + 1) * n_out)
                _add(a.past_v[row], a.past_z[0, row], c, a.shifts[outputs])
            _add(a.past_v_bias[outputs], a.past_z_bias[0, outputs], c, a.shifts[outputs])


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
    """The update into the weights of stage k."""
    stage, residual = a.stages[k], constants.residual
    n_out, reuse, generators = stage.n_out, stage.reuse, stage.generators
    v, shifts = a.v[:n_out], a.shifts[stage.j_at:stage.j_at + n_out]
    low, high = stage.master_low, stage.master_high
    if options.stochastic:
        _start(a, stage, a.seeds[len(a.seeds) - 1])
    for word in range(reuse):
        clipped = False
        if options.stochastic:
            for g in range(generators):
                a.states[g] = _xorshift(a.states[g], a.noise_shifts, constants.noise_mask)
            _random_words(a, generators)
        for p in range(stage.inputs_per_word):
            at = stage.w_at + (word + reuse * p) * n_out
            row = slice(at, at + n_out)
            v[:] = 0
            for pair in range(len(a.seeds)):
                if a.coefficients[pair]:
                    _add(v, a.z[pair, row], a.coefficients[pair], shifts)
            if options.replay:
                _add_residual(v, a.past_v[row])
            if options.momentum:
                _follow(a.momenta[row], v, constants.momentum_limit)
            _round(v, a, p, stage.inputs_per_word, options)
            if options.vote:
                _vote(v, options.vote, residual)
            clipped |= _subtract(a.masters[row], v, low, high)
            codes, masters = a.codes[row], a.masters[row]
            for j in range(n_out):
                codes[j] = masters[j] >> residual
        count.saturations += clipped


@njit
def _commit_biases(a, k, options, count, constants):
    """The update into the biases of stage k."""
    stage = a.stages[k]
    n_out, outputs = stage.n_out, slice(stage.j_at, stage.j_at + stage.n_out)
    v, masters, bias = a.v[:n_out], a.bias_masters[outputs], a.bias[outputs]
    v[:] = 0
    for pair in range(len(a.seeds)):
        _add(v, a.z_bias[pair, outputs], a.coefficients[pair], a.shifts[outputs])
    if options.replay:
        _add_residual(v, a.past_v_bias[outputs])
    if options.stochastic:
        _start(a, stage, a.seeds[len(a.seeds) - 1])
        _random_words(a, stage.generators)
    _round(v, a, 0, 1, options)
    if options.vote:
        _vote(v, options.vote, constants.residual)
    a.hit[:] = 0
    for j in range(n_out):
        at = slice(j, j + 1)
        if _subtract(masters[at], v[at], stage.bias_master_low, stage.bias_master_high):
            a.hit[j % stage.drain_words] = 1
        bias[j] = masters[j] >> constants.residual
    count.saturations += a.hit.sum()
    compiled.assign(bias, a.casts[k, BIAS])


@njit
def _add_residual(v, change):
    """What rounding left of earlier changes: their low four bits, -8 to 7."""
    for j in range(len(v)):
        v[j] += (change[j] + 8 & 15) - 8


@njit
def _follow(momenta, v, limit):
    for j in range(len(v)):
        momenta[j] = min(max(momenta[j] + (v[j] > 0) - (v[j] < 0), -limit), limit)


@njit
def _round(v, a, first, step, options):
    """Changes of a row, in 2**-4 steps of a master, to whole steps."""
    if options.stochastic:
        for n in range(4):
            _spread(a.words[n], first, step, a.bits[n, :len(v)])
        for j in range(len(v)):
            v[j] = v[j] + a.bits[0, j] + 2 * a.bits[1, j] + 4 * a.bits[2, j] \
                + 8 * a.bits[3, j] >> 4
    elif options.pseudo:
        for j in range(len(v)):
            v[j] = v[j] + 15 * ((v[j] >> 2 & 3) > (v[j] & 3)) >> 4
    elif options.fraction:
        for j in range(len(v)):
            v[j] = v[j] + 8 >> 4


@njit
def _vote(v, threshold, residual):
    for j in range(len(v)):
        v[j] = (v[j] > threshold) - (v[j] < -threshold) << residual


@njit
def _subtract(masters, v, low, high):
    """M -= V, clipped; whether the clip acted."""
    clipped = False
    for j in range(len(v)):
        raw = masters[j] - v[j]
        new = min(max(raw, low), high)
        clipped |= new != raw
        masters[j] = new
    return clipped


@njit
def _xorshift(state, shifts, mask):
    state ^= state << shifts[0] & mask
    state ^= state >> shifts[1]
    return state ^ state << shifts[2] & mask


@njit
def _rotate(state, right, mask):
    """A word with bit n + right where bit n was."""
    return (state >> right | state << 32 - right) & mask


@njit
def _spread(words, first, step, bits):
    """The words' bits `first`, `first + step`, ... one by one."""
    if step == 1:
        for g in range(0, len(bits), 32):
            word = words[g >> 5]
            for n in range(min(32, len(bits) - g)):
                bits[g + n] = word >> n & 1
    else:
        lane = first
        for j in range(len(bits)):
            bits[j] = words[lane >> 5] >> (lane & 31) & 1
            lane += step


@njit
def _start(a, stage, seed):
    """The stage's generators in the states from which they replay a seed."""
    mask = a.constants[0].noise_mask
    for g in range(stage.generators):
        r = a.rotations[stage.generator + g]
        a.states[g] = seed ^ _rotate(seed, 32 - r[0], mask) ^ _rotate(seed, 32 - r[1], mask)


@njit
def _random_words(a, generators):
    """Words of the noise bits that round, lowest first."""
    for n in range(4):
        for g in range(generators):
            a.words[n, g] = _rotate(a.states[g], a.random_bits[n], a.constants[0].noise_mask)


@njit
def _draw(a, k, seed, z, z_bias):
    """Directions of a seed in stage k."""
    stage, options, constants, mask = a.stages[k], a.options[0], a.constants[0], \
        a.constants[0].noise_mask
    n_out, step, generators, words = stage.n_out, stage.inputs_per_word, stage.generators, a.words
    biases = z_bias[stage.j_at:stage.j_at + n_out]
    bits, gate, second = a.bits[0, :n_out], a.bits[1, :n_out], a.bits[2, :n_out]
    _start(a, stage, seed)
    _spread(a.states, 0, 1, biases)
    for j in range(n_out):
        biases[j] = 1 - 2 * biases[j]
    for word in range(stage.reuse):
        for g in range(generators):
            state = _xorshift(a.states[g], a.noise_shifts, mask)
            a.states[g] = state
            if options.hash:
                words[0, g] = _rotate(state, constants.mask_1, mask) \
                    & _rotate(state, constants.mask_2, mask)
            if options.momentum:
                words[1, g] = _rotate(state, constants.guide_1, mask)
                words[2, g] = words[1, g] & _rotate(state, constants.guide_2, mask)
        for p in range(step):
            at = stage.w_at + (word + stage.reuse * p) * n_out
            row = z[at:at + n_out]
            if options.rank1:
                sign = 1 - 2 * (a.states[0] >> (p & 31) & 1)
                for j in range(n_out):
                    row[j] = sign * biases[j]
            else:
                _spread(a.states, p, step, row)
                for j in range(n_out):
                    row[j] = 1 - 2 * row[j]
            if options.momentum:
                _spread(words[1], p, step, gate)
                _spread(words[2], p, step, second)
                _guide(row, gate, second, a.momenta[at:at + n_out], constants.momentum_limit)
            if options.hash:
                _spread(words[0], p, step, bits)
                for j in range(n_out):
                    row[j] *= bits[j]
            if options.masked:
                for j in range(n_out):
                    row[j] *= a.active[at + j]


@njit
def _guide(z, first, both, momenta, limit):
    """Signs of the counters in place of some."""
    for j in range(len(z)):
        m = momenta[j]
        if abs(m) == limit and first[j] or abs(m) == limit - 1 and both[j]:
            z[j] = 1 if m > 0 else -1

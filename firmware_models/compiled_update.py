"""The update of the compiled evolutionary strategy: fitness, and M -= V.

It works on the arrays of :class:`firmware_models.fast_evolution.FastEvolution`; what it computes is
said in :mod:`firmware_models.evolution` and :mod:`firmware_models.rounding`.
"""
import numpy as np
from numba import njit

from . import compiled, compiled_directions
from .compiled import BIAS

DIGEST = compiled.digest(__file__)


@njit
def coefficients(deltas, coefficients, options, count, constants):
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
def keep(past, seeds, coefficients, count):
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
def commit(a, k, options, count, constants):
    """The update into stage k."""
    stage, residual = a.stages[k], constants.residual
    rows, outputs = compiled_directions.parts(stage)
    v, v_bias = a.v[rows], a.v_bias[outputs]
    v[:] = 0
    v_bias[:] = 0
    if options.replay:
        for old in range(count.kept):
            compiled_directions.draw(a, k, a.past[old, 0], a.past_z[0], a.past_z_bias[0])
            _add(a, stage, a.past[old, 1], a.past_z[0], a.past_z_bias[0])
        _keep_residual(v)
        _keep_residual(v_bias)
    for pair in range(len(a.seeds)):
        _add(a, stage, a.coefficients[pair], a.z[pair], a.z_bias[pair])
    if options.momentum:
        _follow(a.momenta[rows], v, constants.momentum_limit)
    if options.stochastic:
        compiled_directions.draw_random(a, stage, a.seeds[len(a.seeds) - 1])
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
    rows, outputs = compiled_directions.parts(stage)
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

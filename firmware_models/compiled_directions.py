"""Directions of the compiled evolutionary strategy: :mod:`firmware_models.directions`, in loops.

They work on the arrays of :class:`firmware_models.fast_evolution.FastEvolution`; what they need of
other models is in its constants.
"""
from numba import njit

from . import compiled

DIGEST = compiled.digest(__file__)


@njit
def parts(stage):
    """A stage's weights and its outputs in the flat arrays."""
    return (slice(stage.w_at, stage.w_at + stage.n_in * stage.n_out),
            slice(stage.j_at, stage.j_at + stage.n_out))


@njit
def draw(a, k, seed, z, z_bias):
    """Directions of a seed in stage k."""
    stage, options, constants = a.stages[k], a.options[0], a.constants[0]
    rows, outputs = parts(stage)
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
def draw_random(a, stage, seed):
    """Four noise bits for each weight and bias, from the words that replay a seed."""
    rows, outputs = parts(stage)
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
def _words(a, stage, seed, z_bias):
    """Words [words, generators] from which the stage replays a seed; the biases' signs."""
    words = a.words[0, :stage.reuse * stage.generators].reshape(stage.reuse, stage.generators)
    biases = z_bias[stage.j_at:stage.j_at + stage.n_out]
    for g in range(stage.generators):
        state = _start(a.rotations[stage.generator + g], seed)
        for j in range(g << 5, min(len(biases), g + 1 << 5)):
            biases[j] = 1 - 2 * (state >> (j & 31) & 1)
        for word in range(stage.reuse):
            state = xorshift(state, a.noise_shifts, a.constants[0].noise_mask)
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
def _rank1(words, biases, z):
    """Products of the biases' signs, and of one per input of a word."""
    for i in range(len(z)):
        sign = 1 - 2 * (words[i % len(words), 0] >> (i // len(words) & 31) & 1)
        for j in range(len(biases)):
            z[i, j] = sign * biases[j]


@njit
def _guide(z, leans, momenta, limit):
    """Signs of the counters in place of some."""
    for n in range(len(z)):
        m = momenta[n]
        sign = (m > 0) - (m < 0)
        z[n] = sign if leans[n] & (abs(m) >= limit - 1) else z[n]


@njit
def _beside(words, first, second, others):
    """Words whose bits are 1 where those that lie `first` and `second` above are both 1."""
    for word in range(len(words)):
        for g in range(words.shape[1]):
            state = words[word, g]
            others[word, g] = _rotate(state, first) & _rotate(state, second)


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


@njit
def xorshift(state, shifts, mask):
    state ^= state << shifts[0] & mask
    state ^= state >> shifts[1]
    return state ^ state << shifts[2] & mask


@njit
def _rotate(word, right):
    """32 bits with bit n + right where bit n was."""
    return word >> right | (word & (1 << right) - 1) << 32 - right

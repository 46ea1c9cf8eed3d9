"""Golden model of the perturbation generator: Rademacher bits replayed from a 32-bit seed.

A generator is a linear feedback shift register in leap-forward form: one xorshift step (Marsaglia
2003, shifts 13, 17, 5; period 2**32 - 1) gives 32 fresh bits a cycle. Layers with more than 32
lanes use several generators side by side, each started from another linear image of the seed.

Bits of one probe are pairwise independent over seeds as long as no two of them are the same linear
function of the seed; :func:`functionals` lists these functions and a test checks them.
"""
import numpy as np

BITS = 32                   # noise bits of one generator and cycle
MASK = (1 << BITS) - 1
NOISE_SHIFTS = (13, 17, 5)  # x ^= x << a; x ^= x >> b; x ^= x << c
SEED_SHIFTS = (9, 5, 14)    # also of full period; another, or probe i + 1 were probe i, shifted
# Feedback of the bit-serial generator. The lowest tap is as high as can be: up to ten bits a cycle
# follow from the state alone.
SERIAL_TAPS = (31, 30, 29, 9)
# Generator g starts from s ^ rotl(s, a) ^ rotl(s, b): an odd number of rotations is invertible, so
# a seed other than 0 never starts in state 0. Generator 0 takes the seed as it is.
START_ROTATIONS = tuple((a, b) for b in range(3, 31) for a in range(1, b)
                        if len({a, b - a, BITS - b}) == 3)


def xorshift(state, shifts: tuple[int, int, int]):
    """One step of a 32-bit xorshift register; `state` is an int or an array of int64."""
    a, b, c = shifts
    state = state ^ (state << a) & MASK
    state = state ^ state >> b
    return state ^ (state << c) & MASK


def next_seed(seed):
    """The seed of the next probe."""
    return xorshift(seed, SEED_SHIFTS)


def start_state(seed, generator: int):
    """State from which generator number `generator` of the core replays `seed`."""
    if generator == 0:
        return seed
    a, b = START_ROTATIONS[generator - 1]
    return seed ^ _rotl(seed, a) ^ _rotl(seed, b)


def _rotl(x, n: int):
    return (x << n | x >> BITS - n) & MASK


def generators(lanes: int) -> int:
    """Generators that a layer of `lanes` lanes needs."""
    return -(-lanes // BITS)


def probe(seeds, first_generator: int, words: int, lanes: int, n_out: int):
    """Signs of the perturbation that a seed stands for, in one layer.

    Parameters
    ----------
    seeds : int or array of int [...]
        1 to 2**32 - 1.
    first_generator : int
        Number of the layer's first generator in the core.
    words, lanes, n_out : int
        Geometry of the layer's weight memory.

    Returns
    -------
    z_words : int64 [..., words, lanes], +1 or -1; bit b of the state gives 1 - 2b
    z_bias : int64 [..., n_out]
        From the start states; weight word k uses step k + 1.
    """
    seeds = np.asarray(seeds, np.int64)
    if ((seeds < 1) | (seeds > MASK)).any():
        raise ValueError("a seed is 1 to 2**32 - 1")
    count = generators(lanes)
    state = np.stack([start_state(seeds, first_generator + g) for g in range(count)], -1)
    z_bias = _signs(state)[..., :n_out]
    z_words = np.empty((*seeds.shape, words, lanes), np.int64)
    for k in range(words):
        state = xorshift(state, NOISE_SHIFTS)
        z_words[..., k, :] = _signs(state)[..., :lanes]
    return z_words, z_bias


def _signs(state):
    """+1 / -1 from the bits of [..., generators] states, lowest bit first."""
    bits = state[..., None] >> np.arange(BITS) & 1
    return 1 - 2 * bits.reshape(*state.shape[:-1], BITS * state.shape[-1])


def beside(states, shift: int) -> np.ndarray:
    """Bits `shift` places above each lane's own, around in its generator: bool, 1 is True.

    `states` are words of whole generators [..., lanes], as signs.
    """
    shape = np.shape(states)
    bits = np.reshape(states, (*shape[:-1], shape[-1] // BITS, BITS)) < 0
    return np.roll(bits, -shift, -1).reshape(shape)


def serial(state: int, count: int) -> tuple[np.ndarray, int]:
    """The next `count` signs of a bit-serial generator, and the state after them.

    The register x**32 + x**31 + x**30 + x**10 + 1, of full period: where one sign a cycle is
    enough, this takes two LUTs instead of the 64 of a leap-forward step.
    """
    bits = np.empty(count, np.int64)
    for k in range(count):
        bits[k] = sum(state >> tap for tap in SERIAL_TAPS) & 1
        state = state << 1 & MASK | int(bits[k])
    return 1 - 2 * bits, state


def functionals(first_generator: int, words: int, lanes: int, n_out: int) -> np.ndarray:
    """Each noise bit of a layer as a linear function of the seed (one 32-bit mask each).

    Bit i of a mask says that bit i of the seed enters the noise bit. Order: bias bits, then the
    words' lanes. Computed by running the generator on the 32 unit seeds.
    """
    z_words, z_bias = probe(1 << np.arange(BITS), first_generator, words, lanes, n_out)
    bits = np.concatenate([z_bias, z_words.reshape(BITS, -1)], 1) < 0
    return (bits.astype(np.int64) << np.arange(BITS)[:, None]).sum(0)

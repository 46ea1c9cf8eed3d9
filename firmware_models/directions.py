"""Golden model of the perturbation directions: which weights a probe moves, and which way.

A direction z has an element -1, 0 or +1 for each weight and bias of a layer; what is 0 is neither
perturbed nor updated. All of it comes from the words of the layer's noise generators
(:mod:`firmware_models.noise`), so that it is replayed from the probe's seed as they are.

Source: Liu et al. 2024, Sparse MeZO, arXiv 2402.15751, for perturbing and updating the same few
weights; the masks here are drawn, not chosen by magnitude. Sarkar et al. 2025, EGGROLL, arXiv
2511.16652, for directions of rank one; Feng et al. 2024, arXiv 2411.04036, for steps normalized per
kernel, here a row of the weights.
"""
import numpy as np

from . import momentum, noise, rounding
from .network import Dense

SPARSE = ("off", "hash", "static", "biases")        # position = value of the register field
# A weight is active where these bits of the generator's word, counted from its own, are both 1.
MASK_BITS = (11, 19)
# Word 0 of the static mask; the generators of all layers start from images of it.
STATIC_START = 0x9E3779B9
SHIFT_MAX = 3                       # the smallest rows have 2**-3 of the step of the largest
STEP_WIDTH = 8                      # amplitudes count in steps of weights of so many bits


def probe(seeds, first_generator: int, dense: Dense, *, sparse: str = "off",
          rank1: bool = False, counters=None):
    """Directions that seeds stand for in one layer.

    Parameters
    ----------
    seeds : int or array of int [...]
        1 to 2**32 - 1.
    first_generator : int
        Number of the layer's first generator in the core.
    dense : Dense
    sparse : {"off", "hash", "static", "biases"}
        Active weights: all; a quarter, others with each probe; the same quarter for ever; none.
    rank1 : bool
        Signs are the products of one sign per input and one per output, that of its bias.
    counters : int64 [n_out, n_in], optional
        Of :mod:`firmware_models.momentum`; none guide the signs by default.

    Returns
    -------
    z : int64 [..., n_out, n_in], -1, 0 or +1
    z_bias : int64 [..., n_out], -1 or +1: biases are always active
    """
    words, lanes = dense.reuse_factor, dense.lanes
    every = noise.BITS * noise.generators(lanes)
    states, z_bias = noise.probe(seeds, first_generator, words, every, dense.n_out)
    z = states[..., :lanes]
    if rank1:
        # Lane l multiplies input i of the word for output j.
        j, i = np.divmod(np.arange(lanes), dense.inputs_per_word)
        z = states[..., i % noise.BITS] * z_bias[..., None, j]
    if counters is not None:
        z = momentum.guided(z, states, dense.words(counters))
    if sparse == "hash":
        z = z * mask(states)[..., :lanes]
    elif sparse == "static":
        z = z * mask(static_states(first_generator, words, lanes))[..., :lanes]
    elif sparse == "biases":
        z = np.zeros_like(z)
    return dense.matrix(z), z_bias


def rounding_noise(seed: int, first_generator: int, dense: Dense):
    """Noise 0 to 15 that rounds the weights [n_out, n_in] and biases [n_out] of one layer."""
    every = noise.BITS * noise.generators(dense.lanes)
    states, start = noise.probe(seed, first_generator, dense.reuse_factor, every, every)
    return (dense.matrix(rounding.random(states)[..., :dense.lanes]),
            rounding.random(start)[:dense.n_out])


def mask(states) -> np.ndarray:
    """Active lanes of words of whole generators, given as signs: bits l + 11 and l + 19 are 1.

    Two bits beside the sign's own make a density of 1/4 without another generator. Over the seeds
    they are independent of the sign, and the directions of two weights of a word uncorrelated.
    """
    a, b = (noise.beside(states, shift) for shift in MASK_BITS)
    return a & b


def static_states(first_generator: int, words: int, lanes: int) -> np.ndarray:
    """Words of the static mask's own generators as signs [words, whole generators]."""
    state = np.array([noise.start_state(STATIC_START, first_generator + g)
                      for g in range(noise.generators(lanes))])
    found = []
    for _ in range(words):
        found.append((1 - 2 * (state[:, None] >> np.arange(noise.BITS) & 1)).ravel())
        state = noise.xorshift(state, noise.NOISE_SHIFTS)
    return np.array(found)


def row_shifts(dense: Dense, kernel: bool = True) -> np.ndarray:
    """d_j [n_out]: amplitude and coefficient of row j are 2**d_j smaller where `kernel` is on.

    From the weights that the layer starts with: d_j = min(3, max_k - k_j), where k_j is the whole
    part of log2 of the row's sum of magnitudes, and that of 1 where it is 0.
    """
    if not kernel:
        return np.zeros(dense.n_out, np.int64)
    sums = np.maximum(np.abs(dense.weight_codes).sum(1), 1)
    k = np.array([int(s).bit_length() - 1 for s in sums])
    return np.minimum(k.max() - k, SHIFT_MAX)


def finer(dense: Dense) -> int:
    """Bits by which a step of weights and biases is finer than one of 8 bits of the same range."""
    return max(min(dense.weight.width, dense.bias.width) - STEP_WIDTH, 0)


def row_amplitudes(sigma_log2: int, shifts, finer: int = 0) -> np.ndarray:
    """Base-2 logarithm of the amplitude of each row: that of max(2**sigma >> d, 1) << finer."""
    return np.maximum(sigma_log2 - np.asarray(shifts), 0) + finer


def row_coefficients(c, shifts) -> np.ndarray:
    """Coefficients [pairs] for each row [pairs, n_out]: sgn(c) * (|c| >> d)."""
    c = np.asarray(c, np.int64)[:, None]
    return np.sign(c) * (np.abs(c) >> np.asarray(shifts))

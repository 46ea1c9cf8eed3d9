# amaranth: UnusedElaboratable=no
"""The perturbation generator: published output, period, independence; hardware against model."""
import numpy as np
import pytest

from firmware_models import noise as model
from firmware_models.evolution import first_generators
from rtl.noise import NoiseGenerator

from .networks import small_network
from .pysim import simulate

PERIOD = 2 ** 32 - 1
PRIMES = (3, 5, 17, 257, 65537)
UNITS = 1 << np.arange(model.BITS)
# (words, lanes, n_out) of the example networks at one input a word.
LAYERS = {"784x32": (784, 32, 32), "64x32": (64, 32, 32), "32x16": (32, 16, 16),
          "16x10": (16, 10, 10)}


def test_published_output():
    """Marsaglia 2003, section 4: the first output of xor() with its default seed."""
    assert model.NOISE_SHIFTS == (13, 17, 5)
    assert model.xorshift(2463534242, model.NOISE_SHIFTS) == 723471715


def apply(columns, vector: int) -> int:
    """A 32x32 matrix of bits, given as its columns, times a vector."""
    out = 0
    for k, column in enumerate(columns):
        if vector >> k & 1:
            out ^= column
    return out


def power(columns, exponent: int):
    result = [1 << k for k in range(model.BITS)]
    while exponent:
        if exponent & 1:
            result = [apply(columns, c) for c in result]
        columns = [apply(columns, c) for c in columns]
        exponent >>= 1
    return result


def rank(vectors) -> int:
    """Number of independent ones among integers taken as vectors of bits."""
    basis = {}
    for v in map(int, vectors):
        while v:
            top = v.bit_length()
            if top not in basis:
                basis[top] = v
                break
            v ^= basis[top]
    return len(basis)


@pytest.mark.parametrize("shifts", [model.NOISE_SHIFTS, model.SEED_SHIFTS])
def test_full_period(shifts):
    """The matrix of a step has order 2**32 - 1: every state but 0 lies on one cycle."""
    assert np.prod(PRIMES) == PERIOD
    step = [model.xorshift(1 << k, shifts) for k in range(model.BITS)]
    one = [1 << k for k in range(model.BITS)]
    assert power(step, PERIOD) == one
    for prime in PRIMES:
        assert power(step, PERIOD // prime) != one


def test_no_state_is_zero():
    """Starts and steps are invertible maps, so that only 0 leads to 0."""
    for generator in range(len(model.START_ROTATIONS) + 1):
        assert rank(model.start_state(UNITS, generator)) == model.BITS
    for shifts in (model.NOISE_SHIFTS, model.SEED_SHIFTS):
        assert rank(model.xorshift(UNITS, shifts)) == model.BITS
    for bad in (0, 2 ** 32):
        with pytest.raises(ValueError, match=r"a seed is 1 to 2\*\*32 - 1"):
            model.probe(bad, 0, 1, 1, 1)


def test_start_states_differ():
    """By hand for generator 1, and all generators start as different functions of the seed."""
    a, b = model.START_ROTATIONS[0]
    assert model.start_state(1, 1) == 1 ^ 1 << a ^ 1 << b
    starts = np.stack([model.start_state(UNITS, g)
                       for g in range(len(model.START_ROTATIONS) + 1)])
    assert len(np.unique(starts, axis=0)) == len(starts)


def test_probe_by_hand():
    """Bit b of the start state is the sign of bias b, of k + 1 steps on that of word k, lane b."""
    seed = 0xDEADBEEF
    state = seed
    words, bias = model.probe(seed, 0, 3, 5, 4)
    assert bias.tolist() == [1 - 2 * (state >> b & 1) for b in range(4)]
    for k in range(3):
        state = model.xorshift(state, model.NOISE_SHIFTS)
        assert words[k].tolist() == [1 - 2 * (state >> b & 1) for b in range(5)]
    # Lane 32 belongs to the next generator.
    words, _ = model.probe(seed, 2, 1, 40, 4)
    state = model.xorshift(model.start_state(seed, 3), model.NOISE_SHIFTS)
    assert words[0, 32:].tolist() == [1 - 2 * (state >> b & 1) for b in range(8)]


def distinct(functionals) -> bool:
    """Whether no bit is constant and no two are the same function of the seed."""
    return bool((functionals != 0).all()) and len(np.unique(functionals)) == len(functionals)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("generator", [0, 1, 2, 3])
def test_bits_of_a_probe_are_pairwise_independent(layer, generator):
    words, lanes, n_out = LAYERS[layer]
    functionals = model.functionals(generator, words, lanes, n_out)
    assert functionals.shape == (n_out + words * lanes,)
    assert distinct(functionals)


@pytest.mark.parametrize("sizes", [(784, 32, 16, 10), (64, 32, 16, 10)])
def test_bits_of_all_layers_are_pairwise_independent(sizes):
    first = first_generators(small_network(sizes, (0, 1, 2)))
    assert first == {0: 0, 1: 1, 2: 2}
    assert distinct(np.concatenate([
        model.functionals(first[k], n_in, n_out, n_out)
        for k, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False))]))


def test_bits_of_successive_probes_are_pairwise_independent():
    """40 probes of the 16x10 layer, all as functions of the first one's seed."""
    words, lanes, n_out = LAYERS["16x10"]
    seeds, masks = UNITS.copy(), []
    for _ in range(40):
        z_words, z_bias = model.probe(seeds, 0, words, lanes, n_out)
        bits = np.concatenate([z_bias, z_words.reshape(model.BITS, -1)], 1) < 0
        masks.append((bits * UNITS[:, None]).sum(0))
        seeds = model.next_seed(seeds)
    np.testing.assert_array_equal(masks[0], model.functionals(0, words, lanes, n_out))
    assert distinct(np.concatenate(masks))


COUNT = 2 ** 16
BOUND = 6 * 256                 # six standard deviations of a sum of COUNT random signs


def test_correlation_over_lanes_and_words():
    """Sums of products of signs over a long run: all pairs of lanes, up to 8 words apart."""
    states, state = [], 1
    for _ in range(COUNT + 8):
        state = model.xorshift(state, model.NOISE_SHIFTS)
        states.append(state)
    z = 1.0 - 2 * (np.array(states)[:, None] >> np.arange(32) & 1)      # sums are exact
    assert np.abs(z[:COUNT].sum(0)).max() <= BOUND
    for lag in range(9):
        products = np.einsum("ki,kj->ij", z[:COUNT], z[lag:COUNT + lag])
        if lag == 0:
            assert (np.diag(products) == COUNT).all()
            np.fill_diagonal(products, 0)
        assert np.abs(products).max() <= BOUND, f"{lag} words apart"


def test_correlation_of_neighbouring_seeds():
    """The same bit in probes up to 4 seeds apart, in a run of many seeds."""
    words, lanes, n_out = LAYERS["16x10"]
    seeds = [1]
    while len(seeds) < COUNT + 4:
        seeds.append(model.next_seed(seeds[-1]))
    assert len(set(seeds)) == len(seeds)
    z_words, z_bias = model.probe(seeds, 0, words, lanes, n_out)
    z = np.concatenate([z_bias, z_words.reshape(len(seeds), -1)], 1).astype(np.int8)
    assert np.abs(z.sum(0, dtype=np.int64)).max() <= BOUND
    for lag in range(1, 5):
        products = (z[:COUNT] * z[lag:COUNT + lag]).sum(0, dtype=np.int64)
        assert np.abs(products).max() <= BOUND, f"{lag} seeds apart"


def signs(bits: int, lanes: int) -> list[int]:
    return [1 - 2 * (bits >> lane & 1) for lane in range(lanes)]


@pytest.mark.parametrize("lanes, first", [(1, 0), (10, 2), (32, 0), (40, 1), (64, 0)])
def test_hardware_passes(lanes, first):
    """A word a cycle, one cycle late; a pause holds word and state; a new seed starts over."""
    dut = NoiseGenerator(lanes, first_generator=first, slots=4)
    assert len(dut.bits) == lanes
    got = []

    async def bench(ctx):
        for seed in (1, 2463534242, 2 ** 32 - 1):
            for word in range(6):
                ctx.set(dut.en, 1)
                ctx.set(dut.load, word == 0)
                ctx.set(dut.step, 1)
                ctx.set(dut.seed, seed if word == 0 else 0)
                await ctx.tick()
                ctx.set(dut.en, 0)
                for _ in range(word % 3):
                    held = ctx.get(dut.bits)
                    await ctx.tick()
                    assert ctx.get(dut.bits) == held
                got.append(signs(ctx.get(dut.bits), lanes))

    simulate(dut, bench, deadline=60)
    expected = model.probe([1, 2463534242, 2 ** 32 - 1], first, 6, lanes, 1)[0]
    assert got == expected.reshape(-1, lanes).tolist()


@pytest.mark.parametrize("lanes, first, slots", [(10, 2, 1), (10, 0, 3), (40, 1, 4), (8, 0, 16)])
def test_hardware_replays(lanes, first, slots):
    """Word by word over all seeds, as a sweep does; the bias comes last, from the seeds."""
    dut = NoiseGenerator(lanes, first_generator=first, slots=slots)
    seeds = [7 + 1000 * slot for slot in range(slots)]
    words, got = 5, []

    async def bench(ctx):
        ctx.set(dut.en, 1)
        for word in range(words + 1):
            for slot, seed in enumerate(seeds):
                ctx.set(dut.slot, slot)
                ctx.set(dut.seed, seed)
                ctx.set(dut.load, word in (0, words))
                ctx.set(dut.step, word != words)
                await ctx.tick()
                got.append(signs(ctx.get(dut.bits), lanes))

    simulate(dut, bench, deadline=(words + 1) * slots + 2)
    z_words, z_bias = model.probe(seeds, first, words, lanes, lanes)
    expected = np.concatenate([z_words.swapaxes(0, 1).reshape(-1, lanes), z_bias])
    assert got == expected.tolist()

# amaranth: UnusedElaboratable=no
"""Perturbation directions: by hand, uncorrelated over seeds; the unit and the memory around it."""
from dataclasses import replace

import numpy as np
import pytest
from amaranth import Module, Signal, signed

from firmware_models import directions as model
from firmware_models import noise
from firmware_models import weight_memory as masters
from firmware_models.cycles import sweep_cycles
from firmware_models.evolution import first_generators
from firmware_models.formats import Fixed
from firmware_models.learner import Learner
from firmware_models.loss import cross_entropy
from firmware_models.requantize import requantize
from firmware_models.settings import Settings
from rtl.directions import Directions, row_coefficient, row_sigma
from rtl.weight_memory import WeightMemory

from .networks import samples, small_network
from .pysim import simulate
from .test_weight_memory import read_masters, read_pass, stage_of, sweep

FORMS = [*({"sparse": kind} for kind in model.SPARSE), {"rank1": True}, {"rank1": False},
         {"sparse": "hash", "rank1": True}, {"sparse": "static", "rank1": True}]
STEPS = [{"kernel": True}, {"kernel": False}, {"sparse": "hash", "rank1": True, "kernel": True}]


def unlike_rows(dense, shifts):
    """The layer with weights of row j smaller by 2**shifts[j]."""
    sizes = np.abs(dense.weight_codes) >> np.array(shifts)[:, None]
    return replace(dense, weight_codes=np.sign(dense.weight_codes) * sizes)


def stage_of_rows(shifts, *args, **options):
    stage = stage_of(*args, **options)
    return replace(stage, dense=unlike_rows(stage.dense, shifts))


CASES = {
    # stage, first generator
    "one input a word": (stage_of((5, 4, 2)), 0),
    "two inputs a word": (stage_of((6, 4, 2), reuse={0: 3, 1: 2}), 1),
    "one word, two generators": (stage_of((7, 6, 2), reuse={0: 1, 1: 1}), 2),
    "more inputs a word than bits": (stage_of((34, 1), reuse={0: 1}), 1),
    "extreme": (stage_of((4, 3, 2), extreme=True), 3),
    "unlike rows": (stage_of_rows((2, 0, 8, 1), (6, 4, 2), reuse={0: 3, 1: 2}, extreme=True), 1),
    "unlike rows, one drain lane": (
        stage_of_rows((0, 1, 9), (4, 3), extreme=True, bias=Fixed(5, 2)), 0),
    "smallest": (stage_of((1, 1)), 0),
}
MAX_PAIRS = 3


def options_of(form) -> tuple[str, ...]:
    return tuple(form)


# The model

def test_off_is_the_noise():
    dense = CASES["two inputs a word"][0].dense
    words, bias = noise.probe([5, 6], 1, 3, 8, 4)
    z, z_bias = model.probe([5, 6], 1, dense)
    np.testing.assert_array_equal(z, dense.matrix(words))
    np.testing.assert_array_equal(z_bias, bias)


def test_sparse_by_hand():
    """Lane l is active where bits l + 11 and l + 19 of its generator's word are 1."""
    dense = stage_of((2, 10, 2)).dense                      # two words of ten lanes
    seed = 0xDEADBEEF
    z, bias = model.probe(seed, 0, dense, sparse="hash")
    state = seed
    for word in range(2):
        state = noise.xorshift(state, noise.NOISE_SHIFTS)
        assert z[:, word].tolist() == [
            (1 - 2 * (state >> lane & 1)) * (state >> (lane + 11) % 32 & state >> (lane + 19) % 32
                                             & 1) for lane in range(10)]
    assert bias.tolist() == [1 - 2 * (seed >> b & 1) for b in range(10)]

    full, _ = model.probe(seed, 0, dense)
    z, _ = model.probe(seed, 0, dense, sparse="static")
    first, second = model.STATIC_START, noise.xorshift(model.STATIC_START, noise.NOISE_SHIFTS)
    for word, state in enumerate((first, second)):
        active = [state >> (lane + 11) % 32 & state >> (lane + 19) % 32 & 1 for lane in range(10)]
        assert z[:, word].tolist() == (full[:, word] * active).tolist()

    z, only = model.probe(seed, 0, dense, sparse="biases")
    assert not z.any() and only.tolist() == bias.tolist()


def test_lanes_beyond_a_generator_wrap_within_the_next():
    dense = CASES["one word, two generators"][0].dense      # 42 lanes, seven inputs a word
    z, _ = model.probe(99, 2, dense, sparse="hash")
    state = noise.xorshift(noise.start_state(99, 3), noise.NOISE_SHIFTS)
    for lane in range(32, 42):
        bit = lane - 32
        active = state >> (bit + 11) % 32 & state >> (bit + 19) % 32 & 1
        assert z[lane // 7, lane % 7] == (1 - 2 * (state >> bit & 1)) * active


@pytest.mark.parametrize("kind", ["hash", "static"])
def test_density(kind):
    """A quarter of 784x32 weights; with the hash another one for each seed."""
    dense = stage_of((784, 32)).dense
    first, second = (model.probe(seed, 0, dense, sparse=kind)[0] != 0 for seed in (3, 4))
    assert 0.24 < first.mean() < 0.26
    assert (first == second).all() == (kind == "static")


def masked(words, lanes, n_out, generator) -> np.ndarray:
    """Signs of a layer times every product of their mask bits, as functions of the seed."""
    full = noise.BITS * noise.generators(lanes)
    found = noise.functionals(generator, words, full, n_out)
    word = found[n_out:].reshape(words, -1, noise.BITS)
    a, b = (np.roll(word, -shift, -1) for shift in model.MASK_BITS)
    products = np.stack([word, word ^ a, word ^ b, word ^ a ^ b], -1)
    return np.concatenate([found[:n_out], products.reshape(words, full, 4)[:, :lanes].ravel()])


@pytest.mark.parametrize("sizes", [(784, 32, 16, 10), (64, 32, 16, 10)])
def test_masked_directions_are_uncorrelated(sizes):
    """The mean of z_k z_l over all seeds is 0: no product of the one is a product of the other."""
    first = first_generators(small_network(sizes, (0, 1, 2)))
    found = np.concatenate([masked(n_in, n_out, n_out, first[k])
                            for k, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False))])
    assert (found != 0).all() and len(np.unique(found)) == len(found)


def test_what_is_not_probed_does_not_move():
    network = small_network((8, 6, 4), (0, 1), seed=5)
    x, y = samples(network, 30)
    for form in FORMS:
        learner = Learner(network, Settings(rule="es", layers=(0, 1), lr_shift=2, seed=3, **form))
        start, moved = learner.state, {0: 0, 1: 0}
        for row, label in zip(x, y, strict=True):
            before = learner.state
            learner.step(row, int(label))
            for k in (0, 1):
                z, _ = model.probe(learner.state.seeds, learner.evolution.first_generator[k],
                                   network.stages[k].dense, **form)
                changed = learner.state.weights[k] != before.weights[k]
                assert not (changed & ~z.any(0)).any()
                moved[k] += changed.sum()
        assert all(bool(moved[k]) != (form.get("sparse") == "biases") for k in (0, 1))
        assert (learner.state.biases[0] != start.biases[0]).any()


def test_refusals():
    with pytest.raises(ValueError, match=r"sparse must be one of \('off', 'hash', 'static', "
                       r"'biases'\), not 'half'"):
        Settings(rule="es", sparse="half")


def test_rank1_by_hand():
    """z_ij = A_i B_j: B the biases' signs, A_i bit i of the first generator's word."""
    dense = CASES["one word, two generators"][0].dense      # 42 lanes, seven inputs a word
    z, bias = model.probe(99, 2, dense, rank1=True)
    start = noise.start_state(99, 2)
    state = noise.xorshift(start, noise.NOISE_SHIFTS)
    a, b = ([1 - 2 * (word >> k & 1) for k in range(n)] for word, n in ((state, 7), (start, 6)))
    assert z.tolist() == np.outer(b, a).tolist() and bias.tolist() == b
    # Two inputs a word: the columns of word r are r and r + 3.
    dense = CASES["two inputs a word"][0].dense
    z, bias = model.probe(5, 0, dense, rank1=True)
    state = 5
    for word in range(3):
        state = noise.xorshift(state, noise.NOISE_SHIFTS)
        for i in range(2):
            assert z[:, word + 3 * i].tolist() == ((1 - 2 * (state >> i & 1)) * bias).tolist()


@pytest.mark.parametrize("sizes, reuse", [
    ((784, 32, 16, 10), {}), ((64, 32, 16, 10), {}), ((64, 32, 16, 10), {0: 16, 1: 8, 2: 4})])
def test_signs_of_rank_one_are_pairwise_independent(sizes, reuse):
    """Of all layers: no two elements, biases among them, are the same function of the seed."""
    network, found = small_network(sizes, (0, 1, 2), reuse), []
    units = 1 << np.arange(noise.BITS)
    for k, generator in first_generators(network).items():
        z, bias = model.probe(units, generator, network.stages[k].dense, rank1=True)
        bits = np.concatenate([bias, z.reshape(noise.BITS, -1)], 1) < 0
        found.append((bits * units[:, None]).sum(0))
    found = np.concatenate(found)
    assert (found != 0).all() and len(np.unique(found)) == len(found)


def test_rows_by_hand():
    """d_j is the distance of whole binary logarithms, 3 at most; an empty row counts as 1."""
    dense = replace(stage_of((2, 5, 2)).dense, weight_codes=np.array(
        [[-60, 4], [31, 32], [15, -1], [0, 1], [0, 0]]))        # 64, 63, 16, 1, 0
    assert model.row_shifts(dense).tolist() == [0, 1, 2, 3, 3]
    assert model.row_shifts(dense, False).tolist() == [0] * 5
    assert model.row_shifts(replace(dense, weight_codes=np.zeros((5, 2), int))).tolist() == [0] * 5
    assert model.row_amplitudes(2, [0, 1, 2, 3]).tolist() == [2, 1, 0, 0]
    assert model.row_coefficients([127, -127, -1, 0], [0, 1, 3]).tolist() == [
        [127, 63, 15], [-127, -63, -15], [-1, 0, 0], [0, 0, 0]]


def test_update_with_rows_by_hand():
    """One layer, one pair: a row of d = 2 has a quarter of the amplitude and of the step."""
    network = small_network((2, 2), (0,))
    layer = replace(network.layers[0], weight_codes=np.array([[40, -30], [9, 8]]))
    learner = Learner(replace(network, layers=(layer,)), Settings(
        rule="es", layers=(0,), pairs=1, sigma_log2=3, lr_shift=4, seed=77, kernel=True))
    start = learner.state
    learner.step([200, 100], 1)
    z, z_bias = model.probe(77, 0, layer)
    change = 8 if learner.state.deltas[0] > 0 else -8
    assert learner.state.deltas[0] != 0
    np.testing.assert_array_equal(start.weights[0] - learner.state.weights[0],
                                  [change * z[0], change // 4 * z[1]])
    np.testing.assert_array_equal(start.biases[0] - learner.state.biases[0],
                                  [change * z_bias[0], change // 4 * z_bias[1]])
    logits = [[int(np.dot([200, 100], layer.weight_codes[j] + s * amplitude * z[j]))
               + (int(layer.bias_codes[j] + s * amplitude * z_bias[j])
                  << learner.network.stages[0].dense.accum.frac - layer.bias.frac)
               for j, amplitude in enumerate((8, 2))] for s in (1, -1)]
    plain = Learner(replace(network, layers=(layer,)), Settings(rule="es", layers=(0,)))
    losses = []
    for row in logits:
        codes = requantize(np.array(row), layer.accum.frac, layer.result)
        losses.append(int(cross_entropy(codes, 1, plain.network.stages[0].result)))
    assert learner.state.deltas[0] == losses[0] - losses[1]


# The unit

def words_of(stage, generator, seed):
    """Words of a layer's noise generators for a seed; the bias word last."""
    count = noise.generators(stage.dense.lanes)
    start = state = np.array([noise.start_state(seed, generator + g) for g in range(count)])
    found = []
    for _ in range(stage.dense.reuse_factor):
        state = noise.xorshift(state, noise.NOISE_SHIFTS)
        found.append(state)
    return [sum(int(s) << noise.BITS * g for g, s in enumerate(word)) for word in [*found, start]]


def write(ctx, dut, form):
    """Set the registers of a form, and those of the others to off."""
    for name, value in {"sparse": model.SPARSE.index(form.get("sparse", "off")),
                        "rank1": form.get("rank1", False),
                        "kernel": form.get("kernel", False)}.items():
        if hasattr(dut, name):
            ctx.set(getattr(dut, name), int(value))


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_unit_equals_model(case, pairs):
    """Word by word over all seeds, as a sweep goes, with pauses; the bias word comes last."""
    stage, first = CASES[case]
    dense, options = stage.dense, ("sparse", "rank1")
    dut = Directions(stage, first_generator=first, options=options)
    assert dut.latency_cycles == 1 and len(dut.active) == len(dut.sign) == dense.lanes
    seeds = [77 + 1000 * k for k in range(pairs)]
    words = [words_of(stage, first, seed) for seed in seeds]
    got, expected = [], []

    async def bench(ctx):
        for form in FORMS:
            write(ctx, dut, form)
            for word in range(dense.reuse_factor + 1):
                for pair in range(pairs):
                    ctx.set(dut.en, pair == 0)
                    ctx.set(dut.first, word == 0)
                    ctx.set(dut.seed, seeds[pair])
                    await ctx.tick()
                    ctx.set(dut.en, 0)
                    ctx.set(dut.state, words[pair][word])
                    ctx.set(dut.bias, word == dense.reuse_factor)
                    for _ in range((word + pair) % 3):
                        await ctx.tick()
                    sign, active = ctx.get(dut.sign), ctx.get(dut.active)
                    z = [(1 - 2 * (sign >> k & 1)) * (active >> k & 1) for k in range(dense.lanes)]
                    got.append(z[:dense.n_out] if word == dense.reuse_factor else z)
            z, z_bias = model.probe(seeds, first, dense, **form)
            for word in range(dense.reuse_factor):
                expected.extend(dense.words(z)[:, word].tolist())
            expected.extend(z_bias.tolist())

    simulate(dut, bench, deadline=4 * len(FORMS) * pairs * (dense.reuse_factor + 1))
    assert got == expected


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_rows_of_all_values(shift):
    m, on = Module(), Signal()
    c, sigma, out, low = Signal(signed(8)), Signal(3), Signal(signed(8)), Signal(3)
    m.d.comb += [out.eq(row_coefficient(c, shift, on)), low.eq(row_sigma(sigma, shift, on))]
    m.d.sync += Signal().eq(on)

    async def bench(ctx):
        for kernel in (0, 1):
            ctx.set(on, kernel)
            for value in range(-127, 128):
                ctx.set(c, value)
                assert ctx.get(out) == model.row_coefficients([value], [shift * kernel])[0, 0]
            for value in range(8):
                ctx.set(sigma, value)
                assert ctx.get(low) == model.row_amplitudes(value, shift * kernel)
        await ctx.tick()

    simulate(m, bench, deadline=5)


# The memory around it

def directions_of(seeds, first, dense, form):
    """Directions of weights and biases, and d of every row."""
    bits = {name: value for name, value in form.items() if name != "kernel"}
    return (*model.probe(seeds, first, dense, **bits),
            model.row_shifts(dense, form.get("kernel", False)))


def expected_pass(stage, first, form, weights, biases, *, seed, negative, sigma):
    """Deployed weights and biases that a probe's pass is served."""
    dense = stage.dense
    z, z_bias, shifts = directions_of(seed, first, dense, form)
    sign, sigma = -1 if negative else 1, model.row_amplitudes(sigma, shifts)
    w = masters.perturbed(masters.deployed(weights, 4), sign * z, sigma[:, None], dense.weight)
    b = masters.perturbed(masters.deployed(biases, 4), sign * z_bias, sigma, dense.bias)
    return (dense.words(w).tolist(),
            [b[s::stage.drain_words].tolist() for s in range(stage.drain_words)])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS + STEPS, ids=str)
def test_memory(case, form):
    """Passes with noise and updates, one after the other; every master after each update."""
    stage, first = CASES[case]
    dense = stage.dense
    dut = WeightMemory(stage, residual=4, first_generator=first, max_pairs=MAX_PAIRS,
                       options=options_of(form))
    rng = np.random.default_rng(5)
    weights, biases = (masters.to_master(codes, 4)
                       for codes in (dense.weight_codes, dense.bias_codes))

    async def bench(ctx):
        nonlocal weights, biases
        write(ctx, dut, form)
        ctx.set(dut.selected, 1)
        for pairs, sigma in ((1, 0), (MAX_PAIRS, 3), (2, 7)):
            ctx.set(dut.sigma, sigma)
            for negative in (0, 1):
                seed = int(rng.integers(1, 2 ** 32))
                assert await read_pass(ctx, dut, seed=seed, probe=1, negative=negative) == \
                    expected_pass(stage, first, form, weights, biases, seed=seed,
                                  negative=negative, sigma=sigma)
            seeds, c = rng.integers(1, 2 ** 32, pairs), rng.choice([-127, 0, 5, 127], pairs)
            cycles, clipped = await sweep(ctx, dut, seeds, c)
            assert cycles == sweep_cycles(stage, pairs)
            z, z_bias, shifts = directions_of(seeds, first, dense, form)
            rows = np.sign(c)[:, None] * (np.abs(c)[:, None] >> shifts)
            weights, at = masters.commit(weights, (rows[..., None] * z).sum(0), dense.weight, 4)
            biases, at_bias = masters.commit(biases, (rows * z_bias).sum(0), dense.bias, 4)
            assert await read_masters(ctx, dut) == (weights.tolist(), biases.tolist())
            assert clipped == (dense.words(at).any(-1).sum()
                               + at_bias.reshape(-1, stage.drain_words).any(0).sum())

    count = dense.weight_codes.size + dense.n_out
    simulate(dut, bench, deadline=3 * (sweep_cycles(stage, MAX_PAIRS) + count + 2 * (
        dense.reuse_factor + stage.drain_words + 6)))

# amaranth: UnusedElaboratable=no
"""Masters that the host writes: by hand in the model; one lane of a word in hardware."""
import numpy as np
import pytest

from firmware_models import window_load as model
from firmware_models.learner import Learner
from firmware_models.settings import Settings
from firmware_models.weight_memory import to_master
from rtl.weight_memory import WeightMemory
from rtl.window_load import WindowLoad

from .networks import small_network
from .pysim import simulate
from .test_weight_memory import CASES, read_masters

SIX = model.masters("fc1", 3, 4, 6, 3, 10, 5)       # 12 weights in words of 2; 3 biases, one each


def test_points_by_hand():
    """Flat element k lies in lane k // words of word k % words; biases follow the weights."""
    word, lane = SIX["weights"].points()
    np.testing.assert_array_equal(word, [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]])
    np.testing.assert_array_equal(lane, [[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    word, lane = SIX["biases"].points()
    np.testing.assert_array_equal(word, [6, 7, 8])
    np.testing.assert_array_equal(lane, [0, 0, 0])


def test_learner_by_hand():
    network = small_network((4, 3, 2), (0,))
    learner = Learner(network, Settings(layers=(0,)))
    before = learner.state
    learner.write_master(0, -2048, output=2, input=1)
    learner.write_master(0, 2047, output=1)
    expected = before.weights[0].copy()
    expected[2, 1] = -2048
    np.testing.assert_array_equal(learner.state.weights[0], expected)
    np.testing.assert_array_equal(learner.state.biases[0],
                                  [before.biases[0][0], 2047, before.biases[0][2]])
    # What was read before stays what it was, and what is loaded is copied.
    np.testing.assert_array_equal(before.biases[0], to_master(
        network.stages[0].dense.bias_codes, 4))
    ones = np.ones((3, 4), int)
    learner.load({0: ones}, {})
    ones[:] = 5
    assert (learner.state.weights[0] == 1).all() and learner.state.biases[0][1] == 2047
    assert (learner.deployed_network().layers[0].weight_codes == 0).all()


WRONG = [
    (({1: np.zeros((2, 3), int)}, {}), r"stage 1 is not trainable; stages \(0,\) are"),
    (({0: np.zeros((4, 3), int)}, {}), r"fc1's weights have shape \(4, 3\), not \(3, 4\)"),
    (({}, {0: np.zeros(2, int)}), r"fc1's biases have shape \(2,\), not \(3,\)"),
    (({0: np.full((3, 4), 2048)}, {}), r"fc1's weights: 2048 is not a code of fixed<12,12>"),
    (({}, {0: np.full(3, -2049)}), r"fc1's biases: -2049 is not a code"),
    (({}, {0: np.zeros(3)}), "codes are integers"),
]
WRONG_ELEMENTS = [
    ((1, 0, 0), "stage 1 is not trainable"),
    ((0, 0, 3), r"fc1's biases have shape \(3,\); there is no \(3,\)"),
    ((0, 0, 0, 4), r"fc1's weights have shape \(3, 4\); there is no \(0, 4\)"),
    ((0, 0, -1, 0), "there is no"), ((0, 2048, 0, 0), "2048 is not a code"),
]


def test_refused():
    learner = Learner(small_network((4, 3, 2), (0,)), Settings(layers=(0,)))
    before = learner.state
    for masters, message in WRONG:
        with pytest.raises(ValueError, match=message):
            learner.load(*masters)
    for element, message in WRONG_ELEMENTS:
        with pytest.raises(ValueError, match=message):
            learner.write_master(*element)
    assert learner.state is before


def test_unit():
    """When a write comes, to which stage, and what is refused."""
    network = small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3})
    dut = WindowLoad(network)
    sizes = {0: (5, 16, 4, 2), 2: (3, 8, 4, 1)}         # words, lanes, bias words, their lanes
    for index, (words, lanes, bias_words, bias_lanes) in sizes.items():
        stage = network.stages[index]
        assert (words, lanes, bias_words, bias_lanes) == (
            stage.dense.reuse_factor, stage.dense.lanes, stage.drain_words, stage.drain_lanes)

    def known(space, word, lane):
        words, lanes, bias_words, bias_lanes = sizes.get(space, (0, 0, 0, 0))
        return lane < lanes if word < words else word < words + bias_words and lane < bias_lanes

    async def bench(ctx):
        for n, (space, word, lane) in enumerate(
                (s, w, la) for s in (0, 1, 2, 3, 14, 15)
                for w in (0, 2, 3, 4, 5, 6, 7, 8, 9, 4096) for la in (0, 1, 2, 7, 8, 15, 16, 2048)):
            ctx.set(dut.space, space)
            ctx.set(dut.word, word)
            ctx.set(dut.lane, lane)
            assert not ctx.get(dut.waits)
            ctx.set(dut.request, 1)
            assert ctx.get(dut.refused) != known(space, word, lane)
            assert ctx.get(dut.waits) == known(space, word, lane)
            got = []
            for cycle in range(5):
                ctx.set(dut.settled, cycle >= n % 3)
                _, _, write, ready = await ctx.tick().sample(dut.write, dut.ready)
                got.append((write, ready))
                if ready:
                    ctx.set(dut.request, 0)
            at, expected = n % 3, [(0, 0)] * 5
            if known(space, word, lane):
                expected[at], expected[at + 1] = (1 << (space == 2), 0), (0, 1)
            assert got == expected
            ctx.set(dut.request, 0)
            ctx.set(dut.settled, 0)
            await ctx.tick()

    simulate(dut, bench, deadline=10_000)


@pytest.mark.parametrize("rules", [("es",), ("np",), ("es", "np")])
@pytest.mark.parametrize("case", [name for name in CASES if name != "smallest"])
def test_lanes_of_a_memory(case, rules):
    """Each master in turn, in random order: that one changes, no other lane or word does."""
    stage, residual, first, max_pairs = CASES[case]
    dut = WeightMemory(stage, residual=residual, rules=rules, first_generator=first,
                       max_pairs=max_pairs, options=("load",))
    dense, rng = stage.dense, np.random.default_rng(5)
    places = model.masters("", dense.n_out, dense.n_in, dense.reuse_factor, stage.drain_words,
                           dut.master.width, dut.bias_master.width)
    masters = {"weights": to_master(dense.weight_codes, residual),
               "biases": to_master(dense.bias_codes, residual)}
    pokes = [(kind, at) for kind in places for at in np.ndindex(places[kind].shape)]

    async def bench(ctx):
        for kind, at in (pokes[k] for k in rng.permutation(len(pokes))):
            width = places[kind].width
            value = int(rng.choice([-1 << width - 1, (1 << width - 1) - 1,
                                    rng.integers(-1 << width - 1, 1 << width - 1)]))
            word, lane = (int(array[at]) for array in places[kind].points())
            ctx.set(dut.window_en, 1)
            ctx.set(dut.window_word, word)
            ctx.set(dut.window_lane, lane)
            ctx.set(dut.load_data, value)
            await ctx.tick().repeat(2)
            ctx.set(dut.load, 1)
            await ctx.tick()
            ctx.set(dut.load, 0)
            ctx.set(dut.load_data, ~value)
            await ctx.tick()
            assert ctx.get(dut.window_data) == value
            masters[kind][at] = value
        assert await read_masters(ctx, dut) == (masters["weights"].tolist(),
                                                masters["biases"].tolist())

    simulate(dut, bench, deadline=8 * len(pokes) + 20)


def test_widths():
    stage = small_network((5, 4, 2), (0,)).stages[0]
    assert len(WeightMemory(stage, residual=4, options=("load",)).load_data) == 12
    assert not hasattr(WeightMemory(stage, residual=4), "load")
    assert len(WindowLoad(small_network((5, 4, 2), (0, 1))).write) == 2

"""The order of events at line rate, by hand: which sample's update acts in which base pass."""
from dataclasses import replace

import numpy as np
import pytest

from firmware_models.dense import forward
from firmware_models.formats import Fixed
from firmware_models.learner import Learner
from firmware_models.loss import cross_entropy
from firmware_models.network import Network
from firmware_models.rules import node_probe
from firmware_models.settings import Settings

from .networks import HIDDEN, samples, small_network

SETTINGS = Settings(layers=(0,), head_shift=7)


def two_logits() -> Network:
    """One input, two outputs, all weights 0: masters of 8 with 4 residual bits, equal logits."""
    network = small_network((1, 2), (0,))
    layer = replace(network.layers[0], weight_codes=np.zeros((2, 1), int),
                    bias_codes=np.zeros(2, int))
    return replace(network, layers=(layer,))


def state_of(learner):
    state = learner.state
    return (state.weights[0].ravel().tolist(), state.biases[0].tolist(), state.errors.tolist(),
            state.updates)


def test_first_update_acts_two_samples_later():
    """Equal logits give errors of -1/2 and +1/2 to samples of class 0: -128 and 128.

    From 2**7 on a node fires; downwards one step later. The input 200 of 256 moves weights by
    rnd(200 / 64) = 3, less the mean of 6 then; biases move by 4.
    """
    learner = Learner(two_logits(), SETTINGS)
    learner.step([200], 0)
    assert state_of(learner) == ([8, 8], [8, 8], [-128, 128], 0)
    # Coefficients 0 and 1 from the first sample's errors; nothing is applied yet.
    learner.step([100], 0)
    assert state_of(learner) == ([8, 8], [8, 8], [-256, 128], 1)
    # The first sample's, with its input; coefficients -1 and 1 from the second's.
    learner.step([255], 0)
    assert state_of(learner) == ([8, 8 - 3], [8, 8 - 4], [-256, 128], 2)
    assert learner.line_rate.means[0].tolist() == [200 * 64 >> 5]
    # The second's, with its input: rnd((100 - 6) / 64) = 1.
    learner.step([0], 0)
    assert state_of(learner) == ([8 + 1, 5 - 1], [8 + 4, 4 - 4], [-256, 128], 3)


def test_samples_without_the_learn_bit_are_not_there():
    """They neither bring updates nor count as samples between; they see the weights as they are."""
    network = two_logits()
    pure, mixed = Learner(network, SETTINGS), Learner(network, SETTINGS)
    for n, x in enumerate([200, 100, 255, 0, 7, 90]):
        pure.step([x], 0)
        for _ in range(n % 3):
            before = state_of(mixed)
            logits = mixed.step([251], 1, learn=False)
            assert state_of(mixed) == before
            assert logits.tolist() == forward(mixed.deployed_network(), [251]).tolist()
        mixed.step([x], 0)
        assert state_of(mixed) == state_of(pure)
    assert mixed.line_rate.means[0] == pure.line_rate.means[0]


def test_frozen():
    """Without layers nothing learns, and what is pending waits."""
    learner = Learner(two_logits(), SETTINGS)
    for x in (200, 100):
        learner.step([x], 0)
    pending = state_of(learner)
    learner.settings = replace(SETTINGS, layers=())
    for x in (3, 4, 5):
        learner.step([x], 0)
    assert state_of(learner) == pending and learner.state.samples == 5
    learner.settings = SETTINGS
    learner.step([255], 0)
    assert state_of(learner)[:2] == ([8, 5], [8, 4])


def test_configure_drops_what_is_pending():
    learner = Learner(two_logits(), SETTINGS)
    for x in (200, 100, 255):
        learner.step([x], 0)
    learner.configure(replace(SETTINGS, seed=5))
    assert state_of(learner) == ([8, 5], [8, 4], [0, 0], 2)
    mean = learner.line_rate.means[0][0]
    learner.step([0], 0)
    learner.step([0], 0)
    # The means go on, with the inputs from before; weights do not.
    assert state_of(learner)[:2] == ([8, 5], [8, 4])
    for x in (100, 255):
        mean = mean + ((x << 6) - mean >> 5)
    assert learner.line_rate.means[0] == [mean]
    learner.step([0], 0)
    assert state_of(learner)[:2] != ([8, 5], [8, 4])


def test_turn_order():
    learner = Learner(small_network((5, 4, 4, 4, 3), (0, 1, 2, 3)), Settings())

    def schedule(count, **settings):
        return [learner.line_rate.schedule(Settings(**settings)) for _ in range(count)]

    assert schedule(4, layers=(0, 1, 2, 3), turn=True) == [(0, 3), (1, 3), (2, 3), (0, 3)]
    assert schedule(3, layers=(0, 2), turn=True) == [(2,), (0,), (2,)]
    assert schedule(2, layers=(3,), turn=True) == [(3,), (3,)]
    assert schedule(2, layers=(0, 1), turn=True) == [(0,), (1,)]
    assert schedule(2, layers=(0, 1, 3)) == [(0, 1, 3)] * 2
    assert schedule(1, layers=(0, 1, 2), turn=True) == [(2,)]
    learner.configure(Settings())
    assert schedule(2, layers=(0, 1, 2), turn=True) == [(0,), (1,)]


def test_turn_alternates_what_is_probed():
    network = small_network((5, 4, 4, 3), (0, 1, 2), seed=3)
    learner = Learner(network, Settings(layers=(0, 1), turn=True, probes=4, lr_shift=15))
    x, y = samples(network, 6)
    for n in range(6):
        before = learner.state.errors
        learner.step(x[n], int(y[n]))
        changed = learner.state.errors != before
        assert not changed[4 * (1 - n % 2):][:4].any() and not changed[8:].any()
        assert learner.state.passes == (n + 1) * 5


@pytest.mark.parametrize("hidden", [HIDDEN, Fixed(8, 8, True, "RND")], ids=["clips", "wraps"])
def test_probes_by_definition(hidden):
    """e_j = a_j sum_k D_k z_kj, with noise added to the pre-activations of a float-free copy."""
    network = small_network((5, 6, 3), (0,), seed=8, hidden=hidden)
    stage, head = network.stages
    learner = Learner(network, Settings(layers=(0,), probes=8, lr_shift=15, seed=77))
    x, y = samples(network, 1, seed=4)
    drawn = learner.line_rate.noise[0]
    signs = []
    for _ in range(6):                              # the register's feedback, tap by tap
        bit = (drawn >> 31 ^ drawn >> 30 ^ drawn >> 29 ^ drawn >> 9) & 1
        drawn = (drawn << 1 | bit) & 0xFFFFFFFF
        signs.append(1 - 2 * bit)
    weights = stage.dense.weight_codes
    pre = weights @ x[0] + (stage.dense.bias_codes << stage.dense.accum.frac - 5)

    def loss(noise):
        hidden = np.maximum(pre + noise, 0)
        drop = stage.dense.accum.frac - stage.result.frac
        hidden = hidden + (1 << drop - 1) >> drop
        if stage.result.overflow == "SAT":
            hidden = np.minimum(hidden, stage.result.max)
        else:
            hidden = (hidden + 128 & 255) - 128
        return hidden, int(cross_entropy(_logits(head, hidden), y[0], head.result))

    hidden, base = loss(0)
    assert (hidden == 0).any() and (hidden < 0).any() == stage.result.signed
    expected = np.zeros(6, int)
    for k in range(8):
        z = np.array([s * (-1) ** (j & k).bit_count() for j, s in enumerate(signs)])
        # 2**(5 - 6) of the pre-activation.
        expected += (hidden != 0) * z * (loss(z << stage.dense.accum.frac - 1)[1] - base)
    learner.step(x[0], int(y[0]))
    assert learner.state.errors.tolist() == expected.tolist() and expected.any()
    assert learner.state.passes == 9


def _logits(head, hidden):
    return forward(Network(name="head", input=head.source, layers=(head.dense,)), hidden)


def test_skipped_samples_move_nothing_later():
    """Their noise is drawn, their updates are counted, and their errors stay as they were."""
    network = small_network((5, 6, 3), (0, 1), seed=8)
    x, y = samples(network, 12, seed=4)
    all_of, none = (Learner(network, Settings(layers=(0, 1), skip=skip, lr_shift=5))
                    for skip in (0, 16383))
    for row, label in zip(x, y, strict=True):
        for learner in (all_of, none):
            learner.step(row, int(label))
    assert all_of.state.errors.any() and not none.state.errors.any()
    assert none.state.updates == all_of.state.updates == 11
    assert none.state.passes == all_of.state.passes == 12 * 9
    assert none.line_rate.noise == all_of.line_rate.noise
    # A loss equal to the limit counts.
    once = Learner(network, Settings(layers=(0, 1)))
    once.step(x[0], int(y[0]))
    for skip in (0, 1):
        again = Learner(network, Settings(layers=(0, 1), skip=once.state.loss + skip))
        again.step(x[0], int(y[0]))
        assert again.state.errors.any() == (skip == 0)


def test_halving_counts_updates():
    """After `lr_decay` updates all shifts grow by one: the coefficient is half as likely."""
    learner = Learner(two_logits(), replace(SETTINGS, lr_decay=2))
    got = []
    for _ in range(7):
        learner.step([200], 0)
        got.append((learner.state.updates, learner.state.decays, learner.state.decay_count))
    assert got == [(0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1), (4, 2, 0), (5, 2, 1), (6, 3, 0)]
    assert node_probe.coefficients([255, 256], 8)[0].tolist() == [0, 1]

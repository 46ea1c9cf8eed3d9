"""Training with scales and zero points against numbers worked out by hand."""
import numpy as np
import pytest

from firmware_models.fqt.affine import F
from firmware_models.fqt.layers import (
    average_pool,
    conv,
    dense,
    max_pool,
    sequential,
)
from firmware_models.fqt.paper import (
    MODES,
    Settings,
    float_from,
    init,
    logits,
    observe,
    predict,
    train_step,
)

LAYERS = sequential((1, 2, 1), dense(2))
WEIGHTS = {"dense1": [[1, -127 / 128], [0.5, 0.25]]}
NO_BIASES = {"dense1": [0, 0]}
X = np.array([255, 51])
PLAIN = dict(batch=1, standardize=False, moving_errors=False)
ERROR_SCALE = F(2) / F(255)
INPUT_SCALE = F(1) / F(255)


def start(mode="uint8"):
    return init(LAYERS, WEIGHTS, NO_BIASES, mode)


def test_init():
    s = start().layers["dense1"]
    assert s.scale == 1 / 128 and s.zero == 127
    np.testing.assert_array_equal(s.weights, [[255, 0], [191, 159]])
    with_bias = init(LAYERS, WEIGHTS, {"dense1": [0.25, -1]}).layers["dense1"]
    np.testing.assert_array_equal(with_bias.biases, [1 << 14, -1 << 16])


def test_logits():
    """128 * 255 - 127 * 51 = 26163 and 64 * 255 + 32 * 51 = 17952, in 1/(128 * 255)."""
    found = logits(LAYERS, start(), X)
    np.testing.assert_array_equal(found, np.array([26163, 17952], F) * (INPUT_SCALE / F(128)))
    np.testing.assert_array_equal(predict(LAYERS, start(), X[None]), [0])


def test_a_step_of_bytes():
    """Logits 0.802 and 0.55, so p = 0.563, 0.437; errors of -+0.437 are codes -+56.

    The gradient -+56 * [255, 51] is -+[0.4392, 0.0878]; the weights become [1.4392, -0.9043] and
    [0.0608, 0.1622]: their range has s = 2.3436 / 255 and z = floor(98.4) = 98.
    """
    after = train_step(LAYERS, start(), X, 0, Settings(lr=1, **PLAIN)).layers["dense1"]
    assert after.zero == 98
    np.testing.assert_array_equal(after.weights, [[255, 0], [105, 116]])
    np.testing.assert_array_equal(after.biases, [28784, -28784])      # 0.4392 * 2**16
    assert (after.low, after.high) == (-1, 1)


def test_a_batch():
    """Nothing changes before its end; two equal samples have the mean of one."""
    settings = Settings(lr=1, **PLAIN | dict(batch=2))
    half = train_step(LAYERS, start(), X, 0, settings)
    np.testing.assert_array_equal(half.layers["dense1"].weights, start().layers["dense1"].weights)
    scale = ERROR_SCALE * INPUT_SCALE
    np.testing.assert_array_equal(half.gradients["dense1"].weights,
                                  np.array([[-14280, -2856], [14280, 2856]], F) * scale)
    np.testing.assert_array_equal(half.gradients["dense1"].biases,
                                  np.array([-56, 56], F) * ERROR_SCALE)
    whole = train_step(LAYERS, half, X, 0, settings)
    one = train_step(LAYERS, start(), X, 0, Settings(lr=1, **PLAIN))
    assert not whole.gradients["dense1"].weights.any() and whole.samples == 2
    np.testing.assert_array_equal(whole.layers["dense1"].weights, one.layers["dense1"].weights)


def test_standardized():
    """In a row of two the steps are -+lr, whatever the error was: lr = 1/64.

    The weights become [1 + 1/64, -127/128 - 1/64] and [1/2 - 1/64, 1/4 + 1/64] in a range of
    2.0234: 61.04 and 33.47 steps from the zero point floor(127.008).
    """
    s = train_step(LAYERS, start(), X, 0, Settings(lr=1 / 64, **PLAIN | dict(standardize=True)))
    assert s.layers["dense1"].zero == 127
    np.testing.assert_array_equal(s.layers["dense1"].weights, [[255, 0], [188, 160]])


@pytest.mark.parametrize("standardize, step", [(False, [0.125, 0]), (True, [0.25, -0.25])])
def test_a_step_of_floats(standardize, step):
    """Weights of 0, so errors of -+1/2, and gradients of -+[1/2, 0]; lr = 1/4."""
    s = init(LAYERS, {"dense1": np.zeros((2, 2))}, NO_BIASES, "float32")
    settings = Settings(lr=0.25, **PLAIN | dict(standardize=standardize))
    s = train_step(LAYERS, s, np.array([255, 0]), 0, settings).layers["dense1"]
    np.testing.assert_array_equal(s.weights, np.outer([1, -1], step).astype(F))
    np.testing.assert_array_equal(s.biases, [0.125, -0.125])
    assert s.weights.dtype == s.biases.dtype == np.float32


def test_a_row_without_differences_does_not_learn():
    settings = Settings(lr=0.25, **PLAIN | dict(standardize=True))
    after = train_step(LAYERS, start("float32"), np.array([100, 100]), 0, settings)
    np.testing.assert_array_equal(after.layers["dense1"].weights, WEIGHTS["dense1"])


DEEP = sequential((1, 1, 1), dense(1), dense(2))


@pytest.mark.parametrize("w, label, error", [
    # Errors of +-0.880 are codes +-112: 128 * 112 + 127 * 112 = 28560, / 128 more than 128 steps.
    (1, 1, 128),
    # Errors of -+0.120 are codes -+15: -3825 / 128 = -29.9, rounded.
    (1, 0, -30),
    # The ReLU is off.
    (-1, 0, 0)])
def test_errors_go_back(w, label, error):
    s = init(DEEP, {"dense1": [[w]], "dense2": [[1], [-127 / 128]]},
             {"dense1": [0], "dense2": [0, 0]})
    after = train_step(DEEP, s, np.array([255]), label, Settings(**PLAIN | dict(batch=2)))
    np.testing.assert_array_equal(after.gradients["dense1"].weights,
                                  [[F(error * 255) * (ERROR_SCALE * INPUT_SCALE)]])


@pytest.mark.parametrize("label, rounded, floored", [(0, -16, -17), (1, 22, 21)])
def test_errors_are_rounded_or_floored(label, rounded, floored):
    """Logits 0.3 and 0, so errors of -0.426 or 0.574: -54 and 73 steps, by 0.3 -16.2 and 21.9."""
    s = init(DEEP, {"dense1": [[1]], "dense2": [[0.3], [0]]}, {"dense1": [0], "dense2": [0, 0]})
    for floor_errors, error in ((False, rounded), (True, floored)):
        settings = Settings(floor_errors=floor_errors, **PLAIN | dict(batch=2))
        after = train_step(DEEP, s, np.array([255]), label, settings)
        np.testing.assert_array_equal(after.gradients["dense1"].biases, [F(error) * ERROR_SCALE])


def test_ranges_move():
    """The largest output is 1/2, the smallest error that goes back -0.54: averages move by 1/10.

    The range of the logits' errors stays as it is.
    """
    s = init(DEEP, {"dense1": [[0.5]], "dense2": [[1], [-1]]}, {"dense1": [0], "dense2": [0, 0]})
    after = train_step(DEEP, s, np.array([255]), 0, Settings()).layers
    found = F(255 * 255) * (F(0.5) / F(255) * INPUT_SCALE)
    assert after["dense1"].peak == F(1) + F(0.1) * (found - F(1))
    assert -0.96 < after["dense1"].low < -0.95 and after["dense1"].high == F(1) + F(0.1) * -F(1)
    assert after["dense2"].low == -1 and after["dense2"].high == 1


def test_observe():
    """Two samples of an output of 1/2: the range of outputs follows, and nothing else changes."""
    s = init(DEEP, {"dense1": [[0.5]], "dense2": [[1], [-1]]}, {"dense1": [0], "dense2": [0, 0]})
    after = observe(DEEP, s, np.array([[255], [255]]))
    found, once = F(255 * 255) * (F(0.5) / F(255) * INPUT_SCALE), F(1)
    for _ in range(2):
        once = once + F(0.1) * (found - once)
    assert after.layers["dense1"].peak == once and s.layers["dense1"].peak == 1
    s.layers["dense1"].peak = once
    assert repr(after) == repr(s)


@pytest.mark.parametrize("mode", ["uint8", "float32"])
def test_partial_update(mode):
    """Of two rows with equal errors the first one learns."""
    settings = Settings(lmin=26, lmax=26, **PLAIN | dict(batch=2))
    after = train_step(LAYERS, start(mode), X, 0, settings)
    assert (after.gradients["dense1"].weights != 0).all(1).tolist() == [True, False]
    e = after.layers["dense1"].error_max / 2 ** 16
    assert 0.87 < e < 0.88


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pool, gradient", [(max_pool, 160), (average_pool, 100)])
def test_errors_through_a_pool(pool, gradient, mode):
    """All the error goes to the 160, or a quarter of it to each: sum e x is 160 or 100 sum e."""
    layers = sequential((2, 2, 1), conv(1, 1), pool(2), dense(2))
    s = init(layers, {"conv1": [[1.0]], "dense1": [[1.0], [-1.0]]},
             {"conv1": [0], "dense1": [0, 0]}, mode)
    found = train_step(layers, s, np.array([40, 80, 120, 160]), 0, Settings()).gradients["conv1"]
    assert found.biases[0] < 0
    assert abs(found.weights[0, 0] * 255 / found.biases[0] - gradient) < 1e-4


def test_where_floats_begin():
    layers = sequential((2, 2, 1), conv(1, 1), max_pool(2), dense(2), dense(2))
    assert [float_from(layers, mode) for mode in MODES] == [4, 2, 0]


@pytest.mark.parametrize("mode", MODES)
def test_learns(mode):
    """Two classes that one pixel tells apart."""
    rng = np.random.default_rng(1)
    layers = sequential((2, 2, 1), conv(4, 2), dense(2))
    s = init(layers, {"conv1": rng.uniform(-1, 1, (4, 4)), "dense1": rng.uniform(-1, 1, (2, 4))},
             {"conv1": np.zeros(4), "dense1": [0, 0]}, mode)
    x = rng.integers(0, 256, (1000, 4))
    y = (x[:, 2] > 128).astype(int)
    for sample, label in zip(x[:800], y, strict=False):
        s = train_step(layers, s, sample, label, Settings(lr=0.05, batch=8))
    assert (predict(layers, s, x[800:]) == y[800:]).mean() > 0.85


def test_refused():
    with pytest.raises(ValueError, match="there is no mode int4; it is one of uint8, mixed, "
                                         "float32"):
        start("int4")
    for name, value, choice in (("lr", -1, "0 to 1024"), ("batch", 0, "1 to 65535"),
                                ("batch", 1 << 16, "1 to 65535"), ("lmax", 257, "256 to 256"),
                                ("lmin", 257, "0 to 256")):
        with pytest.raises(ValueError, match=f"{name} must be {choice}, not {value}"):
            Settings(**{name: value})
    layers = sequential((1, 20_000, 1), dense(2))
    with pytest.raises(ValueError, match="dense1: a sum of 20000 products; at most 16384 of two "
                                         "bytes fit 32 bits"):
        init(layers, {"dense1": np.zeros((2, 20_000))}, NO_BIASES)

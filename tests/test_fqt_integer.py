"""Integer training against numbers worked out by hand."""
import numpy as np
import pytest

from firmware_models.fqt import integer
from firmware_models.fqt.integer import Settings, init, predict, rnd, train_step
from firmware_models.fqt.layers import average_pool, conv, dense, max_pool, sequential

LAYERS = sequential((1, 2, 1), dense(2))
WEIGHTS = {"dense1": [[0.5, -0.5], [0.25, 0.25]]}
X = np.array([64, 128])


def start(**kwargs):
    return init(LAYERS, WEIGHTS, {"dense1": [0, 0]}, **kwargs)


@pytest.mark.parametrize("x, shift, y", [
    (5, 1, 3), (-5, 1, -2), (6, 2, 2), (5, 2, 1), (-6, 2, -1), (3, 0, 3), (3, -2, 12), (-1, 31, 0)])
def test_rounding(x, shift, y):
    assert rnd(x, shift) == y


def test_init():
    """The largest weight, 1/2, has 2**14 of a 16-bit master, and half of what is dropped."""
    s = start().layers["dense1"]
    assert s.weight_frac == 7
    np.testing.assert_array_equal(s.master, [[16512, -16256], [8320, 8320]])
    np.testing.assert_array_equal(s.master >> 8, [[64, -64], [32, 32]])


def test_a_step():
    """x = [32, 64], acc = [-2048, 3072] in 2**-14, so the logits are -2 and 3 sixteenths.

    Loss of class 0: 5 sixteenths and log2(1 + 2**(-5/16)) = 298/256; errors [112 - 256, 139]/256,
    as bytes [-72, 70] in 2**-7; the shift of the step is 7 + 7 + 4 - 7 - 8 = 3.
    """
    s = train_step(LAYERS, start(), X, 0, Settings(lr_shift=4)).layers["dense1"]
    np.testing.assert_array_equal(s.master, [[16512 + 288, -16256 + 576], [8320 - 280, 8320 - 560]])
    np.testing.assert_array_equal(s.bias, [72 << 5, -70 << 5])


def test_skip():
    """The sample's loss is 298."""
    for skip, changes in ((298, True), (299, False)):
        after = train_step(LAYERS, start(), X, 0, Settings(skip=skip))
        assert after.samples == 1
        assert (after.layers["dense1"].master != start().layers["dense1"].master).any() == changes


def test_decay():
    """After 2 samples the rate is half."""
    s = start()
    s.samples = 2
    after = train_step(LAYERS, s, X, 0, Settings(lr_shift=4, lr_decay=2))
    assert after.layers["dense1"].bias[0] == 72 << 4


def test_partial_update():
    """Of two hidden rows the one of the larger error learns; in the last layer both do.

    Inputs [32, 64], outputs [48, 32], logits +-2 sixteenths, errors [139, -139]/256, as bytes
    [70, -69] in 2**-7. One layer back: 64 * 70 + 64 * 69 = 8896, and -32 * 70 - 32 * 69 = -4448,
    of which bytes leave out 7 bits: 69 + 34 are the sum, in 2**-7.
    """
    layers = sequential((1, 2, 1), dense(2), dense(2))
    s = init(layers, {"dense1": [[0.5, 0.5], [0.5, 0.25]], "dense2": [[0.5, -0.25], [-0.5, 0.25]]},
             {"dense1": [0, 0], "dense2": [0, 0]})
    after = train_step(layers, s, X, 1, Settings(lr_shift=4, lmin=26, lmax=26)).layers
    np.testing.assert_array_equal((after["dense1"].master != s.layers["dense1"].master),
                                  [[True, True], [False, False]])
    assert (after["dense2"].master != s.layers["dense2"].master).all()
    assert after["dense1"].error_max == (69 + 34) << 9 and after["dense2"].error_max == 0


def test_error_bits():
    """Errors of [-144, 139]/256 in two bits: [-2, 2] in 2**-2; the step of -2 * 32 has no shift."""
    s = train_step(LAYERS, start(), X, 0, Settings(lr_shift=6, error_bits=2)).layers["dense1"]
    np.testing.assert_array_equal(s.master, [[16512 + 64, -16256 + 128], [8320 - 64, 8320 - 128]])
    with pytest.raises(ValueError, match="error_bits must be 1 to 7, not 8"):
        Settings(error_bits=8)


def test_standardized():
    """Rows of gradient -72 * [32, 64]: less their mean [1152, -1152], mean magnitude 2**10.2.

    With 10 + 8 - 7 - 8 = 3 bits dropped a step is 144, in the other row 140: the size of the
    error no longer counts, but for what rounding to a power of two leaves of it.
    """
    s = train_step(LAYERS, start(), X, 0, Settings(lr_shift=8, standardize=True)).layers["dense1"]
    np.testing.assert_array_equal(s.master - start().layers["dense1"].master,
                                  [[-144, 144], [140, -140]])


def test_mean():
    """The means 32 and 100 are taken off 64 and 128; then they follow by 1/128 of the distance."""
    s = train_step(LAYERS, start(mean=[32, 100]), X, 0, Settings(lr_shift=4, skip=(1 << 14) - 1))
    np.testing.assert_array_equal(s.mean, [(32 << 8) + 64, (100 << 8) + 56])
    s = train_step(LAYERS, start(mean=[32, 100]), X, 0, Settings(lr_shift=4))
    step = s.layers["dense1"].master - start().layers["dense1"].master
    np.testing.assert_array_equal(np.sign(step), [[1, 1], [-1, -1]])
    assert abs(step[0, 0] * 14 - step[0, 1] * 16) <= 16        # inputs 16 and 14


def test_outputs_find_their_format():
    """Outputs of 200 in the first format: it loses a bit. Outputs of 20: it gains two."""
    for peak, frac in ((200, 6), (20, 9), (100, 7)):
        s = start().layers["dense1"]
        for _ in range(100):
            integer._follow(s, int(peak * 2.0 ** (s.out_frac - 7)))
        assert s.out_frac == frac


def test_weights_find_their_format():
    s = start().layers["dense1"]
    s.master[0, 0] = -24577
    integer._widen(s)
    assert s.weight_frac == 6 and s.master[0, 0] == -12289
    s.master[:] = [[8191, -8192], [0, 1]]
    integer._widen(s)
    assert s.weight_frac == 7
    np.testing.assert_array_equal(s.master, [[16382, -16384], [0, 2]])


@pytest.mark.parametrize("pool, pixel", [(max_pool, 160), (average_pool, 100)])
def test_errors_through_a_pool(pool, pixel):
    """All the error goes to the 160, or a quarter of it to each: sum e x is 160 or 100 sum e."""
    layers = sequential((2, 2, 1), conv(1, 1), pool(2), dense(2))
    s = init(layers, {"conv1": [[1.0]], "dense1": [[1.0], [-1.0]]},
             {"conv1": [0], "dense1": [0, 0]})
    after = train_step(layers, s, np.array([40, 80, 120, 160]), 0, Settings(lr_shift=4))
    moved = after.layers["conv1"].master[0, 0] - s.layers["conv1"].master[0, 0]     # in 2**-14
    bias = after.layers["conv1"].bias[0]                                            # in 2**-16
    assert moved > 0 and moved * 4 * 256 == bias * pixel


def test_learns():
    """Two classes that one pixel tells apart."""
    rng = np.random.default_rng(1)
    layers = sequential((2, 2, 1), conv(4, 2), dense(2))
    s = init(layers, {"conv1": rng.uniform(-1, 1, (4, 4)), "dense1": rng.uniform(-1, 1, (2, 4))},
             {"conv1": np.zeros(4), "dense1": [0, 0]}, mean=np.full(4, 128))
    x = rng.integers(0, 256, (800, 4))
    y = (x[:, 2] > 128).astype(int)
    for sample, label in zip(x[:600], y, strict=False):
        s = train_step(layers, s, sample, label, Settings(lr_shift=3, lr_decay=300))
    assert (predict(layers, s, x[600:]) == y[600:]).mean() > 0.9

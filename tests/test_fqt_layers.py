import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_models.fqt.layers import (
    average_pool,
    conv,
    dense,
    depthwise,
    max_pool,
    sequential,
)


def test_shapes():
    layers = sequential((28, 28, 1), conv(8, 3), max_pool(2), depthwise(3, same=True),
                        conv(16, (1, 3), strides=(1, 2)), average_pool((2, 1)), dense(32),
                        dense(10))
    assert [(layer.name, layer.shape_out, layer.rows, layer.columns, layer.relu)
            for layer in layers] == [
        ("conv1", (26, 26, 8), 8, 9, True),
        ("max_pool1", (13, 13, 8), 8, 4, False),
        ("depthwise1", (13, 13, 8), 8, 9, True),
        ("conv2", (13, 6, 16), 16, 24, True),
        ("average_pool1", (6, 6, 16), 16, 2, False),
        ("dense1", (1, 1, 32), 32, 576, True),
        ("dense2", (1, 1, 10), 10, 32, False)]


def test_a_convolution_by_hand():
    """A 2x2 kernel over a 2x3 image of one channel; with same padding a row and a column of 0."""
    x = np.array([1, 2, 3,
                  4, 5, 6])
    w = np.array([[1, 10, 100, 1000]])
    valid, *_ = sequential((2, 3, 1), conv(1, 2), dense(2))
    np.testing.assert_array_equal(valid.forward(valid.unfold(x), w), [[5421], [6532]])
    same, *_ = sequential((2, 3, 1), conv(1, 2, same=True), dense(2))
    np.testing.assert_array_equal(same.forward(same.unfold(x), w),
                                  [[5421], [6532], [603], [54], [65], [6]])
    # With stride 2 one column of padding is left, on the right.
    strided, *_ = sequential((2, 3, 1), conv(1, 2, strides=2, same=True), dense(2))
    np.testing.assert_array_equal(strided.forward(strided.unfold(x), w), [[5421], [603]])


def test_channels_stay_apart():
    """Two channels, each with its own 1x2 kernel; a dense layer reads all of them."""
    x = np.array([1, 10, 2, 20, 3, 30])         # columns of two channels
    first, last = sequential((1, 3, 2), depthwise((1, 2)), dense(1))
    y = first.forward(first.unfold(x), np.array([[1, 1], [1, -1]]))
    np.testing.assert_array_equal(y, [[3, -10], [5, -10]])
    np.testing.assert_array_equal(last.forward(last.unfold(y.reshape(-1)),
                                               np.array([[1, 2, 3, 4]])), [[3 - 20 + 15 - 40]])


@given(st.data())
def test_the_backward_pass_is_the_transposed_forward_pass(data):
    """sum e (w x) = sum g w = sum (backward e) x, for every layer with weights."""
    draw = data.draw
    h, w, c = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(1, 3))
    kernel = draw(st.integers(1, h)), draw(st.integers(1, w))
    common = dict(strides=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
                  same=draw(st.booleans()))
    layer, *_ = sequential((h, w, c), draw(st.sampled_from([
        conv(draw(st.integers(1, 4)), kernel, **common), depthwise(kernel, **common),
        dense(draw(st.integers(1, 5)))])), dense(2))
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 32)))
    x = rng.integers(-128, 128, layer.n_in)
    weights = rng.integers(-128, 128, (layer.rows, layer.columns))
    errors = rng.integers(-127, 128, (layer.positions, layer.rows))
    columns = layer.unfold(x)
    total = (errors * layer.forward(columns, weights)).sum()
    assert (layer.gradient(columns, errors) * weights).sum() == total
    assert (layer.backward(weights, errors) * x).sum() == total


@pytest.mark.parametrize("layers, message", [
    ([conv(4, 5), dense(2)], "conv1: a kernel of 5x5 does not fit an input of 4x4; use a smaller "
                             "one"),
    ([dense(4), max_pool(2), dense(2)],
     "max_pool1: a kernel of 2x2 does not fit an input of 1x1; use a smaller one"),
    ([conv(4, 3)], "conv1: the last layer must be dense, one row a class"),
])
def test_refused(layers, message):
    with pytest.raises(ValueError) as error:
        sequential((4, 4, 1), *layers)
    assert str(error.value) == message

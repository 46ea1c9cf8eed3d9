# amaranth: UnusedElaboratable=no
"""Softmax: the model by hand, hls4ml's C++ on random formats, the hardware with pauses."""
import shutil
from dataclasses import replace

import numpy as np
import pytest

from firmware_models.activation import Linear
from firmware_models.cycles import answer_cycles
from firmware_models.dense import trace
from firmware_models.formats import Fixed
from firmware_models.network import described
from firmware_models.softmax import Softmax, readout, softmax
from hwgen.frontend import DenseSpec, NetworkSpec, from_layers, lower
from hwgen.frontend.tables import exponentials, inverses
from rtl.softmax import SoftmaxUnit

from .networks import LOGITS, small_network
from .random_networks import ending, random_codes, random_format, random_softmax, soft
from .test_random_networks import compare, emulate
from .test_readout import run_readout

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
HALVES = Fixed(4, 1)


def by_hand(**changes) -> Softmax:
    """Three classes, tables of 8 and 4 entries that are no exponentials and no inverses."""
    return Softmax(**{
        "name": "sm", "n": 3, "result": Fixed(8, 4), "implementation": "stable",
        "exp_table": Fixed(6, 2), "exp_size": 8, "exp_codes": [8, 7, 6, 5, 4, 3, 2, 1],
        "inv_table": Fixed(6, 3), "inv_size": 4, "inv_codes": [9, 10, 11, 12],
        "inp_norm": Fixed(3, 1, False), "accum": Fixed(6, 2), "inv_inp": Fixed(5, 2, False)}
        | changes)


@pytest.mark.parametrize("changes, x, expected", [
    # Distances 0, 1, 6 are indices; 8 + 7 + 2 = 17 quarters, whose upper two of five bits are 2.
    # 8/4 * 11/8 = 88/32, 77/32 and 22/32, cut to sixteenths.
    ({}, [3, 2, -3], [44, 38, 11]),
    # A distance of 9 wraps to 1, or saturates at 7.
    ({}, [5, 4, -4], [44, 38, 38]),
    ({"inp_norm": Fixed(3, 1, False, "TRN", "SAT")}, [5, 4, -4], [44, 38, 5]),
    # The index is the upper bits of the distance: of four, three.
    ({"inp_norm": Fixed(4, 1, False)}, [5, 4, -4], [44, 44, 22]),
    # The sum 24 = 32 - 8 wraps in five bits to -8, whose upper two bits are 3 of 0 to 3.
    ({"accum": Fixed(5, 2), "inv_inp": Fixed(5, 2)}, [1, 1, 1], [48, 48, 48]),
    # It saturates at 15, and then they are 1.
    ({"accum": Fixed(5, 2, True, "TRN", "SAT"), "inv_inp": Fixed(5, 2)}, [1, 1, 1], [40, 40, 40]),
    # The upper bits of the logits themselves, whatever their sign: 3, 7 and 4 of 0 to 7.
    ({"implementation": "latency", "inp_norm": None}, [7, -2, -8], [25, 5, 20]),
    ({"implementation": "argmax"}, [1, 5, 5], [0, 16, 0]),
    # 1 does not fit, and wraps.
    ({"implementation": "argmax", "result": Fixed(4, 4, False)}, [1, 5, 5], [0, 0, 0]),
])
def test_by_hand(changes, x, expected):
    assert softmax(by_hand(**changes), x, HALVES).tolist() == expected


def test_tables_by_hand():
    """e**-1 = 0.3679, e**-2 = 0.1353; 1/0 is the largest code, or none of its bits if it wraps."""
    hundredths = Fixed(20, 10)
    assert exponentials(4, Fixed(4, 2, False), hundredths, -1.0).tolist() == [1024, 376, 138, 50]
    # The upper two bits of signed codes: 0, 1, -2, -1; halved.
    assert exponentials(4, Fixed(3, 1), Fixed(20, 10, True, "RND", "SAT"), 0.5).tolist() == \
        [1024, 1688, 377, 621]
    assert exponentials(2, Fixed(9, 1), hundredths, 1.0).tolist() == [1024, 0]
    for overflow, first in (("SAT", 127), ("WRAP", 0)):
        of = Fixed(8, 3, True, "TRN", overflow)
        assert inverses(4, Fixed(4, 2), of).tolist() == [first, 8, -4, -8]
        assert inverses(4, Fixed(4, 2, False), of).tolist() == [first, 8, 4, 2]


@pytest.mark.parametrize("changes, message", [
    ({"implementation": "legacy"}, "sm: softmax 'legacy' is not one of stable, latency, argmax"),
    ({"result": Fixed(32, 4, False)}, r"sm: result ufixed<32,28> and its sign do not fit a beat"),
    ({"exp_size": 4}, r"sm: exp codes have shape \(8,\), not \(4,\)"),
    ({"exp_codes": [32] * 8}, "32 is not a code of fixed<6,4>"),
    ({"inv_size": 3, "inv_codes": [1] * 3}, "sm: table of 3 entries, needs a power of two from 2"),
    ({"inv_inp": Fixed(1, 0)}, "sm: table of 4 entries, indexed by fixed<1,1>; needs a smaller"),
    ({"exp_codes": [-1] * 8, "accum": Fixed(6, 2, True, "TRN", "SAT")},
     "sm: accumulator fixed<6,4,TRN,SAT> saturates and the table has entries below 0"),
])
def test_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        by_hand(**changes)


def test_network():
    """A softmax is no stage; what is learned from are the logits."""
    plain, layer = small_network((4, 3), (0,)), soft(3)
    network = ending(layer, plain)
    assert network.stages == plain.stages and (plain.softmax, network.softmax) == (None, layer)
    assert (plain.output, network.output) == (LOGITS, layer.result)
    assert network.with_trainable(()).softmax is layer
    assert described(network.describe()).describe() == network.describe()
    other = replace(layer, inv_codes=layer.inv_codes ^ 1)
    assert len({n.digest() for n in (plain, network, ending(other, plain))}) == 3
    logits = np.array([[5, 300, -7]])
    assert readout(plain, logits) is logits
    np.testing.assert_array_equal(readout(network, logits), softmax(layer, logits, LOGITS))
    for layers, message in [
            ((layer, *plain.layers), "softmax: a softmax before fc1, can only be the last layer"),
            ((*plain.layers, soft(4)), "softmax: a softmax of 4 after 3 logits"),
            ((layer,), "a network needs at least one Dense layer"),
            ((*plain.layers, soft(3, accum=Fixed(45, 10))),
             "softmax: its numbers need 63 bits before the cast to result, 62 are possible")]:
        with pytest.raises(ValueError, match=message):
            replace(plain, layers=layers)


def rows_of(rng, source: Fixed, n: int, count: int) -> np.ndarray:
    """Logits: random ones, equal ones, both ends."""
    rows = random_codes(rng, source, (count, n))
    rows[:8] = rows[:8, :1]
    rows[8], rows[9] = source.min, source.max
    rows[10], rows[10, -1] = source.min, source.max
    return rows


@needs_gxx
def test_hls4ml(tmp_path):
    """Every implementation on formats nobody would think of, and those that hls4ml chooses."""
    specs, xs = [], []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        n, source = int(rng.integers(1, 12)), random_format(rng, signed=bool(rng.integers(4)))
        implementation = ("stable", "latency", "argmax")[min(seed % 5 // 2, 2)]
        layer = random_softmax(rng, "sm", n, source, implementation)
        if seed < 4:
            source = Fixed((3, 8, 12, 16)[seed], 4)
            size = min(1024, 1 << source.width)
            layer = soft(n, source, exp_size=size, inv_size=size,
                         implementation=("stable", "latency")[seed % 2])
        copy = DenseSpec(name="copy", weight=Fixed(2, 0), bias=Fixed(2, source.frac), result=source,
                         weight_codes=np.eye(n, dtype=int), bias_codes=np.zeros(n, int))
        layers = (copy, layer)
        if seed > 12 and layer.tables:      # a cast that changes nothing but what the index is
            wide = replace(source, width=source.width + 2, frac=source.frac + 1)
            layer = random_softmax(rng, "sm", n, wide, implementation)
            layers = (copy, Linear(name="wide", n=n, result=wide), layer)
        specs.append(NetworkSpec(name=f"softmax{seed}", input=source, layers=layers))
        xs.append(rows_of(rng, source, n, 400))
    for spec, x, expected in zip(specs, xs, emulate(specs, xs, tmp_path / "joint"), strict=True):
        network = lower(from_layers(spec, tmp_path / spec.name))
        for key, value in vars(spec.layers[-1]).items():
            assert np.array_equal(getattr(network.softmax, key), value), f"{spec}: {key}"
        compare(network, trace(network, x), expected, f"{spec}")


@pytest.mark.parametrize("gap, stall", [("none", "none"), ("some", "bursts"), (0.3, 0.8)])
@pytest.mark.parametrize("seed", range(12))
def test_hardware_equals_model(seed, gap, stall):
    """Packets with and without outputs; the class is the first largest logit's in both."""
    rng = np.random.default_rng(seed)
    n, source = int(rng.integers(1, 7)), random_format(rng, signed=bool(rng.integers(4)))
    layer = random_softmax(rng, "sm", n, source, ("stable", "latency", "argmax")[seed % 3])
    rows, modes = rows_of(rng, source, n, 24), rng.integers(0, 2, 24).tolist()
    outputs = softmax(layer, rows, source)
    beats, _, _ = run_readout(rows, source, modes, gap, stall, layer)
    expected = []
    for row, codes, mode in zip(rows, outputs, modes, strict=True):
        packet = [int(row.argmax()), *([int(code) & 0xFFFFFFFF for code in codes] * mode)]
        expected += [(word, k == len(packet) - 1) for k, word in enumerate(packet)]
    assert beats == expected


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("implementation", ["stable", "latency", "argmax"])
def test_latency_and_throughput(implementation, n):
    rows, source = np.arange(5 * n).reshape(5, n), Fixed(8, 4)
    layer = soft(n, source, implementation=implementation)
    network = ending(layer, small_network((4, n)))
    for logits in (False, True):
        _, commits, cycles = run_readout(rows, source, [logits] * 5, "none", "none", layer)
        ends = cycles[n * logits::1 + n * logits]
        length = answer_cycles(network, logits)
        if logits and layer.tables:
            assert length == SoftmaxUnit(layer, source).latency_cycles + n == 2 * n + 4
        else:
            assert length == 1 + logits * n
        assert ends[0] == commits[0] + length
        assert np.diff(ends).tolist() == [max(length, n)] * 4

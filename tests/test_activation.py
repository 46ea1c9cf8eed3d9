# amaranth: UnusedElaboratable=no
"""Elementwise layers: models by hand, hls4ml's C++ on every input code, hardware against model."""
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from amaranth.hdl import Module, Signal

from firmware_models import activation as model
from firmware_models import compiled
from firmware_models.activation import (
    BatchNorm,
    HardSigmoid,
    Linear,
    Lookup,
    PRelu,
    Relu,
    ReluMax,
    ThresholdedRelu,
)
from firmware_models.dense import trace
from firmware_models.formats import Fixed
from firmware_models.network import Dense, Network
from hwgen.build import build
from hwgen.frontend import DenseSpec, NetworkSpec, from_layers, lower
from hwgen.frontend.tables import entries
from rtl.activation import activate
from rtl.shapes import shape_of
from sim.verilate import lint

from .networks import HIDDEN, activated, small_network
from .pysim import simulate
from .random_networks import KINDS, fitted, random_activation, random_format
from .test_random_networks import compare, emulate

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
QUARTERS, HALVES = Fixed(6, 2), Fixed(6, 1, True, "TRN", "SAT")


def of(kind, **more):
    return kind(**{"name": "act", "n": 1, "result": HALVES} | more)


def lookup(function: str, size: int) -> Lookup:
    """A table of its own indices."""
    return of(Lookup, function=function, size=size, table=Fixed(8, 1), result=Fixed(8, 1),
              table_codes=np.arange(size))


@pytest.mark.parametrize("layer, x, expected", [
    # Quarters to halves, floored.
    (of(Relu), [-32, -1, 0, 1, 2, 31], [0, 0, 0, 0, 1, 15]),
    (of(ReluMax, limit=6), [-32, -1, 0, 23, 24, 25, 31], [0, 0, 0, 11, 12, 12, 12]),
    # The limit is cast, too: 6 in halves of 4 bits and no sign is 12; of 3 bits it is 4, or 7.
    (of(ReluMax, limit=6, result=Fixed(3, 1, False)), [24, 31], [4, 4]),
    (of(ReluMax, limit=6, result=Fixed(3, 1, False, "TRN", "SAT")), [24, 31], [7, 7]),
    (of(Linear), [-32, -1, 0, 1, 31], [-16, -1, 0, 0, 15]),
    # Above 3/8 lie 2/4 and more; above 4/8 lie 3/4 and more; above -5/8 lie -2/4 and more.
    (of(ThresholdedRelu, threshold=Fixed(4, 3), threshold_code=3), [1, 2, 3], [0, 1, 1]),
    (of(ThresholdedRelu, threshold=Fixed(4, 3), threshold_code=4), [1, 2, 3], [0, 0, 1]),
    (of(ThresholdedRelu, threshold=Fixed(4, 3), threshold_code=-5), [-4, -3, -2, 0], [0, 0, -1, 0]),
    # -5/4 * 3/8 = -15/32, floored to -1/2; positive ones pass.
    (of(PRelu, slope=Fixed(4, 3), slope_codes=[3]), [-32, -5, 0, 3], [-6, -1, 0, 1]),
    (of(PRelu, slope=Fixed(4, 3), slope_codes=[-3]), [-32, -5, 0, 3], [6, 0, 0, 1]),
    # Steps of 2: -5/4 * 2 = -10/4.
    (of(PRelu, slope=Fixed(3, -1), slope_codes=[1]), [-5, 3], [-5, 1]),
    # x / 4 + 1/2: -9/4 gives -1/16 and so 0, -7/4 gives 1/16, 9/4 gives 17/16 and so 1.
    (of(HardSigmoid, result=Fixed(6, 4), slope=Fixed(2, 2, False), slope_code=1,
        shift=Fixed(2, 1, False), shift_code=1), [-9, -8, -7, 0, 7, 8, 9], [0, 0, 1, 8, 15, 16, 16]
     ),
    (of(HardSigmoid, result=Fixed(6, 4), slope=Fixed(2, 2, False), slope_code=1, tanh=True,
        shift=Fixed(2, 1, False), shift_code=1), [-9, -7, 0, 7, 8, 9], [-16, -14, 0, 14, 16, 16]),
    # x * 3/2 - 3/4 in eighths: -5/4 gives -21/8, floored to -6/2.
    (of(BatchNorm, scale=Fixed(3, 1), scale_codes=[3], bias=Fixed(4, 3), bias_codes=[-6]),
     [-32, -5, 0, 2, 31], [-26, -6, -2, 0, 21]),
    (of(BatchNorm, scale=Fixed(3, -1), scale_codes=[1], bias=Fixed(4, 4), bias_codes=[-6]),
     [-5, 0, 2], [-6, -1, 1]),
    # Quarters are steps of a table of 64 over 16; they go around 32, and toward zero.
    (lookup("sigmoid", 64), [-32, -8, -1, 0, 1, 31], [0, 24, 31, 32, 33, 63]),
    # Every second quarter is a step of a table of 16 over 8, which goes around 8.
    (lookup("tanh", 16), [-32, -16, -15, -3, -2, -1, 0, 1, 2, 3, 14, 15, 16, 31],
     [0, 0, 1, 7, 7, 8, 8, 8, 9, 9, 15, 15, 15, 15]),
    # Every quarter is two steps of one of 64 over 8.
    (lookup("tanh", 64), [-32, -16, -15, -1, 0, 1, 15, 16, 31], [0, 0, 2, 30, 32, 34, 62, 63, 63]),
])
def test_by_hand(layer, x, expected):
    for code, y in zip(x, expected, strict=True):
        assert model.apply(layer, np.array([code]), QUARTERS).tolist() == [y], code


def test_slope_of_each_node():
    layer = of(PRelu, n=3, slope=Fixed(4, 0), slope_codes=[-8, 0, 7])
    x = np.array([[-2, -2, -2], [2, 2, 2]])
    assert model.apply(layer, x, QUARTERS).tolist() == [[8, 0, -7], [1, 1, 1]]


TABLE = dict(function="sigmoid", size=16, table=Fixed(18, 10), table_codes=np.arange(16))


@pytest.mark.parametrize("change, message", [
    (dict(kind=ReluMax, limit=0), "act: limit 0 is not a positive int"),
    (dict(kind=ThresholdedRelu, threshold=Fixed(4, 3), threshold_code=8), "8 is not a code of"),
    (dict(kind=PRelu, slope=Fixed(4, 3), slope_codes=[1, 2]),
     r"act: slope codes have shape \(2,\), not \(1,\)"),
    (dict(kind=PRelu, slope=Fixed(4, 3), slope_codes=[8]), "8 is not a code of"),
    (dict(kind=Lookup, **TABLE | {"function": "exp"}), "act: function 'exp' is not one of sigmoid"),
    (dict(kind=Lookup, **TABLE | {"size": 100}), "act: table of 100 entries; the size is a power"),
    (dict(kind=Lookup, **TABLE | {"size": 8}), "act: table of 8 entries; .* from 16 to 65536"),
    (dict(kind=Lookup, **TABLE | {"size": 32}), r"act: table codes have shape \(16,\), not \(32,"),
    (dict(kind=Lookup, **TABLE | {"table": Fixed(4, 3)}), "8 is not a code of"),
    (dict(kind=BatchNorm, scale=Fixed(4, 3), scale_codes=[1], bias=Fixed(2, 0), bias_codes=[2]),
     "2 is not a code of"),
    (dict(kind=HardSigmoid, slope=Fixed(4, 3), slope_code=8, shift=Fixed(2, 1), shift_code=0),
     "8 is not a code of"),
    (dict(kind=HardSigmoid, slope=Fixed(4, 3), slope_code=1, shift=Fixed(3, -1), shift_code=0),
     "act: shift fixed<3,4> has steps above 1"),
])
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        of(**change)


def test_too_wide():
    layer = of(PRelu, slope=Fixed(32, 3), slope_codes=[1])
    assert layer.exact(Fixed(30, 2)) == (62, 5)
    with pytest.raises(ValueError, match="act: its numbers need 63 bits, 62 are possible"):
        layer.exact(Fixed(31, 2))
    layer = of(Lookup, **TABLE | {"function": "tanh"})
    assert layer.exact(Fixed(30, 0)) == (18, 10)
    with pytest.raises(ValueError, match="act: an index of inputs .* needs 32 bits, 31 are possi"):
        layer.exact(Fixed(29, -2))


def drawn(kind: str, seed: int, n: int = 3):
    """A layer of a kind, and the format of its inputs."""
    rng = np.random.default_rng([seed, *kind.encode()])
    source = random_format(rng, signed=bool(rng.integers(4)))
    return random_activation(rng, "act", n, source, kind), source


def copying(source: Fixed, *layers, n: int) -> Network:
    """A Dense layer that copies its one input to every node, then `layers`, then two sums."""
    def dense(name, n_in, n_out, of):
        accum = Fixed(of.width + n_in.bit_length() + 2, of.frac)
        return Dense(name=name, n_in=n_in, n_out=n_out, reuse_factor=n_in, weight=Fixed(2, 0),
                     bias=Fixed(2, 0), accum=accum, result=of,
                     weight_codes=np.ones((n_out, n_in), int), bias_codes=np.zeros(n_out, int))

    return Network(name="copying", input=source, layers=(
        dense("copy", 1, n, source), *layers, dense("end", n, 2, layers[-1].result)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["relu", *KINDS])
def test_compiled_equals_model(kind, seed):
    """Two layers of a kind, one behind the other, on every code."""
    first, source = drawn(kind, seed)
    second, _ = drawn(kind, seed + 4)
    second = fitted(replace(second, name="second"), first.result)
    network = copying(source, first, second, n=3)
    a = SimpleNamespace(**compiled.arrays(network, 0))
    a.codes[:] = 1
    x = np.arange(source.min, source.max + 1)
    got = []
    for code in x:
        compiled.base_pass(np.array([code]), a.stages, a.casts, a.layers, a.layer_casts,
                           a.parameters, a.codes, a.bias, a.totals, a.sums, a.base)
        got.append(a.base[1:4].tolist())
    np.testing.assert_array_equal(got, trace(network, x[:, None])["second"])


@needs_gxx
def test_hls4ml_every_code(tmp_path):
    equals_hls4ml([(kind, *drawn(kind, 0)) for kind in ("relu", *KINDS)], tmp_path)


@needs_gxx
def test_hls4ml_every_entry(tmp_path):
    """Inputs as fine as the table, and all bits of its entries."""
    cases, table = [], Fixed(42, 40)
    for function, frac in (("sigmoid", 6), ("tanh", 7)):
        cases.append((function, of(Lookup, n=3, result=table, function=function, size=1024,
                                   table=table, table_codes=entries(function, 1024, table)),
                      Fixed(10, frac)))
    equals_hls4ml(cases, tmp_path)


def equals_hls4ml(cases, folder) -> None:
    """Layers with names and input formats, each behind a Dense that copies its input to 3 nodes."""
    specs, xs = [], []
    for name, layer, source in cases:
        copy = DenseSpec(name="copy", weight=Fixed(2, 0), bias=Fixed(2, source.frac),
                         result=source, weight_codes=np.ones((3, 1), int),
                         bias_codes=np.zeros(3, int))
        end = DenseSpec(name="end", weight=Fixed(2, 0), bias=Fixed(2, 0), result=Fixed(20, 4),
                        weight_codes=np.ones((1, 3), int), bias_codes=np.zeros(1, int))
        specs.append(NetworkSpec(name=name, input=source, layers=(copy, layer, end)))
        xs.append(np.resize(np.arange(source.min, source.max + 1), (1024, 1)))
    for spec, x, expected in zip(specs, xs, emulate(specs, xs, folder / "joint"), strict=True):
        network = lower(from_layers(spec, folder / spec.name))
        compare(network, trace(network, x), expected, f"{spec}")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["relu", *KINDS])
def test_hardware_equals_model(kind, seed):
    """Every code, at every node of a lane, one per cycle in mixed order."""
    layer, source = drawn(kind, seed, n=6)
    nodes = range(2, 5)
    codes = np.repeat(np.arange(source.min, source.max + 1), len(nodes))
    words = np.resize(np.arange(len(nodes)), len(codes))
    order = np.random.default_rng(seed).permutation(len(codes))
    codes, words = codes[order], words[order]
    m, x, word = Module(), Signal(shape_of(source)), Signal(range(len(nodes)))
    y = activate(m, layer, x, source, nodes=nodes, word=word)
    assert y.shape() == shape_of(layer.result)
    m.d.sync += Signal().eq(y[0])               # layers without registers have a clock, too
    got = []

    async def bench(ctx):
        for code, at in zip([*codes, *[0] * layer.delay_cycles],
                            [*words, *[0] * layer.delay_cycles], strict=True):
            ctx.set(x, int(code))
            ctx.set(word, int(at))
            _, _, value = await ctx.tick().sample(y)
            got.append(value)

    simulate(m, bench, deadline=len(codes) + 10)
    every = model.apply(layer, np.repeat(codes[:, None], 6, 1), source)
    np.testing.assert_array_equal(got[layer.delay_cycles:],
                                  every[np.arange(len(codes)), words + nodes.start])


def test_unsigned_all_the_way(tmp_path):
    """Verilator's lint refuses to compare with 0 what has no sign."""
    slope, shift, table = Fixed(4, 2, False), Fixed(3, 2, False), Fixed(8, 7, False)
    clipped = Relu(name="relu", n=4, result=HIDDEN)
    hard = HardSigmoid(name="hard", n=4, result=HIDDEN, slope=slope, slope_code=5, shift=shift,
                       shift_code=1, tanh=True)
    entry = Lookup(name="entry", n=4, result=HIDDEN, function="tanh", size=16, table=table,
                   table_codes=np.arange(16))
    network = activated(small_network((3, 4, 2)), {0: (clipped, hard, entry)})
    lint(build(network, tmp_path, learning=False).parent / "core.v", "core")

"""Elementwise layers behind a Dense layer, one lane of a drained word at a time."""
from amaranth import *
from amaranth.lib import memory

from firmware_models import activation as models
from firmware_models.formats import Fixed
from firmware_models.requantize import requantize as assign

from .requantize import requantize
from .shapes import shape_of

__all__ = ["activate"]


def activate(m: Module, layer, x, source: Fixed, *, nodes: range, word: Value) -> Signal:
    """Output codes of a layer for one lane of its inputs.

    Latency: ``layer.delay_cycles``; combinational where that is 0. Throughput: a code per cycle.

    Bit-exact with :func:`firmware_models.activation.apply`.

    Parameters
    ----------
    m : Module
        Receives the statements.
    layer : one of firmware_models.activation
    x : Value
        Input codes, of the shape of `source`.
    source : Fixed
        Their format.
    nodes : range
        The nodes that pass through this lane, in the order of their words.
    word : Value
        Which of them `x` belongs to, in the same cycle.
    """
    return FUNCTIONS[type(layer)](m, layer, x, source, nodes, word)


def relu(m, layer, x, source, nodes, word):
    return requantize(m, Mux(x > 0, x, 0), source.frac, layer.result)


def relu_max(m, layer, x, source, nodes, word):
    # Where a step of x is above 1, the limit is cut in steps of 1.
    frac = max(source.frac, 0)
    limit = layer.limit << frac
    x = x << frac - source.frac
    return requantize(m, Mux(x > 0, Mux(x > limit, limit, x), 0), frac, layer.result)


def thresholded_relu(m, layer, x, source, nodes, word):
    return requantize(m, Mux(x > layer.floor(source), x, 0), source.frac, layer.result)


def prelu(m, layer, x, source, nodes, word):
    _, frac = layer.exact(source)
    held, slope = Signal(shape_of(source)), Signal(shape_of(layer.slope))
    m.d.sync += [held.eq(x), slope.eq(_parameter(layer.slope_codes, nodes, word))]
    above = held << frac - source.frac
    below = held * slope << frac - source.frac - layer.slope.frac
    y = _held(m, Mux(held > 0, above, below))
    return requantize(m, y, frac, layer.result)


def hard_sigmoid(m, layer, x, source, nodes, word):
    _, frac = layer.exact(source)
    held = Signal(shape_of(source))
    m.d.sync += held.eq(x)
    shift = layer.shift_code << frac - layer.shift.frac
    total = _held(m, (held * Const(layer.slope_code, shape_of(layer.slope))
                      << frac - source.frac - layer.slope.frac) + shift)
    one = 1 << frac
    y = Mux(_negative(total), 0, Mux(total > one, one, total))
    return requantize(m, (y << 1) - one if layer.tanh else y, frac, layer.result)


def linear(m, layer, x, source, nodes, word):
    return requantize(m, x, source.frac, layer.result)


def batch_norm(m, layer, x, source, nodes, word):
    _, frac = layer.exact(source)
    held, scale, held_word = Signal(shape_of(source)), Signal(shape_of(layer.scale)), _held(m, word)
    m.d.sync += [held.eq(x), scale.eq(_parameter(layer.scale_codes, nodes, word))]
    bias = _parameter(layer.bias_codes, nodes, held_word) << frac - layer.bias.frac
    total = _held(m, (held * scale << frac - source.frac - layer.scale.frac) + bias)
    return requantize(m, total, frac, layer.result)


def lookup(m, layer, x, source, nodes, word):
    left = layer.left(source)
    # Toward zero: a negative input is shifted right after all ones are added that it will lose.
    drop = min(max(-left, 0), source.width)
    steps = (x + Mux(_negative(x), (1 << drop) - 1, 0) >> drop) << max(left, 0)
    index = steps + layer.size // 2
    last = layer.size - 1
    entries = assign(layer.table_codes, layer.table.frac, layer.result)
    rom = memory.Memory(shape=shape_of(layer.result), depth=layer.size, init=entries.tolist())
    m.submodules[f"{layer.name}_{nodes.start}"] = rom
    read = rom.read_port()
    m.d.comb += read.addr.eq(
        _held(m, Mux(_negative(index), 0, Mux(index > last, last, index))[:len(read.addr)]))
    return read.data


def _parameter(codes, nodes: range, word: Value) -> Value:
    """A node's own code; without a multiplexer where all nodes of the lane have the same."""
    codes = [int(codes[node]) for node in nodes]
    return Const(codes[0]) if len(set(codes)) == 1 else Array(Const(code) for code in codes)[word]


def _negative(value: Value) -> Value:
    """Whether the value is below 0; that of an unsigned one never is, and lint refuses to ask."""
    return value[-1] if value.shape().signed else Const(0)


def _held(m: Module, value: Value) -> Signal:
    """The value, a cycle later."""
    register = Signal(value.shape())
    m.d.sync += register.eq(value)
    return register


FUNCTIONS = {
    models.Relu: relu, models.ReluMax: relu_max, models.ThresholdedRelu: thresholded_relu,
    models.PRelu: prelu, models.HardSigmoid: hard_sigmoid, models.Linear: linear,
    models.BatchNorm: batch_norm, models.Lookup: lookup}

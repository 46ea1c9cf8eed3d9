"""Adders made for the weights of a frozen Dense layer, in place of multipliers."""
from typing import NamedTuple

import numpy as np
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.constant_product import EXTRA_LEVELS, register_levels
from firmware_models.network import Stage

from .shapes import lane, shape_of

__all__ = ["ConstantProduct", "adders"]


class Sum(NamedTuple):
    """(a << a_shift) + or - (b << b_shift) of two earlier sums, by number; an input adds nothing.

    `low`, `high`: its range. `level`: adders one behind the other, up to here.
    """
    low: int
    high: int
    level: int = 0
    a: int = 0
    b: int = 0
    a_shift: int = 0
    b_shift: int = 0
    subtract: bool = False


class Term(NamedTuple):
    """Sum number `index` times 2**shift, negative or not."""
    index: int
    shift: int = 0
    negative: bool = False

    def scaled(self, shift: int, negative: bool = False) -> "Term":
        return self._replace(shift=self.shift + shift, negative=self.negative ^ negative)


def adders(codes, source) -> tuple[list[Sum], list[Term | None]]:
    """Sums that make a constant matrix product, and the term of each output; None for 0.

    da4ml finds what outputs share: its operations, with the options that hls4ml gives it. Signs are
    carried along and cost no adder.

    Source: da4ml 0.6.0, ``da4ml.types.CombLogic``.

    Parameters
    ----------
    codes : array of int [n_out, n_in]
        Weights.
    source : Fixed
        Format of the inputs, which are the first sums.
    """
    from da4ml.cmvm import solve
    n_in = np.shape(codes)[1]
    solution = solve(np.ascontiguousarray(np.transpose(codes), np.float32), hard_dc=EXTRA_LEVELS,
                     search_all_decompose_dc=True, adder_size=1, carry_size=-1,
                     qintervals=[(float(source.min), float(source.max), 1.0)] * n_in)
    sums = [Sum(source.min, source.max)] * n_in
    terms = [Term(k) for k in range(n_in)]
    for logic in solution.solutions:
        found = []
        for op in logic.ops:
            if op.opcode == -1:             # an input of this part of the solution
                term = terms[op.id0] and terms[op.id0].scaled(logic.inp_shifts[op.id0])
            else:                           # 0 adds, 1 subtracts
                term = _add(sums, found[op.id0], found[op.id1].scaled(op.data, op.opcode == 1))
            found.append(term)
        terms = [found[index].scaled(shift, negative) if index >= 0 else None
                 for index, shift, negative in zip(logic.out_idxs, logic.out_shifts,
                                                   logic.out_negs, strict=True)]
    return sums, terms


def _add(sums: list[Sum], a: Term, b: Term) -> Term:
    """Append a + b, or -(a + b) where a is negative."""
    shift, subtract = min(a.shift, b.shift), a.negative ^ b.negative
    a_shift, b_shift = a.shift - shift, b.shift - shift
    low, high = (end << b_shift for end in (sums[b.index].low, sums[b.index].high))
    if subtract:
        low, high = -high, -low
    sums.append(Sum((sums[a.index].low << a_shift) + low, (sums[a.index].high << a_shift) + high,
                    1 + max(sums[a.index].level, sums[b.index].level), a.index, b.index,
                    a_shift, b_shift, subtract))
    return Term(len(sums) - 1, shift, a.negative)


class ConstantProduct(wiring.Component):
    """Sums of a frozen Dense layer, bias included, by adders that know its weights.

    total_j = bias_j + sum over inputs of x * weight_j

    The words of a pass come in successive cycles; those before the last are kept in registers. All
    adders work at once, with registers behind every few of them.

    Latency: :func:`firmware_models.constant_product.register_levels` cycles from the last word of a
    pass to its totals, which stay for one. Throughput: a pass per ``reuse_factor`` cycles.
    Back-pressure: none.

    Bit-exact with :func:`firmware_models.dense.accumulate`.

    Parameters
    ----------
    stage : Stage
        Of a Dense layer that is constant.

    Members
    -------
    x : ``In(inputs_per_word * source.width)``
        Word r holds inputs ``r + reuse_factor * lane``.
    totals : ``Out(accum)``, one per output
    """

    def __init__(self, stage: Stage):
        dense = stage.dense
        self.stage = stage
        super().__init__({
            "x": In(dense.inputs_per_word * stage.source.width),
            "totals": Out(shape_of(dense.accum)).array(dense.n_out),
        })

    def elaborate(self, platform):
        m = Module()

        stage, dense = self.stage, self.stage.dense
        sums, terms = adders(dense.weight_codes, stage.source)
        # The bias is one adder more. Levels are spread over the registers there are.
        deepest = 1 + max((sums[term.index].level for term in terms if term), default=0)
        registers = register_levels(dense)
        per_register = -(-deepest // (registers + 1))

        # The last word is at the input, those before it in registers.
        words = [self.x]
        for r in range(dense.reuse_factor - 1):
            before = Signal.like(self.x, name=f"x_before{r}")
            m.d.sync += before.eq(words[0])
            words.insert(0, before)
        known = {}

        def delayed(index: int, registers: int) -> Value:
            """A sum behind as many registers."""
            if (index, registers) not in known:
                of = sums[index]
                own = max(of.level - 1, 0) // per_register
                if of.level == 0 and registers == 0:
                    value = lane(words[index % dense.reuse_factor], index // dense.reuse_factor,
                                 stage.source)
                else:
                    value = Signal(range(of.low, of.high + 1), name=f"sum{index}_{registers}")
                    if registers > own:
                        m.d.sync += value.eq(delayed(index, registers - 1))
                    else:
                        a = delayed(of.a, own) << of.a_shift
                        b = delayed(of.b, own) << of.b_shift
                        m.d.comb += value.eq(a - b if of.subtract else a + b)
                known[index, registers] = value
            return known[index, registers]

        product_shift = dense.accum.frac - stage.source.frac - dense.weight.frac
        bias_shift = dense.accum.frac - dense.bias.frac
        for total, term, bias in zip(self.totals, terms, dense.bias_codes.tolist(), strict=True):
            value = 0
            if term:
                value = delayed(term.index, registers) << term.shift + product_shift
                value = -value if term.negative else value
            m.d.comb += total.eq(value + (bias << bias_shift))

        return m

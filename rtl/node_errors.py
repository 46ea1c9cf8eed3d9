"""The errors of all trained nodes in one small RAM, and the one adder that they pass through."""
from typing import NamedTuple

from amaranth import *
from amaranth.lib import memory

from firmware_models.rules.node_probe import ERROR, FRACTION, SHIFT_MAX

from .requantize import saturate

__all__ = ["Walk", "node_errors"]


class Walk(NamedTuple):
    """Where the walk over the nodes is: `node` of all and, in the next cycle, `following`; `index`
    in its `stage` of those trained.
    """
    node: Signal
    following: Signal
    index: Signal
    stage: Signal


def node_errors(m, probe, fsm, walk, k, delta, counts, mask, head):
    """PROBE: e_j += a_j z_j D;  HEAD: e_c += p_c - [c == y];  COEFFICIENTS: e_j -= c_j 2**shift

    Latency: a node is read a cycle ahead, changed and written in its cycle. Throughput: a node per
    cycle.

    Bit-exact with :mod:`firmware_models.rules.node_probe`.

    Parameters
    ----------
    m : Module
        Gets the memory as submodule "errors".
    probe : NodeProbe
        Whose ``fired``, ``minus`` and ``window_data`` are driven here.
    fsm : FSM
        Its states say what happens to the node.
    walk : Walk
    k, delta : Signal
        Number of the probe, 0 to 31, and its loss less the base pass's.
    counts : Signal
        Whether the sample's loss is large enough to learn from.
    mask : Signal
        Stages that learn from the sample.
    head : int or None
        Number of the last stage among those trained.
    """
    m.submodules.errors = errors = memory.Memory(
        shape=signed(ERROR.width), depth=max(probe.nodes, 2), init=[])
    read, window = (errors.read_port(domain="comb") for _ in range(2))
    write = errors.write_port()
    error, term = Signal(signed(ERROR.width)), Signal(signed(ERROR.width + 1))
    probing, in_head, coefficients = (
        fsm.ongoing(name) for name in ("PROBE", "HEAD", "COEFFICIENTS"))
    walking = probing | in_head | coefficients | fsm.ongoing("CLEAR")

    # FIRE: the error's magnitude in units of 2**shift, and what remains of it.
    # The shift stands still while a stage's nodes are walked: it waits in a register, with a mask
    # of the bits that reach it, and one bit of magnitude needs no shifter. The stage is known a
    # cycle before its walk, in WAIT.
    limit, fraction = (1 << probe.bits) - 1, FRACTION[probe.bits]
    total, now = Signal(5), Signal(range(SHIFT_MAX + 1))
    shift, reach = Signal.like(now), Signal(ERROR.width)
    of_head = 0 if head is None else walk.stage == head
    m.d.comb += [
        total.eq(Mux(of_head, probe.head_shift, probe.lr_shift) + probe.decays),
        now.eq(Mux(total[4], SHIFT_MAX - fraction,
                   Mux(total < fraction, 0, total - fraction) if fraction else total)),
    ]
    m.d.sync += [shift.eq(now), reach.eq(-1 << now)]
    unit = reach & ~(reach << 1)
    fire, magnitude = Signal(probe.bits), Signal(ERROR.width)
    m.d.comb += [
        magnitude.eq(Mux(error[-1], ~error, error)),
        fire.eq((magnitude & reach).any() if probe.bits == 1 else
                Mux(magnitude >> shift > limit, limit, magnitude >> shift)),
        probe.minus.eq(error[-1]),
        probe.fired.eq(fire & mask.bit_select(walk.stage, 1).replicate(probe.bits)),
    ]
    step = Signal(ERROR.width)
    m.d.comb += step.eq(unit if probe.bits == 1 else probe.fired << shift)

    flip = probe.negative.bit_select(walk.stage, 1) ^ (walk.index & k).xor()
    size, add, take_away = Signal(ERROR.width), Signal(), Signal()
    m.d.comb += [
        read.addr.eq(walk.following),
        window.addr.eq(probe.window_word), probe.window_data.eq(window.data),
    ]
    # Read ahead: no node follows itself. Between two walks, even of one node, lies the wait for
    # a loss or for a pass, in which what was written is read again.
    m.d.sync += error.eq(read.data)
    value = Mux(in_head, probe.error, Mux(coefficients, step.as_signed(), delta))
    m.d.comb += [
        add.eq(Mux(coefficients, probe.fired.any(), counts & (
            in_head | probe.active.bit_select(walk.stage, 1)))),
        take_away.eq(Mux(coefficients, ~probe.minus, ~in_head & flip)),
        size.eq(value), term.eq(Mux(add, Mux(take_away, ~value, value), 0)),
        write.addr.eq(walk.node),
        write.en.eq(walking & ~(in_head & ~probe.error_valid)),
    ]
    # One bit more below makes the +1 of a negation the carry of the same adder.
    total_error = Signal(signed(ERROR.width + 3))
    m.d.comb += total_error.eq(Cat(Const(1, 1), error).as_signed()
                               + Cat(add & take_away, term).as_signed())
    clipped = saturate(m, total_error[1:].as_signed(), ERROR)
    m.d.comb += write.data.eq(Mux(fsm.ongoing("CLEAR"), 0, clipped))

"""Masters that move while a pass reads them: rule "np" in a trainable weight memory."""
from amaranth import *

from firmware_models.fused_update import EDGE_BITS
from firmware_models.rules.node_probe import FRACTION

from .commit_guard import CommitGuard
from .fused_update import FusedUpdate

__all__ = ["fused_commit"]


def fused_commit(m, memory, codes, bias_codes, write, bias_write):
    """M - c_j * u_i  unless M is in the outer sixteenth of its range and would leave it

    Latency: combinational, from the masters that were addressed in the cycle before; they are
    written back a cycle later. Throughput: a word per cycle.

    Bit-exact with :func:`firmware_models.fused_update.apply`.

    Parameters
    ----------
    m : Module
        Gets a :class:`FusedUpdate` as submodule "fused", and a :class:`CommitGuard` for weights
        and for biases.
    memory : WeightMemory
        ``update`` and ``bias_update`` say that the pass moves what it reads.
    codes, bias_codes : list of Value
        Masters of the word that was addressed, one per lane.
    write, bias_write : ports of its weights and biases

    Returns
    -------
    weights, biases : list of Value
        Masters after the update of this pass.
    """
    stage, dense = memory.stage, memory.stage.dense
    m.submodules.fused = fused = FusedUpdate(
        stage, residual=memory.residual, bits=memory.bits)
    for name in ("accepted", "started", "next_addr", "addr", "x", "shift", "fired_in",
                 "negative_in", "loaded", "w_word", "w_lane", "bias_addr", "bias_last",
                 "restart"):
        m.d.comb += getattr(fused, name).eq(getattr(memory, name))
    m.d.comb += [fused.en.eq(memory.en & memory.update), memory.ready.eq(fused.ready),
                 memory.spent.eq(fused.spent)]

    bits, drop = memory.bits, fused.model.shift + FRACTION[memory.bits]
    en, per_word = Signal(), dense.inputs_per_word
    m.d.sync += en.eq(fused.en)
    weights, held = _moved(m, "guard", [
        (code, fused.step[lane % per_word], fused.back[lane % per_word],
         fused.fired.word_select(lane // per_word, bits), fused.negative[lane // per_word])
        for lane, code in enumerate(codes)], drop)
    bias_en = Signal()
    m.d.sync += bias_en.eq(memory.bias_update)
    # The bias counts as an input of full scale.
    full = 1 << stage.source.width if bits > 1 else fused.model.largest
    ahead, back = (Const(u, signed(full.bit_length() + 1)) for u in (full, -full))
    biases, bias_held = _moved(m, "bias_guard", [
        (code, ahead, back, fused.bias_fired.word_select(c, bits) & bias_en.replicate(bits),
         fused.bias_negative[c]) for c, code in enumerate(bias_codes)], drop)

    late, late_en = Signal.like(memory.addr), Signal()
    bias_late, bias_late_en = Signal.like(memory.bias_addr), Signal()
    addr, bias_addr = Signal.like(memory.addr), Signal.like(memory.bias_addr)
    kept, bias_kept = Signal.like(write.data), Signal.like(bias_write.data)
    m.d.sync += [
        addr.eq(memory.addr), late.eq(addr), late_en.eq(en), kept.eq(Cat(weights)),
        bias_addr.eq(memory.bias_addr), bias_late.eq(bias_addr), bias_late_en.eq(bias_en),
        bias_kept.eq(Cat(biases)),
    ]
    m.d.comb += [
        write.addr.eq(late), write.data.eq(kept), write.en.eq(late_en),
        bias_write.addr.eq(bias_late), bias_write.data.eq(bias_kept),
        bias_write.en.eq(bias_late_en),
        memory.clipped.eq(Cat(late_en & held, bias_held)),
    ]
    return weights, biases


def _moved(m, name, lanes, drop):
    """M - sgn(c) * u of each lane, and, a cycle later, whether the guard held one back.

    `lanes` are (M, u, -u, |c|, c < 0). If |c| has several bits, u is the rounded product of it and
    what stands for u, of which `drop` bits are fraction. No difference needs a clip.
    """
    m.submodules[name] = guard = CommitGuard(len(lanes))
    moved = []
    for lane, (code, step, back, fired, negative) in enumerate(lanes):
        if len(fired) > 1:          # in a DSP
            product = Signal(signed(len(step) + len(fired) + 1))
            m.d.comb += product.eq(step * fired + (1 << drop >> 1))
            step = product >> drop
            back = -step
        out = Signal(signed(len(code)))
        m.d.comb += [
            guard.top[lane].eq(code[-EDGE_BITS:]), guard.fired[lane].eq(fired.any()),
            guard.negative[lane].eq(negative), guard.step_negative[lane].eq(step[-1]),
            # A difference: Yosys takes two LUTs a lane less for it than for the sum.
            out.eq(code - Mux(guard.go[lane], Mux(negative, back, step), 0)),
        ]
        moved.append(out)
    # Three lanes are a LUT6 in front of a register.
    held = guard.fired & ~guard.go
    groups = [held[first:first + 3].any() for first in range(0, len(lanes), 3)]
    some = Signal(len(groups), name=f"{name}_held")
    m.d.sync += some.eq(Cat(groups))
    return moved, some.any()

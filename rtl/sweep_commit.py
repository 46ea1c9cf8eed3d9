"""Commits of an update sweep in a trainable weight memory: rule "es"."""
from amaranth import *

from .requantize import saturate
from .rounding import Rounding
from .update_sweep import UpdateSweep
from .vote import Vote

__all__ = ["sweep_commit"]


def sweep_commit(m, memory, read, write, bias_read, bias_write):
    """M = clip(M - V), word by word, then the biases; V comes from an :class:`UpdateSweep`.

    A word is read in the cycle before it is committed. While a sweep runs, no pass reads the
    memory, so that the sweep may take its ports.

    Latency and throughput: those of the sweep.

    Bit-exact with :func:`firmware_models.weight_memory.commit`.

    Parameters
    ----------
    m : Module
        Gets the sweep as submodule "update", and with options of these names a "rounding" and a
        "vote".
    memory : WeightMemory
    read, write : ports of its weights
    bias_read, bias_write : ports of its biases

    Returns
    -------
    UpdateSweep
        Its noise generator also serves the passes.
    """
    stage, dense = memory.stage, memory.stage.dense
    m.submodules.update = update = UpdateSweep(
        stage, first_generator=memory.first_generator, max_pairs=memory.max_pairs,
        options=memory.options)
    for name in ("en", "first", "sweep", "pair", "seed", "last_pair", "coefficient",
                 *(["oldest"] if update.replays else []), *update.forms):
        m.d.comb += getattr(update, name).eq(getattr(memory, name))
    m.d.comb += [update.pass_seed.eq(memory.pass_tag.seed),
                 memory.sweep_done.eq(update.sweep_done),
                 memory.accumulate.eq(update.accumulate)]
    if "momentum" in memory.options:
        m.d.comb += update.addr.eq(Mux(memory.en, memory.addr, memory.window_word))

    v, words = list(update.v), stage.drain_words
    new, bias_new = Signal.like(write.data), Signal.like(bias_write.data)
    if "rounding" in memory.options:
        m.submodules.rounding = rounding = Rounding(dense.lanes, width=len(v[0]))
        m.d.comb += [rounding.kind.eq(memory.rounding), rounding.random.eq(update.random),
                     *[to.eq(lane) for to, lane in zip(rounding.v, v, strict=True)]]
        v = list(rounding.change)
    if "vote" in memory.options:
        m.submodules.vote = vote = Vote(dense.lanes, width=len(v[0]), residual=memory.residual)
        m.d.comb += [vote.threshold.eq(memory.vote),
                     *[to.eq(lane) for to, lane in zip(vote.v, v, strict=True)]]
        v = list(vote.change)
    bias_v = [Array(v[c * words:(c + 1) * words])[update.bias_commit_word]
              for c in range(stage.drain_lanes)]
    weight_clips = _commit_lanes(m, read.data, new, v, memory.master)
    bias_clips = _commit_lanes(m, bias_read.data, bias_new, bias_v, memory.bias_master)
    with m.If(update.adding):
        m.d.comb += read.addr.eq(update.word)
    with m.If(update.bias_read):
        m.d.comb += bias_read.addr.eq(update.bias_word)
    with m.If(update.commit):
        m.d.comb += [write.addr.eq(update.commit_word), write.data.eq(new), write.en.eq(1),
                     memory.clipped.eq(weight_clips)]
    with m.If(update.bias_commit):
        m.d.comb += [bias_write.addr.eq(update.bias_commit_word), bias_write.data.eq(bias_new),
                     bias_write.en.eq(1), memory.clipped.eq(bias_clips << 1)]
    return update


def _commit_lanes(m, data, new, changes, fmt):
    """Write clip(M - V) of every lane to `new`; return whether a lane was clipped."""
    clips = []
    for lane, change in enumerate(changes):
        raw = data.word_select(lane, fmt.width).as_signed() - change
        above = raw[fmt.width - 1:]
        clips.append(above.any() & ~above.all())
        m.d.comb += new.word_select(lane, fmt.width).eq(saturate(m, raw, fmt))
    return Cat(clips).any()

"""The wires of host access: the window on weights and journal, loads, snapshots."""
from typing import NamedTuple

from amaranth import *

from firmware_models.registers import JOURNAL_SPACE, RECORD_SPACE

from .journal import Journal
from .snapshot import Snapshot
from .window_load import WindowLoad

__all__ = ["Readback", "access", "requests"]


class Readback(NamedTuple):
    """Read-back of the window: asked for, passes that must not start, nothing under way, where."""
    request: Value
    blocked: Value
    quiet: Value
    word: Value
    lane: Value


def requests(m, core, registers):
    """Who asks for a core without passes: read-back, and with their options loads and snapshots."""
    # A cycle late, so that an address on the bus does not reach into the engines.
    request, load, snapshot = Signal(), None, None
    m.d.sync += request.eq(registers.window_request)
    if "load" in core.options:
        m.submodules.load = load = WindowLoad(core.network)
        request = request | load.waits
    if "snapshot" in core.options:
        m.submodules.snapshot = snapshot = Snapshot(core.network)
        request = request | snapshot.waits
    readback = Readback(request, Signal(), Signal(), registers.window_word, registers.window_lane)
    return readback, load, snapshot


def access(m, core, registers, asking, by_nodes, control, node, buffers, engines, memories):
    """Wait for a quiet core, and read, write or copy then; `asking` from :func:`requests`."""
    (readback, load, snapshot), network = asking, core.network
    es_on, np_on = "es" in core.rules, "np" in core.rules
    # READ-BACK waits until no pass is under way. With node probes the first stage starts none;
    # with the evolutionary strategy no trainable stage does, once the sample that is being
    # learned from is finished, or its passes would wait for themselves.
    idle = Cat(engine.idle for engine in engines)
    empty = ~Cat(buffer.valid for buffer in buffers[1:]).any()
    stop_first = readback.request & by_nodes
    m.d.comb += readback.blocked.eq(
        readback.request & ~by_nodes & ~(control.busy if es_on else 0))
    m.d.comb += readback.quiet.eq(
        stop_first & idle.all() & empty & ~(node.hold if np_on else 0)
        | readback.blocked & Cat(
            engines[network.stage_of(i)].idle for i in network.trainable).all())
    # A cycle each to the address, the word, the masters, their sums, and the register.
    window_cycle = Signal(3)
    readable = readback.quiet & ~snapshot.copying if snapshot else readback.quiet
    m.d.sync += window_cycle.eq(Mux(readable, window_cycle + (window_cycle != 5), 0))
    settled = window_cycle == 5
    m.d.comb += registers.window_ready.eq(settled)
    # From the register, not from `readable`: every bit of the memories reads its address behind it.
    window_en = window_cycle.any()
    for index in network.trainable:
        weights = memories[index]
        m.d.comb += [
            weights.window_en.eq(window_en),
            weights.window_word.eq(readback.word), weights.window_lane.eq(readback.lane),
        ]
        with m.If(registers.window_space == index):
            m.d.sync += registers.window_data.eq(weights.window_data)
    if load is not None:
        m.d.comb += [
            load.request.eq(registers.load_request),
            load.settled.eq(settled & ~snapshot.waits if snapshot else settled),
            *[getattr(load, name).eq(getattr(registers, f"window_{name}"))
              for name in ("space", "word", "lane")],
            registers.load_ready.eq(load.ready), registers.load_refused.eq(load.refused),
        ]
        for position, index in enumerate(network.trainable):
            m.d.comb += [memories[index].load.eq(load.write[position]),
                         memories[index].load_data.eq(registers.load_data)]
    if snapshot is not None:
        copy_weights(m, registers, snapshot, readback, [memories[i] for i in network.trainable])
    if es_on:
        with m.If(registers.window_space == JOURNAL_SPACE):
            m.d.sync += registers.window_data.eq(Mux(
                registers.window_lane[0], control.journal_delta, control.journal_seed))
    if "journal" in core.options:
        journal = keep_journal(m, core, registers, readback, control,
                               memories[network.trainable[0]])
        m.d.comb += journal.overwritten.eq(Cat(
            load.write if load else Const(0),
            snapshot.copy_restore if snapshot else Const(0)).any())


def copy_weights(m, registers, snapshot, readback, memories):
    """Option "snapshot": one counter for the memories of all trainable stages."""
    m.d.comb += [
        snapshot.take.eq(registers.snapshot_take_clear),
        snapshot.restore.eq(registers.snapshot_restore_clear),
        snapshot.forget.eq(registers.snapshot_valid_clear),
        snapshot.quiet.eq(readback.quiet),
        registers.snapshot_take.eq(snapshot.taking),
        registers.snapshot_restore.eq(snapshot.restoring),
        registers.snapshot_valid.eq(snapshot.valid),
    ]
    for weights in memories:
        m.d.comb += [weights.copy_addr.eq(snapshot.addr),
                     weights.copy_take.eq(snapshot.copy_take),
                     weights.copy_restore.eq(snapshot.copy_restore)]


def keep_journal(m, core, registers, readback, control, weights):
    """Option "journal": a record per pair of each update, and the settings it is made with.

    `weights` is any of the memories that are updated: they all see the same settings.
    """
    m.submodules.journal = journal = Journal(
        core.network, depth=core.journal_records, options=core.options)
    m.d.comb += [
        *[getattr(journal, name).eq(getattr(weights, name)) for name in journal.settings],
        journal.w_en.eq(control.record), journal.w_last.eq(control.record_last),
        journal.seed.eq(control.sweep_seed), journal.layers.eq(control.selected),
        journal.coefficient.eq(control.record_coefficient),
        journal.r_slot.eq(readback.word), journal.r_lane.eq(readback.lane),
        registers.journal.eq(journal.written),
        registers.status_lost.eq(journal.lost), journal.lost_clear.eq(registers.status_lost_clear),
    ]
    with m.If(registers.window_space == RECORD_SPACE):
        m.d.sync += registers.window_data.eq(journal.r_data)
    return journal

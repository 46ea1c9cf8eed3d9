"""Cycle model of a core that learns by node probes: every handshake, cycle by cycle, compiled.

Valid for a stream that always offers the next beat and a sink that always takes one. Passes of
different samples and probes compete for the same slots here, so the order of events follows from
their times: the model steps through the cycles, with a few integers for each component. Only what
decides when something happens is kept, no data.
"""
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numba import njit

from .cycles import SLOTS, Schedule, answer_cycles, interval_cycles
from .fused_update import DELAY
from .line_rate import LineRate
from .network import Network
from .partial_updates import delay_cycles
from .rules.node_probe import MAX_PROBES
from .sample_packets import beat_layout
from .settings import Settings

LEARN, PROBE, MORE, LAYER, TRAIN = 1, 2, 4, 8, 1 << 8    # fields of a tag; LAYER and TRAIN up
IDLE, HEAD, WALK, WAIT, COEFFICIENTS = range(5)          # states of the node errors


class Geometry(NamedTuple):
    """Cycles and positions of the stages, one number each.

    `trained`: position among the trainable stages, -1 for the others; `hidden`: among those that
    can be probed.
    """
    words: np.ndarray
    drain_words: np.ndarray
    interval: np.ndarray
    drain: np.ndarray
    trained: np.ndarray
    hidden: np.ndarray
    n_out: np.ndarray
    sum_delay: np.ndarray
    delay: np.ndarray


def schedule(network: Network, samples: int, settings: Settings, learn=True,
             logits: bool = False, learned: int = 0, options=()) -> Schedule:
    """Schedule of `samples` samples through a core of rule "np", which is idle before.

    Parameters
    ----------
    network : Network
    samples : int
    settings : Settings
    learn : bool or array of bool [samples]
        Which samples carry the learn bit.
    logits : bool
        Logits follow each prediction.
    learned : int
        Samples learned from since the core was configured.
    options : sequence of str
        Of the core.
    """
    stages = network.stages
    learn = np.broadcast_to(np.asarray(learn, bool), (samples,))
    order = LineRate(network, 0)
    order.restart(1)
    hidden = [i for i in settings.layers if i in network.hidden]
    if learned and hidden:
        order.last_turn = hidden[(learned - 1) % len(hidden)]
    trained = network.trainable
    tags = np.zeros(samples, np.int64)
    for n in np.flatnonzero(learn) if settings.layers else ():
        mask = sum(1 << trained.index(i) for i in order.schedule(settings))
        tags[n] = LEARN + TRAIN * mask
    geometry = Geometry(*(np.array(column, np.int64) for column in zip(*(
        (s.dense.reuse_factor, s.drain_words, interval_cycles(s),
         max(s.drain_words, 3) if s.index in network.hidden else s.drain_words,
         trained.index(s.index) if s.index in trained else -1,
         network.hidden.index(s.index) if s.index in network.hidden else -1, s.dense.n_out,
         s.sum_delay_cycles, s.delay_cycles)
        for s in stages), strict=True)))
    arrivals, answers = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
    idle, passes = _run(geometry, tags, max(network.n_in, beat_layout(network).beats),
                        settings.probes, network.n_classes, answer_cycles(network, logits),
                        len(stages) - 1 in trained, learned > 0,
                        delay_cycles(network.n_classes) if "topk" in options else 0, arrivals,
                        answers)
    return Schedule(arrivals, answers, int(idle), int(passes))


@njit(cache=True, nogil=True)
def _run(geometry, tags, input_cycles, probes, n_classes, answer_length, head_trained, resumed,
         error_delay, arrivals, answers):
    words, drain_words, interval, drain, trained, hidden, n_out, sum_delay, delay = geometry
    n_stages, samples = len(words), len(tags)
    n_trained = 0
    for s in range(n_stages):
        n_trained += trained[s] >= 0
    sizes = np.zeros(n_trained + 1, np.int64)
    for s in range(n_stages):
        if trained[s] >= 0:
            sizes[trained[s]] = n_out[s]
    head_bit = np.int64(TRAIN) << (n_trained - 1)

    # Rings 0 .. n_stages - 1 before the stages, then loss and readout.
    rings = n_stages + 2
    loss_ring, readout = n_stages, n_stages + 1
    reserved, offered = np.zeros(rings, np.int64), np.zeros(rings, np.int64)
    queue, first = np.zeros((rings, SLOTS), np.int64), np.zeros(rings, np.int64)
    reserve, release = np.zeros(rings, np.int64), np.zeros(rings, np.int64)
    commit, take = np.zeros(rings, np.int64), np.zeros(rings, np.int64)
    committed = np.zeros(rings, np.int64)

    running, count = np.zeros(n_stages, np.int64), np.zeros(n_stages, np.int64)
    w_tag, bias_tag = np.zeros(n_stages, np.int64), np.zeros(n_stages, np.int64)
    longest = 3 + sum_delay.max()
    last, mac = np.zeros((n_stages, longest), np.int64), np.zeros((n_stages, longest), np.int64)
    coming = np.zeros((n_stages, 3), np.int64)
    left, draining, word = (np.zeros(n_stages, np.int64), np.zeros(n_stages, np.int64),
                            np.zeros(n_stages, np.int64))
    again = np.zeros(n_stages, np.int64)
    deepest = 3 + delay.max()
    out = np.zeros((n_stages, deepest), np.int64)
    out_tag = np.zeros((n_stages, deepest), np.int64)
    # After a sample has been learned from, its errors wait, and the coefficients before are ready.
    credit = np.full(n_stages, DELAY - resumed, np.int64)

    sample, free, commit_at, input_tag = 0, 0, -1, 0
    answered, step = 0, 0
    walk, waiting, error, asked = 0, 0, 0, 0
    loss_pipe, loss_tags = np.zeros(5, np.int64), np.zeros(5, np.int64)
    error_pipe = np.zeros(2 + error_delay, np.int64)        # a ring
    held, its = 0, 0
    state, current, j, more = WAIT if resumed else IDLE, 0, 0, 0
    in_flight, idle, passes, counted = 0, 0, 0, 0
    total = samples
    cycle = 0
    while answered < total or in_flight or counted < passes:
        reserve[:] = 0
        release[:] = 0
        commit[:] = 0
        take[:] = 0
        entered, complete, loaded, error_go, begun, taken = 0, 0, -1, 0, 0, 0

        # Samples in: a feature a cycle, or a beat.
        if cycle == commit_at:
            commit[0], committed[0] = 1, input_tag
        if sample < samples and cycle >= free and reserved[0] != SLOTS:
            arrivals[sample], input_tag = cycle, tags[sample]
            reserve[0], commit_at, free = 1, cycle + input_cycles, cycle + input_cycles
            sample += 1

        spent = False
        for s in range(n_stages):
            spent = spent or trained[s] == current and credit[s] == 0

        # Engines. All inputs are registers, so the order of the stages does not matter.
        for s in range(n_stages):
            behind = s + 1
            end = s == n_stages - 1
            room = reserved[behind] != SLOTS and (not end or reserved[readout] != SLOTS)
            at_last = running[s] and count[s] == words[s] - 1
            hold = False
            if hidden[s] >= 0:
                early = draining[s] and word[s] < drain[s] - 4
                hold = at_last and (coming[s, 0] + coming[s, 1] + coming[s, 2] > 0
                                    or left[s] > 0 or early)
            last_cycle = count[s] == interval[s] - 1 and not hold
            tag = queue[s, first[s]]
            base = tag & LEARN and not tag & PROBE
            valid = offered[s] > 0 and not (base and trained[s] >= 0 and credit[s] == 0)
            accept = valid and (not running[s] or last_cycle) and room
            read_out = at_last and not hold
            summing = 2 + sum_delay[s]
            summed = last[s, summing]
            start = (hidden[s] >= 0 and left[s] > 0 and room and not accept
                     and (not draining[s] or word[s] == drain[s] - 1))

            at = 2 + delay[s]
            if out[s, at]:
                commit[behind], committed[behind] = 1, out_tag[s, at]
                if end and not out_tag[s, at] & PROBE:
                    commit[readout], committed[readout] = 1, out_tag[s, at]
            for k in range(at, 0, -1):
                out[s, k], out_tag[s, k] = out[s, k - 1], out_tag[s, k - 1]
            out[s, 0] = draining[s] and word[s] == drain_words[s] - 1
            tag_out = bias_tag[s]
            if again[s]:
                tag_out = (tag_out & ~np.int64(LAYER * 31)) | PROBE | LAYER * hidden[s]
            if left[s] > 0:
                tag_out |= MORE
            out_tag[s, 0] = tag_out

            if draining[s] and word[s] != drain[s] - 1:
                word[s] += 1
            elif draining[s]:
                draining[s] = 0
            if summed:
                draining[s], word[s], bias_tag[s] = 1, 0, mac[s, summing]
                if hidden[s] >= 0:
                    left[s], again[s] = probes if coming[s, 2] else 0, 0
            if start:
                reserve[behind] = 1
                draining[s], word[s], again[s] = 1, 0, 1
                left[s] -= 1
                passes += 1
            for k in range(summing, 0, -1):
                last[s, k], mac[s, k] = last[s, k - 1], mac[s, k - 1]
            last[s, 0], mac[s, 0] = read_out, w_tag[s]
            own = (hidden[s] >= 0 and read_out and probes > 0 and not w_tag[s] & PROBE
                   and w_tag[s] & (np.int64(TRAIN) << trained[s]) != 0)
            coming[s, 2], coming[s, 1], coming[s, 0] = coming[s, 1], coming[s, 0], own
            if read_out:
                release[s] = 1
            if accept:
                take[s], running[s], count[s], w_tag[s] = 1, 1, 0, tag
                reserve[behind] = 1
                if end and not tag & PROBE:
                    reserve[readout] = 1
                if s == 0:
                    passes += 1
                if base and trained[s] >= 0:
                    credit[s] -= 1
                if base and s == 0:
                    entered = 1
            else:
                if last_cycle:
                    running[s] = 0
                if not hold and running[s]:
                    count[s] += 1

        # Answers out.
        if offered[readout] > 0:
            step += 1
            if step == answer_length:
                answers[answered] = cycle
                answered, step = answered + 1, 0
                take[readout], release[readout] = 1, 1

        # Loss unit: one walk per pass, one more for the errors of a base pass.
        tag = queue[loss_ring, first[loss_ring]]
        learns = tag & LEARN != 0
        walking = offered[loss_ring] > 0
        if walk == 0 and not error and (waiting or learns and asked):
            walking = False
        begun = walking and walk == 0 and not error and learns
        last_class = walking and walk == n_classes - 1
        done = last_class and not error
        wants = done and head_trained and tag & head_bit != 0 and not tag & PROBE
        if last_class and not wants:
            take[loss_ring], release[loss_ring] = 1, 1
        loss_valid, loss_tag = loss_pipe[4], loss_tags[4]
        error_at = cycle % len(error_pipe)
        error_valid = error_pipe[error_at]
        for k in range(4, 0, -1):
            loss_pipe[k], loss_tags[k] = loss_pipe[k - 1], loss_tags[k - 1]
        loss_pipe[0], loss_tags[0] = done, tag
        error_pipe[error_at] = walking and error
        walk = walk + 1 if walking and not last_class else 0
        if last_class:
            error = 0
        if wants:
            waiting = 1
        counted += loss_valid

        # Node errors.
        last_node = j == sizes[current] - 1
        begin = -1
        if state == IDLE or (state == WALK and last_node and more):
            if state == WALK:
                state = IDLE
            if held and its & PROBE and state == IDLE:
                taken, more, begin, state = 1, its & MORE, (its // LAYER) & 31, WALK
            elif held and not its & PROBE:
                taken, more = 1, its & MORE
                if head_trained and its & head_bit != 0:
                    error_go, begin, state = 1, n_trained - 1, HEAD
                elif not more:
                    complete, state = 1, WAIT
        elif state == HEAD:
            if error_valid:
                j += 1
                if last_node:
                    state = IDLE
                    if not more:
                        complete, state = 1, WAIT
        elif state == WALK:
            j += 1
            if last_node:
                complete, state = 1, WAIT
        elif state == WAIT:
            if spent:
                state = COEFFICIENTS
        else:
            j += 1
            if last_node:
                loaded = current
                current, j = current + 1, 0
                state = WAIT if current < n_trained else IDLE
        if begin >= 0:
            current, j = begin, 0
        asked = (asked or begun) and not taken
        if taken:
            held = 0
        if loss_valid and loss_tag & LEARN:
            held, its = 1, loss_tag
        if error_go:
            waiting, error = 0, 1
        for s in range(n_stages):
            credit[s] += loaded >= 0 and trained[s] == loaded
        in_flight += entered - complete
        if complete:
            idle, current, j = cycle + 1, 0, 0

        for r in range(rings):
            if commit[r]:
                queue[r, (first[r] + offered[r]) % SLOTS] = committed[r]
            reserved[r] += reserve[r] - release[r]
            offered[r] += commit[r] - take[r]
            first[r] = (first[r] + take[r]) % SLOTS
        cycle += 1
    return idle, passes


def interval(network: Network, settings: Settings, samples: int = 256, options=()) -> float:
    """Cycles between samples in a steady stream that is learned from; settings without layers: not.

    `options` are those of the core.

    The schedule is periodic after a few samples, at most every second one alike.
    """
    arrivals = schedule(network, samples, settings, options=options).in_cycles
    return float(arrivals[-1] - arrivals[-1 - samples // 4]) / (samples // 4)


def shadow(network: Network, settings: Settings, options=()) -> dict:
    """How many probes cost no cycles, and what one more costs.

    Returns
    -------
    dict with intervals : list of float for K = 0 to 32; inference : float; free : the largest K
    whose interval is that of inference, -1 where there is none; per_probe : cycles of the last one
    """
    intervals = [interval(network, replace(settings, probes=k), options=options)
                 for k in range(MAX_PROBES + 1)]
    inference = interval(network, replace(settings, layers=()))
    free = max((k for k, cycles in enumerate(intervals) if cycles == inference), default=-1)
    return {"intervals": intervals, "inference": inference, "free": free,
            "per_probe": intervals[-1] - intervals[-2]}

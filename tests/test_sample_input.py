# amaranth: UnusedElaboratable=no
"""Packets into vectors: good ones whole, bad ones counted and gone."""
import random

import pytest

from firmware_models.formats import Fixed
from firmware_models.sample_packets import beat_layout
from rtl.sample_input import SampleInput

from .networks import small_network
from .pysim import fields, packed, pauses, simulate, until, wait

CLASSES = 3


def network(n_in, reuse, width=8):
    return small_network((n_in, CLASSES), reuse={0: reuse}, source=Fixed(width, width, False))


def packet(layout, features, label, learn):
    """Beats of a good packet as (data, user, last); the user bits count in the last beat only."""
    features = [*features, *[0] * (layout.beats * layout.elements_per_beat - len(features))]
    per_beat = layout.elements_per_beat
    return [(packed(features[b * per_beat:(b + 1) * per_beat], layout.element_bits),
             label + 256 * learn if b == layout.beats - 1 else 0xFFFF, b == layout.beats - 1)
            for b in range(layout.beats)]


def traffic(net, kinds, seed=1):
    """Beats of good and bad packets, and the vectors that must come of them."""
    draw, layout = random.Random(seed), beat_layout(net)
    beats, vectors, dropped = [], [], 0
    for kind in kinds:
        x = [draw.getrandbits(net.input.width) for _ in range(net.n_in)]
        label, learn = draw.randrange(CLASSES), draw.randrange(2)
        good = packet(layout, x, label, learn)
        if kind == "short" and layout.beats > 1:
            keep = draw.randrange(1, layout.beats)
            good = [*good[:keep - 1], (*good[keep - 1][:2], True)]
        elif kind == "long":
            more = draw.randrange(1, 4)
            good = [*good[:-1], (*good[-1][:2], False),
                    *((draw.getrandbits(32), label, k == more) for k in range(1, more + 1))]
        elif kind == "label":
            good[-1] = (good[-1][0], draw.choice([CLASSES, 128, 255]) + 256 * learn, True)
        else:
            kind = "good"
            vectors.append((label, learn, x))
        dropped += kind != "good"
        beats += good
    return beats, vectors, dropped


def run_input(net, beats, count, idle, stall):
    """Committed vectors, the dropped count, and the cycles of first beats and commits."""
    dut, dense = SampleInput(net), net.stages[0].dense
    vectors, taken, commits, written = [], [], [], {}
    dropped = [0]

    async def source(ctx):
        pause = pauses(idle)
        for data, user, last in beats:
            while next(pause):
                await ctx.tick()
            ctx.set(dut.tvalid, 1)
            ctx.set(dut.tdata, data)
            ctx.set(dut.tuser, user)
            ctx.set(dut.tlast, last)
            await until(ctx, dut.tready)
            ctx.set(dut.tvalid, 0)
            ctx.set(dut.tdata, 0xFFFFFFFF)
        await wait(ctx, 40 + 8 * net.n_in)

    async def buffer(ctx):
        pause, held, owed, released, cycle = pauses(stall), 0, 0, 0, 0
        while True:
            ctx.set(dut.room, held < 2)
            _, _, valid, ready, reserve, commit, en, addr, data, label, learn, bad = (
                await ctx.tick().sample(
                    dut.tvalid, dut.tready, dut.reserve, dut.commit, dut.w_en, dut.w_addr,
                    dut.w_data, dut.w_tag.label, dut.w_tag.learn, dut.dropped))
            if valid and ready:
                taken.append(cycle)
            if bad != dropped[0]:
                dropped[0] = bad
                written.clear()         # what a dropped packet wrote does not count
            codes = fields(data, net.input.width, dense.inputs_per_word, False)
            for lane in range(dense.inputs_per_word):
                if en >> lane & 1:
                    assert owed and (addr, lane) not in written
                    written[addr, lane] = codes[lane]
            if commit:
                owed -= 1
                # Feature e is lane e // reuse_factor of word e % reuse_factor.
                x = [written.pop((e % dense.reuse_factor, e // dense.reuse_factor))
                     for e in range(net.n_in)]
                assert not written
                vectors.append((label, learn, x))
                commits.append(cycle)
            if reserve:                 # perhaps in the cycle of the commit before
                assert not owed and held < 2
                held, owed = held + 1, 1
            # The slot leaves in the cycle of its commit or later.
            if len(commits) > released and not next(pause):
                released += 1
                held -= 1
            cycle += 1

    deadline = 40 * (5 * len(beats) + 60 + count * net.n_in)
    simulate(dut, source, buffer, deadline=deadline)
    return vectors, dropped[0], taken, commits


KINDS = ["good", "short", "good", "long", "label", "good", "good", "long", "long", "short", "label",
         "label", "good", "short", "short", "good", "good"]


@pytest.mark.parametrize("idle, stall", [
    ("none", "none"), ("some", "none"), ("none", "bursts"), ("most", "some"), (0.5, 0.9)])
@pytest.mark.parametrize("n_in, reuse, width", [
    (12, 12, 8), (10, 5, 8), (4, 1, 5), (5, 5, 16), (3, 1, 20), (1, 1, 8), (9, 3, 2)])
def test_only_good_packets_arrive(n_in, reuse, width, idle, stall):
    net = network(n_in, reuse, width)
    beats, expected, bad = traffic(net, KINDS, seed=n_in)
    vectors, dropped, _, _ = run_input(net, beats, len(KINDS), idle, stall)
    assert vectors == expected
    assert dropped == bad > 0


@pytest.mark.parametrize("n_in, reuse, width", [(12, 4, 8), (5, 5, 8), (6, 6, 16), (3, 3, 32)])
def test_a_feature_per_cycle(n_in, reuse, width):
    net = network(n_in, reuse, width)
    beats, expected, _ = traffic(net, ["good"] * 5)
    vectors, dropped, taken, commits = run_input(net, beats, 5, "none", "none")
    assert (vectors, dropped) == (expected, 0)
    starts = taken[::beat_layout(net).beats]
    # Two slots, emptied when they are committed: the stream never waits for one.
    assert starts == [starts[0] + k * n_in for k in range(5)]
    assert commits == [start + n_in for start in starts]


@pytest.mark.parametrize("drift", [False, True])
@pytest.mark.parametrize("idle", ["none", "some"])
def test_stages_that_learn(idle, drift):
    """A good packet with the learn bit takes what `train` is when it ends, and says so.

    With `drift` the bit counts where `active` is high in that cycle, and good
    packets are announced.
    """
    net = network(6, 3)
    dut, layout, draw = SampleInput(net, 3, drift=drift), beat_layout(net), random.Random(5)
    kinds = ["good", "label", "good", "good", "long", "good", "good", "label", "good"] * 3
    expected, tags, taken, accepted = [], [], [], []

    async def source(ctx):
        pause = pauses(idle)
        ctx.set(dut.room, 1)
        for kind in kinds:
            active = draw.randrange(2) if drift else 1
            learn, train = draw.randrange(2), draw.choice([0, 1, 5, 7])
            beats = packet(layout, [1] * 6, CLASSES if kind == "label" else 1, learn)
            if kind == "long":
                beats = [*beats[:-1], (*beats[-1][:2], False), (0, 0, True)]
            for data, user, last in beats:
                while next(pause):
                    await ctx.tick()
                # Before the last beat it may still change.
                final = beats.index((data, user, last)) == layout.beats - 1
                ctx.set(dut.train, train if final else draw.randrange(8))
                if drift:
                    ctx.set(dut.active, active if final else draw.randrange(2))
                ctx.set(dut.tvalid, 1)
                ctx.set(dut.tdata, data)
                ctx.set(dut.tuser, user)
                ctx.set(dut.tlast, last)
                while not (await ctx.tick().sample(dut.tready, dut.taken))[2]:
                    pass
                ctx.set(dut.tvalid, 0)
                ctx.set(dut.train, draw.randrange(8))
            if kind == "good":
                expected.append((learn & active, train * learn * active))
        await wait(ctx, 20)

    async def monitor(ctx):
        while True:
            _, _, commit, learn, train, one = await ctx.tick().sample(
                dut.commit, dut.w_tag.learn, dut.w_tag.train, dut.taken)
            if commit:
                tags.append((learn, train))
            taken.append(one)

    async def announced(ctx):
        while drift:
            accepted.append((await ctx.tick().sample(dut.accepted))[2])
        await wait(ctx, 2000)

    simulate(dut, source, monitor, announced, deadline=2000)
    assert sum(accepted) == drift * len(expected)
    assert tags == expected
    assert sum(taken) == sum(train > 0 for _, train in expected) > 0


def test_widths():
    dut = SampleInput(network(12, 4))
    assert (len(dut.w_en), len(dut.w_addr), len(dut.w_data)) == (3, 2, 24)

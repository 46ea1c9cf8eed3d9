# amaranth: UnusedElaboratable=no
"""The ring of vectors: order, room, replays, and every slot used."""
import random

import pytest
from amaranth.lib import data

from rtl.vector_buffer import VectorBuffer

from .pysim import fields, packed, pauses, simulate, wait

TAG = data.StructLayout({"label": 8, "learn": 1})


def run_buffer(vectors, lanes, width, slots, idle, stall, walks=1):
    """Write vectors element by element, walk over each `walks` times; what was read, and when."""
    depth = len(vectors[0])
    dut = VectorBuffer(lanes, width, depth=depth, tag=TAG, slots=slots)
    got, outstanding, most = [], [0], [0]

    async def writer(ctx):
        pause = pauses(idle)
        for number, vector in enumerate(vectors):
            while next(pause) or not ctx.get(dut.room):
                await ctx.tick()
            ctx.set(dut.reserve, 1)
            await ctx.tick()
            ctx.set(dut.reserve, 0)
            outstanding[0] += 1
            most[0] = max(most[0], outstanding[0])
            # One element at a time, the other lanes kept; words in falling order.
            elements = [(w, lane) for w in reversed(range(depth)) for lane in range(lanes)]
            for n, (w, lane) in enumerate(elements):
                while next(pause):
                    await ctx.tick()
                ctx.set(dut.w_en, 1 << lane)
                ctx.set(dut.w_addr, w)
                ctx.set(dut.w_data, packed([vector[w][lane]] * lanes, width))
                ctx.set(dut.commit, n == len(elements) - 1)
                ctx.set(dut.w_tag.label, number)
                ctx.set(dut.w_tag.learn, number % 2)
                await ctx.tick()
                ctx.set(dut.w_en, 0)
                ctx.set(dut.commit, 0)

    async def reader(ctx):
        pause = pauses(stall)
        for _ in vectors:
            while next(pause) or not ctx.get(dut.valid):
                await ctx.tick()
            tag = (ctx.get(dut.tag.label), ctx.get(dut.tag.learn))
            for walk in range(walks):
                rows = []
                for w in range(depth):
                    last = walk == walks - 1 and w == depth - 1
                    ctx.set(dut.r_addr, w)
                    # Taken when its last walk begins, released with its last address.
                    ctx.set(dut.take, walk == walks - 1 and w == 0)
                    ctx.set(dut.release, last)
                    if walk < walks - 1 or w == 0:
                        assert ctx.get(dut.valid)
                        assert (ctx.get(dut.tag.label), ctx.get(dut.tag.learn)) == tag
                    await ctx.tick()
                    rows.append(fields(ctx.get(dut.r_data), width, lanes, False))
                    if last:
                        outstanding[0] -= 1
                ctx.set(dut.take, 0)
                ctx.set(dut.release, 0)
                got.append((*tag, rows))
        await wait(ctx, 3)
        assert not ctx.get(dut.valid) and ctx.get(dut.room)

    deadline = 30 * (len(vectors) + 2) * (depth * (lanes + walks) + 4)
    simulate(dut, reader, writer, deadline=deadline)
    return got, most[0]


@pytest.mark.parametrize("idle, stall", [
    ("none", "none"), ("some", "most"), ("most", "some"), ("none", "bursts"), ("none", "slow")])
@pytest.mark.parametrize("lanes, width, depth, slots", [
    (1, 8, 5, 4), (3, 5, 4, 4), (2, 9, 1, 2), (1, 1, 7, 8)])
def test_order_and_content(lanes, width, depth, slots, idle, stall):
    rng = random.Random(slots)
    vectors = [[[rng.getrandbits(width) for _ in range(lanes)] for _ in range(depth)]
               for _ in range(3 * slots + 1)]
    pattern = 0.99 if stall == "slow" else stall
    walks = 3 if idle == "some" else 1
    got, most = run_buffer(vectors, lanes, width, slots, idle, pattern, walks)
    assert got == [(n, n % 2, v) for n, v in enumerate(vectors) for _ in range(walks)]
    assert most <= slots
    if stall == "slow":
        assert most == slots


def test_room_counts_every_slot():
    """Reserving without writing: exactly `slots` times, and again after each release."""
    dut = VectorBuffer(1, 8, depth=2, tag=TAG, slots=4)

    async def bench(ctx):
        rooms = []
        for _ in range(4):
            rooms.append(ctx.get(dut.room))
            ctx.set(dut.reserve, 1)
            await ctx.tick()
        ctx.set(dut.reserve, 0)
        rooms.append(ctx.get(dut.room))
        assert rooms == [1, 1, 1, 1, 0] and not ctx.get(dut.valid)
        ctx.set(dut.commit, 1)
        await ctx.tick()
        ctx.set(dut.commit, 0)
        assert ctx.get(dut.valid) and not ctx.get(dut.room)     # offered in the next cycle
        ctx.set(dut.take, 1)
        await ctx.tick()
        ctx.set(dut.take, 0)
        assert not ctx.get(dut.valid) and not ctx.get(dut.room)
        # A release makes room in the next cycle; one beside a reservation changes nothing.
        ctx.set(dut.release, 1)
        await ctx.tick()
        assert ctx.get(dut.room)
        ctx.set(dut.reserve, 1)
        await ctx.tick()
        ctx.set(dut.release, 0)
        assert ctx.get(dut.room)
        await ctx.tick()
        assert not ctx.get(dut.room)

    simulate(dut, bench, deadline=20)


@pytest.mark.parametrize("slots", [0, 1, 3, 6])
def test_refused_slots(slots):
    with pytest.raises(ValueError, match=f"slots must be a power of two, not {slots}"):
        VectorBuffer(1, 8, depth=2, tag=TAG, slots=slots)


def test_widths():
    dut = VectorBuffer(3, 5, depth=6, tag=TAG)
    assert (len(dut.w_en), len(dut.w_data), len(dut.r_data), len(dut.w_addr)) == (3, 15, 15, 3)

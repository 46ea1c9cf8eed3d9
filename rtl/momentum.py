"""Momentum-guided sampling: which way weights have gone, and signs of the noise that lean to it."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.momentum import COUNTER_WIDTH, GUIDE_BITS, LIMIT
from firmware_models.network import Stage
from firmware_models.noise import BITS

from .shapes import address

__all__ = ["Momentum", "guided"]


def guided(signs, state, counters, on):
    """Signs of a word's lanes, 1 for -1: those of the counters in place of some while `on`.

    sign_l = m_l < 0 where |m_l| > 1 and s[l + 5] ^ s[l + 25]

    s is the noise generator's word; bits count within the 32 of a generator. Six inputs a lane
    (three of the counter, two of s and the sign): a LUT, and another one for `on`.

    Latency: combinational.

    Bit-exact with :func:`firmware_models.momentum.guided`.

    Parameters
    ----------
    signs : Value
        A bit per lane.
    state : Value
        Words of whole generators.
    counters : Value
        3 bits per lane, of the same word.
    on : Value
    """
    def of_lane(lane):
        word = state.word_select(lane // BITS, BITS)
        first, second = (word[(lane + shift) % BITS] for shift in GUIDE_BITS)
        m = counters.word_select(lane, COUNTER_WIDTH)
        # 011 and 101 are the ends, 010 and 110 next to them; 100 is none of the counters.
        forced = on & (first ^ second) & (m[1] ^ m[2] & m[0])
        return Mux(forced, m[-1], signs[lane])

    return Cat(of_lane(lane) for lane in range(len(signs)))


class Momentum(wiring.Component):
    """m_l = clip(m_l + sgn(V_l), -3, 3), a word of counters with each word that is committed

    The counters have a memory of their own beside that of the weights, with the same words and
    lanes; biases have none. They are 0 at power-up, and no reset clears them. A counter follows in
    the cycle in which its weight is committed, so that a reset finds both changed or none.

    Latency: read 1 cycle, as of the weights and of the noise generator. Throughput: a word per
    cycle.

    Bit-exact with :func:`firmware_models.momentum.follow`.

    Source: Feng et al. 2024, arXiv 2411.04036 (momentum-guided sampling); the counter is ours.

    Parameters
    ----------
    stage : Stage
    width : int
        Bits of V, sign included.

    Members
    -------
    addr : ``In``; counters : ``Out(3 * lanes)``
        A word of counters, 1 cycle later.
    commit : ``In(1)``; commit_word : ``In``; v : ``In(signed(width))``, one per lane
        The counters of this word, which ``addr`` had 2 cycles before, follow V.
    """

    latency_cycles = 1

    def __init__(self, stage: Stage, *, width: int):
        self.stage = stage
        word = address(stage.dense.reuse_factor)
        super().__init__({
            "addr": In(word), "counters": Out(COUNTER_WIDTH * stage.dense.lanes),
            "commit": In(1), "commit_word": In(word),
            "v": In(signed(width)).array(stage.dense.lanes),
        })

    def elaborate(self, platform):
        m = Module()

        words = self.stage.dense.reuse_factor
        m.submodules.words = stored = memory.Memory(
            shape=unsigned(len(self.counters)), depth=max(words, 2), init=[])
        read, write = stored.read_port(), stored.write_port()

        # The memory already shows the next word of the sweep when this one is committed.
        held, follows = Signal.like(self.counters), Signal.like(self.counters)
        m.d.sync += held.eq(read.data)
        m.d.comb += [
            read.addr.eq(self.addr), self.counters.eq(read.data),
            write.addr.eq(self.commit_word), write.data.eq(follows), write.en.eq(self.commit),
        ]
        for lane, v in enumerate(self.v):
            before = held.word_select(lane, COUNTER_WIDTH).as_signed()
            moves, down = v.any(), v[-1]
            at_end = before == Mux(down, -LIMIT, LIMIT)
            m.d.comb += follows.word_select(lane, COUNTER_WIDTH).eq(
                Mux(moves & ~at_end, before + Mux(down, -1, 1), before))

        return m

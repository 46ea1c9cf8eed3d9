"""Perturbation generator: Rademacher bits from a seed."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.noise import (
    BITS,
    NOISE_SHIFTS,
    SEED_SHIFTS,
    START_ROTATIONS,
    generators,
)

from .shapes import address

__all__ = ["NoiseGenerator", "bias_bits", "next_seed", "start_state"]


def xorshift(m: Module, state, shifts) -> Signal:
    """One leap-forward step of a 32-bit LFSR: three wired shifts, at most 8 inputs per bit."""
    a, b, c = shifts
    first, second, out = Signal(BITS), Signal(BITS), Signal(BITS)
    m.d.comb += [
        first.eq(state ^ (state << a)[:BITS]),
        second.eq(first ^ first >> b),
        out.eq(second ^ (second << c)[:BITS]),
    ]
    return out


def next_seed(m: Module, seed) -> Signal:
    return xorshift(m, seed, SEED_SHIFTS)


def start_state(seed, generator: int):
    """State from which generator number `generator` of the core replays `seed`."""
    if generator == 0:
        return seed
    a, b = START_ROTATIONS[generator - 1]
    return seed ^ seed.rotate_left(a) ^ seed.rotate_left(b)


def bias_bits(stage, first_generator, seed, addr):
    """Noise of bias word `addr` of a layer, a bit per lane: the biases have the start state."""
    starts = Cat(start_state(seed, first_generator + g)
                 for g in range(generators(stage.dense.lanes)))
    words = stage.drain_words
    return [Array(starts[c * words:(c + 1) * words])[addr] for c in range(stage.drain_lanes)]


class NoiseGenerator(wiring.Component):
    """A word of noise bits per cycle, for one pass or for `slots` interleaved replays.

    state[slot] = (step ? xorshift : identity)(load ? start_state(seed) : state[slot])

    The state of a replay waits in a small RAM while the other replays have their turn, so that an
    update sweep adds up all probes of a memory word before it goes on to the next word.
    Latency: 1 cycle. Throughput: 1 word per cycle.

    Bit-exact with :func:`firmware_models.noise.probe`.

    Source: Marsaglia 2003, Xorshift RNGs, https://doi.org/10.18637/jss.v008.i14.

    Parameters
    ----------
    lanes : int
        Bits per word; every 32 take a generator of their own.
    first_generator : int
        Number of the first one in the core.
    slots : int
        Replays whose states are kept.

    Members
    -------
    en, load, step : ``In(1)``
    slot : ``In(range(slots))``
    seed : ``In(32)``
    bits : ``Out(lanes)``
        1 means -1.
    """

    latency_cycles = 1

    def __init__(self, lanes: int, *, first_generator: int, slots: int):
        self.lanes, self.first_generator, self.slots = lanes, first_generator, slots
        super().__init__({
            "en": In(1), "load": In(1), "step": In(1), "slot": In(address(slots)),
            "seed": In(BITS), "bits": Out(lanes),
        })

    def elaborate(self, platform):
        m = Module()

        count = generators(self.lanes)
        m.submodules.states = states = memory.Memory(
            shape=unsigned(BITS * count), depth=max(self.slots, 2), init=[])
        write, read = states.write_port(), states.read_port(domain="comb")

        now = []
        for g in range(count):
            before, after = Signal(BITS), Signal(BITS)
            start = start_state(self.seed, self.first_generator + g)
            m.d.comb += before.eq(Mux(self.load, start, read.data.word_select(g, BITS)))
            m.d.comb += after.eq(Mux(self.step, xorshift(m, before, NOISE_SHIFTS), before))
            now.append(after)
        m.d.comb += [
            read.addr.eq(self.slot),
            write.addr.eq(self.slot),
            write.data.eq(Cat(now)),
            write.en.eq(self.en),
        ]
        with m.If(self.en):
            m.d.sync += self.bits.eq(Cat(now)[:self.lanes])

        return m

"""Node noise of a probed stage: signs of a sample, and what the update needs to know of them."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models import noise as model
from firmware_models.network import Stage
from firmware_models.noise import BITS, SERIAL_TAPS
from firmware_models.rules.node_probe import MAX_PROBES

from .noise import start_state
from .shapes import address

__all__ = ["NODE_NOISE", "NodeNoise"]

SIGMA = 3                               # bits of the amplitude's logarithm
NODE_NOISE = signed(2 ** SIGMA + 1)     # +-2**sigma


class NodeNoise(wiring.Component):
    """nu_j = +-2**shift with the sign s_j * (-1)**popcount(k & j) for probe k and node j

    While a base pass is drained, a bit-serial generator gives each node its sign s_j for the
    sample. Sign and activity of every node are kept in a RAM of a few LUTs: the probes' drains read
    the sign again, and the node errors later read both. There are two slots, for the next sample
    may be drained while the losses of this one are still on their way.

    Latency: ``noise`` and ``role`` combinational. Throughput: a drained word per cycle.

    Bit-exact with :func:`firmware_models.noise.serial` and
    :func:`firmware_models.rules.node_probe.signs`.

    Parameters
    ----------
    stage : Stage
    generator : int
        Number of the stage among the probed ones; makes its noise differ from the others'.

    Members
    -------
    draw : ``In(1)``; active : ``In(drain_lanes)``; w_addr : ``In``; last : ``In(1)``
        A word of a base pass that will be probed leaves; these nodes are active; it is the last.
    en : ``In(1)``; addr, k, sigma : ``In``; noise : ``Out`` signed, one per drain lane
        Noise of probe k in word ``addr``, in steps of the smallest amplitude; 0 without ``en``.
    r_word, r_lane, r_slot : ``In``; negative, r_active : ``Out(1)``
        Sign s_j and activity of a node, for the node errors.
    restart : ``In(1)``; seed : ``In(32)``
    """

    def __init__(self, stage: Stage, *, generator: int):
        self.stage, self.generator = stage, generator
        super().__init__({
            "draw": In(1), "active": In(stage.drain_lanes),
            "w_addr": In(address(stage.drain_words)), "last": In(1),
            "addr": In(address(stage.drain_words)), "k": In(range(MAX_PROBES)),
            "sigma": In(SIGMA), "en": In(1), "noise": Out(NODE_NOISE).array(stage.drain_lanes),
            "r_word": In(address(stage.drain_words)), "r_lane": In(address(stage.drain_lanes)),
            "r_slot": In(1), "negative": Out(1), "r_active": Out(1),
            "restart": In(1), "seed": In(BITS),
        })

    def elaborate(self, platform):
        m = Module()

        stage = self.stage
        words, lanes = stage.drain_words, stage.drain_lanes
        m.submodules.roles = roles = memory.Memory(
            shape=unsigned(2 * lanes), depth=max(2 << (words - 1).bit_length(), 2), init=[])
        write = roles.write_port()
        at_drain, at_errors = roles.read_port(domain="comb"), roles.read_port(domain="comb")
        addr_bits = (words - 1).bit_length()

        # DRAW: one new bit of the register per lane.
        register = Signal(BITS, init=int(model.start_state(1, self.generator)))
        drawn, state = [], list(register)
        for _ in range(lanes):
            # A signal of its own: written out, expressions grow exponentially with the lanes.
            bit = Signal(name=f"drawn{len(drawn)}")
            m.d.comb += bit.eq(Cat(state[tap] for tap in SERIAL_TAPS).xor())
            drawn.append(bit)
            state = [bit, *state[:-1]]
        slot, drawn_slot = Signal(), Signal()
        with m.If(self.draw):
            m.d.sync += [register.eq(Cat(state)), drawn_slot.eq(slot)]
            with m.If(self.last):
                m.d.sync += slot.eq(~slot)
        with m.If(self.restart):
            m.d.sync += [register.eq(start_state(self.seed, self.generator)), slot.eq(0)]
        m.d.comb += [
            write.addr.eq(Cat(self.w_addr[:addr_bits], slot)),
            write.data.eq(Cat(Cat(drawn), self.active)),
            write.en.eq(self.draw),
        ]

        # PROBE: the row of the Hadamard matrix is the parity of k & j.
        m.d.comb += at_drain.addr.eq(Cat(self.addr[:addr_bits], drawn_slot))
        for lane in range(lanes):
            node = self.addr + words * lane
            minus = Signal(name=f"minus{lane}")
            m.d.comb += minus.eq(self.en & (at_drain.data[lane] ^ (node & self.k).xor()))
            # -2**n is a one at bit n and at every bit above it: no negation.
            bits = [self.en & (self.sigma == n) | (minus & (self.sigma < n) if n else 0)
                    for n in range(len(self.noise[lane]) - 1)]
            m.d.comb += self.noise[lane].eq(Cat(*bits, minus))

        m.d.comb += [
            at_errors.addr.eq(Cat(self.r_word[:addr_bits], self.r_slot)),
            self.negative.eq(at_errors.data[:lanes].bit_select(self.r_lane, 1)),
            self.r_active.eq(at_errors.data[lanes:].bit_select(self.r_lane, 1)),
        ]
        return m


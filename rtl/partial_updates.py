"""Dynamic partial updates: of a sample's errors, those of the k nodes with the largest ones."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.partial_updates import (
    ERROR_SUM_WIDTH,
    FRACTION,
    ONE,
    SHARE_WIDTH,
    delay_cycles,
)

from .loss import HEAD_ERROR
from .shapes import address

__all__ = ["PartialUpdates"]

MAGNITUDE_WIDTH = SHARE_WIDTH       # errors are shares as well, up to 256 in 1/256


class PartialUpdates(wiring.Component):
    """err_j if |err_j| is among the k largest, or lmin is 256; else 0

    k = max(1, #{t in 1 ... n: t * (emax << 8) <= n * num}),  num = lmin * emax + e * (lmax - lmin)

    Errors of a sample are kept in a small RAM and added up. Then num is multiplied out bit by bit,
    and the threshold, the k-th largest magnitude, is found bit by bit as well, each by a walk over
    the errors that counts how many reach it. In the first walk the multiples of n * num / emax are
    counted beside it, which gives k. No divider, no multiplier.

    Latency: :attr:`latency_cycles` from an error to the same error at the output, where errors come
    without a pause; else from the last one. Throughput: a sample at a time; the next one may begin
    behind the last output. Back-pressure: none, in and out are pulses.

    Bit-exact with :func:`firmware_models.partial_updates.partial`.

    Source: Deutel et al., arXiv 2407.10734v2, dynamic partial gradient updates.

    Parameters
    ----------
    n : int
        Nodes, and errors of a sample.

    Members
    -------
    i_valid, i_error : ``In``
        Errors of a sample, node by node, in 1/256: their magnitudes are 256 at most, and add up to
        less than 1024.
    o_valid, o_error : ``Out``
        The same, 0 in place of those that are not among the top k.
    lmin, lmax : ``In(9)``
        In 1/256; more than 256 counts as 256. With ``lmin`` 256 the largest sum stays as it is.
    restart : ``In(1)``
        Forget the largest sum; not while a sample is inside.
    largest : ``Out(10)``
        emax.
    """

    def __init__(self, n: int):
        self.n = n
        super().__init__({
            "i_valid": In(1), "i_error": In(HEAD_ERROR),
            "o_valid": Out(1), "o_error": Out(HEAD_ERROR),
            "lmin": In(SHARE_WIDTH), "lmax": In(SHARE_WIDTH), "restart": In(1),
            "largest": Out(ERROR_SUM_WIDTH),
        })

    @property
    def latency_cycles(self) -> int:
        return delay_cycles(self.n)

    def elaborate(self, platform):
        m = Module()

        m.submodules.errors = errors = memory.Memory(
            shape=HEAD_ERROR, depth=max(self.n, 2), init=[])
        write, read = errors.write_port(), errors.read_port(domain="comb")
        j, last = Signal(address(self.n)), Signal()
        bit = Signal(SHARE_WIDTH, init=1 << SHARE_WIDTH - 1)    # one-hot, from the top, goes round
        total, numerator = Signal(ERROR_SUM_WIDTH), Signal(ERROR_SUM_WIDTH + FRACTION)
        m.d.comb += [
            last.eq(j == self.n - 1),
            write.addr.eq(j), write.data.eq(self.i_error), write.en.eq(self.i_valid),
            read.addr.eq(j), self.o_error.eq(0),
        ]

        def next_node():
            m.d.sync += j.eq(Mux(last, 0, j + 1))

        def next_bit():
            m.d.sync += bit.eq(bit.rotate_right(1))

        # lmin * emax + e * (lmax - lmin) = lmin * (emax - e) + lmax * e: no term is below 0.
        every = self.lmin[-1]
        in_min = (self.lmin & bit).any()
        in_max = (Mux(self.lmax[-1], ONE, self.lmax) & bit).any()
        digit, rest = Signal(ERROR_SUM_WIDTH), Signal(ERROR_SUM_WIDTH)
        m.d.comb += [
            rest.eq(self.largest - total),
            digit.eq(Mux(in_min, Mux(in_max, self.largest, rest), Mux(in_max, total, 0))),
        ]
        # `multiple` is t * num - (k + 1) * (emax << 8) for the k found so far: k grows where it is
        # not below 0.
        excess, multiple = (Signal(signed(len(numerator) + 1)) for _ in range(2))
        k, keep = Signal(range(self.n + 1)), Signal(range(self.n + 1))
        m.d.comb += [excess.eq(numerator - (self.largest << FRACTION)),
                     keep.eq(Mux(k == 0, 1, k))]

        magnitude, threshold = Signal(MAGNITUDE_WIDTH), Signal(MAGNITUDE_WIDTH)
        trial, reached, chosen, sending = Signal(MAGNITUDE_WIDTH), Signal(), Signal(), Signal()
        count, above, at_threshold = Signal.like(k), Signal.like(k), Signal()
        m.d.comb += [
            magnitude.eq(abs(read.data)),
            trial.eq(Mux(sending, threshold, threshold | bit)),
            reached.eq(magnitude >= trial), at_threshold.eq(magnitude == threshold),
            chosen.eq(every | reached & ~(at_threshold & (above == keep))),
        ]

        with m.FSM():
            # COLLECT: e = sum |err_j|
            with m.State("COLLECT"):
                with m.If(self.i_valid):
                    next_node()
                    m.d.sync += total.eq(total + abs(self.i_error))
                    with m.If(last):
                        m.next = "LARGEST"
            # LARGEST: emax = max(emax, e)
            with m.State("LARGEST"):
                with m.If((total > self.largest) & ~every):
                    m.d.sync += self.largest.eq(total)
                m.d.sync += [numerator.eq(0), k.eq(0), count.eq(0), threshold.eq(0), above.eq(0)]
                m.next = "NUMERATOR"
            # NUMERATOR: num, from the top bit of lmin and lmax on
            with m.State("NUMERATOR"):
                next_bit()
                m.d.sync += numerator.eq((numerator << 1) + digit)
                with m.If(bit[0]):
                    m.next = "FIRST_MULTIPLE"
            with m.State("FIRST_MULTIPLE"):
                m.d.sync += multiple.eq(excess)
                m.next = "COUNT"
            # COUNT: nodes that reach the trial; in the first walk also multiples of num
            with m.State("COUNT"):
                next_node()
                m.d.sync += count.eq(count + reached)
                with m.If(bit[-1]):
                    m.d.sync += [
                        k.eq(k + ~multiple[-1]),
                        multiple.eq(multiple + Mux(multiple[-1], numerator, excess)),
                    ]
                with m.If(last):
                    m.next = "DECIDE"
            # DECIDE: the threshold's next bit. The last trial that too few reach is the threshold
            # plus one, in the end: then their number is that of the nodes above it.
            with m.State("DECIDE"):
                next_bit()
                m.d.sync += count.eq(0)
                with m.If(count >= keep):
                    m.d.sync += threshold.eq(trial)
                with m.Else():
                    m.d.sync += above.eq(count)
                m.next = "COUNT"
                with m.If(bit[0]):
                    m.next = "SEND"
            # SEND: those above the threshold, and the first ones at it until there are k
            with m.State("SEND"):
                next_node()
                m.d.comb += [sending.eq(1), self.o_valid.eq(1)]
                with m.If(chosen):
                    m.d.comb += self.o_error.eq(read.data)
                m.d.sync += above.eq(above + (chosen & at_threshold))
                with m.If(last):
                    m.d.sync += total.eq(0)
                    m.next = "COLLECT"
        with m.If(self.restart):
            m.d.sync += self.largest.eq(0)

        return m

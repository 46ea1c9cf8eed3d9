"""What a fitness has to know of the whole population: how large its differences are."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .shapes import address

__all__ = ["DELTA_WIDTH", "Shaping"]

DELTA_WIDTH = 24        # 14-bit losses, two signs, up to 256 samples


class Shaping(wiring.Component):
    """s = ilog2(max(1, (sum_i |D_i|) >> ceil(log2(P)))), and the first of the largest |D_i|

    The logarithm of the shifted sum is the difference of two logarithms, not below 0, so that
    nothing is shifted here.

    Latency: ``best`` 1 cycle, ``shift`` 2 cycles after the last pair. Throughput: a pair per cycle.

    A z-score with a power of two in the place of the deviation needs no divider.
    |D_i| / 2**s is below 2**(ceil(log2(P)) + 1), whatever the differences.

    Bit-exact with :func:`firmware_models.rules.es.scale` and ``fitness``.

    Parameters
    ----------
    max_pairs : int

    Members
    -------
    start : ``In(1)``
        Forget the population before.
    en : ``In(1)``; pair : ``In``; delta : ``In(signed(24))``
        A pair's number and difference; pairs come in rising order.
    pairs : ``In``
        P, at least 1.
    shift : ``Out(5)``; best : ``Out``
        s; number of the pair. Valid until the next start.
    """

    def __init__(self, max_pairs: int):
        self.max_pairs = max_pairs
        super().__init__({
            "start": In(1), "en": In(1), "pair": In(address(max_pairs)),
            "delta": In(signed(DELTA_WIDTH)), "pairs": In(range(max_pairs + 1)),
            "shift": Out(range(DELTA_WIDTH)), "best": Out(address(max_pairs)),
        })

    def elaborate(self, platform):
        m = Module()

        largest = 1 << DELTA_WIDTH - 1
        magnitude, most = Signal(range(largest + 1)), Signal(range(largest + 1))
        total = Signal(range(self.max_pairs * largest + 1))
        m.d.comb += magnitude.eq(abs(self.delta))
        with m.If(self.start):
            m.d.sync += [total.eq(0), most.eq(0), self.best.eq(0)]
        with m.Elif(self.en):
            m.d.sync += total.eq(total + magnitude)
            with m.If(magnitude > most):
                m.d.sync += [most.eq(magnitude), self.best.eq(self.pair)]

        def bit_length(value, name):
            """Bits of an unsigned value: the last assignment wins."""
            length = Signal(range(len(value) + 1), name=name)
            for bit in range(len(value)):
                with m.If(value[bit]):
                    m.d.comb += length.eq(bit + 1)
            return length

        others = Signal(range(self.max_pairs + 1))
        m.d.comb += others.eq(self.pairs - 1)
        log2 = bit_length(total, "total_length") - 1 - bit_length(others, "others_length")
        m.d.sync += self.shift.eq(Mux(log2 > 0, log2, 0))

        return m

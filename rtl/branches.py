"""The vectors that pass a stage beside its own outputs: kept, added, concatenated, handed on."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.branches import Add, origins
from firmware_models.formats import Fixed
from firmware_models.network import Stage

from .requantize import requantize
from .shapes import address, lane, shape_of

__all__ = ["Branches", "add"]


def add(m: Module, layer: Add, x, source: Fixed, other, of: Fixed) -> Signal:
    """Output codes of an Add for one lane: `x` of format `source`, `other` of format `of`.

    Latency: combinational. Bit-exact with :func:`firmware_models.branches.add`.
    """
    frac = max(source.frac, of.frac)
    return requantize(m, (x << frac - source.frac) + (other << frac - of.frac), frac, layer.result)


class Branches(wiring.Component):
    """Keep the frame of a pass while its outputs are computed, and make the next frame of both.

    The words of a frame are pushed into a shift register while the engine reads them. When the sums
    of the pass are complete the vectors are copied aside, as the sums are: the next pass may be
    read while they leave, as often as the engine drains its sums. A drained word s of D takes codes
    ``s + D * c`` of each vector, in as many lanes as they need.

    Latency: an operand of an Add arrives when the codes do to which it is added, 3 cycles after the
    word's address and those of the layers in front of it. ``o_data`` is combinational from
    ``outputs``, which arrive 3 cycles and ``stage.delay_cycles`` after the address.
    Throughput: a word in and a word out per cycle. No back-pressure: the engine holds ``last`` back
    while it still drains.

    Bit-exact with :func:`firmware_models.dense.activate`.

    Parameters
    ----------
    stage : Stage

    Members
    -------
    x : ``In``
        A word of the frame, 1 cycle before its products are summed up.
    en, last : ``In(1)``
        A word is summed up in this cycle; it is the last of its pass.
    addr : ``In``
        Word to drain; the first one at the earliest in the cycle after ``last``.
    other<n> : ``Out``
        Operands of the activation's layer n, an Add, one per drain lane.
    outputs : ``In``; o_addr : ``In``
        A word of the stage's own outputs, and which.
    o_data : ``Out``
        The same word of the next frame: vector by vector, that which is multiplied lowest.
    """

    def __init__(self, stage: Stage):
        self.stage = stage
        self.adds = {n: layer for n, layer in enumerate(stage.activation) if isinstance(layer, Add)}
        self.received = {vector.name: vector for vector in stage.frame}
        super().__init__({
            "x": In(stage.frame_width), "en": In(1), "last": In(1),
            "addr": In(address(stage.drain_words)), "o_addr": In(address(stage.drain_words)),
            "outputs": In(stage.drain_lanes * stage.result.width),
            "o_data": Out(stage.leaving_width),
            **{f"other{n}": Out(stage.drain_lanes * self.received[layer.other].of.width)
               for n, layer in self.adds.items()},
        })

    def elaborate(self, platform):
        m = Module()

        stage, words = self.stage, self.stage.drain_words
        kept = self._keep(m)
        delayed = {}

        def picked(vector, codes, cycles):
            """A code of a kept vector for each word, `cycles` after the word's address."""
            key = vector.name, codes, cycles
            if key not in delayed:
                delayed[key] = Signal(shape_of(vector.of))
                m.d.sync += delayed[key].eq(
                    picked(vector, codes, cycles - 1) if cycles > 1 else Array(
                        0 if k is None else kept(vector, k) for k in codes)[self.addr])
            return delayed[key]

        for n, layer in self.adds.items():
            vector = self.received[layer.other]
            cycles = 3 + sum(before.delay_cycles for before in stage.activation[:n])
            for c in range(stage.drain_lanes):
                codes = tuple(range(c * words, (c + 1) * words))
                m.d.comb += getattr(self, f"other{n}").word_select(c, vector.of.width).eq(
                    picked(vector, codes, cycles))

        def leaves(came):
            """The code of a lane of the next frame, from where it comes in each word."""
            values = {}         # mostly one; more where a lane goes from one older part to the next
            for vector, _, casts in came:
                if (vector.name, casts) in values:
                    continue
                of = vector.of
                codes = tuple(k if (v, to) == (vector, casts) else None for v, k, to in came)
                if vector == stage.outputs:
                    value = lane(self.outputs, codes[0] // words, of)
                else:
                    value = picked(vector, codes, 3 + stage.delay_cycles)
                for to in casts:
                    value, of = requantize(m, value, of.frac, to), to
                values[vector.name, casts] = value
            if len(values) == 1:
                return value
            return Array(values[vector.name, casts] for vector, _, casts in came)[self.o_addr]

        position = 0
        for vector in stage.leaving:
            codes = origins(stage, vector.name)
            for c in range(vector.lanes(words)):
                m.d.comb += self.o_data[position:position + vector.of.width].eq(
                    leaves(codes[c * words:(c + 1) * words]))
                position += vector.of.width
        return m

    def _keep(self, m):
        """Function from a vector and a position in it to the code that was kept."""
        stage, words = self.stage, self.stage.dense.reuse_factor
        used = {layer.other for layer in self.adds.values()} | {
            vector.name for leaving in stage.leaving
            for vector, _, _ in origins(stage, leaving.name)}
        whole, position = {}, 0
        for vector in stage.frame:
            width = vector.lanes(words) * vector.of.width
            if vector.name in used:
                word = Signal(width, name=f"{vector.name}_word")
                held = Signal(words * width, name=f"{vector.name}_held")
                read = word
                m.d.sync += word.eq(self.x[position:position + width])
                if words > 1:
                    past = Signal((words - 1) * width, name=f"{vector.name}_past")
                    read = Cat(word, past)
                    with m.If(self.en):
                        m.d.sync += past.eq(read)
                with m.If(self.last):
                    m.d.sync += held.eq(read)
                whole[vector.name] = held, width
            position += width

        def kept(vector, k):
            held, width = whole[vector.name]
            at = (words - 1 - k % words) * width + k // words * vector.of.width
            code = held[at:at + vector.of.width]
            return code.as_signed() if vector.of.signed else code

        return kept

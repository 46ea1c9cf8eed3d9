"""The input prompt: a vector that learns, added to the features on their way to the first stage."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.network import Network

from .requantize import saturate
from .shapes import address, assign_tag, shape_of, tag_layout

__all__ = ["Prompt"]


class Prompt(wiring.Component):
    """x' = clip(x + p) to the range of the features, lane by lane

    p comes from a :class:`rtl.weight_memory.WeightMemory` of its own, to which this is the engine:
    noise, updates and read-back are those of a layer. Features arrive a cycle after their address,
    and weights after two, so that the address of p, the start of its noise and the tag of the pass
    go out a cycle before those of the first stage's engine.

    Latency: combinational from ``x`` and ``w_data`` to ``o``: the passes of the core take no cycle
    more. Throughput: a word per cycle.

    Bit-exact with :func:`firmware_models.prompt.prompted`.

    Source: Feng et al. 2024, arXiv 2411.04036; Bahng et al. 2022, arXiv 2203.17274.

    Parameters
    ----------
    network : Network
        With a prompt.

    Members
    -------
    accepted : ``In(1)``; pass_tag : ``In(tag)``
        The first stage accepts a pass, and its tag.
    next_addr : ``In``; addressing, last : ``In(1)``; tag : ``In(tag)``
        Of this stage's engine: the word that it addresses in the next cycle; it addresses one in
        this cycle, the last of the pass; tag of the pass that addresses.
    w_addr : ``Out``; w_en, w_first : ``Out(1)``; w_tag : ``Out(tag)``
        Word of p to read, as :class:`rtl.dense.DenseEngine` addresses its weights.
    w_data : ``In``, 2 cycles later
        Codes of p, of one bit more than a feature.
    x : ``In``; o : ``Out``
        A word of features, and what the stage sees instead.
    """

    latency_cycles = 0

    def __init__(self, network: Network):
        if network.prompt is None:
            raise ValueError(f"{network.name}: there is no prompt; see Network.with_trainable")
        self.part = part = network.parts[-1]
        dense, tag = part.dense, tag_layout(probes=True, seeds=True)
        word, vector = address(dense.reuse_factor), dense.lanes * part.source.width
        super().__init__({
            "accepted": In(1), "pass_tag": In(tag), "next_addr": In(word), "addressing": In(1),
            "last": In(1), "tag": In(tag),
            "w_addr": Out(word), "w_en": Out(1), "w_first": Out(1), "w_tag": Out(tag),
            "w_data": In(dense.lanes * dense.weight.width),
            "x": In(vector), "o": Out(vector),
        })

    def elaborate(self, platform):
        m = Module()

        part, dense = self.part, self.part.dense
        m.d.comb += [
            self.w_addr.eq(self.next_addr),
            self.w_first.eq(self.accepted),
            self.w_en.eq(self.accepted | self.addressing & ~self.last),
        ]
        # The engine keeps the tag from the next cycle on.
        with m.If(self.accepted):
            m.d.comb += assign_tag(self.w_tag, self.pass_tag)
        with m.Else():
            m.d.comb += assign_tag(self.w_tag, self.tag)

        for lane in range(dense.lanes):
            x = Signal(shape_of(part.source), name=f"x{lane}")
            m.d.comb += x.eq(self.x.word_select(lane, part.source.width))
            p = self.w_data.word_select(lane, dense.weight.width).as_signed()
            m.d.comb += self.o.word_select(lane, part.source.width).eq(
                saturate(m, x + p, part.source))

        return m

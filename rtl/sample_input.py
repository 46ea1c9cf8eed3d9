"""Samples from AXI4-Stream into the first vector buffer."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.network import Network
from firmware_models.sample_packets import BEAT_WIDTH, LABEL_WIDTH, USER_WIDTH, beat_layout

from .shapes import address, tag_layout

__all__ = ["SampleInput"]

class SampleInput(wiring.Component):
    """Unpack the features of a packet into a slot, one per cycle; drop bad packets whole.

    A packet is good when it ends with its last feature's beat and its label is a class. A slot is
    committed only then, so a bad packet leaves no trace but a count.

    Latency: 1 cycle from a beat to its first feature. Throughput: a feature per cycle.
    Back-pressure: beats wait while no slot is free.

    Members
    -------
    tdata, tuser, tvalid, tlast : ``In``; tready : ``Out(1)``
        AXI4-Stream; tuser counts in the last beat.
    room : ``In(1)``; reserve, commit : ``Out(1)``
    w_en, w_addr, w_data, w_tag : ``Out``
        Towards :class:`rtl.vector_buffer.VectorBuffer`.
    dropped : ``Out(32)``
        Packets dropped.
    train : ``In(train)``; taken : ``Out(1)``
        With `train`: stages that shall learn from a packet with the learn bit; one was taken.
    active : ``In(1)``; accepted : ``Out(1)``
        With `drift`: learn bits count; the last beat of a good packet is taken.

    Parameters
    ----------
    network : Network
    train : int
        Stages that can learn from base passes (rule "np").
    drift : bool
        Whether learn bits can be switched off.
    """

    def __init__(self, network: Network, train: int = 0, drift: bool = False):
        self.network, self.train_bits, self.drift = network, train, drift
        stage = network.stages[0]
        dense = stage.dense
        self.layout = beat_layout(network)
        super().__init__({
            "tdata": In(BEAT_WIDTH), "tuser": In(USER_WIDTH), "tvalid": In(1), "tready": Out(1),
            "tlast": In(1),
            "room": In(1), "reserve": Out(1), "commit": Out(1),
            "w_en": Out(dense.inputs_per_word), "w_addr": Out(address(dense.reuse_factor)),
            "w_data": Out(dense.inputs_per_word * stage.source.width),
            "w_tag": Out(tag_layout(train=train)),
            "dropped": Out(32),
        } | ({"train": In(train), "taken": Out(1)} if train else {})
            | ({"active": In(1), "accepted": Out(1)} if drift else {}))

    def elaborate(self, platform):
        m = Module()

        stage = self.network.stages[0]
        dense, width = stage.dense, stage.source.width
        layout = self.layout
        beats, per_beat, slot_bits = (
            layout.beats, layout.elements_per_beat, layout.element_bits)
        in_last = dense.n_in - (beats - 1) * per_beat     # features of the last beat

        beat = Signal(BEAT_WIDTH)
        left = Signal(range(per_beat + 1))                     # features left in `beat`
        ending, index = Signal(), Signal(address(beats))
        addr = Signal(address(dense.reuse_factor))
        bank = Signal(dense.inputs_per_word, init=1)
        have_slot, skipping = Signal(), Signal()

        # WRITE: feature e goes to lane e // reuse_factor of word e % reuse_factor.
        m.d.comb += [
            self.w_data.eq(beat[:width].replicate(dense.inputs_per_word)),
            self.w_addr.eq(addr),
            self.w_en.eq(bank & (left != 0).replicate(dense.inputs_per_word)),
            self.commit.eq(ending & (left == 1)),
        ]
        with m.If(left != 0):
            m.d.sync += [beat.eq(beat >> slot_bits), left.eq(left - 1), addr.eq(addr + 1)]
            with m.If(addr == dense.reuse_factor - 1):
                m.d.sync += [addr.eq(0), bank.eq(bank.rotate_left(1))]

        # ACCEPT: the next beat may follow in the cycle that writes the last feature of this one.
        first = index == 0
        keeps_slot = have_slot & ~self.commit
        accept, final, drop = Signal(), Signal(), Signal()
        m.d.comb += [
            self.tready.eq(skipping | (left <= 1) & (~first | keeps_slot | self.room)),
            accept.eq(self.tvalid & self.tready & ~skipping),
            final.eq(index == beats - 1),
            self.reserve.eq(accept & first & ~keeps_slot),
            drop.eq(accept & (self.tlast ^ final
                              | final & (self.tuser[:LABEL_WIDTH] >= self.network.n_classes))),
        ]
        with m.If(self.commit):
            m.d.sync += [have_slot.eq(0), ending.eq(0)]
        with m.If(self.reserve):
            m.d.sync += have_slot.eq(1)
        with m.If(skipping & self.tvalid & self.tlast):
            m.d.sync += skipping.eq(0)
        with m.If(accept):
            m.d.sync += [
                beat.eq(self.tdata),
                left.eq(Mux(final, in_last, per_beat)),
                ending.eq(final),
                index.eq(index + 1),
            ]
            with m.If(first):
                m.d.sync += [addr.eq(0), bank.eq(1)]
            with m.If(final):
                learns = self.tuser[LABEL_WIDTH]
                if self.drift:
                    learns = learns & self.active
                    m.d.comb += self.accepted.eq(~drop)
                m.d.sync += [
                    index.eq(0),
                    self.w_tag.label.eq(self.tuser[:LABEL_WIDTH]),
                    self.w_tag.learn.eq(learns),
                ]
                if self.train_bits:
                    m.d.sync += self.w_tag.train.eq(self.train & learns.replicate(self.train_bits))
                    m.d.comb += self.taken.eq(learns & ~drop & self.train.any())
        with m.If(drop):
            m.d.sync += [
                index.eq(0), left.eq(0), ending.eq(0),
                skipping.eq(~self.tlast),
                self.dropped.eq(self.dropped + 1),
            ]

        return m

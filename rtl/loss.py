"""Integer cross entropy of every pass."""
from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.formats import Fixed
from firmware_models.loss import (
    D_MAX,
    EXP_FRAC,
    EXP_TABLE,
    LOG_TABLE,
    LOGIT,
    LOSS_WIDTH,
)

from .requantize import requantize
from .shapes import LABEL_WIDTH, address, assign_tag, field_of, tag_layout
from .vector_buffer import VectorBuffer

__all__ = ["HEAD_ERROR", "LossUnit"]

HEAD_ERROR = signed(10)         # softmax minus one-hot, 1/256


class LossUnit(wiring.Component):
    """L = min(16 * (m - l_y) + ilog2(sum_c E[m - l_c]) - 3072, 2**14 - 1), m = max(l)

    The largest logit is found while the logits arrive; a second walk adds up the exponentials, one
    class a cycle, from a 16-entry table and a shift. There is no divider: the softmax's division is
    the subtraction of its logarithm.

    Latency: n_classes + 5 cycles from the last logit to ``o_valid``. Throughput: a loss per
    n_classes cycles. Back-pressure: ``room`` falls when the ring is full; the result is a pulse.

    Bit-exact with :func:`firmware_models.loss.cross_entropy`.

    For the delta rule of the head a third walk over the logits of a base pass delivers the error of
    each class, p_c - [c == y], when it is asked for.

    Parameters
    ----------
    n_classes : int
    fmt : Fixed
        Format of the logits.
    tag : data.StructLayout
        What arrives with a pass.
    head : int
        Bit of the tag's `train` that asks for the errors; None without delta rule.

    Members
    -------
    room : ``Out(1)``; reserve : ``In(1)``
    en, addr, payload, commit, tag : ``In``
        Logits of a pass, one per cycle, and its tag with the last.
    larger : ``In(1)``
        :attr:`rtl.readout.Readout.larger`: so they are compared beside the cast, not behind it.
    o_valid, o_loss, o_tag : ``Out``
        A loss in 1/256 bit (14 bits), in the order of the passes; ``o_tag`` without the label.
    go : ``In(1)``; begun : ``Out(1)``
        Where tags have `train`: the walk over a pass of a learning sample may begin; has begun.
    error_go : ``In(1)``; error_valid, error : ``Out``
        With `head`: begin the walk for the errors, after the loss; an error in 1/256.
    """

    def __init__(self, n_classes: int, fmt: Fixed, tag: data.StructLayout | None = None,
                 head: int | None = None):
        self.n_classes, self.fmt, self.head = n_classes, fmt, head
        self.tag_in = tag_layout(probes=True) if tag is None else tag
        self.tag_out = data.StructLayout({name: shape for name, shape in self.tag_in.members.items()
                                          if name not in ("label", "learn")})
        self.paced = "train" in self.tag_in.members
        members = {}
        if self.paced:
            members |= {"go": In(1), "begun": Out(1)}
        if head is not None:
            members |= {"error_go": In(1), "error_valid": Out(1), "error": Out(HEAD_ERROR)}
        super().__init__(members | {
            "room": Out(1), "reserve": In(1),
            "en": In(1), "addr": In(address(n_classes)), "payload": In(fmt.width), "commit": In(1),
            "larger": In(1), "tag": In(self.tag_in),
            "o_valid": Out(1), "o_loss": Out(LOSS_WIDTH), "o_tag": Out(self.tag_out),
        })

    @property
    def latency_cycles(self) -> int:
        """Cycles from the commit of the last logit to ``o_valid``, alone in the unit."""
        return self.n_classes + 5

    def elaborate(self, platform):
        m = Module()

        ring_tag = data.StructLayout(
            {name: shape for name, shape in self.tag_in.members.items() if name != "learn"}
            | {"maximum": signed(LOGIT.width)})
        m.submodules.ring = ring = VectorBuffer(
            1, LOGIT.width, depth=self.n_classes, tag=ring_tag)

        # MAXIMUM: while the logits arrive.
        raw = self.payload.as_signed() if self.fmt.signed else self.payload
        logit = requantize(m, raw, self.fmt.frac, LOGIT)
        best, maximum = Signal.like(logit), Signal.like(logit)
        m.d.comb += [
            # The cast keeps the order: the largest code has the largest logit.
            maximum.eq(Mux(self.larger, logit, best)),
            self.room.eq(ring.room),
            ring.reserve.eq(self.reserve),
            ring.w_en.eq(self.en),
            ring.w_addr.eq(self.addr),
            ring.w_data.eq(logit),
            ring.commit.eq(self.commit),
            *assign_tag(ring.w_tag, self.tag, maximum=maximum),
        ]
        with m.If(self.en):
            m.d.sync += best.eq(maximum)

        # WALK: class c is addressed in cycle c; a result is known 5 cycles after the last.
        count = Signal(address(self.n_classes))
        walking, last_class, error, wait = Signal(), Signal(), Signal(), Signal()
        tag = ring.tag
        m.d.comb += [
            walking.eq(ring.valid),
            last_class.eq(walking & (count == self.n_classes - 1)),
            ring.r_addr.eq(count),
            ring.release.eq(last_class),
            ring.take.eq(ring.release),
        ]
        m.d.sync += count.eq(Mux(walking & ~last_class, count + 1, 0))
        if self.paced:
            first_class = (count == 0) & ~error
            with m.If(first_class & (wait | tag.train.any() & ~self.go)):
                m.d.comb += walking.eq(0)
            m.d.comb += self.begun.eq(walking & first_class & tag.train.any())
        if self.head is not None:
            with m.If(last_class):
                m.d.sync += error.eq(0)
                with m.If(~error & tag.train[self.head] & ~field_of(tag, "probe")):
                    m.d.comb += ring.release.eq(0)
                    m.d.sync += wait.eq(1)
            with m.If(self.error_go):
                m.d.sync += [wait.eq(0), error.eq(1)]

        valid, first, last = Signal(4), Signal(2), Signal(4)
        tags = [Signal(self.tag_out, name=f"tag{k}") for k in range(4)]
        m.d.sync += [
            valid.eq(Cat(walking & ~error, valid)),
            first.eq(Cat(count == 0, first)),
            last.eq(Cat(last_class & ~error, last)),
            *assign_tag(tags[0], tag),
            *[after.eq(before) for before, after in zip(tags, tags[1:], strict=False)],
        ]

        # EXPONENTIAL: E = T[d % 16] >> (d // 16), d = min(m - l, 255).
        # Dividing by the sum is adding its logarithm to the maximum.
        walk_maximum, is_label = Signal(signed(LOGIT.width + 1)), Signal()
        log_sum = Signal(range(D_MAX + 1))
        m.d.sync += [
            walk_maximum.eq(ring.tag.maximum + Mux(error, log_sum, 0)),
            is_label.eq(count == ring.tag.label[:LABEL_WIDTH]),
        ]
        below = Signal(LOGIT.width + 1)
        m.d.comb += below.eq(walk_maximum - ring.r_data.as_signed())
        if self.head is not None:
            errors = Signal(2)
            m.d.sync += errors.eq(Cat(walking & error, errors))
        # The register lies inside the shift: half of it before, half behind.
        d, coarse, fine = Signal(range(D_MAX + 1)), Signal(EXP_FRAC + 1), Signal(2)
        below_label = Signal(LOGIT.width)
        m.d.comb += d.eq(Mux(below > D_MAX, D_MAX, below))
        m.d.sync += [coarse.eq(Array(EXP_TABLE)[d[:4]] >> (d[6:] << 2)), fine.eq(d[4:6])]
        with m.If(valid[0] & is_label):
            m.d.sync += below_label.eq(below)
        exponential = Signal(EXP_FRAC + 1)
        m.d.comb += exponential.eq(coarse >> fine)

        # SUM over the classes; the label's distance is kept beside it.
        total_width = EXP_FRAC + 1 + (self.n_classes - 1).bit_length()
        total = Signal(total_width)
        total_below = Signal(LOGIT.width)
        with m.If(valid[1]):
            m.d.sync += total.eq(Mux(first[1], 0, total) + exponential)
        with m.If(last[1]):
            m.d.sync += total_below.eq(below_label)

        # LOGARITHM: position of the leading one, then 8 bits behind it through a table. The sum
        # holds E[0] = 2**12, so the leading one is at least bit 12.
        position = Signal(range(total_width))
        fraction = Signal(8)
        log_below = Signal(LOGIT.width)
        for top in range(EXP_FRAC, total_width):
            with m.If(total[top]):
                m.d.sync += [position.eq(top), fraction.eq(total[top - 8:top])]
        m.d.sync += log_below.eq(total_below)
        loss = Signal(LOGIT.width + 5)
        logarithm = Signal(range((total_width - EXP_FRAC) << 8))
        # log2(1 + f) is f and little more, which takes a smaller table.
        more = Array(entry - f for f, entry in enumerate(LOG_TABLE))[fraction]
        m.d.comb += [
            logarithm.eq(Cat((fraction + more)[:8], position - EXP_FRAC)),
            loss.eq((log_below << 4) + logarithm),
        ]
        if self.head is not None:
            one_hot = Signal()
            m.d.sync += one_hot.eq(is_label)
            # It stands still from the loss to the errors: a register shortens the way to them.
            m.d.sync += log_sum.eq((logarithm + 8) >> 4)
            m.d.comb += [
                self.error_valid.eq(errors[1]),
                self.error.eq((exponential >> 4) - (one_hot << 8)),
            ]
        m.d.sync += [
            self.o_loss.eq(Mux(loss >> LOSS_WIDTH != 0, (1 << LOSS_WIDTH) - 1, loss)),
            self.o_valid.eq(last[3]),
            self.o_tag.eq(tags[3]),
        ]

        return m

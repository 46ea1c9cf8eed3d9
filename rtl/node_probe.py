"""Errors of the nodes: what the losses of a sample's probes say, and the coefficients from it."""
from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.loss import LOSS_WIDTH
from firmware_models.network import Network
from firmware_models.rules.node_probe import DELTA, ERROR, MAX_PROBES

from .loss import HEAD_ERROR
from .node_errors import Walk, node_errors
from .requantize import saturate
from .shapes import address, field_of

__all__ = ["NodeProbe"]


class NodeProbe(wiring.Component):
    """e_j += +-D of every active node for each probe's loss, e_c += p_c - [c == y] for the head

    Losses arrive in the order base, probes of the highest probed layer, ..., of the lowest one;
    tags say which, and when more follow. One loss is waited for at a time: ``go`` asks for it.
    Errors of all trained layers lie in one small RAM and pass through one adder.

    When a sample is complete, a walk over all nodes takes the coefficients out of the errors and
    hands them to the stages, each as soon as the base pass of the next learning sample has begun
    there. That is before the losses of that sample.

    Latency: a node per cycle. Losses of samples that are not learned from pass by.

    Bit-exact with :mod:`firmware_models.rules.node_probe` in the order of
    :mod:`firmware_models.line_rate`.

    Parameters
    ----------
    network : Network
    tag : data.StructLayout
        Of a loss.
    bits : int
        Magnitude bits of a coefficient: 1 or 4.

    Members
    -------
    loss_valid, loss, loss_tag : ``In``; go : ``Out(1)``; loss_begun : ``In(1)``
        Losses; the loss unit may begin a pass; it has begun one.
    error_go : ``Out(1)``; error_valid, error : ``In``
        Ask for the head's errors, class by class; they arrive.
    lr_shift, head_shift, decays, skip, layers, turn : ``In``
        Settings.
    train : ``Out``; taken : ``In(1)``
        Stages that learn from the next learning sample; it has been accepted.
    entered : ``In(1)``
        The first stage has accepted the base pass of a learning sample.
    k, word, lane, slot : ``Out``; negative, active : ``In``, one bit per probed stage
        Node whose sign and activity are looked up in this cycle, and in which slot.
    spent : ``In``, one bit per trainable stage
        No coefficients are left there.
    shift, loaded : ``Out``, one bit per trainable stage; fired, minus : ``Out``
        A coefficient for that stage, magnitude and sign; that was its last one.
    restart_request : ``In(1)``; hold, restart : ``Out(1)``
        New seed: no learning sample starts while ``hold``; forget what is not applied (pulse).
    window_word : ``In``; window_data : ``Out``
        Read-back of an error while nothing is learned from.
    updated : ``Out(1)``; busy, torn : ``Out(1)``; torn_clear : ``In(1)``
    """

    def __init__(self, network: Network, *, tag: data.StructLayout, bits: int = 1):
        self.network, self.bits = network, bits
        self.stages = [network.stages[i] for i in network.trainable]
        self.hidden = len(network.hidden)
        self.nodes = sum(stage.dense.n_out for stage in self.stages)
        n, probed = len(self.stages), max(self.hidden, 1)
        super().__init__({
            "loss_valid": In(1), "loss": In(LOSS_WIDTH), "loss_tag": In(tag), "go": Out(1),
            "loss_begun": In(1), "error_go": Out(1), "error_valid": In(1), "error": In(HEAD_ERROR),
            "lr_shift": In(4), "head_shift": In(4), "decays": In(4), "skip": In(LOSS_WIDTH),
            "layers": In(n), "turn": In(1), "train": Out(n), "taken": In(1), "entered": In(1),
            "word": Out(address(max(s.drain_words for s in self.stages))),
            "lane": Out(address(max(s.drain_lanes for s in self.stages))),
            "slot": Out(probed), "negative": In(probed), "active": In(probed),
            "spent": In(n), "shift": Out(n), "fired": Out(bits), "minus": Out(1), "loaded": Out(n),
            "restart_request": In(1), "hold": Out(1), "restart": Out(1),
            "window_word": In(16), "window_data": Out(signed(ERROR.width)),
            "updated": Out(1), "busy": Out(1), "torn": Out(1), "torn_clear": In(1),
        })

    def elaborate(self, platform):
        m = Module()

        sizes = [stage.dense.n_out for stage in self.stages]
        head = self.hidden if self.hidden < len(sizes) else None
        node, current = Signal(address(self.nodes)), Signal(address(len(sizes)))
        j, last_node, last_word = Signal(address(max(sizes))), Signal(), Signal()
        m.d.comb += [
            last_node.eq(j == Array(size - 1 for size in sizes)[current]),
            last_word.eq(self.word == Array(s.drain_words - 1 for s in self.stages)[current]),
        ]

        # The node of the next cycle: its error is read ahead.
        following = Signal.like(node)
        m.d.comb += following.eq(node)
        m.d.sync += node.eq(following)

        def begin(stage):
            first = [sum(sizes[:i]) for i in range(len(sizes))]
            m.d.comb += following.eq(Array(first)[stage])
            m.d.sync += [current.eq(stage), j.eq(0), self.word.eq(0), self.lane.eq(0)]

        def advance():
            m.d.comb += following.eq(node + 1)
            m.d.sync += [j.eq(Mux(last_node, 0, j + 1)),
                         self.word.eq(Mux(last_word | last_node, 0, self.word + 1)),
                         self.lane.eq(Mux(last_node, 0, self.lane + last_word)),
                         current.eq(current + last_node)]

        # A loss waits here until its turn.
        tag = self.loss_tag
        held, asked = Signal(), Signal()
        loss, is_probe, its_layer, its_more = (
            Signal.like(self.loss), Signal(), Signal(address(max(self.hidden, 1))), Signal())
        its_train = Signal.like(self.train)
        take = Signal()
        m.d.comb += self.go.eq(~asked)
        m.d.sync += asked.eq((asked | self.loss_begun) & ~take)
        with m.If(self.loss_valid & tag.train.any()):
            m.d.sync += [held.eq(1), loss.eq(self.loss), is_probe.eq(field_of(tag, "probe")),
                         its_layer.eq(field_of(tag, "layer")),
                         its_more.eq(field_of(tag, "more")), its_train.eq(tag.train)]
        with m.Elif(take):
            m.d.sync += held.eq(0)

        base, mask, counts, more = Signal.like(loss), Signal.like(self.train), Signal(), Signal()
        walked, k, delta = Signal.like(self.slot), Signal(range(MAX_PROBES)), Signal(
            signed(DELTA.width))
        in_flight, complete = Signal(5), Signal()
        difference = saturate(m, loss - base, DELTA)
        pending_restart = Signal()

        def take_probe():
            m.d.comb += take.eq(1)
            begin(its_layer)
            m.d.sync += [delta.eq(difference), more.eq(its_more),
                         k.eq(Mux(walked.bit_select(its_layer, 1), k + 1, 0)),
                         walked.bit_select(its_layer, 1).eq(1)]

        with m.FSM(init="CLEAR") as fsm:
            with m.State("CLEAR"):
                m.d.comb += following.eq(node + 1)
                with m.If(node == self.nodes - 1):
                    m.next = "IDLE"
            with m.State("IDLE"):
                with m.If(held & is_probe):
                    take_probe()
                    m.next = "PROBE"
                with m.Elif(held):
                    m.d.comb += take.eq(1)
                    m.d.sync += [base.eq(loss), mask.eq(its_train), counts.eq(loss >= self.skip),
                                 more.eq(its_more), walked.eq(0)]
                    if head is not None:
                        begin(Const(head))
                    with m.If(its_train[head] if head is not None else 0):
                        m.d.comb += self.error_go.eq(1)
                        m.next = "HEAD"
                    with m.Elif(~its_more):
                        m.d.comb += complete.eq(1)
                        m.next = "WAIT"
                with m.Elif(pending_restart & (in_flight == 0)):
                    m.next = "RESTART"
            # HEAD: e_c += p_c - [c == y]
            with m.State("HEAD"):
                with m.If(self.error_valid):
                    advance()
                    with m.If(last_node):
                        m.next = "IDLE"
                        with m.If(~more):
                            m.d.comb += complete.eq(1)
                            m.next = "WAIT"
            # PROBE: e_j += a_j z_j D
            with m.State("PROBE"):
                advance()
                with m.If(last_node):
                    with m.If(~more):
                        m.d.comb += complete.eq(1)
                        m.next = "WAIT"
                    with m.Elif(held):
                        take_probe()
                    with m.Else():
                        m.next = "IDLE"
            # WAIT, stage by stage, for the base pass of the next learning sample to begin there: it
            # uses the coefficients before these.
            with m.State("WAIT"):
                with m.If(self.spent.bit_select(current, 1)):
                    m.next = "COEFFICIENTS"
                with m.Elif(pending_restart & (in_flight == 0)):
                    m.next = "RESTART"
            with m.State("COEFFICIENTS"):
                m.d.comb += self.shift.eq(1 << current)
                advance()
                with m.If(last_node):
                    m.d.comb += self.loaded.eq(1 << current)
                    m.next = "WAIT"
                with m.If(node == self.nodes - 1):
                    m.d.comb += self.updated.eq(1)
                    m.next = "IDLE"
            with m.State("RESTART"):
                m.d.comb += self.restart.eq(1)
                m.d.comb += following.eq(0)
                m.d.sync += self.slot.eq(0)
                m.next = "CLEAR"

        node_errors(m, self, fsm, Walk(node, following, j, current), k, delta, counts, mask, head)
        with m.If(complete):
            begin(Const(0))
            m.d.sync += self.slot.eq(self.slot ^ Mux(fsm.ongoing("PROBE"), walked, 0))
        m.d.sync += in_flight.eq(in_flight + self.entered - complete)
        with m.If(self.restart_request):
            m.d.sync += pending_restart.eq(1)
        with m.Elif(self.restart):
            m.d.sync += pending_restart.eq(0)
        m.d.comb += [
            self.hold.eq(pending_restart | fsm.ongoing("CLEAR") | fsm.ongoing("RESTART")),
            self.busy.eq(self.hold | (in_flight != 0)),
        ]
        self._schedule(m)

        # A reset does not clear these: a sweep that a reset cut in two must not go unnoticed.
        learning, cut, ended = (Signal(reset_less=True) for _ in range(3))
        m.d.sync += [learning.eq(in_flight != 0), ended.eq(complete)]
        with m.If(learning & (in_flight == 0) & ~ended):
            m.d.sync += cut.eq(1)
        with m.Elif(self.torn_clear):
            m.d.sync += cut.eq(0)
        m.d.comb += self.torn.eq(cut)

        return m

    def _schedule(self, m):
        """Which stages learn: all selected ones, or the hidden ones of them in turn."""
        m.d.comb += self.train.eq(self.layers)
        if self.hidden < 2:
            return
        last = Signal(self.hidden)                      # one-hot; 0: none yet
        hidden = self.layers[:self.hidden]
        later = hidden & ~((last - 1) | last) & last.any().replicate(self.hidden)
        candidates, chosen = Signal(self.hidden), Signal(self.hidden)
        m.d.comb += [candidates.eq(Mux(later.any(), later, hidden)),
                     chosen.eq(candidates & (~candidates + 1))]
        with m.If(self.turn):
            m.d.comb += self.train[:self.hidden].eq(chosen)
            with m.If(self.taken & hidden.any()):
                m.d.sync += last.eq(chosen)
        with m.If(self.restart):
            m.d.sync += last.eq(0)

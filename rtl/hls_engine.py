"""A whole network that Vitis HLS has synthesized, with the face of one engine."""
from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.network import Network

from .hls_top import HlsTop
from .shapes import address, assign_tag

__all__ = ["HlsEngine"]


class HlsEngine(wiring.Component):
    """Take a pass, copy its vector and its weights to the ports of the HLS core, run it, drain.

    The weights of a pass may carry noise, which comes word by word in the order of the memory;
    the HLS core may read its ports in any order and as often as it likes. So every pass first walks
    over all words of all trainable layers, of all at the same time, and writes them into plain
    memories behind the ports. The HLS core is as Vitis made it.

    Latency: ``load_cycles`` + 3 + L cycles from the acceptance of a pass until its first logit, L
    the cycles from ``ap_start`` to ``ap_done``, both counted. Throughput: a pass per
    max(``load_cycles`` + 3, n_classes + 1) + L cycles: logits are drained while the next pass
    copies. Back-pressure: a pass starts only when its result has a slot reserved behind; from then
    on it never stops.

    Bit-exact with :func:`firmware_models.dense.forward`, if the HLS core is.

    Source: Vitis HLS, block protocol ``ap_ctrl_hs``; ports: :class:`rtl.hls_top.HlsTop`.

    Parameters
    ----------
    network : Network
    top : HlsTop
    tag, next_tag : data.StructLayout
        Tags of its passes and of what it delivers.

    Members
    -------
    pass_valid, pass_tag : ``In``; pass_ready : ``Out(1)``
    x_addr : ``Out``; x_data : ``In``, 1 cycle later
    x_last : ``Out(1)``
        The last word of the vector is being addressed.
    w_addr : ``Out``; w_first : ``Out(1)``
        Word of all memories, weights and biases; it is the first of the pass.
    w_en : ``Out``, one bit per trainable layer
        The layer has such a word of weights.
    w_data0, bias_data0, ... : ``In``, 2 cycles later
        Words of trainable layer 0, 1, ...
    w_tag, bias_tag : ``Out(tag)``
        Tag of the pass that addresses.
    room : ``In(1)``; reserve : ``Out(1)``
        Slot behind.
    o_en, o_commit : ``Out(1)``; o_addr, o_data, o_tag : ``Out``
        Logits, one per cycle.
    idle : ``Out(1)``
        No pass inside.
    """

    def __init__(self, network: Network, top: HlsTop, *, tag: data.StructLayout,
                 next_tag: data.StructLayout):
        top.check(network)
        self.network, self.top = network, top
        self.trained = [network.stages[index] for index in network.trainable]
        first, last = network.stages[0], network.stages[-1]
        words = {}
        for n, stage in enumerate(self.trained):
            words |= {f"w_data{n}": In(stage.dense.lanes * stage.dense.weight.width),
                      f"bias_data{n}": In(stage.drain_lanes * stage.dense.bias.width)}
        super().__init__(words | {
            "pass_valid": In(1), "pass_ready": Out(1), "pass_tag": In(tag),
            "x_addr": Out(address(first.dense.reuse_factor)), "x_last": Out(1),
            "x_data": In(first.dense.inputs_per_word * first.source.width),
            "w_addr": Out(address(self.load_cycles)), "w_first": Out(1),
            "w_en": Out(len(self.trained)), "w_tag": Out(tag), "bias_tag": Out(tag),
            "room": In(1), "reserve": Out(1),
            "o_en": Out(1), "o_addr": Out(address(network.n_classes)), "o_commit": Out(1),
            "o_data": Out(last.result.width), "o_tag": Out(next_tag),
            "idle": Out(1),
        })

    @property
    def load_cycles(self) -> int:
        """Words of the longest of what is copied before each pass."""
        return max(self.network.stages[0].dense.reuse_factor, *(
            words for stage in self.trained
            for words in (stage.dense.reuse_factor, stage.drain_words)))

    def elaborate(self, platform):
        m = Module()

        first = self.network.stages[0]
        start, ready, done, draining = Signal(), Signal(), Signal(), Signal()
        # COPY: what is addressed arrives 1 cycle (vector) or 2 cycles (weights) later.
        addr = [self.w_addr, *(Signal.like(self.w_addr, name=f"addr{k}") for k in (1, 2))]
        copying = Signal(3)
        m.d.sync += [copying[1:].eq(copying), *(
            after.eq(before) for before, after in zip(addr, addr[1:], strict=False))]
        m.d.comb += [
            self.x_addr.eq(self.w_addr), self.bias_tag.eq(self.w_tag),
            self.w_first.eq(self.w_addr == 0),
            self.x_last.eq(copying[0] & (self.w_addr == first.dense.reuse_factor - 1)),
            *[enabled.eq(copying[0] & (self.w_addr < stage.dense.reuse_factor))
              for enabled, stage in zip(self.w_en, self.trained, strict=True)],
        ]

        accepted = Signal()
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.pass_ready.eq(self.room)
                with m.If(self.pass_valid & self.pass_ready):
                    m.d.comb += self.reserve.eq(1)
                    m.d.sync += [self.w_tag.eq(self.pass_tag), self.w_addr.eq(0)]
                    m.next = "COPY"
            with m.State("COPY"):
                m.d.comb += copying[0].eq(1)
                m.d.sync += self.w_addr.eq(self.w_addr + 1)
                with m.If(self.w_addr == self.load_cycles - 1):
                    m.next = "LAST_WORD"
            with m.State("LAST_WORD"):
                # The logits of the pass before must be out when new ones come.
                with m.If(~copying[1] & ~draining):
                    m.next = "RUN"
            with m.State("RUN"):        # ap_start until ap_ready, which is not later than ap_done
                m.d.comb += start.eq(~accepted)
                m.d.sync += accepted.eq((accepted | ready) & ~done)
                with m.If(done):
                    m.d.sync += [draining.eq(1), *assign_tag(self.o_tag, self.w_tag)]
                    m.next = "IDLE"

        ports = {"i_ap_clk": ClockSignal(), "i_ap_rst": ResetSignal(), "i_ap_start": start,
                 "o_ap_ready": ready, "o_ap_done": done, "o_ap_idle": Signal(name="ap_idle")}
        ports |= self._vector(m, copying[1], addr[1], running=fsm.ongoing("RUN"))
        for n, stage in enumerate(self.trained):
            ports |= self._weights(m, n, stage, copying[2], addr[2])
        ports |= self._logits(m, draining, running=fsm.ongoing("RUN"))
        m.submodules[self.top.name] = Instance(self.top.name, **ports)
        m.d.comb += self.idle.eq(fsm.ongoing("IDLE") & ~draining)
        return m

    def _vector(self, m, en, addr, *, running):
        """The vector in a register: word w brings element w + reuse_factor * l in its lane l."""
        dense, width = self.network.stages[0].dense, self.top.x.width
        x = Signal(self.top.x.size * width)
        with m.If(en & (addr < dense.reuse_factor)):
            m.d.sync += x.eq(_shifted(x, self.x_data, dense.inputs_per_word))
        return {f"i_{self.top.x.name}": x, f"i_{self.top.x.name}_ap_vld": running}

    def _weights(self, m, n, stage, en, addr):
        """A memory behind the port of a layer's weights, registers behind those of its biases."""
        layer = self.top.layers[n]
        words, weight = stage.dense.reuse_factor, layer.weight.name
        m.submodules[f"copy{n}"] = copy = memory.Memory(
            shape=unsigned(layer.word_width), depth=words, init=[])
        write, read = copy.write_port(), copy.read_port()
        m.d.comb += [write.addr.eq(addr), write.data.eq(getattr(self, f"w_data{n}")),
                     write.en.eq(en & (addr < words))]
        # Word s brings output s + drain_words * c in its lane c.
        biases = Signal(layer.bias.size * layer.bias.width, name=f"biases{n}")
        with m.If(en & (addr < stage.drain_words)):
            m.d.sync += biases.eq(_shifted(biases, getattr(self, f"bias_data{n}"),
                                           stage.drain_lanes))
        return {f"o_{weight}_address0": read.addr, f"o_{weight}_ce0": read.en,
                f"i_{weight}_q0": read.data} | {
            f"i_{port}": biases.word_select(k, layer.bias.width)
            for k, port in enumerate(layer.bias.elements)}

    def _logits(self, m, draining, *, running):
        """Catch each logit when it is valid; shift them out."""
        of = self.top.logits
        logits, ports, last = Signal(of.size * of.width), {}, self.o_addr == of.size - 1
        for k, port in enumerate(of.elements):
            logit, valid = Signal(of.width, name=port), Signal(name=f"{port}_valid")
            with m.If(running & valid):
                m.d.sync += logits.word_select(k, of.width).eq(logit)
            ports |= {f"o_{port}": logit, f"o_{port}_ap_vld": valid}
        with m.If(draining):
            m.d.sync += [logits.eq(logits >> of.width), draining.eq(~last),
                         self.o_addr.eq(Mux(last, 0, self.o_addr + 1))]
        m.d.comb += [self.o_en.eq(draining), self.o_data.eq(logits[:of.width]),
                     self.o_commit.eq(draining & last)]
        return ports


def _shifted(register, word, lanes):
    """`register` of `lanes` chains, each moved on by one element: what `word` brings comes last.

    When as many words have come as a chain has elements, the first one stands first.
    """
    width, chain = len(word) // lanes, len(register) // lanes
    return Cat(Cat(register.word_select(lane, chain)[width:], word.word_select(lane, width))
               for lane in range(lanes))

"""The core: stages in a row, and around them what learning needs."""
from dataclasses import asdict
from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models import momentum
from firmware_models.journal import check_size
from firmware_models.network import PROMPT, Network
from firmware_models.options import check_head, checked
from firmware_models.registers import RECORD_SPACE, build_number
from firmware_models.sample_packets import BEAT_WIDTH, USER_WIDTH
from firmware_models.settings import RULES

from .hls_stages import hls_stages
from .hls_top import HlsTop, check_engine
from .host_access import access, requests
from .loss import LossUnit
from .progress import Progress
from .readout import Readout
from .registers import AXIL_MEMBERS, Registers
from .rules import base_pass, continuous, evolution, node_probes, selected
from .sample_input import SampleInput
from .shapes import assign_tag, field_of
from .stages import stages, take_by_itself

__all__ = ["Core"]

WINDOW_WIDTH = 32           # of a master in the window


class Core(wiring.Component):
    """A network behind AXI4-Stream and AXI4-Lite, that infers and, if `learning`, learns.

    s_axis -> SampleInput -> [VectorBuffer -> DenseEngine] per stage -> Readout -> m_axis
                                              |      ^                -> LossUnit -> LearnController
                                       WeightMemory / WeightRom

    Every stage works on its own pass. A stage takes the next vector by itself, except the one where
    probe passes enter: there the controller says which passes the vector makes.

    Latency and throughput: :mod:`firmware_models.cycles`, equal to simulation.
    Back-pressure: everywhere; no sample is lost.

    Bit-exact with :class:`firmware_models.learner.Learner`.

    Parameters
    ----------
    network : Network
    learning : bool
        False leaves inference alone: all weights in ROM.
    residual : int
        Residual bits R below each trainable weight, 0 to 8.
    rules : tuple of {"np", "es"}
        Node probes with delta head; evolutionary strategy. With both, a register selects.
    multipliers : bool
        Of "np": coefficients of four bits and a sign instead of one, and a DSP per weight lane.
    max_pairs : int
        Of "es": largest population in pairs, 1 to 64.
    options : tuple of str
        Of :data:`firmware_models.options.OPTIONS`; "prompt" gives the network one if it has none.
    journal_records : int
        Of option "journal": records that it keeps, a power of two, 16 to 4096.
    hls : HlsTop, optional
        Put this around hls4ml's own core instead of engines of our own.

    Members
    -------
    s_axis_* : AXI4-Stream in, :class:`rtl.sample_input.SampleInput`
    m_axis_* : AXI4-Stream out, :class:`rtl.readout.Readout`
    s_axil_* : AXI4-Lite, :mod:`firmware_models.registers`
    """

    def __init__(self, network: Network, *, learning: bool = True, residual: int = 4,
                 rules: tuple[str, ...] = ("np",), multipliers: bool = False,
                 max_pairs: int = 16, options: tuple[str, ...] = (),
                 journal_records: int = 256, hls: HlsTop | None = None):
        if not 0 <= residual <= 8:
            raise ValueError(f"residual must be 0 to 8 bits, not {residual}")
        if not 1 <= max_pairs <= 64:
            raise ValueError(f"max_pairs must be 1 to 64, not {max_pairs}")
        if not rules or not set(rules) <= set(RULES) or len(set(rules)) < len(rules):
            raise ValueError(f"rules must be some of {', '.join(RULES)}, not "
                             f"{', '.join(rules) or 'none'}")
        if learning:        # option and prompt of the network imply each other
            options = checked((*options, *[PROMPT] * (network.prompt is not None)), rules)
            network = network.with_prompt() if PROMPT in options else network
            if not network.trainable:
                raise ValueError(f"{network.name}: no layer is trainable; name one, or build for "
                                 "inference alone")
        else:
            options, network = (), network.with_trainable(())
        if PROMPT in options and network.parts[-1].dense.weight.width + residual > WINDOW_WIDTH:
            raise ValueError(f"{network.name}: a prompt for features of {network.input.width} bits "
                             f"and {residual} residual bits does not fit a register")
        if len(network.parts) > RECORD_SPACE:
            raise ValueError(f"{network.name}: {len(network.parts)} stages; the registers address "
                             f"{RECORD_SPACE}")
        if hls is not None:
            check_engine(network, hls, learning=learning, rules=rules, options=options)
        self.network, self.learning, self.hls = network, learning, hls
        self.residual, self.max_pairs = residual, max_pairs
        self.coefficient_bits = 4 if multipliers else 1
        self.rules = tuple(rule for rule in RULES if rule in rules) if learning else ()
        self.options = options
        if "momentum" in self.options:
            momentum.check(self.network)
        check_head(self.options, self.network)
        self.journal_records = check_size(journal_records)
        self.build = build_number(
            network=network.digest(), learning=learning, rules=self.rules, options=self.options,
            residual=residual, coefficient_bits=self.coefficient_bits, max_pairs=max_pairs,
            journal_records=journal_records, hls=hls and asdict(hls))
        super().__init__({
            "s_axis_tdata": In(BEAT_WIDTH), "s_axis_tuser": In(USER_WIDTH),
            "s_axis_tvalid": In(1), "s_axis_tready": Out(1), "s_axis_tlast": In(1),
            "m_axis_tdata": Out(32), "m_axis_tvalid": Out(1), "m_axis_tready": In(1),
            "m_axis_tlast": Out(1),
            "s_axil_awprot": In(3), "s_axil_arprot": In(3),
            **{f"s_{name}": member for name, member in AXIL_MEMBERS.items()},
        })

    def elaborate(self, platform):
        m = Module()

        m.submodules.registers = registers = Registers(
            self.learning, self.rules, self.options, self.build)
        for name, member in AXIL_MEMBERS.items():
            inner, outer = getattr(registers, name), getattr(self, f"s_{name}")
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)

        m.submodules.sample_input = source = SampleInput(
            self.network, len(self.network.trainable) if "np" in self.rules else 0,
            drift="drift" in self.options)
        m.submodules.readout = readout = Readout(
            self.network.n_classes, self.network.stages[-1].result, self.network.softmax)
        for port in ("tdata", "tuser", "tvalid", "tlast"):
            m.d.comb += getattr(source, port).eq(getattr(self, f"s_axis_{port}"))
        for port in ("tdata", "tvalid", "tlast"):
            m.d.comb += getattr(self, f"m_axis_{port}").eq(getattr(readout, port))
        m.d.comb += [
            self.s_axis_tready.eq(source.tready),
            readout.tready.eq(self.m_axis_tready),
            readout.logits.eq(registers.control_logits),
            registers.samples.eq(readout.samples),
            registers.dropped.eq(source.dropped),
        ]

        wires = stages if self.hls is None else hls_stages
        buffers, engines, memories = wires(m, self, source)
        last = engines[-1]
        m.d.comb += [
            readout.en.eq(last.o_en), readout.addr.eq(last.o_addr),
            readout.payload.eq(last.o_data), readout.commit.eq(last.o_commit),
            readout.kept.eq(~field_of(last.o_tag, "probe")),
        ]
        if self.learning:
            self._learning(m, registers, source, readout, buffers, engines, memories)
        else:
            for buffer, engine in zip(buffers, engines, strict=True):
                take_by_itself(m, buffer, engine)
            m.d.comb += [last.room.eq(readout.room), readout.reserve.eq(last.reserve)]
        return m

    def _learning(self, m, registers, source, readout, buffers, engines, memories):
        """Loss unit, counters and read-back, which all rules share, and the rules themselves."""
        network, last = self.network, engines[-1]
        head = len(network.stages) - 1
        m.submodules.loss = loss = LossUnit(
            network.n_classes, network.stages[-1].result, tag=last.o_tag.shape(),
            head=network.trainable.index(head)
            if "np" in self.rules and head in network.trainable else None)
        m.submodules.progress = progress = Progress(2 * len(network.trainable))

        # The last stage starts a pass when both of its readers have room; probes end in the loss.
        m.d.comb += [
            last.room.eq(loss.room & readout.room),
            loss.reserve.eq(last.reserve),
            readout.reserve.eq(last.reserve & ~field_of(last.pass_tag, "probe")),
            loss.en.eq(last.o_en), loss.addr.eq(last.o_addr), loss.payload.eq(last.o_data),
            loss.commit.eq(last.o_commit), loss.larger.eq(readout.larger),
            *assign_tag(loss.tag, last.o_tag),
            progress.loss_valid.eq(loss.o_valid), progress.loss.eq(loss.o_loss),
            progress.loss_probe.eq(field_of(loss.o_tag, "probe")),
            progress.clipped.eq(Cat(memories[i].clipped for i in network.trainable)),
            progress.lr_decay.eq(registers.rate_lr_decay),
            progress.restart.eq(registers.seed_write | registers.rate_write),
            registers.progress_decays.eq(progress.decays),
            registers.progress_decay_count.eq(progress.decay_count),
            registers.loss.eq(progress.last_loss),
            *[getattr(registers, name).eq(getattr(progress, name)) for name in (
                "passes", "updates", "saturations", "loss_average")],
        ]
        # With one rule alone, it is always the one selected.
        es_on, np_on = "es" in self.rules, "np" in self.rules
        by_nodes = registers.rule_np if es_on and np_on else Const(np_on)
        readback, load, snapshot = requests(m, self, registers)
        control = node = None
        if es_on:
            control = evolution(m, self, registers, loss, progress, readback, by_nodes, buffers,
                                engines, memories)
            m.d.comb += control.learn.eq(registers.control_learn & ~by_nodes)
        if np_on:
            node = node_probes(m, self, registers, source, loss, progress, buffers, engines,
                               memories)
            m.d.comb += [
                node.layers.eq(selected(network, registers)
                               & (registers.control_learn & by_nodes).replicate(len(node.layers))),
            ]
        # What the window shows stands still for cycles before it is taken.
        m.d.sync += registers.window_data.eq(node.window_data if np_on else 0)
        if drifts := "drift" in self.options:
            drift = continuous(m, registers, source, loss, progress, node)
            with m.If(drift.restart):
                m.d.comb += progress.restart.eq(1)
        rules = [part for part in (control, node) if part is not None]
        torn = [*rules, snapshot] if snapshot else rules
        m.d.comb += [
            progress.updated.eq(Cat(part.updated for part in rules).any()),
            registers.busy.eq(Cat(*(part.busy for part in rules),
                                  *([snapshot.waits] if snapshot else ())).any()),
            registers.status_torn.eq(Cat(part.torn for part in torn).any()),
            *[part.torn_clear.eq(registers.status_torn_clear) for part in torn],
        ]

        access(m, self, registers, (readback, load, snapshot), by_nodes, control, node, buffers,
               engines, memories)

        # An HLS core is the engine of all stages, and takes by itself once.
        for index, (buffer, engine) in enumerate(dict(zip(buffers, engines, strict=True)).items()):
            owned, blocked = Const(0), []
            read_here = [position for position, part in enumerate(network.trainable)
                         if engines[network.stage_of(part)] is engine]
            if read_here:
                if es_on:
                    owned = reduce(or_, (control.owned[position] for position in read_here))
                    blocked.append(readback.blocked)
                if snapshot is not None:    # whatever is written to the registers meanwhile
                    blocked.append(snapshot.copying)
                if np_on:       # the update of two learning samples before has to be known
                    blocked.append(base_pass(buffer.tag) & ~memories[index].ready)
            if np_on and index == 0:
                blocked += [readback.request & by_nodes, base_pass(buffer.tag) & node.hold]
                if drifts:      # the rate decay has to start over first
                    blocked.append(base_pass(buffer.tag) & drift.hold)
            take_by_itself(m, buffer, engine, owned=owned, blocked=Cat(blocked).any())

"""The core: stages in a row, and around them what learning needs."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.learner import first_generators
from firmware_models.network import Network
from firmware_models.registers import JOURNAL_SPACE
from firmware_models.sample_packets import BEAT_WIDTH, USER_WIDTH

from .controller import LearnController
from .dense import DenseEngine
from .loss import LossUnit
from .readout import Readout
from .registers import AXIL_MEMBERS, Registers
from .sample_input import SampleInput
from .shapes import assign_tag, engine_tag
from .vector_buffer import VectorBuffer
from .weight_memory import WeightMemory
from .weight_rom import WeightRom

__all__ = ["Core"]

NEVER = Const(0)


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
    max_pairs : int
        Largest population in pairs, 1 to 64.

    Members
    -------
    s_axis_* : AXI4-Stream in, :class:`rtl.sample_input.SampleInput`
    m_axis_* : AXI4-Stream out, :class:`rtl.readout.Readout`
    s_axil_* : AXI4-Lite, :mod:`firmware_models.registers`
    """

    def __init__(self, network: Network, *, learning: bool = True, residual: int = 4,
                 max_pairs: int = 16):
        if learning and not network.trainable:
            raise ValueError(f"{network.name}: no layer is trainable; name one, or build for "
                             "inference alone")
        if not 0 <= residual <= 8:
            raise ValueError(f"residual must be 0 to 8 bits, not {residual}")
        if not 1 <= max_pairs <= 64:
            raise ValueError(f"max_pairs must be 1 to 64, not {max_pairs}")
        if len(network.stages) >= JOURNAL_SPACE - 1:
            raise ValueError(f"{network.name}: {len(network.stages)} stages; the registers address "
                             f"{JOURNAL_SPACE - 2}")
        self.network = network if learning else network.with_trainable(())
        self.learning, self.residual, self.max_pairs = learning, residual, max_pairs
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

        m.submodules.registers = registers = Registers(self.learning)
        for name, member in AXIL_MEMBERS.items():
            inner, outer = getattr(registers, name), getattr(self, f"s_{name}")
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)

        m.submodules.sample_input = source = SampleInput(self.network)
        m.submodules.readout = readout = Readout(
            self.network.n_classes, self.network.stages[-1].result)
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

        buffers, engines, memories = self._stages(m, source)
        last = engines[-1]
        perturbed = last.o_tag.probe if self.learning else 0
        m.d.comb += [
            readout.en.eq(last.o_en & ~perturbed),
            readout.addr.eq(last.o_addr),
            readout.payload.eq(last.o_data),
            readout.commit.eq(last.o_commit & ~perturbed),
        ]
        if self.learning:
            self._learning(m, registers, readout, buffers, engines, memories)
        else:
            for buffer, engine in zip(buffers, engines, strict=True):
                self._take_by_itself(m, buffer, engine)
            m.d.comb += [last.room.eq(readout.room), readout.reserve.eq(last.reserve)]
        return m

    def _stages(self, m, source):
        """Buffer, engine and memory of every stage, wired in a row."""
        network = self.network
        first_generator = first_generators(network)
        buffers, engines, memories = [], [], []
        writer = source
        for stage in network.stages:
            dense = stage.dense
            arriving = engine_tag(network, stage.index, arriving=True)
            buffer = VectorBuffer(dense.inputs_per_word, stage.source.width,
                                  depth=dense.reuse_factor, tag=arriving)
            following = engine_tag(network, stage.index + 1, arriving=True)
            engine = DenseEngine(stage, tag=engine_tag(network, stage.index, arriving=False),
                                 next_tag=following)
            if dense.trainable:
                weights = WeightMemory(
                    stage, residual=self.residual, max_pairs=self.max_pairs,
                    first_generator=first_generator[stage.index])
                m.d.comb += [
                    weights.en.eq(engine.w_en), weights.first.eq(engine.w_first),
                    weights.pass_tag.eq(engine.w_tag), weights.bias_tag.eq(engine.bias_tag),
                ]
            else:
                weights = WeightRom(stage)
            m.submodules[f"buffer{stage.index}"] = buffer
            m.submodules[f"engine{stage.index}"] = engine
            m.submodules[f"weights{stage.index}"] = weights

            if writer is source:
                w_en, w_addr, w_data, w_tag = (
                    source.w_en, source.w_addr, source.w_data, source.w_tag)
                commit = source.commit
            else:
                w_en, w_addr, w_data, w_tag = (
                    writer.o_en.replicate(dense.inputs_per_word), writer.o_addr, writer.o_data,
                    writer.o_tag)
                commit = writer.o_commit
            m.d.comb += [
                writer.room.eq(buffer.room), buffer.reserve.eq(writer.reserve),
                buffer.w_en.eq(w_en), buffer.w_addr.eq(w_addr), buffer.w_data.eq(w_data),
                buffer.w_tag.eq(w_tag), buffer.commit.eq(commit),
                buffer.r_addr.eq(engine.x_addr), engine.x_data.eq(buffer.r_data),
                weights.addr.eq(engine.w_addr), engine.w_data.eq(weights.data),
                weights.bias_addr.eq(engine.bias_addr), engine.bias_data.eq(weights.bias_data),
            ]
            buffers.append(buffer)
            engines.append(engine)
            memories.append(weights)
            writer = engine
        return buffers, engines, memories

    def _take_by_itself(self, m, buffer, engine, *, owned=NEVER, blocked=NEVER):
        """The stage makes one pass of each vector it is offered, unless the controller owns it."""
        itself = Signal()
        with m.If(engine.pass_ready & engine.pass_valid):
            m.d.sync += itself.eq(~owned)
        with m.If(~owned):
            m.d.comb += [
                engine.pass_valid.eq(buffer.valid & ~blocked),
                buffer.take.eq(engine.pass_valid & engine.pass_ready),
                *assign_tag(engine.pass_tag, buffer.tag),
            ]
        with m.If(engine.x_last & itself):
            m.d.comb += buffer.release.eq(1)

    def _learning(self, m, registers, readout, buffers, engines, memories):
        network, trainable = self.network, self.network.trainable
        last = engines[-1]
        m.submodules.loss = loss = LossUnit(network.n_classes, network.stages[-1].result)
        m.submodules.controller = control = LearnController(network, max_pairs=self.max_pairs)

        # The last stage starts a pass when both of its readers have room; probes end in the loss.
        m.d.comb += [
            last.room.eq(loss.room & readout.room),
            loss.reserve.eq(last.reserve),
            readout.reserve.eq(last.reserve & ~last.pass_tag.probe),
            loss.en.eq(last.o_en), loss.addr.eq(last.o_addr), loss.payload.eq(last.o_data),
            loss.commit.eq(last.o_commit),
            *assign_tag(loss.tag, last.o_tag),
            control.loss_valid.eq(loss.o_valid), control.loss.eq(loss.o_loss),
            control.loss_probe.eq(loss.o_probe), control.loss_negative.eq(loss.o_negative),
        ]

        # A number of pairs that the core cannot keep counts as the most it can.
        too_many = (registers.pairs == 0) | (registers.pairs > self.max_pairs)
        m.d.comb += [
            control.learn.eq(registers.control_learn),
            control.layers.eq(Cat(registers.layers[i] for i in trainable)),
            control.pairs.eq(Mux(too_many, self.max_pairs, registers.pairs)),
            control.batch.eq(registers.batch), control.rank.eq(registers.rule_fitness),
            control.sigma_in.eq(registers.sigma), control.lr_shift.eq(registers.rate_lr_shift),
            control.lr_decay.eq(registers.rate_lr_decay),
            control.seed.eq(registers.seed), control.seed_write.eq(registers.seed_write),
            control.rate_write.eq(registers.rate_write),
            control.torn_clear.eq(registers.status_torn_clear),
            registers.status_torn.eq(control.torn),
            registers.progress_batch_index.eq(control.batch_index),
            registers.progress_decays.eq(control.decays),
            registers.progress_decay_count.eq(control.decay_count),
            registers.loss.eq(control.last_loss),
            *[getattr(registers, name).eq(getattr(control, name)) for name in (
                "busy", "passes", "updates", "saturations", "loss_average", "next_seed")],
        ]

        # Read-back: start nothing new in the trainable stages, wait until they are empty, read.
        # A sample under way is finished first, or its passes would wait for themselves.
        blocked, quiet, window_cycle = Signal(), Signal(), Signal(2)
        m.d.comb += [
            blocked.eq(registers.window_request & ~control.busy),
            quiet.eq(blocked & Cat(engines[i].idle for i in trainable).all()),
        ]
        m.d.sync += window_cycle.eq(Mux(quiet, window_cycle + (window_cycle != 3), 0))
        m.d.comb += [
            control.hold.eq(registers.window_request),
            control.journal_pair.eq(registers.window_word),
            registers.window_ready.eq(window_cycle == 3),
            registers.window_data.eq(Mux(registers.window_lane[0], control.journal_delta,
                                         control.journal_seed)),
        ]

        sweep_done, accumulate, clipped = [], [], []
        for position, index in enumerate(trainable):
            buffer, engine, weights = buffers[index], engines[index], memories[index]
            owned = control.owned[position]
            self._take_by_itself(m, buffer, engine, owned=owned, blocked=blocked)
            with m.If(owned):
                m.d.comb += [
                    engine.pass_valid.eq(control.pass_valid),
                    engine.pass_tag.eq(control.pass_tag),
                    control.pass_ready.eq(engine.pass_ready),
                    buffer.take.eq(control.release),
                ]
                with m.If(control.release):
                    m.d.comb += buffer.release.eq(1)
            m.d.comb += [
                control.head_valid[position].eq(buffer.valid),
                control.head_learn[position].eq(buffer.tag.learn & ~self._is_probe(buffer)),
                control.head_label[position].eq(buffer.tag.label),
                weights.selected.eq(control.selected[position]),
                weights.sigma.eq(control.sigma),
                weights.sweep.eq(control.sweep[position]),
                weights.pair.eq(control.pair), weights.seed.eq(control.sweep_seed),
                weights.coefficient.eq(control.coefficient),
                weights.last_pair.eq(control.last_pair),
                weights.window_en.eq(quiet),
                weights.window_word.eq(registers.window_word),
                weights.window_lane.eq(registers.window_lane),
            ]
            with m.If(registers.window_space == index):
                m.d.comb += registers.window_data.eq(weights.window_data)
            sweep_done.append(weights.sweep_done)
            accumulate.append(weights.accumulate)
            clipped.append(weights.clipped)
        for index, (buffer, engine) in enumerate(zip(buffers, engines, strict=True)):
            if index not in trainable:
                self._take_by_itself(m, buffer, engine)
        m.d.comb += [
            control.sweep_done.eq(Cat(sweep_done).any()),
            control.accumulate.eq(Cat(accumulate).any()),
            control.clipped.eq(Cat(clipped).any()),
        ]

    @staticmethod
    def _is_probe(buffer):
        return buffer.tag.probe if "probe" in buffer.tag.shape().members else 0

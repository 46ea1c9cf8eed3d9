"""The wires of the stages: buffer, engine and memory in a row, and a prompt before the first."""
from amaranth import *

from firmware_models.evolution import first_generators
from firmware_models.snapshot import copy_words

from .dense import DenseEngine
from .prompt import Prompt
from .shapes import assign_tag, engine_tag
from .vector_buffer import VectorBuffer
from .weight_memory import WeightMemory
from .weight_rom import WeightRom

__all__ = ["stages", "take_by_itself", "trainable_memory"]

NEVER = Const(0)


def stages(m, core, source):
    """Buffer, engine and memory of every stage, wired in a row; that of a prompt comes last.

    Constant stages have no memory.
    """
    network = core.network
    first_generator = first_generators(network)

    def trainable(part, **more):
        return trainable_memory(core, part, first_generator[part.index], **more)

    buffers, engines, memories = [], [], []
    writer = source
    for stage in network.stages:
        dense = stage.dense
        arriving = engine_tag(network, stage.index, core.rules, arriving=True)
        # With other vectors beside what is multiplied, a word is written as a whole.
        lanes, width = (1, stage.frame_width) if len(stage.frame) > 1 else \
            (dense.inputs_per_word, stage.source.width)
        buffer = VectorBuffer(lanes, width, depth=dense.reuse_factor, tag=arriving)
        following = engine_tag(network, stage.index + 1, core.rules, arriving=True)
        line_rate = dense.trainable and "np" in core.rules
        probes = network.hidden.index(stage.index) \
            if line_rate and stage.index in network.hidden else None
        engine = DenseEngine(
            stage, tag=engine_tag(network, stage.index, core.rules, arriving=False),
            next_tag=following, line_rate=line_rate, probes=probes,
            residual=core.residual if dense.trainable else None)
        if dense.trainable:
            weights = trainable(stage, picked_by_sums=True)
            m.d.comb += [
                weights.en.eq(engine.w_en), weights.first.eq(engine.w_first),
                engine.w_residue.eq(weights.residue), weights.window_weight.eq(engine.window),
                engine.window_en.eq(weights.window_en),
                engine.window_lane.eq(weights.window_lane),
            ]
        else:
            weights = None if dense.constant else WeightRom(stage)
        m.submodules[f"buffer{stage.index}"] = buffer
        m.submodules[f"engine{stage.index}"] = engine
        if weights is not None:
            m.submodules[f"weights{stage.index}"] = weights

        if writer is source:
            w_en, w_addr, w_data, w_tag = (
                source.w_en, source.w_addr, source.w_data, source.w_tag)
            commit = source.commit
        else:
            w_en, w_addr, w_data, w_tag = (
                writer.o_en.replicate(lanes), writer.o_addr, writer.o_data,
                writer.o_tag)
            commit = writer.o_commit
        m.d.comb += [
            writer.room.eq(buffer.room), buffer.reserve.eq(writer.reserve),
            buffer.w_en.eq(w_en), buffer.w_addr.eq(w_addr), buffer.w_data.eq(w_data),
            buffer.w_tag.eq(w_tag), buffer.commit.eq(commit),
            buffer.r_addr.eq(engine.x_addr), engine.x_data.eq(buffer.r_data),
        ]
        if weights is not None:
            m.d.comb += [
                weights.addr.eq(engine.w_addr), engine.w_data.eq(weights.data),
                weights.bias_addr.eq(engine.bias_addr), engine.bias_data.eq(weights.bias_data),
            ]
        buffers.append(buffer)
        engines.append(engine)
        memories.append(weights)
        writer = engine
    if network.prompt is not None:
        memories.append(_prompt(m, core, buffers[0], engines[0], trainable(network.parts[-1])))
    return buffers, engines, memories


def trainable_memory(core, part, first_generator, **more):
    """Memory of a part that learns; its noise generators are counted from `first_generator` on."""
    return WeightMemory(
        part, residual=core.residual, rules=core.rules, max_pairs=core.max_pairs,
        bits=core.coefficient_bits, first_generator=first_generator,
        options=core.options, copy_words=copy_words(core.network), **more)


def take_by_itself(m, buffer, engine, *, owned=NEVER, blocked=NEVER):
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


def _prompt(m, core, buffer, engine, weights):
    """The prompt between the first buffer and its engine; returns its memory `weights`."""
    m.submodules.prompt = prompt = Prompt(core.network)
    m.submodules[f"weights{weights.stage.index}"] = weights
    m.d.comb += [
        prompt.accepted.eq(engine.pass_valid & engine.pass_ready),
        prompt.next_addr.eq(engine.w_next), prompt.addressing.eq(engine.w_en),
        prompt.last.eq(engine.x_last),
        *assign_tag(prompt.pass_tag, engine.pass_tag), *assign_tag(prompt.tag, engine.w_tag),
        weights.addr.eq(prompt.w_addr), weights.en.eq(prompt.w_en),
        weights.first.eq(prompt.w_first), *assign_tag(weights.pass_tag, prompt.w_tag),
        prompt.w_data.eq(weights.data),
        # Instead of what the buffer delivers.
        prompt.x.eq(buffer.r_data), engine.x_data.eq(prompt.o),
    ]
    return weights

"""The wires around an HLS core: it is the one engine of all stages, their memories stand before it.
"""
from amaranth import *

from firmware_models.evolution import first_generators

from .hls_engine import HlsEngine
from .shapes import engine_tag, tag_layout
from .stages import trainable_memory
from .vector_buffer import VectorBuffer

__all__ = ["hls_stages"]


def hls_stages(m, core, source):
    """Buffer, engine and memory of every stage, as :func:`rtl.stages.stages` returns them.

    Passes of every stage enter at the first one, so that all stages have the same buffer and the
    same engine. Frozen stages have no memory: their weights are in the HLS core.
    """
    network = core.network
    dense = network.stages[0].dense
    m.submodules.buffer = buffer = VectorBuffer(
        dense.inputs_per_word, network.input.width, depth=dense.reuse_factor,
        tag=engine_tag(network, 0, core.rules, arriving=True))
    m.submodules.engine = engine = HlsEngine(
        network, core.hls, tag=tag_layout(probes=True, seeds=True), next_tag=engine_tag(
            network, len(network.stages), core.rules, arriving=True))
    m.d.comb += [
        source.room.eq(buffer.room), buffer.reserve.eq(source.reserve),
        buffer.w_en.eq(source.w_en), buffer.w_addr.eq(source.w_addr),
        buffer.w_data.eq(source.w_data), buffer.w_tag.eq(source.w_tag),
        buffer.commit.eq(source.commit),
        buffer.r_addr.eq(engine.x_addr), engine.x_data.eq(buffer.r_data),
    ]
    memories, generator = [None] * len(network.stages), first_generators(network)
    for n, index in enumerate(network.trainable):
        weights = trainable_memory(core, network.stages[index], generator[index])
        memories[index] = m.submodules[f"weights{index}"] = weights
        m.d.comb += [
            weights.addr.eq(engine.w_addr), weights.bias_addr.eq(engine.w_addr),
            weights.en.eq(engine.w_en[n]), weights.first.eq(engine.w_first),
            getattr(engine, f"w_data{n}").eq(weights.data),
            getattr(engine, f"bias_data{n}").eq(weights.bias_data),
        ]
    return [buffer] * len(network.stages), [engine] * len(network.stages), memories

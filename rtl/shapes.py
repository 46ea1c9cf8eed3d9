"""Shapes that several components share: number formats and the tag of a pass."""
from amaranth import *
from amaranth.lib import data

from firmware_models.formats import Fixed
from firmware_models.network import Network
from firmware_models.sample_packets import LABEL_WIDTH

__all__ = ["LABEL_WIDTH", "address", "assign_tag", "engine_tag", "shape_of", "tag_layout"]


def shape_of(fmt: Fixed) -> Shape:
    return Shape(fmt.width, signed=fmt.signed)


def address(depth: int) -> Shape:
    """Shape that counts from 0 to depth - 1; at least 1 bit, for Verilog has no empty vectors."""
    return unsigned(max(1, (depth - 1).bit_length()))


def tag_layout(*, probes: bool = False, seeds: bool = False, **more) -> data.StructLayout:
    """What travels with a pass: its label and, where probes can come by, what they perturb.

    label : 8 bits. learn : the sample may be learned from. probe : weights carry noise.
    negative : the noise is subtracted. seed : 32 bits, replays the noise.
    """
    fields = {"label": unsigned(LABEL_WIDTH), "learn": unsigned(1)}
    if probes:
        fields |= {"probe": unsigned(1), "negative": unsigned(1)}
    if seeds:
        fields |= {"seed": unsigned(32)}
    return data.StructLayout(fields | more)


def engine_tag(network: Network, stage: int, *, arriving: bool) -> data.StructLayout:
    """Tag that stage number `stage` works with, or the one that arrives from the stage before.

    Probes enter at a trainable stage, and seeds are carried only as far as the last one.
    """
    before = any(t < stage + (not arriving) for t in network.trainable)
    after = any(t >= stage for t in network.trainable)
    return tag_layout(probes=before, seeds=before and after)


def assign_tag(to: data.View, source: data.View, **override) -> list:
    """Statements that copy the fields both tags have; missing ones are 0; `override` wins."""
    have = source.shape().members if source is not None else {}
    return [getattr(to, name).eq(override[name] if name in override
                                 else getattr(source, name) if name in have else 0)
            for name in to.shape().members]

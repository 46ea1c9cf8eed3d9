"""Shapes that several components share: number formats and the tag of a pass."""
from amaranth import *
from amaranth.lib import data

from firmware_models.formats import Fixed
from firmware_models.network import Network
from firmware_models.sample_packets import LABEL_WIDTH

__all__ = ["LABEL_WIDTH", "address", "assign_tag", "engine_tag", "field_of", "lane",
           "shape_of", "tag_layout"]


def shape_of(fmt: Fixed) -> Shape:
    return Shape(fmt.width, signed=fmt.signed)


def lane(word: Value, index: int, fmt: Fixed) -> Value:
    """Element `index` of a word of codes in format `fmt`."""
    field = word.word_select(index, fmt.width)
    return field.as_signed() if fmt.signed else field


def address(depth: int) -> Shape:
    """Shape that counts from 0 to depth - 1; at least 1 bit, for Verilog has no empty vectors."""
    return unsigned(max(1, (depth - 1).bit_length()))


def tag_layout(*, probes: bool = False, seeds: bool = False, train: int = 0, nodes: int = 0,
               **more) -> data.StructLayout:
    """What travels with a pass: its label and, where probes can come by, what they perturb.

    label : 8 bits. learn : the sample may be learned from. probe : weights or nodes carry noise.
    Evolutionary strategy (`probes`): negative : the noise is subtracted; seed : replays it.
    Node probes (`train`, `nodes`: how many stages learn, and can be probed): train : one bit per
    stage that learns from this sample; layer : number of the probed stage among those that can be;
    more : further passes of this sample follow.
    """
    fields = {"label": unsigned(LABEL_WIDTH), "learn": unsigned(1)}
    if probes or nodes:
        fields |= {"probe": unsigned(1)}
    if probes:
        fields |= {"negative": unsigned(1)}
    if seeds:
        fields |= {"seed": unsigned(32)}
    if train:
        fields |= {"train": unsigned(train)}
    if nodes:
        fields |= {"more": unsigned(1)}
    if nodes > 1:
        fields |= {"layer": address(nodes)}
    return data.StructLayout(fields | more)


def engine_tag(network: Network, stage: int, rules: tuple[str, ...], *,
               arriving: bool) -> data.StructLayout:
    """Tag that stage number `stage` works with, or the one that arrives from the stage before.

    Weight probes enter where a trainable memory is read, and seeds are carried only as far as the
    last one.
    Node probes leave a trainable stage.
    """
    read_at = [network.stage_of(index) for index in network.trainable]
    es = "es" in rules and any(t < stage + (not arriving) for t in read_at)
    after = any(t >= stage for t in read_at)
    line_rate = "np" in rules
    nodes = len(network.hidden) if any(t < stage for t in network.hidden) else 0
    return tag_layout(probes=es, seeds=es and after,
                      train=len(network.trainable) if line_rate else 0,
                      nodes=nodes if line_rate else 0)


def assign_tag(to: data.View, source: data.View, **override) -> list:
    """Statements that copy the fields both tags have; missing ones are 0; `override` wins."""
    have = source.shape().members if source is not None else {}
    return [getattr(to, name).eq(override[name] if name in override
                                 else getattr(source, name) if name in have else 0)
            for name in to.shape().members]


def field_of(tag: data.View, name: str) -> Value:
    """A field of a tag, or 0 where tags do not have it."""
    return getattr(tag, name) if name in tag.shape().members else Const(0)

"""Branches of a network: the frame of vectors that a pass carries, and the layers that join them.

Any order of a graph's Dense layers is a chain of stages in which a *frame* travels: first the
vector that the next stage multiplies, beside it the earlier ones that it or a later stage still
needs. Vectors go by the name of the layer that ends their stage, or that concatenates them.

Source: hls4ml 1.3.0, ``nnet_merge.h``: add, concatenate1d.
"""
from dataclasses import dataclass

import numpy as np

from .activation import Elementwise
from .formats import Fixed
from .requantize import requantize

FEATURES = "features"               # name of the features beside those of the layers


@dataclass(frozen=True)
class Vector:
    """`n` codes of format `of`, by name."""
    name: str
    n: int
    of: Fixed

    def lanes(self, words: int) -> int:
        """Codes in one of `words` words: word s holds codes ``s + words * c``, the last few 0."""
        return -(-self.n // words)


@dataclass(frozen=True, kw_only=True)
class Add(Elementwise):
    """y = (result)(x + other), the sum exact: hls4ml's Add.

    x is what the layer before delivers, `other` names an earlier vector of the same size.
    """
    name: str
    n: int
    result: Fixed
    other: str

    def values(self, source: Fixed, other: Fixed):
        signed = source.signed or other.signed
        integer = max(of.width - of.frac + (signed and not of.signed) for of in (source, other))
        frac = max(source.frac, other.frac)
        return ((integer + 1 + frac, frac),)


@dataclass(frozen=True, kw_only=True)
class Concatenate:
    """y = the codes of `parts`, earlier vectors by name, one after another, each as (result)x."""
    name: str
    n: int
    result: Fixed
    parts: tuple[str, ...]

    def __post_init__(self):
        object.__setattr__(self, "parts", tuple(self.parts))

    def values(self, *sources: Fixed) -> tuple[tuple[int, int], ...]:
        """Width and fraction bits of what is cast to `result`, for parts of these formats."""
        return tuple((of.width, of.frac) for of in sources)


def add(layer: Add, x, source: Fixed, other, of: Fixed) -> np.ndarray:
    """Output codes [..., n] for `x` of format `source` and `other` of format `of`."""
    frac = max(source.frac, of.frac)
    return requantize((x << frac - source.frac) + (other << frac - of.frac), frac, layer.result)


def concatenate(layer: Concatenate, parts) -> np.ndarray:
    """Output codes [..., n] for the codes and format of each part."""
    return np.concatenate([requantize(x, of.frac, layer.result) for x, of in parts], -1)


def split(frame: tuple[Vector, ...], codes) -> dict[str, np.ndarray]:
    """The vectors of a frame [..., codes of all], by name."""
    ends = np.cumsum([vector.n for vector in frame])[:-1]
    return dict(zip((vector.name for vector in frame), np.split(codes, ends, -1), strict=True))


def origins(stage, name: str) -> list[tuple[Vector, int, tuple[Fixed, ...]]]:
    """Where the codes of a vector that leaves `stage` come from.

    Of each: vector that the stage receives or its own outputs, position in it, and the formats that
    the code is cast to on its way, one after the other.
    """
    for layer in stage.joined:
        if layer.name == name:
            return [(vector, k, (*casts, layer.result)) for part in layer.parts
                    for vector, k, casts in origins(stage, part)]
    vector = next(v for v in (*stage.frame, stage.outputs) if v.name == name)
    return [(vector, k, ()) for k in range(vector.n)]


def fits(stage, words: int) -> bool:
    """Whether outputs ``s + words * c`` of a stage are what its drained word s needs of them."""
    return stage.dense.n_out % words == 0 and all(
        (at - k) % words == 0 for vector in stage.leaving
        for at, (origin, k, _) in enumerate(origins(stage, vector.name))
        if origin == stage.outputs)


def needs(stage) -> set[str]:
    """Names of the earlier vectors that a stage works with, beside the one that it multiplies."""
    others = {layer.other for layer in stage.activation if isinstance(layer, Add)}
    return others | _parts(stage) - _made(stage)


def frames(stages, vectors: dict[str, Vector]) -> list[tuple[Vector, ...]]:
    """The frame that each stage receives.

    Parameters
    ----------
    stages : list of Stage
        Each with the vector that it multiplies as its frame.
    vectors : dict of str to Vector
        All there are, in the order in which they are made.

    Raises
    ------
    ValueError
        For a vector that nothing reads.
    """
    found, needed = [], {stages[-1].outputs.name}
    for stage in reversed(stages):
        unread = sorted(_made(stage) - needed - _parts(stage))
        if unread:
            raise ValueError(f"{unread[0]}: no layer reads it; remove it from the model")
        read = stage.frame[0]
        needed = needed - _made(stage) | needs(stage) | {read.name}
        found.append((read, *[v for name, v in vectors.items()
                              if name in needed and name != read.name]))
    return found[::-1]


def _made(stage) -> set[str]:
    """Names of the vectors that a stage makes."""
    return {stage.outputs.name, *(layer.name for layer in stage.joined)}


def _parts(stage) -> set[str]:
    """Names of the vectors that a stage concatenates."""
    return {part for layer in stage.joined for part in layer.parts}

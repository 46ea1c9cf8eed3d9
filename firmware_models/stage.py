"""What one hardware engine computes: a Dense layer, and the layers behind it up to the next."""
from dataclasses import dataclass, replace

import numpy as np

from . import activation
from .branches import FEATURES, Add, Concatenate, Vector, fits, frames
from .constant_product import WEIGHT_BITS_MAX, register_levels
from .formats import Fixed
from .softmax import Softmax


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense:
    """A fully connected layer with hls4ml's Resource semantics.

    result = (result)(accum)(bias + sum over inputs of (accum)(x * weight)), accum wrapping

    Parameters
    ----------
    name : str
    n_in, n_out : int
    reuse_factor : int
        Words of the weight memory = cycles in which the multipliers serve all products of a pass.
        Divides `n_in`. Of constant logic: words in which the inputs are read.
    weight, bias, accum, result : Fixed
        Number formats.
    weight_codes : array of int64 [n_out, n_in]
        hls4ml's Resource layout: row j holds the weights of output j.
    bias_codes : array of int64 [n_out]
    trainable : bool
        Whether the layer gets a weight memory that can learn.
    constant : bool
        Adders made for these weights (hls4ml's strategy distributed_arithmetic) in place of
        multipliers and a weight memory. The accumulator must not round; cannot be trainable.
    reads : str, optional
        The vector that it multiplies, if that is not what the layer before makes: see
        :mod:`firmware_models.branches`.

    Raises
    ------
    ValueError
        For shapes, codes or formats that do not fit together.
    """
    name: str
    n_in: int
    n_out: int
    reuse_factor: int
    weight: Fixed
    bias: Fixed
    accum: Fixed
    result: Fixed
    weight_codes: np.ndarray
    bias_codes: np.ndarray
    trainable: bool = False
    constant: bool = False
    reads: str | None = None

    def __post_init__(self):
        if self.n_in < 1 or self.n_out < 1:
            raise ValueError(f"{self.name}: {self.n_in} inputs and {self.n_out} outputs")
        if self.reuse_factor < 1 or self.n_in % self.reuse_factor:
            raise ValueError(f"{self.name}: reuse factor {self.reuse_factor} does not divide its "
                             f"{self.n_in} inputs")
        if self.accum.overflow != "WRAP":
            raise ValueError(f"{self.name}: accumulator {self.accum} saturates; needs WRAP")
        if self.trainable and not (self.weight.signed and self.bias.signed):
            raise ValueError(f"{self.name}: trainable weights and biases are signed")
        if self.trainable and self.constant:
            raise ValueError(f"{self.name}: constant logic cannot learn; name another layer or "
                             "make it one with multipliers")
        if self.constant and self.weight.width > WEIGHT_BITS_MAX:
            raise ValueError(f"{self.name}: constant logic of weights of {self.weight.width} bits; "
                             f"{WEIGHT_BITS_MAX} are possible")
        for what, shape in (("weight", (self.n_out, self.n_in)), ("bias", (self.n_out,))):
            codes = getattr(self, f"{what}_codes")
            if np.shape(codes) != shape:
                raise ValueError(f"{self.name}: {what} codes have shape {np.shape(codes)}, "
                                 f"not {shape}")
            object.__setattr__(self, f"{what}_codes", getattr(self, what).check(codes))

    @property
    def inputs_per_word(self) -> int:
        """Inputs that meet one weight word: P = n_in / reuse_factor."""
        return self.n_in // self.reuse_factor

    @property
    def lanes(self) -> int:
        """Weights in one word = multipliers: n_out * P."""
        return self.n_out * self.inputs_per_word

    def words(self, weight_codes: np.ndarray) -> np.ndarray:
        """Weights [..., n_out, n_in] as memory words [..., reuse_factor, lanes].

        Lane m of word r holds the flat element ``r + reuse_factor * m`` of the [n_out][n_in]
        array, which is hls4ml's ``ARRAY_RESHAPE block`` of a Resource layer.
        """
        lead = weight_codes.shape[:-2]
        return np.swapaxes(weight_codes.reshape(*lead, self.lanes, self.reuse_factor), -1, -2)

    def matrix(self, words: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`words`: [..., reuse_factor, lanes] to [..., n_out, n_in]."""
        lead = words.shape[:-2]
        return np.swapaxes(words, -1, -2).reshape(*lead, self.n_out, self.n_in)


Activation = activation.Activation | Add


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A dense layer and the elementwise layers behind it: what one hardware engine computes."""
    index: int
    dense: Dense
    activation: tuple[Activation, ...]
    source: Fixed                       # format of the stage's input codes
    drain_words: int                    # words in which the outputs leave: the successor's words
    joined: tuple[Concatenate, ...] = ()
    frame: tuple[Vector, ...] = ()      # what the stage receives: what it multiplies comes first
    leaving: tuple[Vector, ...] = ()    # the successor's frame

    @property
    def outputs(self) -> Vector:
        """What its nodes deliver."""
        last = (self.dense, *self.activation)[-1]
        return Vector(last.name, self.dense.n_out, last.result)

    @property
    def result(self) -> Fixed:
        """Format of the stage's output codes."""
        return self.outputs.of

    @property
    def branches(self) -> bool:
        """Whether it needs what it multiplies, or another vector, once more on the way out."""
        return len(self.frame) > 1 or self.leaving != (self.outputs,) \
            or any(isinstance(layer, Add) for layer in self.activation)

    @property
    def frame_width(self) -> int:
        """Bits of a word of its frame: vector by vector, the one that it multiplies lowest."""
        return sum(v.lanes(self.dense.reuse_factor) * v.of.width for v in self.frame)

    @property
    def leaving_width(self) -> int:
        """Bits of a drained word."""
        return sum(v.lanes(self.drain_words) * v.of.width for v in self.leaving)

    @property
    def delay_cycles(self) -> int:
        """Cycles that the activation adds to the drain."""
        return sum(layer.delay_cycles for layer in self.activation)

    @property
    def sum_delay_cycles(self) -> int:
        """Cycles by which the sums of constant logic come later than those of multipliers."""
        return register_levels(self.dense) - 1 if self.dense.constant else 0

    @property
    def gated(self) -> bool:
        """Whether nodes whose output is 0 are off, and node probes leave them alone.

        Only where the activation takes no cycles: a node's sign is kept before they are over.
        """
        return bool(self.activation) and self.activation[-1].gates and not self.delay_cycles

    @property
    def drain_lanes(self) -> int:
        """Outputs in one drained word; word s holds outputs ``s + drain_words * c``."""
        return self.dense.n_out // self.drain_words


def stages_of(layers, features: Fixed) -> tuple[Stage, ...]:
    """The stages of layers in order, fed by features of a format.

    Raises
    ------
    ValueError
        For layers that do not fit together, naming one.
    """
    stages, vectors, last = [], {}, None            # vectors: what later layers can read
    for layer in layers:
        if isinstance(layer, Softmax):
            raise ValueError(f"{layer.name}: a softmax before {layers[-1].name}, can only be the "
                             "last layer")
        if stages and isinstance(layer, Dense | Concatenate):
            vectors.setdefault(stages[-1].outputs.name, stages[-1].outputs)
        if isinstance(layer, Dense):
            if not stages:
                last = vectors[FEATURES] = Vector(FEATURES, layer.n_in, features)
            read = _vector(layer, layer.reads, vectors) if layer.reads else last
            if layer.n_in != read.n:
                raise ValueError(f"{layer.name}: {layer.n_in} inputs after {read.n} outputs")
            if layer.constant and layer.accum.frac < max(read.of.frac + layer.weight.frac,
                                                         layer.bias.frac):
                raise ValueError(f"{layer.name}: accumulator {layer.accum} rounds; constant logic "
                                 "adds exact products")
            stages.append(Stage(index=len(stages), dense=layer, activation=(),
                                source=read.of, drain_words=layer.n_out, frame=(read,)))
            if len(stages) > 1:
                stages[-2] = replace(stages[-2], drain_words=layer.reuse_factor)
            last = stages[-1].outputs
        elif last is None or not isinstance(layer, Concatenate) and layer.n != last.n:
            raise ValueError(f"{layer.name}: {layer.n} outputs must follow a Dense layer "
                             "of the same size; change the order of the model's layers")
        elif isinstance(layer, Concatenate):
            if layer.n != sum(_vector(layer, part, vectors).n for part in layer.parts):
                raise ValueError(f"{layer.name}: {layer.n} outputs are not all of its parts")
            last = vectors[layer.name] = Vector(layer.name, layer.n, layer.result)
            stages[-1] = replace(stages[-1], joined=(*stages[-1].joined, layer))
        else:
            if stages[-1].joined:
                raise ValueError(f"{layer.name}: stands behind the Concatenate {last.name}; "
                                 "move it in front, behind each of the parts")
            others = [_vector(layer, layer.other, vectors)] if isinstance(layer, Add) else []
            if any(other.n != layer.n for other in others):
                raise ValueError(f"{layer.name}: adds {others[0].n} codes of {layer.other} to "
                                 f"{layer.n}; give both the same size")
            layer.exact(last.of, *[other.of for other in others])
            stages[-1] = replace(stages[-1], activation=(*stages[-1].activation, layer))
            last = stages[-1].outputs
    return _framed(stages, vectors)


def _framed(stages: list[Stage], vectors: dict[str, Vector]) -> tuple[Stage, ...]:
    """The stages with the vectors that travel between them."""
    received = frames(stages, vectors)
    stages = tuple(
        replace(stage, frame=frame, leaving=leaving) for stage, frame, leaving in zip(
            stages, received, [*received[1:], (stages[-1].outputs,)], strict=True))
    for stage, behind in zip(stages, stages[1:], strict=False):
        if not fits(stage, stage.drain_words):
            n_in = behind.dense.n_in
            possible = [k for k in range(1, n_in + 1) if n_in % k == 0 and fits(stage, k)]
            raise ValueError(
                f"{behind.dense.name}: reads words in which outputs of {stage.dense.name} and "
                f"other vectors do not lie evenly; set LayerName: {behind.dense.name}: "
                f"ReuseFactor to one of {', '.join(map(str, possible))}")
    return stages


def _vector(layer, name: str, vectors: dict[str, Vector]) -> Vector:
    """The vector `name` that a layer reads."""
    if name not in vectors:
        raise ValueError(f"{layer.name}: reads {name}, needs a vector that is ready before it "
                         f"({', '.join(vectors)}); branch off behind the last layer in front of "
                         "the next Dense")
    return vectors[name]

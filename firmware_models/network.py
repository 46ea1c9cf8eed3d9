"""A quantized network as plain data: what the front ends deliver and everything else reads."""
import hashlib
from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np

from .activation import (
    BatchNorm,
    HardSigmoid,
    Linear,
    Lookup,
    PRelu,
    Relu,
    ReluMax,
    ThresholdedRelu,
)
from .constant_product import WEIGHT_BITS_MAX, register_levels
from .formats import Fixed
from .softmax import Softmax

PROMPT = "prompt"                   # name of the input prompt beside those of the layers


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


Activation = (Relu | ReluMax | ThresholdedRelu | PRelu | HardSigmoid | Linear | BatchNorm
              | Lookup)
KINDS = {kind.__name__: kind for kind in (Dense, *Activation.__args__, Softmax)}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A dense layer and the elementwise layers behind it: what one hardware engine computes."""
    index: int
    dense: Dense
    activation: tuple[Activation, ...]
    source: Fixed                       # format of the stage's input codes
    drain_words: int                    # words in which the outputs leave: the successor's words

    @property
    def result(self) -> Fixed:
        """Format of the stage's output codes."""
        return (self.dense, *self.activation)[-1].result

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


@dataclass(frozen=True, kw_only=True)
class Network:
    """Layers in order, each fed by the one before it.

    Parameters
    ----------
    name : str
    input : Fixed
        Format of the features, with the rounding and overflow of hls4ml's input type.
    layers : tuple of Dense, Activation and Softmax
        Starts with a Dense; any number of activations follow each. Behind the last one only Linear
        does: raw logits, from which a Softmax may make what the core delivers.
    prompt : array of int64 [n_in], optional
        An input prompt that can learn: codes that are added to the features, of one bit more than
        these and signed. See :mod:`firmware_models.prompt`.

    Attributes
    ----------
    stages : tuple of Stage
    parts : tuple of Stage
        What can have a memory that learns: the stages, and behind them the prompt, if there is
        one, as a layer of one output whose bias has no use.
    softmax : Softmax or None
        What the logits pass on their way out; no stage computes it, no loss sees it.

    Raises
    ------
    ValueError
        For a chain of layers that does not fit, naming the layer.
    """
    name: str
    input: Fixed
    layers: tuple[Dense | Activation | Softmax, ...]
    prompt: np.ndarray | None = None
    stages: tuple[Stage, ...] = field(init=False, repr=False)
    parts: tuple[Stage, ...] = field(init=False, repr=False)
    softmax: Softmax | None = field(init=False, repr=False)

    def __post_init__(self):
        layers, softmax = self.layers, None
        if layers and isinstance(layers[-1], Softmax):
            *layers, softmax = layers
        if not layers:
            raise ValueError(f"{self.name}: a network needs at least one Dense layer")
        names = [layer.name for layer in self.layers] + [PROMPT] * (self.prompt is not None)
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name}: two layers of the same name in {names}")
        stages, source, n = [], self.input, None
        for layer in layers:
            if isinstance(layer, Softmax):
                raise ValueError(f"{layer.name}: a softmax before {layers[-1].name}, can only be "
                                 "the last layer")
            if isinstance(layer, Dense):
                if n is not None and layer.n_in != n:
                    raise ValueError(f"{layer.name}: {layer.n_in} inputs after {n} outputs")
                if layer.constant and layer.accum.frac < max(source.frac + layer.weight.frac,
                                                             layer.bias.frac):
                    raise ValueError(f"{layer.name}: accumulator {layer.accum} rounds; constant "
                                     "logic adds exact products")
                stages.append(Stage(index=len(stages), dense=layer, activation=(),
                                    source=source, drain_words=layer.n_out))
                if len(stages) > 1:
                    stages[-2] = replace(stages[-2], drain_words=layer.reuse_factor)
                n = layer.n_out
            else:
                if layer.n != n:
                    raise ValueError(f"{layer.name}: {layer.n} outputs must follow a Dense layer "
                                     "of the same size")
                layer.exact(source)
                stages[-1] = replace(stages[-1], activation=(*stages[-1].activation, layer))
            source = layer.result
        for layer in stages[-1].activation:
            if not isinstance(layer, Linear):
                raise ValueError(f"{layer.name}: behind the last Dense layer only Linear can "
                                 "stand, so that the loss sees raw logits")
        if softmax:
            if softmax.n != n:
                raise ValueError(f"{softmax.name}: a softmax of {softmax.n} after {n} logits")
            softmax.check(source)
        object.__setattr__(self, "softmax", softmax)
        object.__setattr__(self, "stages", tuple(stages))
        object.__setattr__(self, "parts", self.stages)
        if self.prompt is not None:
            part = self._prompt_part()
            object.__setattr__(self, "prompt", part.dense.weight_codes[0])
            object.__setattr__(self, "parts", (*self.stages, part))

    def _prompt_part(self) -> Stage:
        """The prompt as a layer whose memory words meet the words of the first stage's inputs."""
        of = Fixed(self.input.width + 1, self.input.frac)
        # As wide as the features, so that amplitudes count in their steps.
        bias = Fixed(self.input.width, self.input.frac)
        dense = Dense(
            name=PROMPT, n_in=self.n_in, n_out=1, weight=of, bias=bias, accum=of, result=of,
            reuse_factor=self.stages[0].dense.reuse_factor, trainable=True,
            weight_codes=np.asarray(self.prompt)[None], bias_codes=np.zeros(1, int))
        return Stage(index=len(self.stages), dense=dense, activation=(), source=self.input,
                     drain_words=1)

    @property
    def n_in(self) -> int:
        return self.stages[0].dense.n_in

    @property
    def n_classes(self) -> int:
        return self.stages[-1].dense.n_out

    @property
    def output(self) -> Fixed:
        """Format of what the core delivers behind a prediction: see :func:`.softmax.readout`."""
        return (self.softmax or self.stages[-1]).result

    @property
    def trainable(self) -> tuple[int, ...]:
        """Indices of the parts that can learn."""
        return tuple(part.index for part in self.parts if part.dense.trainable)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Trainable stages before the last one: those that node probes can perturb."""
        return tuple(i for i in self.trainable if i < len(self.stages) - 1)

    def stage_of(self, index: int) -> int:
        """The stage whose passes read part `index`: a prompt meets the first one's inputs."""
        return index if index < len(self.stages) else 0

    def entry(self, layers) -> int:
        """The stage where passes that perturb the parts `layers` enter."""
        return min(map(self.stage_of, layers))

    def with_trainable(self, names) -> "Network":
        """The same network with exactly the layers `names` trainable, "prompt" for a prompt."""
        known = [*[stage.dense.name for stage in self.stages], PROMPT]
        for name in names:
            if name not in known:
                raise ValueError(f"unknown layer {name!r}; the dense layers are {known[:-1]}")
        prompt = self.with_prompt().prompt if PROMPT in names else None
        if prompt is None and self.prompt is not None and self.prompt.any():
            raise ValueError(f"{self.name}: a prompt that is not 0 cannot be left out")
        return replace(self, prompt=prompt, layers=tuple(
            replace(layer, trainable=layer.name in names) if isinstance(layer, Dense) else layer
            for layer in self.layers))

    def with_prompt(self) -> "Network":
        """The same network with its prompt, or one of zeros if it has none."""
        return self if self.prompt is not None else replace(self, prompt=np.zeros(self.n_in, int))

    def describe(self) -> dict:
        """Structure and formats as JSON-ready data, without the weights."""
        def one(layer):
            # Without "constant: false", digests stay those of networks described before it was.
            return {"kind": type(layer).__name__,
                    **{k: asdict(v) if isinstance(v, Fixed) else v
                       for k, v in vars(layer).items()
                       if not isinstance(v, np.ndarray) and (k, v) != ("constant", False)}}
        prompt = {} if self.prompt is None else {"prompt": one(self.parts[-1].dense)}
        return {"name": self.name, "input": asdict(self.input),
                "layers": [one(layer) for layer in self.layers]} | prompt

    def digest(self) -> str:
        """SHA-256 over structure, formats and weights."""
        h = hashlib.sha256(repr(self.describe()).encode())
        for stage in self.parts:
            h.update(stage.dense.weight_codes.astype("<i8").tobytes())
            h.update(stage.dense.bias_codes.astype("<i8").tobytes())
            for layer in stage.activation:
                _hash_codes(h, layer)
        if self.softmax:
            _hash_codes(h, self.softmax)
        return h.hexdigest()


def _hash_codes(h, layer) -> None:
    for codes in vars(layer).values():
        if isinstance(codes, np.ndarray):
            h.update(codes.astype("<i8").tobytes())


def described(description: dict) -> Network:
    """The network of a :meth:`Network.describe`, with weights and other codes of 0."""
    def layer(plain):
        kind = KINDS[plain["kind"]]
        given = {k: Fixed(**v) if isinstance(v, dict) else v for k, v in plain.items()
                 if k != "kind"}
        if kind is Dense:
            shapes = {"weight_codes": (given["n_out"], given["n_in"]),
                      "bias_codes": (given["n_out"],)}
        elif kind is Softmax:
            shapes = {f"{table}_codes": (given[f"{table}_size"],) for table in ("exp", "inv")}
        else:
            shapes = {f.name: (given["size" if kind is Lookup else "n"],) for f in fields(kind)
                      if f.name not in given}
        return kind(**given, **{name: np.zeros(shape, np.int64)
                                for name, shape in shapes.items()})

    layers = tuple(map(layer, description["layers"]))
    return Network(name=description["name"], input=Fixed(**description["input"]), layers=layers,
                   prompt=np.zeros(layers[0].n_in, int) if "prompt" in description else None)

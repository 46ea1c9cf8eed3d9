"""A quantized network as plain data: what the front ends deliver and everything else reads."""
import hashlib
from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np

from .activation import Linear, Lookup
from .branches import FEATURES, Add, Concatenate, Vector
from .formats import Fixed
from .softmax import Softmax
from .stage import Activation, Dense, Stage, stages_of

PROMPT = "prompt"                   # name of the input prompt beside those of the layers


KINDS = {kind.__name__: kind for kind in (Dense, *Activation.__args__, Concatenate, Softmax)}


@dataclass(frozen=True, kw_only=True)
class Network:
    """Layers in order, each fed by the one before it if it does not name another vector.

    Parameters
    ----------
    name : str
    input : Fixed
        Format of the features, with the rounding and overflow of hls4ml's input type.
    layers : tuple of Dense, Activation, Concatenate and Softmax
        Starts with a Dense; any number of activations follow each, and any number of Concatenate
        these. Behind the last one only Linear and Add do: raw logits, from which a Softmax may make
        what the core delivers.
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
    layers: tuple[Dense | Activation | Concatenate | Softmax, ...]
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
        stages = stages_of(layers, self.input)
        if any(stage.branches for stage in stages) and FEATURES in names:
            raise ValueError(f"{self.name}: a layer has the name of the features, {FEATURES}; "
                             "rename it")
        for layer in stages[-1].activation:
            if not isinstance(layer, Linear | Add):
                raise ValueError(f"{layer.name}: behind the last Dense layer only Linear and Add "
                                 "can stand, so that the loss sees raw logits; change the order of "
                                 "the model's layers")
        for layer in stages[-1].joined:
            raise ValueError(f"{layer.name}: a Concatenate makes the outputs; end the network with "
                             "a Dense layer")
        if softmax:
            if softmax.n != stages[-1].dense.n_out:
                raise ValueError(f"{softmax.name}: a softmax of {softmax.n} after "
                                 f"{stages[-1].dense.n_out} logits")
            softmax.check(stages[-1].result)
        object.__setattr__(self, "softmax", softmax)
        object.__setattr__(self, "stages", stages)
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
                     drain_words=1, leaving=(Vector(PROMPT, 1, of),))

    @property
    def branches(self) -> bool:
        """Whether it is more than a chain."""
        return any(stage.branches for stage in self.stages)

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
            # Without what is not used, digests stay those of networks described before it was.
            return {"kind": type(layer).__name__,
                    **{k: asdict(v) if isinstance(v, Fixed) else v
                       for k, v in vars(layer).items() if not isinstance(v, np.ndarray)
                       and (k, v) not in (("constant", False), ("reads", None))}}
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

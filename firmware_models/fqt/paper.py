"""Fully quantized training in the paper's own arithmetic: scales and zero points, a minibatch.

    acc = sum (w - z_w) x + b,   x' = clip(floor(acc s_w s_x / s_x' + 1/2), 0, 255)
    err = softmax - one-hot                                      float32, then bytes
    e' = clip(floor((s_w s_e / s_e') sum (w - z_w)(e - z_e) + 1/2) + z_e', 0, 255), where x > 0
    G += s_e s_x sum (e - z_e) x                                 after every sample
    w <- s_w (q - z_w) - lr (G - mean) / std, new range          after every batch, by row

Weights, features and errors are bytes (:mod:`.affine`), accumulators and biases 32-bit integers,
G float32. Features have z = 0, for a ReLU ends their layer, and a range that follows the largest
output; errors have the range [-1, 1] or one that follows their own, those of the logits always the
first one. The paper floors e', without the 1/2: all errors then drift down by half a step in every
layer. A bias moves by its gradient's mean over the batch, which is never standardized: it is the
only one of its row.

Layers may count in float32 instead: all of them (mode `float32`), or those from the first dense
one on (`mixed`). Then features turn into floats where the first of them reads them, and errors
into bytes where the last of the others receives them. The same passes, without ranges.

Source: Deutel et al. 2024, arXiv 2407.10734.
"""
from dataclasses import dataclass, field, replace

import numpy as np

from ..partial_updates import ONE, k_of, top_k
from ..settings import check_limits
from .affine import LIMIT, F, clipped, follow, quantize, round_half_up, scale_of, span, total, whole
from .layers import Layer, mean
from .softmax import head_error

MODES = ("uint8", "mixed", "float32")
INPUT_SCALE = F(1) / F(255)
BIAS_FRAC = 16
BIAS_UNIT = F(2 ** -BIAS_FRAC)
BIAS_MAX = 1 << 30
SUM_UNIT = F(1 << 16)       # absolute errors add up in 2**-16
SUM_MAX = (1 << 24) - 1
STD_MIN = F(2 ** -60)       # rows whose gradients differ less do not learn
TERMS_MAX = 1 << 14         # products of two bytes in a 32-bit sum


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the network trains.

    Parameters
    ----------
    lr : float
        Learning rate, 0 to 1024.
    batch : int
        Samples from one update to the next.
    standardize : bool
        Divide each row's gradient, less its mean, by its standard deviation.
    moving_errors : bool
        Errors have a range that follows their smallest and largest; else [-1, 1]. Those of the
        logits keep [-1, 1], which a softmax fills.
    floor_errors : bool
        Floor errors that go back a layer of bytes, as the paper does; else they are rounded.
    lmin, lmax : int
        Smallest and largest part of a layer that learns from a sample, in 1/256.

    Raises
    ------
    ValueError
        For a value outside its range.
    """
    lr: float = 0.005
    batch: int = 16
    standardize: bool = True
    moving_errors: bool = True
    floor_errors: bool = False
    lmin: int = ONE
    lmax: int = ONE

    def __post_init__(self):
        check_limits(self, {"lr": (0, 1 << 10), "batch": (1, (1 << 16) - 1),
                            "lmin": (0, self.lmax), "lmax": (self.lmin, ONE)})


@dataclass
class LayerState:
    """What changes in a layer with weights; the ranges only where it counts in bytes.

    Parameters
    ----------
    weights : array of int64, 8 bits unsigned, or of float32 [rows, columns]
    biases : array of int64, 32 bits in 2**-BIAS_FRAC, or of float32 [rows]
    scale : float32
    zero : int
        Scale and zero point of the weights.
    peak : float32
        Moving average of the largest output.
    low, high : float32
        Range of the output's errors, or moving averages of it.
    error_max : int
        Largest sum of absolute errors so far, in 2**-16.
    """
    weights: np.ndarray
    biases: np.ndarray
    scale: np.float32 = F(0)
    zero: int = 0
    peak: np.float32 = F(1)
    low: np.float32 = F(-1)
    high: np.float32 = F(1)
    error_max: int = 0


@dataclass
class Gradient:
    """What a layer has gathered since the last update: float32 [rows, columns] and [rows]."""
    weights: np.ndarray
    biases: np.ndarray


@dataclass
class State:
    """All that training changes.

    Parameters
    ----------
    mode : {"uint8", "mixed", "float32"}
    layers : dict of LayerState by name
        Those with weights.
    gradients : dict of Gradient by name
        Those that train.
    samples : int
        Samples seen.
    """
    mode: str
    layers: dict[str, LayerState]
    gradients: dict[str, Gradient]
    samples: int = 0

    def copy(self) -> "State":
        return State(self.mode, {name: replace(s) for name, s in self.layers.items()},
                     {name: replace(g) for name, g in self.gradients.items()}, self.samples)


def float_from(layers, mode: str) -> int:
    """Number of the first layer that counts in float32; as many as there are where none does."""
    if mode == "mixed":
        return min(n for n, layer in enumerate(layers) if layer.kind == "dense")
    return len(layers) if mode == "uint8" else 0


def init(layers, weights, biases, mode: str = "uint8") -> State:
    """The state of float weights {name: [rows, columns]} and biases {name: [rows]}.

    Raises
    ------
    ValueError
        Where there is no such mode, or a layer of bytes is too large for sums of 32 bits.
    """
    if mode not in MODES:
        raise ValueError(f"there is no mode {mode}; it is one of {', '.join(MODES)}")
    found = {}
    for n, layer in enumerate(layers):
        if not layer.is_linear:
            continue
        w = np.clip(np.asarray(weights[layer.name], F), -LIMIT, LIMIT)
        b = np.clip(np.asarray(biases[layer.name], F), -LIMIT, LIMIT)
        if n >= float_from(layers, mode):
            found[layer.name] = LayerState(w, b)
            continue
        terms = max(layer.columns, layer.positions, layer.rows * layer.kernel[0] * layer.kernel[1])
        if terms > TERMS_MAX:
            raise ValueError(f"{layer.name}: a sum of {terms} products; at most {TERMS_MAX} of two "
                             "bytes fit 32 bits")
        s = LayerState(w, whole(b / BIAS_UNIT, BIAS_MAX))
        _requantize(s, w)
        found[layer.name] = s
    return State(mode, found, no_gradients(layers))


def no_gradients(layers) -> dict[str, Gradient]:
    """What the layers that train have gathered after an update."""
    return {layer.name: Gradient(np.zeros((layer.rows, layer.columns), F), np.zeros(layer.rows, F))
            for layer in layers if layer.trainable}


def _requantize(s: LayerState, weights) -> None:
    s.scale, s.zero = scale_of(*span(weights))
    s.weights = quantize(weights, s.scale, s.zero)


@dataclass
class _Pass:
    """What a forward pass leaves: each layer's input and its scale, and the logits."""
    inputs: list = field(default_factory=list)
    scales: list = field(default_factory=list)
    logits: np.ndarray | None = None


def _forward(layers: tuple[Layer, ...], state: State, x, training: bool) -> _Pass:
    kept, scale = _Pass(), INPUT_SCALE
    x = np.asarray(x, np.int64)
    floats = float_from(layers, state.mode)
    for n, layer in enumerate(layers):
        if n == floats:
            x = x.astype(F) * scale
        kept.inputs.append(x)
        kept.scales.append(scale)
        columns = layer.unfold(x)
        if layer.kind == "max_pool":
            x = columns.max(-1).reshape(-1)
        elif layer.kind == "average_pool":
            x = (total(columns, -1) / F(layer.columns) if n >= floats
                 else mean(columns.sum(-1), layer.columns)).reshape(-1)
        else:
            s = state.layers[layer.name]
            if n >= floats:
                x = _linear_floats(layer, s, columns)
            else:
                x, scale = _linear_bytes(layer, s, columns, scale, training)
    kept.logits = x
    return kept


def _linear_floats(layer: Layer, s: LayerState, columns):
    """Outputs [n_out]."""
    columns = columns if layer.by_channel else columns[:, :1]
    y = total(columns * s.weights, -1) + s.biases
    y = np.clip(y, -LIMIT, LIMIT).reshape(-1)
    return np.where(y > 0, y, F(0)) if layer.relu else y


def _linear_bytes(layer: Layer, s: LayerState, columns, scale, training: bool):
    """Outputs [n_out] and their scale; logits are floats."""
    scale = s.scale * scale
    acc = layer.forward(columns, s.weights - s.zero)
    acc = (acc + whole(s.biases.astype(F) * (BIAS_UNIT / scale), BIAS_MAX)).reshape(-1)
    if not layer.relu:
        return acc.astype(F) * scale, None
    out_scale, _ = scale_of(F(0), s.peak)
    if training:
        s.peak = follow(s.peak, F(max(acc.max(), 0)) * scale)
    return clipped(round_half_up(acc.astype(F) * (scale / out_scale)), 0), out_scale


def logits(layers, state: State, x) -> np.ndarray:
    """Logits [n_classes] in float32 of a sample x [n_in] of unsigned bytes."""
    return _forward(layers, state, x, False).logits


def observe(layers, state: State, x) -> State:
    """The state after looking at samples [n, n_in]: the ranges of features follow them.

    Weights that were trained in floats need that before they classify in bytes.
    """
    state = state.copy()
    for row in x:
        _forward(layers, state, row, True)
    return state


def predict(layers, state: State, x) -> np.ndarray:
    """Classes [n] of samples [n, n_in] of unsigned bytes: the first of the largest logits."""
    return np.array([int(logits(layers, state, row).argmax()) for row in x])


def train_step(layers, state: State, x, label: int, settings: Settings) -> State:
    """The state after learning from one sample x [n_in] of unsigned bytes."""
    state = state.copy()
    kept = _forward(layers, state, x, True)
    _backward(layers, state, kept, head_error(kept.logits, label)[1], settings)
    state.samples += 1
    if state.samples % settings.batch == 0:
        for name, gradient in state.gradients.items():
            _update(state.layers[name], gradient, settings)
        state.gradients = no_gradients(layers)
    return state


def _backward(layers, state: State, kept: _Pass, errors, settings) -> None:
    """Errors of bytes are e - z_e here."""
    first = min(n for n, layer in enumerate(layers) if layer.trainable)
    floats = float_from(layers, state.mode)
    scale = None
    for n in range(len(layers) - 1, first - 1, -1):
        layer, x = layers[n], kept.inputs[n]
        if n == floats - 1:
            scale, zero = _error_range(layers, state, n, *span(errors), settings)
            errors = quantize(errors, scale, zero) - zero
        errors = errors.reshape(layer.positions, layer.rows)
        if layer.kind == "max_pool":
            errors = layer.to_largest(x, errors)
            continue
        if layer.kind == "average_pool":
            if n >= floats:
                errors = errors / F(layer.columns)
            else:
                scale = scale / F(layer.columns)
            ones = np.ones((layer.rows, layer.columns), errors.dtype)
            errors = np.where(x > 0, layer.backward(ones, errors), errors.dtype.type(0))
            continue
        s, gradient = state.layers[layer.name], state.gradients.get(layer.name)
        errors = _chosen(s, errors, scale, settings)
        if n >= floats:
            errors = _back_floats(layer, s, gradient, x, errors)
            continue
        if layer.trainable:
            found = layer.gradient(layer.unfold(x), errors).astype(F)
            gradient.weights = gradient.weights + found * (scale * kept.scales[n])
            gradient.biases = gradient.biases + errors.sum(0).astype(F) * scale
        if n > first:
            acc = (layer.backward(s.weights - s.zero, errors) * (x > 0)).astype(F)
            before = s.scale * scale
            ends = (end * before for end in span(acc))
            scale, zero = _error_range(layers, state, n - 1, *ends, settings)
            steps = acc * (before / scale)
            steps = np.floor(steps) if settings.floor_errors else round_half_up(steps)
            errors = clipped(steps, zero) - zero


def _error_range(layers, state: State, n: int, low, high, settings):
    """Scale and zero point of the errors of layer n's output, which reach from low to high.

    The range is that layer's, or that of the one with weights before its pools.
    """
    while not layers[n].is_linear:
        n -= 1
    s = state.layers[layers[n].name]
    # Of the layers with weights, the one of the logits alone has no ReLU.
    if settings.moving_errors and layers[n].relu:
        s.low, s.high = follow(s.low, low), follow(s.high, high)
    return scale_of(s.low, s.high)


def _back_floats(layer: Layer, s: LayerState, gradient: Gradient | None, x, errors):
    """Gathers the gradient; returns the errors [n_in] of the input, in the order of the sums."""
    columns = layer.unfold(x)
    columns = columns if layer.by_channel else columns[:, :1]
    if gradient is not None:
        terms = errors[..., None] * columns
        gradient.weights = total(np.concatenate([gradient.weights[None], terms]), 0)
        gradient.biases = total(np.concatenate([gradient.biases[None], errors]), 0)
    terms = errors[..., None] * s.weights
    found = np.zeros(layer.n_in + 1, F)
    np.add.at(found, np.broadcast_to(layer.index, terms.shape).reshape(-1), terms.reshape(-1))
    return np.where(x > 0, np.clip(found[:-1], -LIMIT, LIMIT), F(0))


def _chosen(s: LayerState, errors, scale, settings: Settings) -> np.ndarray:
    """Errors of the structures that learn from this sample; 0 in the others."""
    if settings.lmin >= ONE:
        return errors
    if errors.dtype == F:
        magnitudes = whole(np.abs(errors) * SUM_UNIT, 1 << 16).sum(0)
        e = min(int(magnitudes.sum()), SUM_MAX)
    else:
        magnitudes = np.abs(errors).sum(0)
        e = int(whole(F(magnitudes.sum()) * (scale * SUM_UNIT), SUM_MAX))
    s.error_max = max(s.error_max, e)
    k = k_of(e, s.error_max, settings.lmin, settings.lmax, errors.shape[1])
    return np.where(top_k(magnitudes, k), errors, errors.dtype.type(0))


def _update(s: LayerState, gradient: Gradient, settings: Settings) -> None:
    """Learn from a batch."""
    g, n = gradient.weights, F(gradient.weights.shape[1])
    rate = F(settings.lr) / F(settings.batch)
    if settings.standardize:
        g = g - (total(g, 1) / n)[:, None]
        std = np.sqrt(total(g * g, 1) / n)
        rates = np.zeros_like(std)
        np.divide(F(settings.lr), std, out=rates, where=std > STD_MIN)
        step = g * rates[:, None]
    else:
        step = g * rate
    step_biases = gradient.biases * rate
    if s.weights.dtype == F:
        s.weights = np.clip(s.weights - step, -LIMIT, LIMIT)
        s.biases = np.clip(s.biases - step_biases, -LIMIT, LIMIT)
    else:
        w = (s.weights - s.zero).astype(F) * s.scale
        _requantize(s, np.clip(w - step, -LIMIT, LIMIT))
        s.biases = np.clip(s.biases - whole(step_biases / BIAS_UNIT, BIAS_MAX), -BIAS_MAX, BIAS_MAX)

"""Training by backpropagation in integers alone: power-of-two scales, residual bits, no division.

    x = clip(rnd(pixel - mean, 1), -128, 127)               mean: of that input so far, or 0
    w = M >> 8                                              deployed weight, of a 16-bit master M
    acc = sum w x + b                                       x: signed bytes, acc and b: 32 bits
    x' = clip(rnd(acc, f_x + f_w - f_x'), 0, 127)           a ReLU's output
    err_c = p_c - [c == y]                                  softmax to the base 2, as in the core
    e = clip(rnd(err, s), -127, 127)                        s: the largest fills error_bits
    err' = sum w e, where x > 0                             one layer back, before w is updated
    g = sum e x,   M -= rnd(g, f_e + f_x + lr_shift - f_w - 8)

Every tensor counts in 2**-f, f its own, found on line: f_x' from a running mean of the largest
output, f_w from the largest master every :data:`RANGE_PERIOD` samples, f_e anew for every sample.
What rounding leaves of an update stays in the low byte of the master, so that weights of 8 bits
learn from steps far below their last bit; no gradient is kept from one sample to the next.

Source: Deutel et al. 2024, arXiv 2407.10734, with shifts in place of its scales and zero points;
the residual byte: Quantized Evolution Strategies, arXiv 2602.03120.
"""
from dataclasses import dataclass, field, replace

import numpy as np

from ..formats import Fixed
from ..loss import LOSS_WIDTH, cross_entropy, head_error
from ..partial_updates import ONE, k_of, top_k
from ..settings import check_limits
from .layers import Layer, mean

INPUT_FRAC = 7
FEATURE_MAX = 127
MEAN_SHIFT = 7              # the mean of an input follows the last 2**7 samples
MEAN_FRAC = 8
ERROR_FRAC = 8              # of the softmax's error
ERROR_BITS = 7              # of a layer's largest error, at most
BIAS_FRAC = 16
BIAS_MAX = (1 << 26) - 1
RESIDUAL_BITS = 8
RANGE_SHIFT = 4             # the largest output is averaged over about 2**4 samples
RANGE_PERIOD = 256          # samples from one look at the weights' ranges to the next
SUM_FRAC = 16               # a layer's sum of absolute errors, for its share of updates
SUM_MAX = (1 << 24) - 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the integer network trains.

    Parameters
    ----------
    lr_shift : int
        The learning rate is 2**-lr_shift.
    lr_decay : int
        Samples after which lr_shift grows by one, again and again; 0: never.
    standardize : bool
        Divide each row's gradient, less its mean, by its mean magnitude, as a power of two.
    lmin, lmax : int
        Smallest and largest part of a layer that learns from a sample, in 1/256.
        The last layer learns whole: of a few classes' errors that of the right class is always the
        largest, and a layer that learns from it alone only ever moves up.
    error_bits : int
        Of the largest error of a layer, 1 to 7. The fewer, the more errors are 0 and cost nothing.
    skip : int
        Samples with less loss, in 1/256 bit, change nothing.

    Raises
    ------
    ValueError
        For a value outside its range.
    """
    lr_shift: int = 5
    lr_decay: int = 0
    standardize: bool = False
    lmin: int = ONE
    lmax: int = ONE
    error_bits: int = ERROR_BITS
    skip: int = 0

    def __post_init__(self):
        check_limits(self, {
            "lr_shift": (-8, 24), "lr_decay": (0, (1 << 31) - 1), "lmin": (0, self.lmax),
            "lmax": (self.lmin, ONE), "error_bits": (1, ERROR_BITS),
            "skip": (0, (1 << LOSS_WIDTH) - 1)})


@dataclass
class LayerState:
    """What changes in a layer with weights.

    Parameters
    ----------
    master : array of int64 [rows, columns], 16 bits
    bias : array of int64 [rows], 27 bits, in 2**-BIAS_FRAC
    weight_frac : int
        Fraction bits of the deployed weight, the master's upper byte.
    out_frac : int
        Fraction bits of the output codes.
    peak : int
        Running mean of the largest output, in 2**-8 of an output code.
    error_max : int
        Largest sum of absolute errors so far, in 2**-SUM_FRAC.
    """
    master: np.ndarray
    bias: np.ndarray
    weight_frac: int
    out_frac: int = INPUT_FRAC
    peak: int = 64 << 8
    error_max: int = 0


@dataclass
class State:
    """All that training changes.

    Parameters
    ----------
    layers : dict of LayerState by name
        Those with weights.
    mean : array of int64 [n_in], 16 bits unsigned, in 2**-8 of a pixel; or None
        Running mean of each input, which is taken off it; None where nothing is taken off.
    samples : int
        Samples seen.
    """
    layers: dict[str, LayerState]
    mean: np.ndarray | None = None
    samples: int = 0

    def copy(self) -> "State":
        return State({name: replace(s, master=s.master.copy(), bias=s.bias.copy())
                      for name, s in self.layers.items()}, self.mean, self.samples)


def init(layers, weights, biases, mean=None) -> State:
    """The state of float weights {name: [rows, columns]}, biases {name: [rows]}, means [n_in].

    The largest weight of a layer gets 14 of the 16 bits, one left for growth. Means count in
    pixels, 0 to 255.
    """
    found = {}
    for layer in layers:
        if layer.is_linear:
            w = np.asarray(weights[layer.name], float)
            frac = 6 - int(np.ceil(np.log2(max(np.abs(w).max(), 2.0 ** -10))))
            # In the middle of what the shift of the residual drops.
            master = np.clip(np.floor(w * 2.0 ** (frac + RESIDUAL_BITS)) + (1 << RESIDUAL_BITS - 1),
                             -1 << 15, (1 << 15) - 1)
            bias = np.round(np.asarray(biases[layer.name], float) * 2.0 ** BIAS_FRAC)
            found[layer.name] = LayerState(master.astype(np.int64), bias.astype(np.int64), frac)
    if mean is not None:
        mean = np.round(np.asarray(mean, float) * (1 << MEAN_FRAC)).astype(np.int64)
    return State(found, mean)


def rnd(x, shift: int):
    """x / 2**shift, rounded half up; x * 2**-shift where the shift is negative."""
    return x << -shift if shift <= 0 else x + (1 << shift - 1) >> shift


def normalized(errors, frac: int, bits: int) -> tuple[np.ndarray, int]:
    """Errors as 8-bit codes, the largest with so many bits, and their fraction bits."""
    shift = max(int(np.abs(errors).max()).bit_length() - bits, 0)
    return np.clip(rnd(errors, shift), -127, 127), frac - shift


@dataclass
class _Pass:
    """What a forward pass leaves for the backward pass: each layer's input and its format."""
    inputs: list = field(default_factory=list)
    fracs: list = field(default_factory=list)
    logits: np.ndarray | None = None
    frac: int = 0


def _forward(layers: tuple[Layer, ...], state: State, x, training: bool) -> _Pass:
    kept, frac = _Pass(), INPUT_FRAC
    x = np.asarray(x, np.int64)
    if state.mean is None:
        x = rnd(x, 1).clip(max=FEATURE_MAX)
    else:
        middle = state.mean
        if training:
            state.mean = middle + ((x << MEAN_FRAC) - middle >> MEAN_SHIFT)
        x = np.clip(rnd(x - (middle >> MEAN_FRAC), 1), -128, FEATURE_MAX)
    for layer in layers:
        kept.inputs.append(x)
        kept.fracs.append(frac)
        columns = layer.unfold(x)
        if layer.kind == "max_pool":
            x = columns.max(-1).reshape(-1)
            continue
        if layer.kind == "average_pool":
            x = mean(columns.sum(-1), layer.columns).reshape(-1)
            continue
        s = state.layers[layer.name]
        frac += s.weight_frac
        acc = layer.forward(columns, s.master >> RESIDUAL_BITS) + _aligned(s.bias, frac)
        if not layer.relu:
            kept.logits, kept.frac = acc[0], frac
            continue
        x = rnd(acc, frac - s.out_frac).reshape(-1)
        frac = s.out_frac
        if training and layer.trainable:
            _follow(s, int(x.max()))
        x = np.clip(x, 0, FEATURE_MAX)
    return kept


def _aligned(bias, frac: int):
    return bias << frac - BIAS_FRAC if frac >= BIAS_FRAC else bias >> BIAS_FRAC - frac


def _follow(s: LayerState, peak: int) -> None:
    """The next sample's output format: the largest output keeps within 3/8 to all of its range."""
    s.peak += (min(max(peak, 0), 1 << 16) << 8) - s.peak >> RANGE_SHIFT
    if s.peak > FEATURE_MAX + 1 << 8:
        s.out_frac, s.peak = s.out_frac - 1, s.peak >> 1
    elif s.peak < 48 << 8 and s.peak:
        s.out_frac, s.peak = s.out_frac + 1, s.peak << 1


def predict(layers, state: State, x) -> np.ndarray:
    """Classes [n] of samples [n, n_in] of unsigned bytes: the first of the largest logits."""
    passes = (_forward(layers, state, row, False) for row in x)
    return np.array([int(p.logits.argmax()) for p in passes])


def train_step(layers, state: State, x, label: int, settings: Settings) -> State:
    """The state after learning from one sample x [n_in] of unsigned bytes."""
    state = state.copy()
    kept = _forward(layers, state, x, True)
    fmt = Fixed(40, kept.frac, overflow="SAT")
    if cross_entropy(kept.logits, label, fmt) >= settings.skip:
        lr_shift = settings.lr_shift + (state.samples // settings.lr_decay if settings.lr_decay
                                        else 0)
        _backward(layers, state, kept, head_error(kept.logits, label, fmt), lr_shift, settings)
    state.samples += 1
    if state.samples % RANGE_PERIOD == 0:
        for layer in layers:
            if layer.trainable:
                _widen(state.layers[layer.name])
    return state


def _widen(s: LayerState) -> None:
    """The weights' format: their largest master keeps within 1/4 to 3/4 of its range."""
    peak = int((s.master ^ s.master >> 63).max())
    if peak >= 3 << 13:
        s.master, s.weight_frac = s.master >> 1, s.weight_frac - 1
    elif peak < 1 << 13:
        s.master, s.weight_frac = s.master << 1, s.weight_frac + 1


def _backward(layers, state: State, kept: _Pass, errors, lr_shift: int, settings) -> None:
    linear = [n for n, layer in enumerate(layers) if layer.is_linear]
    first = min(n for n in linear if layers[n].trainable)
    errors, frac = normalized(errors, ERROR_FRAC, settings.error_bits)
    for n in range(len(layers) - 1, first - 1, -1):
        layer, x = layers[n], kept.inputs[n]
        errors = errors.reshape(layer.positions, layer.rows)
        if layer.kind == "max_pool":
            errors = layer.to_largest(x, errors)
            continue
        if layer.kind == "average_pool":
            everywhere = np.ones((layer.rows, layer.columns), np.int64)
            errors = layer.backward(everywhere, errors) * (x > 0)
            frac += layer.columns.bit_length() - 1
            continue
        s = state.layers[layer.name]
        behind = layer.backward(s.master >> RESIDUAL_BITS, errors) * (x > 0) if n > first else None
        if layer.trainable:
            _update(s, layer.gradient(layer.unfold(x), errors), errors.sum(0), frac, kept.fracs[n],
                    lr_shift, settings.standardize)
        if n > first:
            before = layers[max(m for m in linear if m < n)]
            errors, frac = _arrived(before, state, behind, frac + s.weight_frac, settings)


def _arrived(layer: Layer, state: State, errors, frac: int, settings) -> tuple[np.ndarray, int]:
    """Errors of what a layer delivers, behind pools that follow it, as bytes: those that count."""
    sums = np.abs(errors).reshape(-1, layer.rows).sum(0)
    codes, coded = normalized(errors, frac, settings.error_bits)
    return _chosen(state.layers[layer.name], codes.reshape(-1, layer.rows), sums >> frac - coded,
                   coded, settings), coded


def _chosen(s: LayerState, errors, sums, frac: int, settings: Settings) -> np.ndarray:
    """Errors of the structures that learn from this sample, by their sums; 0 in the others."""
    if settings.lmin >= ONE:
        return errors
    e = min(int(rnd(int(sums.sum()), frac - SUM_FRAC)), SUM_MAX)
    s.error_max = max(s.error_max, e)
    return errors * top_k(sums, k_of(e, s.error_max, settings.lmin, settings.lmax, len(sums)))


def _update(s: LayerState, gradient, bias_gradient, frac, x_frac, lr_shift, standardize) -> None:
    if standardize:
        gradient = gradient - mean(gradient.sum(1), gradient.shape[1])[:, None]
        size = mean(np.abs(gradient).sum(1), gradient.shape[1])
        shifts = np.array([max(int(n).bit_length() - 1, 0) for n in size])[:, None]
        shifts = shifts + lr_shift - s.weight_frac - RESIDUAL_BITS
        step = np.stack([rnd(row, int(shift)) for row, shift in zip(gradient, shifts[:, 0],
                                                                   strict=True)])
    else:
        shift = max(frac + x_frac + lr_shift - s.weight_frac - RESIDUAL_BITS, 0)
        step = rnd(gradient, shift)
    s.master = np.clip(s.master - step, -1 << 15, (1 << 15) - 1)
    s.bias = np.clip(s.bias - rnd(bias_gradient, frac + lr_shift - BIAS_FRAC),
                     -BIAS_MAX, BIAS_MAX)

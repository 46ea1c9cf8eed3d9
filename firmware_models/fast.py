"""The golden model of learning at line rate once more, compiled: for long runs and for tuning.

:class:`FastLearner` gives the predictions and the state of :class:`firmware_models.learner.Learner`
with rule "np", integer for integer; tests/test_fast.py compares them. What to compute is said there
and in :mod:`firmware_models.line_rate`; here one loop over samples works on flat arrays:

- weights are transposed, [n_in][n_out], so that an input that is 0 skips a contiguous row;
- deployed weights stay beside the masters, and only a sweep's changes are carried over.

Numbers of the other models enter as data, not as globals: numba keys its cache to this file alone.
"""
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numba import njit

from . import drift, fused_update, loss
from .formats import ROUNDINGS, Fixed
from .learner import Learner, State
from .loss import LOGIT
from .network import Network
from .noise import MASK, SERIAL_TAPS
from .progress import DECAYS_MAX
from .prompt import check_rule
from .requantize import requantize
from .rules import node_probe
from .sample_packets import check_labels
from .settings import Settings

PRODUCT, BIAS, ACCUM, RESULT, RELU = range(5)       # casts of a stage
RND, RND_CONV = ROUNDINGS.index("RND"), ROUNDINGS.index("RND_CONV")


def _record(*names: str) -> np.dtype:
    return np.dtype([(name, np.int64) for name in names])


CAST = _record("drop", "rounding", "saturate", "low", "high", "mask")
STAGE = _record(
    "n_in", "n_out", "reuse", "drain_words", "trainable", "relu",
    "x_at", "w_at", "j_at", "node",             # its parts of the flat arrays
    "exact", "left",                            # products are summed first, then shifted left
    "weight_edge", "bias_edge",                 # shifts to the bits that the guard looks at
    "step_shift", "largest", "centred")
OPTIONS = _record("lr_shift", "head_shift", "lr_decay", "probes", "skip", "turn", "start",
                  "stop", "restart", "learns")
COUNTERS = _record("samples", "passes", "updates", "saturations", "loss", "loss_average", "decays",
                   "decay_count", "on", "decided", "complete", "last_turn", "slot")
CONSTANTS = _record("residual", "edge", "mean_frac", "mean_shift", "exp_frac", "d_max", "loss_max",
                    "average_frac", "average_shift", "difference_low", "difference_high",
                    "error_low", "error_high", "shift_max", "decays_max", "noise_mask",
                    "drift_period", "drift_delay")


class Arrays(NamedTuple):
    """What the loop works on. All int64, but for the deployed weights and their sums."""
    stages: np.ndarray          # STAGE [stages]
    casts: np.ndarray           # CAST [stages, 5]
    logit: np.ndarray           # CAST [1]
    constants: np.ndarray       # CONSTANTS [1]
    options: np.ndarray         # OPTIONS [1]
    counters: np.ndarray        # COUNTERS [1]
    selected: np.ndarray        # [stages] whether settings.layers has it
    amplitude: np.ndarray       # [stages] shift of the noise
    exp_table: np.ndarray       # [16]
    log_table: np.ndarray       # [256]
    taps: np.ndarray            # [4]
    hadamard: np.ndarray        # [probes, outputs]
    masters: np.ndarray         # flat [n_in][n_out] of all stages
    bias_masters: np.ndarray
    codes: np.ndarray           # int32 where every sum of exact products fits, else int64
    totals: np.ndarray          # the same type
    bias: np.ndarray            # in the accumulators' formats
    errors: np.ndarray
    coefficients: np.ndarray
    pending: np.ndarray         # [stages] that learned from the last sample
    noise: np.ndarray           # [stages] generator states
    signs: np.ndarray           # of a sample, and of its current probe
    z: np.ndarray
    old: np.ndarray             # [DELAY, inputs] of the last learning samples
    means: np.ndarray
    sums: np.ndarray            # pre-activations of the base pass
    base: np.ndarray            # inputs of every stage in the base pass, and the logits
    probe: np.ndarray           # the same of a probe pass
    below: np.ndarray
    fired: np.ndarray
    hit: np.ndarray


class FastLearner:
    """A network with learning state, as :class:`firmware_models.learner.Learner` holds it.

    Parameters
    ----------
    network : Network
    settings : Settings
        Of rule "np".
    residual : int
        Residual bits R below each trainable weight.

    Raises
    ------
    ValueError
        For another rule, layers that are not trainable, or formats whose numbers could need more
        than 62 bits.
    """

    def __init__(self, network: Network, settings: Settings, residual: int = 4):
        _check(network, settings, residual)
        # The plain one stands beside: its start is this one's, and so is all but the loop.
        self._plain = Learner(network, settings, residual)
        self.network, self.residual = network, residual
        self._arrays = _arrays(network, residual)
        self._load_codes()
        self.configure(settings)

    @property
    def settings(self) -> Settings:
        return self._plain.settings

    def configure(self, settings: Settings) -> None:
        """New settings between two samples: see :meth:`Learner.configure`."""
        _check(self.network, settings, self.residual)
        self._plain.configure(settings)
        a, count = self._arrays, self._arrays.counters[0]
        for name in ("decays", "decay_count", "complete"):
            count[name] = 0
        count["last_turn"], count["on"], count["decided"] = -1, 1, 1
        for array in (a.errors, a.coefficients, a.pending, a.noise, a.selected):
            array[:] = 0
        for index, state in self._plain.line_rate.noise.items():
            a.noise[index] = state
        a.selected[list(settings.layers)] = 1
        for stage in self.network.stages:
            a.amplitude[stage.index] = node_probe.amplitude_shift(stage.dense.accum,
                                                                  settings.sigma_log2)
        for name in OPTIONS.names[:-1]:
            a.options[0][name] = getattr(settings, name)
        a.options[0]["learns"] = bool(settings.layers)

    def learn(self, x, y, learn=True) -> np.ndarray:
        """Samples in their order through the core; the classes that their base passes give [n].

        Parameters
        ----------
        x : int array [n, n_in]
            Input codes.
        y : int array [n]
        learn : bool or bool array [n]
            The samples' learn bits. `learned` says afterwards which of these were learned from.
        """
        x = np.ascontiguousarray(self.network.input.check(x))
        if x.ndim != 2 or x.shape[1] != self.network.n_in:
            raise ValueError(f"samples have shape {x.shape}, not (n, {self.network.n_in})")
        y = check_labels(y, len(x), self.network.n_classes)
        predictions = np.empty(len(x), np.int64)
        self.learned = np.array(np.broadcast_to(np.asarray(learn, bool), len(x)))
        _learn(self._arrays, x, np.ascontiguousarray(y, np.int64), self.learned, predictions)
        return predictions

    @property
    def state(self) -> State:
        """A copy of all state, as Learner has it."""
        a, weights, biases = self._arrays, {}, {}
        for index in self.network.trainable:
            rows, outputs = _parts(a.stages[index])
            shape = self.network.stages[index].dense.weight_codes.shape
            weights[index] = a.masters[rows].reshape(shape[::-1]).T.copy()
            biases[index] = a.bias_masters[outputs].copy()
        counters = {name: int(a.counters[0][name]) for name in COUNTERS.names[:-3]}
        return replace(self._plain.state, weights=weights, biases=biases, errors=a.errors.copy(),
                       **counters)

    def load(self, weights: dict, biases: dict) -> None:
        """Masters of the trainable stages, as :class:`State` has them; all else stays.

        Raises
        ------
        ValueError
            For masters that do not fit their bits.
        """
        a = self._arrays
        for index in self.network.trainable:
            rows, outputs = _parts(a.stages[index])
            dense, R = self.network.stages[index].dense, self.residual
            a.masters[rows] = Fixed(dense.weight.width + R, 0).check(weights[index]).T.ravel()
            a.bias_masters[outputs] = Fixed(dense.bias.width + R, 0).check(biases[index])
            a.codes[rows] = a.masters[rows] >> R
            a.bias[outputs] = requantize(a.bias_masters[outputs] >> R, dense.bias.frac,
                                         dense.accum)

    def deployed_network(self) -> Network:
        """The network as its multipliers see it now."""
        self._plain.state = self.state
        return self._plain.deployed_network()

    def predict(self, x) -> np.ndarray:
        """Class of each row of input codes [n, n_in]; the first of equal logits wins."""
        self._plain.state = self.state
        return self._plain.predict(x)

    def _load_codes(self) -> None:
        """Weights of the plain learner, as masters and as the multipliers see them."""
        a = self._arrays
        for stage in self.network.stages:
            rows, outputs = _parts(a.stages[stage.index])
            dense = stage.dense
            a.codes[rows] = dense.weight_codes.T.ravel()
            a.bias[outputs] = requantize(dense.bias_codes, dense.bias.frac, dense.accum)
            if dense.trainable:
                a.masters[rows] = self._plain.state.weights[stage.index].T.ravel()
                a.bias_masters[outputs] = self._plain.state.biases[stage.index]


def _check(network: Network, settings: Settings, residual: int) -> None:
    if settings.rule != "np":
        raise ValueError(f"the fast model has rule 'np' alone, not {settings.rule!r}")
    check_rule(network, settings.rule)
    # The loop checks no index.
    if not set(settings.layers) <= set(network.trainable):
        raise ValueError(f"layers {settings.layers} are not all trainable: "
                         f"this network trains {network.trainable}")
    for stage in network.stages:
        dense = stage.dense
        widest = max(
            # What is shifted left is as wide as it was, and as the shift; a sum has carries.
            stage.source.width + dense.weight.width + dense.n_in.bit_length() + max(
                dense.accum.frac - stage.source.frac - dense.weight.frac, 0),
            dense.bias.width + max(dense.accum.frac - dense.bias.frac, 0),
            dense.accum.width + max(dense.result.frac - dense.accum.frac, 0),
            dense.accum.width + dense.n_in.bit_length(),
            node_probe.amplitude_shift(dense.accum, 7) + 1,
            dense.result.width + max(stage.result.frac - dense.result.frac, 0),
            stage.result.width + max(LOGIT.frac - stage.result.frac, 0))
        if widest > 61:
            raise ValueError(f"{dense.name}: its formats need up to {widest + 1} bits; "
                             "the fast model has 62")
        if dense.trainable:
            step = fused_update.step_of(stage, residual)
            width = min(dense.weight.width, dense.bias.width)
            # A step into the guarded end must not lead across it.
            if step.shift < 0 or width + residual - fused_update.EDGE_BITS \
                    < step.largest.bit_length() - 1:
                raise ValueError(f"{dense.name}: inputs of {stage.source.width} bits, weights and "
                                 f"biases of {width} do not go with {residual} residual bits")


def _cast(frac: int, to: Fixed) -> tuple:
    """A row of CAST: :func:`firmware_models.requantize.requantize` from `frac` fraction bits."""
    return (min(frac - to.frac, 62), ROUNDINGS.index(to.rounding), to.overflow == "SAT",
            to.min, to.max, (1 << to.width) - 1)


def _parts(stage) -> tuple[slice, slice]:
    """A stage's weights and its outputs in the flat arrays."""
    n_in, n_out, w_at, j_at = (int(stage[name]) for name in ("n_in", "n_out", "w_at", "j_at"))
    return slice(w_at, w_at + n_in * n_out), slice(j_at, j_at + n_out)


def _arrays(network: Network, residual: int) -> Arrays:
    """Arrays of a network, without weights and without settings."""
    stages, casts = np.zeros(len(network.stages), STAGE), np.zeros((len(network.stages), 5), CAST)
    x_at = w_at = j_at = node = widest = 0
    for stage in network.stages:
        dense = stage.dense
        step = fused_update.step_of(stage, residual)
        frac = stage.source.frac + dense.weight.frac
        stages[stage.index] = (
            dense.n_in, dense.n_out, dense.reuse_factor, stage.drain_words, dense.trainable,
            stage.relu is not None, x_at, w_at, j_at, node if dense.trainable else -1,
            frac <= dense.accum.frac, dense.accum.frac - frac,
            dense.weight.width + residual - fused_update.EDGE_BITS,
            dense.bias.width + residual - fused_update.EDGE_BITS,
            step.shift, step.largest, step.centred)
        casts[stage.index] = [
            _cast(frac, dense.accum), _cast(dense.bias.frac, dense.accum),
            _cast(dense.accum.frac, dense.accum), _cast(dense.accum.frac, dense.result),
            _cast(dense.result.frac, stage.result)]
        widest = max(widest, stage.source.width + dense.weight.width + dense.n_in.bit_length())
        x_at += dense.n_in
        w_at += dense.n_in * dense.n_out
        j_at += dense.n_out
        node += dense.n_out * dense.trainable
    n_x, outputs = x_at + network.n_classes, max(s.dense.n_out for s in network.stages)
    hadamard = [node_probe.signs(k, np.ones(outputs, np.int64))
                for k in range(node_probe.MAX_PROBES)]
    constants = (residual, 1 << fused_update.EDGE_BITS - 1, fused_update.MEAN_FRAC,
                 fused_update.MEAN_SHIFT, loss.EXP_FRAC, loss.D_MAX, (1 << loss.LOSS_WIDTH) - 1,
                 loss.AVERAGE_FRAC, loss.AVERAGE_SHIFT, node_probe.DELTA.min, node_probe.DELTA.max,
                 node_probe.ERROR.min, node_probe.ERROR.max, node_probe.SHIFT_MAX, DECAYS_MAX, MASK,
                 drift.PERIOD, drift.DELAY)
    # 32 bits make the compiler's vectors twice as long, and multiply in one instruction.
    narrow = np.int32 if widest <= 31 and stages["exact"].all() else np.int64

    def zeros(*shape, dtype=np.int64):
        return np.zeros(shape, dtype)

    return Arrays(
        stages=stages, casts=casts, logit=np.array([_cast(network.stages[-1].result.frac, LOGIT)],
                                                   CAST),
        constants=np.array([constants], CONSTANTS), options=zeros(1, dtype=OPTIONS),
        counters=zeros(1, dtype=COUNTERS), selected=zeros(len(stages)),
        amplitude=zeros(len(stages)), exp_table=np.array(loss.EXP_TABLE, np.int64),
        log_table=np.array(loss.LOG_TABLE, np.int64), taps=np.array(SERIAL_TAPS, np.int64),
        hadamard=np.array(hadamard), masters=zeros(w_at), bias_masters=zeros(j_at),
        codes=zeros(w_at, dtype=narrow), totals=zeros(outputs, dtype=narrow), bias=zeros(j_at),
        errors=zeros(node), coefficients=zeros(node), pending=zeros(len(stages)),
        noise=zeros(len(stages)), signs=zeros(outputs), old=zeros(fused_update.DELAY, n_x),
        means=zeros(network.n_in), sums=zeros(j_at), base=zeros(n_x), probe=zeros(n_x),
        below=zeros(network.n_classes), z=zeros(outputs), fired=zeros(outputs),
        hit=zeros(max(max(s.dense.reuse_factor, s.drain_words) for s in network.stages)))


@njit(cache=True, nogil=True)
def _learn(a, x, y, learn, predictions):
    """Learner.step for every sample."""
    count, constants, options = a.counters[0], a.constants[0], a.options[0]
    n_stages, logits = len(a.stages), a.base[len(a.base) - len(a.below):]
    for n in range(len(x)):
        _enter(options, count, constants)
        learning = learn[n] and count.on and options.learns
        learn[n] = learning
        if learning:
            for k in range(n_stages):
                if a.stages[k].trainable:
                    _sweep(a, k, a.old[count.slot], count)
        for i in range(x.shape[1]):
            a.base[i] = x[n, i]
        for k in range(n_stages):
            stage = a.stages[k]
            sums = a.sums[stage.j_at:stage.j_at + stage.n_out]
            _accumulate(stage, a.casts[k], a.codes, a.bias, a.totals, a.base, sums)
            start = stage.x_at + stage.n_in
            for j in range(stage.n_out):
                a.base[start + j] = sums[j]
            _activate(stage, a.casts[k], a.base)
        predictions[n] = _first_largest(logits)
        base, log_sum = _loss(logits, y[n], a.below, a.logit[0], constants, a.exp_table,
                              a.log_table)
        count.samples += 1
        count.passes += 1
        count.loss = base
        count.loss_average += ((base << constants.average_frac) - count.loss_average
                               >> constants.average_shift)
        if count.samples % constants.drift_period == 0:
            average = count.loss_average >> constants.average_frac
            if average >= options.start:
                count.decided = 1
            elif average < options.stop:
                count.decided = 0
        if not learning:
            continue
        if count.complete:
            _complete(a.stages, a.pending, a.errors, a.coefficients, options, count, constants)
        for i in range(len(a.base)):
            a.old[count.slot, i] = a.base[i]
        count.slot = (count.slot + 1) % len(a.old)
        _schedule(a.selected, a.pending, options, count)
        counts = base >= options.skip
        if a.pending[n_stages - 1] and counts:
            _head_error(a.errors[a.stages[n_stages - 1].node:], y[n], a.below, log_sum, constants,
                        a.exp_table)
        for k in range(n_stages - 1):
            if a.pending[k] and options.probes:
                _probe(a, k, y[n], base, counts)
                count.passes += options.probes


@njit(cache=True)
def _enter(options, count, constants):
    """Learning switched on or off, where it is time for that."""
    on = count.on
    if options.start == 0:
        on = 1
    elif count.samples % constants.drift_period == constants.drift_delay:
        on = count.decided
    if on and not count.on and options.restart:
        count.decays = count.decay_count = 0
    count.on = on


@njit(cache=True)
def _assign(values, cast):
    """firmware_models.requantize, in place."""
    drop = cast.drop
    if drop < 0:
        for j in range(len(values)):
            values[j] <<= -drop
    elif drop > 0:
        half = 0
        if cast.rounding == RND:
            half = 1 << drop - 1
        elif cast.rounding == RND_CONV:
            half = (1 << drop - 1) - 1
            for j in range(len(values)):
                values[j] += values[j] >> drop & 1
        for j in range(len(values)):
            values[j] = values[j] + half >> drop
    low, high, mask = cast.low, cast.high, cast.mask
    if cast.saturate:
        for j in range(len(values)):
            values[j] = min(max(values[j], low), high)
    else:
        for j in range(len(values)):
            values[j] = (values[j] - low & mask) + low


@njit(cache=True)
def _accumulate(stage, casts, codes, all_bias, all_totals, h, out):
    """Pre-activations of a stage, from its inputs in `h`."""
    n_in, n_out, x_at, w_at = stage.n_in, stage.n_out, stage.x_at, stage.w_at
    bias, totals = all_bias[stage.j_at:stage.j_at + n_out], all_totals[:n_out]
    if stage.exact:
        left = stage.left
        totals[:] = 0
        for i in range(n_in):
            x = h[x_at + i]
            if x:
                row = codes[w_at + i * n_out:w_at + (i + 1) * n_out]
                for j in range(n_out):
                    totals[j] += x * row[j]
        for j in range(n_out):
            out[j] = bias[j] + (np.int64(totals[j]) << left)
    else:
        for j in range(n_out):
            out[j] = bias[j]
        for i in range(n_in):
            x = h[x_at + i]
            if x:                       # a product of 0 stays 0 in every cast
                for j in range(n_out):
                    totals[j] = x * codes[w_at + i * n_out + j]
                _assign(totals, casts[PRODUCT])
                for j in range(n_out):
                    out[j] += totals[j]
    _assign(out, casts[ACCUM])


@njit(cache=True)
def _activate(stage, casts, h):
    """Accumulators in `h`, where the stage's successor reads its inputs, to output codes."""
    start = stage.x_at + stage.n_in
    out = h[start:start + stage.n_out]
    _assign(out, casts[RESULT])
    if stage.relu:
        for j in range(len(out)):
            out[j] = max(out[j], 0)
        _assign(out, casts[RELU])


@njit(cache=True)
def _first_largest(values):
    best = 0
    for j in range(1, len(values)):
        if values[j] > values[best]:
            best = j
    return best


@njit(cache=True)
def _loss(logits, label, below, cast, constants, exp_table, log_table):
    """Loss of logits and ilog2 of their exponentials' sum; fills `below`."""
    for j in range(len(below)):
        below[j] = logits[j]
    _assign(below, cast)
    best = below[_first_largest(below)]
    total = 0
    for j in range(len(below)):
        below[j] = best - below[j]
        d = min(below[j], constants.d_max)
        total += exp_table[d & 15] >> (d >> 4)
    position = constants.exp_frac           # the largest logit alone gives 2**exp_frac
    while total >> position + 1:
        position += 1
    log_sum = (position - constants.exp_frac << 8) + log_table[total >> position - 8 & 255]
    return min((below[label] << 4) + log_sum, constants.loss_max), log_sum


@njit(cache=True)
def _head_error(errors, label, below, log_sum, constants, exp_table):
    """Softmax minus one-hot into the errors."""
    for j in range(len(below)):
        d = min(min(below[j], constants.d_max) + (log_sum + 8 >> 4), constants.d_max)
        p = exp_table[d & 15] >> (d >> 4) >> 4
        errors[j] = min(max(errors[j] + p - 256 * (j == label), constants.error_low),
                        constants.error_high)


@njit(cache=True)
def _probe(a, k, label, base, counts):
    """All probes of stage k."""
    stage, constants, n_stages = a.stages[k], a.constants[0], len(a.stages)
    start, n_out, amplitude = stage.x_at + stage.n_in, stage.n_out, a.amplitude[k]
    sums, z = a.sums[stage.j_at:stage.j_at + n_out], a.z[:n_out]
    errors, active = a.errors[stage.node:stage.node + n_out], a.base[start:start + n_out]
    low, high, always = constants.error_low, constants.error_high, stage.relu == 0
    out, logits = a.probe[start:start + n_out], a.probe[len(a.probe) - len(a.below):]
    a.noise[k] = _draw(a.noise[k], a.signs, stage.drain_words, n_out // stage.drain_words,
                       a.taps, constants.noise_mask)
    for probe in range(a.options[0].probes):
        for j in range(n_out):
            z[j] = a.signs[j] * a.hadamard[probe, j]
            out[j] = sums[j] + (z[j] << amplitude)
        _assign(out, a.casts[k, ACCUM])
        _activate(stage, a.casts[k], a.probe)
        for b in range(k + 1, n_stages):
            behind = a.stages[b]
            at = behind.x_at + behind.n_in
            _accumulate(behind, a.casts[b], a.codes, a.bias, a.totals, a.probe,
                        a.probe[at:at + behind.n_out])
            _activate(behind, a.casts[b], a.probe)
        loss, _ = _loss(logits, label, a.below, a.logit[0], constants, a.exp_table, a.log_table)
        d = min(max(loss - base, constants.difference_low), constants.difference_high)
        if counts and d:
            for j in range(n_out):
                term = z[j] * d if always or active[j] > 0 else 0
                errors[j] = min(max(errors[j] + term, low), high)


@njit(cache=True)
def _draw(state, signs, words, lanes, taps, mask):
    """A sample's signs, drawn in the order in which a stage drains its outputs; the next state."""
    for word in range(words):
        for lane in range(lanes):
            bit = 0
            for tap in taps:
                bit ^= state >> tap & 1
            state = state << 1 & mask | bit
            signs[word + words * lane] = 1 - 2 * bit
    return state


@njit(cache=True)
def _complete(stages, pending, errors, coefficients, options, count, constants):
    """Coefficients from the errors of the sample before."""
    for k in range(len(stages)):
        stage = stages[k]
        if not stage.trainable:
            continue
        shift = options.head_shift if k == len(stages) - 1 else options.lr_shift
        shift = min(shift + count.decays, constants.shift_max)
        for node in range(stage.node, stage.node + stage.n_out):
            error, c = errors[node], 0
            if pending[k] and (error ^ error >> 63) >> shift:
                c = -1 if error < 0 else 1
            coefficients[node] = c
            errors[node] = error - (c << shift)
    count.updates += 1
    if options.lr_decay:
        count.decay_count += 1
        if count.decay_count == options.lr_decay:
            count.decays = min(count.decays + 1, constants.decays_max)
            count.decay_count = 0


@njit(cache=True)
def _schedule(selected, pending, options, count):
    """Stages that learn from this sample."""
    last = len(selected) - 1
    for k in range(len(selected)):
        pending[k] = selected[k]
    count.complete = 1
    if options.turn:
        for step in range(1, last + 1):
            turn = (count.last_turn + step) % last
            if selected[turn]:
                for k in range(last):
                    pending[k] = k == turn
                count.last_turn = turn
                break


@njit(cache=True)
def _sweep(a, k, history, count):
    """The update that is due, into stage k: M -= c * u of the nodes that fired."""
    stage, constants, masters, codes = a.stages[k], a.constants[0], a.masters, a.codes
    n_in, n_out, w_at = stage.n_in, stage.n_out, stage.w_at
    old, means = history[stage.x_at:stage.x_at + n_in], a.means
    coefficients = a.coefficients[stage.node:stage.node + n_out]
    residual, edge, hit, fired = constants.residual, constants.edge, a.hit, 0
    for j in range(n_out):
        if coefficients[j]:
            a.fired[fired] = j
            fired += 1
    if fired:
        hit[:] = 0
        half, shift, centred = 1 << stage.step_shift >> 1, stage.step_shift, stage.centred
        weight_edge, mean_frac = stage.weight_edge, constants.mean_frac
        for i in range(n_in):
            u = old[i] - (means[i] >> mean_frac if centred else 0) + half >> shift
            for f in range(fired):
                j = a.fired[f]
                c, at = coefficients[j], w_at + i * n_out + j
                # Held back counts as a saturation where the step is 0, too.
                if _held(masters[at] >> weight_edge, c, u, edge):
                    hit[i % stage.reuse] = 1
                else:
                    masters[at] -= c * u
                    codes[at] = masters[at] >> residual
        for word in range(stage.reuse):
            count.saturations += hit[word]
        hit[:] = 0
        for f in range(fired):
            j = a.fired[f]
            c, at = coefficients[j], stage.j_at + j
            if _held(a.bias_masters[at] >> stage.bias_edge, c, stage.largest, edge):
                hit[j % stage.drain_words] = 1
            else:
                a.bias_masters[at] -= c * stage.largest
                a.bias[at] = a.bias_masters[at] >> residual
                _assign(a.bias[at:at + 1], a.casts[k, BIAS])
        for word in range(stage.drain_words):
            count.saturations += hit[word]
    if stage.centred:
        for i in range(n_in):
            means[i] += (old[i] << constants.mean_frac) - means[i] >> constants.mean_shift


@njit(cache=True)
def _held(top, c, u, edge):
    """Whether the guard holds a master back whose upper bits are `top`."""
    return top == edge - 1 if (c < 0) != (u < 0) else top == -edge

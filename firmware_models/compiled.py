"""What the compiled golden models share: a network's numbers in flat arrays, and the base pass.

The arrays: weights are transposed, [n_in][n_out], so that an input that is 0 skips a contiguous
row; deployed weights stay beside the masters. The plain learner stands beside, too: its start is
the compiled one's, and so is all but the loop over samples.

Numba finds compiled code again by the file of the function, its bytecode and the types of its
arguments; it sees no change in another file. So that no learner keeps running what stood here:

- numbers of other models enter as data, not as globals;
- the digest of this file is in the name of a field of CONSTANTS, and so in a type of the arrays
  that every learner works on: a change here is another type; and so are the digests of other files
  that a learner calls;
- of each learner one function is cached, that which gets these arrays.
"""
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numba import njit

from . import activation, drift, loss
from .formats import ROUNDINGS, Fixed
from .learner import Learner, State
from .loss import LOGIT
from .network import Network
from .progress import DECAYS_MAX
from .requantize import requantize
from .sample_packets import check_labels
from .settings import Settings

PRODUCT, BIAS, ACCUM, RESULT = range(4)     # casts of a stage
RND, RND_CONV = ROUNDINGS.index("RND"), ROUNDINGS.index("RND_CONV")


def digest(path: str) -> str:
    """The field of CONSTANTS that stands for a file of compiled functions."""
    return "source_" + sha256(Path(path).read_bytes()).hexdigest()[:16]


DIGEST = digest(__file__)


def record(*names: str) -> np.dtype:
    return np.dtype([(name, np.int64) for name in names])


CAST = record("drop", "rounding", "saturate", "low", "high", "mask")
# Fields of the records STAGE, OPTIONS, COUNTERS and CONSTANTS that every learner has.
STAGE = ("n_in", "n_out", "reuse", "drain_words", "trainable", "gated",
         "x_at", "w_at", "j_at",                    # its parts of the flat arrays
         "first_layer", "behind_layers",            # its elementwise layers
         "exact", "left")                           # products are summed first, then shifted left
# Elementwise layers: the cast of x or `least`, whichever is larger; or of x * slope + offset,
# clipped to least and most; or of an entry of a table. At `at` of the parameters are every node's
# slopes of inputs above the threshold, slopes of the others, and offsets; or the table.
CLIP, SLOPES, TABLE = range(3)
LAYER = ("kind", "least", "most", "threshold", "at", "left")
OPTIONS = ("lr_shift", "lr_decay", "start", "stop", "restart", "learns")
COUNTERS = ("samples", "passes", "updates", "saturations", "loss", "loss_average", "decays",
            "decay_count", "on", "decided")
CONSTANTS = ("residual", "exp_frac", "d_max", "loss_max", "average_frac", "average_shift",
             "decays_max", "drift_period", "drift_delay")
ARRAYS = (
    "stages",           # STAGE [parts]; of a prompt behind them: its place, and no products
    "casts",            # CAST [parts, 4]
    "layers",           # LAYER [elementwise layers]
    "layer_casts",      # CAST [elementwise layers]
    "parameters",       # of the layers that are not plain
    "logit",            # CAST [1]
    "constants",        # CONSTANTS [1]
    "options",          # OPTIONS [1]
    "counters",         # COUNTERS [1]
    "exp_table",        # [16]
    "log_table",        # [256]
    "masters",          # flat [n_in][n_out] of all stages
    "bias_masters",
    "codes",            # int32 where every sum of exact products fits, else int64
    "totals",           # the same type
    "bias",             # in the accumulators' formats
    "sums",             # pre-activations of the base pass
    "base",             # inputs of every stage in the base pass, and the logits
    "probe",            # the same of a probe pass
    "below")


class Compiled:
    """A network with learning state, as :class:`firmware_models.learner.Learner` holds it.

    Of a rule that has `RULE`, `_loop` (the compiled loop over samples) and `_restart` (what new
    settings do to its own arrays).

    Parameters
    ----------
    plain : Learner
    arrays : named tuple of ARRAYS and the rule's own

    Raises
    ------
    ValueError
        For another rule, or formats whose numbers could need more than 62 bits.
    """
    RULE: str

    def __init__(self, plain: Learner, arrays):
        self._plain, self._arrays = plain, arrays
        self.network, self.residual = plain.network, plain.residual
        self._load_codes()
        self.configure(plain.settings)

    @property
    def settings(self) -> Settings:
        return self._plain.settings

    def configure(self, settings: Settings) -> None:
        """New settings between two samples: see :meth:`Learner.configure`."""
        self._check_rule(settings)
        self._plain.configure(settings)
        count, options = self._arrays.counters[0], self._arrays.options[0]
        count["decays"], count["decay_count"], count["on"], count["decided"] = 0, 0, 1, 1
        for name in options.dtype.names:
            if hasattr(settings, name):
                options[name] = getattr(settings, name)
        options["learns"] = bool(settings.layers)
        self._restart(settings)

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
        self._loop(self._arrays, x, np.ascontiguousarray(y, np.int64), self.learned, predictions)
        return predictions

    @property
    def state(self) -> State:
        """A copy of all state, as Learner has it."""
        a = self._arrays
        biases = {index: a.bias_masters[parts(a.stages[index])[1]].astype(np.int64)
                  for index in self.network.trainable}
        counters = {name: int(a.counters[0][name]) for name in COUNTERS}
        return replace(self._plain.state, weights=self._matrices(a.masters), biases=biases,
                       **counters, **self._own_state())

    def load(self, weights: dict, biases: dict) -> None:
        """Masters of the trainable stages, as :class:`State` has them; all else stays.

        Raises
        ------
        ValueError
            For masters that do not fit their bits.
        """
        a = self._arrays
        for index in self.network.trainable:
            rows, outputs = parts(a.stages[index])
            dense, R = self.network.parts[index].dense, self.residual
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

    @classmethod
    def _check_rule(cls, settings: Settings) -> None:
        if settings.rule != cls.RULE:
            raise ValueError(f"this compiled model has rule {cls.RULE!r} alone, "
                             f"not {settings.rule!r}")

    def _own_state(self) -> dict:
        """Fields of the state that only this rule changes."""
        return {}

    def _matrices(self, flat) -> dict[int, np.ndarray]:
        """Rows of the trainable stages [n_out, n_in] from a flat array like the weights'."""
        found = {}
        for index in self.network.trainable:
            shape = self.network.parts[index].dense.weight_codes.shape
            rows = flat[parts(self._arrays.stages[index])[0]]
            found[index] = rows.reshape(shape[::-1]).T.astype(np.int64)
        return found

    def _load_codes(self) -> None:
        """Weights of the plain learner, as masters and as the multipliers see them."""
        a = self._arrays
        for part in self.network.parts:
            rows, outputs = parts(a.stages[part.index])
            dense = part.dense
            a.codes[rows] = dense.weight_codes.T.ravel()
            a.bias[outputs] = requantize(dense.bias_codes, dense.bias.frac, dense.accum)
            if dense.trainable:
                a.masters[rows] = self._plain.state.weights[part.index].T.ravel()
                a.bias_masters[outputs] = self._plain.state.biases[part.index]


def check_widths(stage, *others: int) -> None:
    """Whether 62 bits hold every number of a stage; `others`: bits of those of a rule's own."""
    dense = stage.dense
    if stage.branches:
        raise ValueError(f"{dense.name}: other vectors pass by, and the compiled models know "
                         "chains alone; use firmware_models.learner.Learner")
    widest = max(
        # What is shifted left is as wide as it was, and as the shift; a sum has carries.
        stage.source.width + dense.weight.width + dense.n_in.bit_length() + max(
            dense.accum.frac - stage.source.frac - dense.weight.frac, 0),
        dense.bias.width + max(dense.accum.frac - dense.bias.frac, 0),
        dense.accum.width + max(dense.result.frac - dense.accum.frac, 0),
        dense.accum.width + dense.n_in.bit_length(),
        *_layer_widths(stage),
        stage.result.width + max(LOGIT.frac - stage.result.frac, 0), *others)
    if widest > 61:
        raise ValueError(f"{dense.name}: its formats need up to {widest + 1} bits; "
                         "the compiled models have 62")


def _layer_widths(stage):
    source = stage.dense.result
    for layer in stage.activation:
        width, frac = layer.exact(source)
        yield width + 1 + max(layer.result.frac - frac, 0)
        source = layer.result


def elementwise(layer, source: Fixed) -> tuple[dict, tuple, list]:
    """Of an elementwise layer fed by `source`: fields of LAYER, its cast, its parameters."""
    _, frac = layer.exact(source)
    if isinstance(layer, activation.Relu | activation.Linear):
        least = 0 if isinstance(layer, activation.Relu) else source.min
        return dict(kind=CLIP, least=least), cast(source.frac, layer.result), []
    if isinstance(layer, activation.Lookup):
        return (dict(kind=TABLE, most=layer.size - 1, left=layer.left(source)),
                cast(frac, layer.result), layer.table_codes)
    fields = dict(kind=SLOPES, threshold=0, least=-1 << 61, most=1 << 61)
    above, below, offset = 1 << max(frac - source.frac, 0), 0, 0
    match layer:
        case activation.ReluMax():
            fields["most"] = layer.limit << frac
        case activation.ThresholdedRelu():
            fields["threshold"] = layer.floor(source)
        case activation.PRelu():
            below = layer.slope_codes << frac - source.frac - layer.slope.frac
        case activation.BatchNorm():
            above = below = layer.scale_codes << frac - source.frac - layer.scale.frac
            offset = layer.bias_codes << frac - layer.bias.frac
        case activation.HardSigmoid():
            # As hard_tanh twice as much, less 1: so are its ends.
            above = below = layer.slope_code << frac - source.frac - layer.slope.frac + layer.tanh
            offset = (layer.shift_code << frac - layer.shift.frac + layer.tanh) \
                - (layer.tanh << frac)
            fields |= dict(least=-layer.tanh << frac, most=1 << frac)
    return fields, cast(frac, layer.result), [
        *np.broadcast_to(above, layer.n), *np.broadcast_to(below, layer.n),
        *np.broadcast_to(offset, layer.n)]


def cast(frac: int, to: Fixed) -> tuple:
    """A row of CAST: :func:`firmware_models.requantize.requantize` from `frac` fraction bits."""
    return (min(frac - to.frac, 62), ROUNDINGS.index(to.rounding), to.overflow == "SAT",
            to.min, to.max, (1 << to.width) - 1)


def parts(stage) -> tuple[slice, slice]:
    """A stage's weights and its outputs in the flat arrays."""
    n_in, n_out, w_at, j_at = (int(stage[name]) for name in ("n_in", "n_out", "w_at", "j_at"))
    return slice(w_at, w_at + n_in * n_out), slice(j_at, j_at + n_out)


def filled(fields, **values) -> np.ndarray:
    """An array of one record; fields that are not named are 0."""
    array = np.zeros(1, record(*fields))
    for name, value in values.items():
        array[0][name] = value
    return array


def arrays(network: Network, residual: int, *, stage=(), options=(), counters=(), constants=None,
           narrow_masters: bool = False) -> dict[str, np.ndarray]:
    """ARRAYS of a network, without weights and without settings.

    Parameters
    ----------
    stage, options, counters : tuple of str
        A rule's own fields of these records, all 0. They stand first: numba takes a record that
        begins with all fields of another for that one, and warns.
    constants : dict of str to int
        Its own constants.
    narrow_masters : bool
        Whether masters have the codes' type, where it can hold them; else they are int64.
    """
    stages = np.zeros(len(network.parts), record(*stage, *STAGE))
    casts = np.zeros((len(network.parts), 4), CAST)
    layers, layer_casts, parameters = [], [], []
    x_at = w_at = j_at = widest = 0
    for one in network.parts:
        dense = one.dense
        frac = one.source.frac + dense.weight.frac
        for name, value in zip(STAGE, (
                dense.n_in, dense.n_out, dense.reuse_factor, one.drain_words, dense.trainable,
                one.gated, x_at, w_at, j_at, len(layers), len(layers) + len(one.activation),
                frac <= dense.accum.frac,
                dense.accum.frac - frac), strict=True):
            stages[one.index][name] = value
        casts[one.index] = [
            cast(frac, dense.accum), cast(dense.bias.frac, dense.accum),
            cast(dense.accum.frac, dense.accum), cast(dense.accum.frac, dense.result)]
        source = dense.result
        for layer in one.activation:
            fields, to, more = elementwise(layer, source)
            layers.append(filled(LAYER, **fields, at=len(parameters)))
            layer_casts.append(to)
            parameters.extend(more)
            source = layer.result
        widest = max(widest, one.source.width + dense.weight.width + dense.n_in.bit_length())
        if narrow_masters:          # with two bits for sums
            widest = max(widest, dense.weight.width + residual + 2)
        x_at += dense.n_in
        w_at += dense.n_in * dense.n_out
        j_at += dense.n_out
    n_x = sum(s.dense.n_in for s in network.stages) + network.n_classes
    outputs = max(s.dense.n_out for s in network.stages)
    # 32 bits make the compiler's vectors twice as long, and multiply in one instruction.
    exact = stages["exact"][:len(network.stages)].all()
    narrow = np.int32 if widest <= 31 and exact else np.int64

    def zeros(count, dtype=np.int64):
        return np.zeros(count, dtype)

    return dict(
        stages=stages, casts=casts, layers=np.concatenate([filled(LAYER)[:0], *layers]),
        layer_casts=np.array(layer_casts, CAST), parameters=np.array(parameters, np.int64),
        logit=np.array([cast(network.stages[-1].result.frac, LOGIT)],
                                                   CAST),
        constants=filled((*(constants or {}), *CONSTANTS, DIGEST), residual=residual,
                         exp_frac=loss.EXP_FRAC, d_max=loss.D_MAX,
                         loss_max=(1 << loss.LOSS_WIDTH) - 1, average_frac=loss.AVERAGE_FRAC,
                         average_shift=loss.AVERAGE_SHIFT, decays_max=DECAYS_MAX,
                         drift_period=drift.PERIOD, drift_delay=drift.DELAY, **(constants or {})),
        options=filled((*options, *OPTIONS)), counters=filled((*counters, *COUNTERS)),
        exp_table=np.array(loss.EXP_TABLE, np.int64), log_table=np.array(loss.LOG_TABLE, np.int64),
        masters=zeros(w_at, narrow if narrow_masters else np.int64), bias_masters=zeros(j_at),
        codes=zeros(w_at, narrow), totals=zeros(outputs, narrow), bias=zeros(j_at),
        sums=zeros(j_at), base=zeros(n_x), probe=zeros(n_x), below=zeros(network.n_classes))


@njit
def enter(options, count, constants):
    """Learning switched on or off, where it is time for that."""
    on = count.on
    if options.start == 0:
        on = 1
    elif count.samples % constants.drift_period == constants.drift_delay:
        on = count.decided
    if on and not count.on and options.restart:
        count.decays = count.decay_count = 0
    count.on = on


@njit
def base_pass(x, stages, casts, layers, layer_casts, parameters, codes, bias, totals, all_sums, h):
    """The unperturbed pass: inputs of every stage, and the logits, into `h`."""
    for i in range(len(x)):
        h[i] = x[i]
    for k in range(len(stages)):
        stage = stages[k]
        sums = all_sums[stage.j_at:stage.j_at + stage.n_out]
        accumulate(stage, casts[k], codes, bias, totals, h, sums)
        start = stage.x_at + stage.n_in
        for j in range(stage.n_out):
            h[start + j] = sums[j]
        activate(stage, casts[k], layers, layer_casts, parameters, h)


@njit
def count_sample(loss, options, count, constants):
    """One more sample, with the loss of its base pass; a decision where it is time for that."""
    count.samples += 1
    count.passes += 1
    count.loss = loss
    count.loss_average += ((loss << constants.average_frac) - count.loss_average
                           >> constants.average_shift)
    if count.samples % constants.drift_period == 0:
        average = count.loss_average >> constants.average_frac
        if average >= options.start:
            count.decided = 1
        elif average < options.stop:
            count.decided = 0


@njit
def assign(values, cast):
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


@njit
def accumulate(stage, casts, codes, all_bias, all_totals, h, out):
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
                assign(totals, casts[PRODUCT])
                for j in range(n_out):
                    out[j] += totals[j]
    assign(out, casts[ACCUM])


@njit
def activate(stage, casts, layers, layer_casts, parameters, h):
    """Accumulators in `h`, where the stage's successor reads its inputs, to output codes."""
    start = stage.x_at + stage.n_in
    out = h[start:start + stage.n_out]
    assign(out, casts[RESULT])
    n = len(out)
    for k in range(stage.first_layer, stage.behind_layers):
        layer = layers[k]
        least, most, threshold, at = layer.least, layer.most, layer.threshold, layer.at
        if layer.kind == CLIP:
            for j in range(n):
                out[j] = max(out[j], least)
        elif layer.kind == TABLE:
            left, half = layer.left, most + 1 >> 1
            for j in range(n):
                steps = abs(out[j])
                steps = steps << left if left >= 0 else steps >> min(-left, 62)
                index = half + (steps if out[j] > 0 else -steps)
                out[j] = parameters[at + min(max(index, 0), most)]
        else:
            above, below = parameters[at:at + n], parameters[at + n:at + 2 * n]
            offset = parameters[at + 2 * n:at + 3 * n]
            for j in range(n):
                slope = above[j] if out[j] > threshold else below[j]
                out[j] = min(max(out[j] * slope + offset[j], least), most)
        assign(out, layer_casts[k])


@njit
def first_largest(values):
    best = 0
    for j in range(1, len(values)):
        if values[j] > values[best]:
            best = j
    return best


@njit
def cross_entropy(logits, label, below, cast, constants, exp_table, log_table):
    """Loss of logits and ilog2 of their exponentials' sum; fills `below`."""
    for j in range(len(below)):
        below[j] = logits[j]
    assign(below, cast)
    best = below[first_largest(below)]
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


@njit
def count_update(options, count, constants):
    """One more update; the rate halves where it is time for that."""
    count.updates += 1
    if options.lr_decay:
        count.decay_count += 1
        if count.decay_count == options.lr_decay:
            count.decays = min(count.decays + 1, constants.decays_max)
            count.decay_count = 0

"""The golden model of learning at line rate once more, compiled: for long runs and for tuning.

:class:`FastLearner` gives the predictions and the state of :class:`firmware_models.learner.Learner`
with rule "np", integer for integer; tests/test_fast.py compares them. What to compute is said there
and in :mod:`firmware_models.line_rate`; here one loop over samples works on the flat arrays of
:mod:`firmware_models.compiled`.
"""
from collections import namedtuple

import numpy as np
from numba import njit

from . import compiled, fused_update, partial_updates, standardize
from .compiled import ACCUM, BIAS, Compiled
from .learner import Learner
from .network import Network
from .noise import MASK, SERIAL_TAPS
from .rules import node_probe
from .settings import Settings

STAGE = ("node",                                    # its part of the flat arrays
         "weight_edge", "bias_edge",                # shifts to the bits that the guard looks at
         "step_shift", "largest", "centred")
OPTIONS = ("head_shift", "probes", "skip", "turn", "lmin", "lmax", "standardize")
COUNTERS = ("complete", "last_turn", "slot", "error_max")
# What the loop works on. All int64, but for the deployed weights and their sums.
Arrays = namedtuple("Arrays", (
    *compiled.ARRAYS,
    "selected",         # [stages] whether settings.layers has it
    "amplitude",        # [stages] shift of the noise
    "taps",             # [4]
    "hadamard",         # [probes, outputs]
    "errors",
    "terms",            # of a sample's head error
    "coefficients",
    "pending",          # [stages] that learned from the last sample
    "noise",            # [stages] generator states
    "signs",            # of a sample, and of its current probe
    "z",
    "old",              # [DELAY, inputs] of the last learning samples
    "means",
    "fired",
    "hit"))


class FastLearner(Compiled):
    """A network that learns by rule "np", as :class:`firmware_models.learner.Learner` does.

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
    RULE = "np"

    def __init__(self, network: Network, settings: Settings, residual: int = 4):
        self._check_rule(settings)
        _check(network, residual)
        super().__init__(Learner(network, settings, residual), _arrays(network, residual))

    def _loop(self, *arguments) -> None:
        _learn(*arguments)

    def _restart(self, settings: Settings) -> None:
        a, count = self._arrays, self._arrays.counters[0]
        count["complete"], count["last_turn"], count["error_max"] = 0, -1, 0
        for array in (a.errors, a.coefficients, a.pending, a.noise, a.selected):
            array[:] = 0
        for index, state in self._plain.line_rate.noise.items():
            a.noise[index] = state
        a.selected[list(settings.layers)] = 1
        for stage in self.network.stages:
            a.amplitude[stage.index] = node_probe.amplitude_shift(stage.dense.accum,
                                                                  settings.sigma_log2)

    def _own_state(self) -> dict:
        return {"errors": self._arrays.errors.copy(),
                "error_max": int(self._arrays.counters[0]["error_max"])}


def _check(network: Network, residual: int) -> None:
    for stage in network.stages:
        dense = stage.dense
        compiled.check_widths(stage, node_probe.amplitude_shift(dense.accum, 7) + 1)
        if dense.trainable:
            step = fused_update.step_of(stage, residual)
            width = min(dense.weight.width, dense.bias.width)
            # A step into the guarded end must not lead across it.
            if step.shift < 0 or width + residual - fused_update.EDGE_BITS \
                    < step.largest.bit_length() - 1:
                raise ValueError(f"{dense.name}: inputs of {stage.source.width} bits, weights and "
                                 f"biases of {width} do not go with {residual} residual bits")


def _arrays(network: Network, residual: int) -> Arrays:
    """Arrays of a network, without weights and without settings."""
    shared = compiled.arrays(network, residual, stage=STAGE, options=OPTIONS, counters=COUNTERS,
                             constants=dict(
        edge=1 << fused_update.EDGE_BITS - 1, mean_frac=fused_update.MEAN_FRAC,
        mean_shift=fused_update.MEAN_SHIFT, difference_low=node_probe.DELTA.min,
        difference_high=node_probe.DELTA.max, error_low=node_probe.ERROR.min,
        error_high=node_probe.ERROR.max, shift_max=node_probe.SHIFT_MAX, noise_mask=MASK,
        every_node=partial_updates.ONE, sign_size=standardize.ONE))
    nodes = 0
    for stage in network.stages:
        dense, step = stage.dense, fused_update.step_of(stage, residual)
        for name, value in zip(STAGE, (
                nodes if dense.trainable else -1,
                dense.weight.width + residual - fused_update.EDGE_BITS,
                dense.bias.width + residual - fused_update.EDGE_BITS,
                step.shift, step.largest, step.centred), strict=True):
            shared["stages"][stage.index][name] = value
        nodes += dense.n_out * dense.trainable
    count, outputs = len(network.stages), max(s.dense.n_out for s in network.stages)
    hadamard = [node_probe.signs(k, np.ones(outputs, np.int64))
                for k in range(node_probe.MAX_PROBES)]

    def zeros(*shape):
        return np.zeros(shape, np.int64)

    return Arrays(
        **shared, selected=zeros(count), amplitude=zeros(count),
        taps=np.array(SERIAL_TAPS, np.int64), hadamard=np.array(hadamard), errors=zeros(nodes),
        terms=zeros(len(shared["below"])),
        coefficients=zeros(nodes), pending=zeros(count), noise=zeros(count), signs=zeros(outputs),
        z=zeros(outputs), old=zeros(fused_update.DELAY, len(shared["base"])),
        means=zeros(network.n_in), fired=zeros(outputs),
        hit=zeros(max(max(s.dense.reuse_factor, s.drain_words) for s in network.stages)))


@njit(cache=True, nogil=True)
def _learn(a, x, y, learn, predictions):
    """Learner.step for every sample."""
    count, constants, options = a.counters[0], a.constants[0], a.options[0]
    n_stages, logits = len(a.stages), a.base[len(a.base) - len(a.below):]
    for n in range(len(x)):
        compiled.enter(options, count, constants)
        learning = learn[n] and count.on and options.learns
        learn[n] = learning
        if learning:
            for k in range(n_stages):
                if a.stages[k].trainable:
                    _sweep(a, k, a.old[count.slot], count)
        compiled.base_pass(x[n], a.stages, a.casts, a.layers, a.layer_casts, a.parameters,
                           a.codes, a.bias, a.totals, a.sums, a.base)
        predictions[n] = compiled.first_largest(logits)
        base, log_sum = compiled.cross_entropy(logits, y[n], a.below, a.logit[0], constants,
                                               a.exp_table, a.log_table)
        compiled.count_sample(base, options, count, constants)
        if not learning:
            continue
        if count.complete:
            _complete(a.stages, a.pending, a.errors, a.coefficients, options, count, constants)
        for i in range(len(a.base)):
            a.old[count.slot, i] = a.base[i]
        count.slot = (count.slot + 1) % len(a.old)
        _schedule(a.selected, a.pending, options, count)
        counts = base >= options.skip
        if a.pending[n_stages - 1]:
            _head_error(a.terms, y[n], a.below, log_sum, constants, a.exp_table)
            if options.lmin < constants.every_node:
                _keep_top_k(a.terms, options, count)
            if counts:
                _add_terms(a.errors[a.stages[n_stages - 1].node:], a.terms, options, constants)
        for k in range(n_stages - 1):
            if a.pending[k] and options.probes:
                _probe(a, k, y[n], base, counts)
                count.passes += options.probes


@njit
def _head_error(terms, label, below, log_sum, constants, exp_table):
    """Softmax minus one-hot."""
    for j in range(len(below)):
        d = min(min(below[j], constants.d_max) + (log_sum + 8 >> 4), constants.d_max)
        p = exp_table[d & 15] >> (d >> 4) >> 4
        terms[j] = p - 256 * (j == label)


@njit
def _keep_top_k(terms, options, count):
    """0 in place of all terms but the k largest, of equal ones the first."""
    total, n = np.abs(terms).sum(), len(terms)
    count.error_max = max(count.error_max, total)
    num = options.lmin * count.error_max + total * (options.lmax - options.lmin)
    left = 0
    for t in range(1, n + 1):
        left += t * (count.error_max << 8) <= num * n
    left = max(left, 1)
    size = np.abs(terms).max()
    while size:                             # all terms of this size, the next smaller one
        smaller = 0
        for j in range(n):
            if abs(terms[j]) == size:
                if left:
                    left -= 1
                else:
                    terms[j] = 0
            elif abs(terms[j]) < size:
                smaller = max(smaller, abs(terms[j]))
        size = smaller


@njit
def _add_terms(errors, terms, options, constants):
    """The head's terms into its errors, standardized."""
    for j in range(len(terms)):
        term = terms[j]
        if options.standardize:
            size = constants.sign_size if abs(term) >= options.standardize else 0
            term = size if term > 0 else -size
        errors[j] = min(max(errors[j] + term, constants.error_low), constants.error_high)


@njit
def _probe(a, k, label, base, counts):
    """All probes of stage k."""
    stages, constants, casts, h, below = a.stages, a.constants[0], a.casts, a.probe, a.below
    codes, bias, totals, logit = a.codes, a.bias, a.totals, a.logit[0]
    exp_table, log_table, signs, hadamard = a.exp_table, a.log_table, a.signs, a.hadamard
    stage, probes = stages[k], a.options[0].probes
    start, n_out, amplitude = stage.x_at + stage.n_in, stage.n_out, a.amplitude[k]
    sums, z = a.sums[stage.j_at:stage.j_at + n_out], a.z[:n_out]
    errors, active = a.errors[stage.node:stage.node + n_out], a.base[start:start + n_out]
    low, high, always = constants.error_low, constants.error_high, stage.gated == 0
    out, logits = h[start:start + n_out], h[len(h) - len(below):]
    a.noise[k] = _draw(a.noise[k], signs, stage.drain_words, n_out // stage.drain_words, a.taps,
                       constants.noise_mask)
    for probe in range(probes):
        for j in range(n_out):
            z[j] = signs[j] * hadamard[probe, j]
            out[j] = sums[j] + (z[j] << amplitude)
        compiled.assign(out, casts[k, ACCUM])
        compiled.activate(stage, casts[k], a.layers, a.layer_casts, a.parameters, h)
        for b in range(k + 1, len(stages)):
            behind = stages[b]
            at = behind.x_at + behind.n_in
            compiled.accumulate(behind, casts[b], codes, bias, totals, h,
                                h[at:at + behind.n_out])
            compiled.activate(behind, casts[b], a.layers, a.layer_casts, a.parameters, h)
        loss, _ = compiled.cross_entropy(logits, label, below, logit, constants, exp_table,
                                         log_table)
        d = min(max(loss - base, constants.difference_low), constants.difference_high)
        if counts and d:
            for j in range(n_out):
                term = z[j] * d if always or active[j] else 0
                errors[j] = min(max(errors[j] + term, low), high)


@njit
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


@njit
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
    compiled.count_update(options, count, constants)


@njit
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


@njit
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
                compiled.assign(a.bias[at:at + 1], a.casts[k, BIAS])
        for word in range(stage.drain_words):
            count.saturations += hit[word]
    if stage.centred:
        for i in range(n_in):
            means[i] += (old[i] << constants.mean_frac) - means[i] >> constants.mean_shift


@njit
def _held(top, c, u, edge):
    """Whether the guard holds a master back whose upper bits are `top`."""
    return top == edge - 1 if (c < 0) != (u < 0) else top == -edge

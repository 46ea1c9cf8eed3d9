"""Noise on the way out of a trainable weight memory: what a probe pass of rule "es" is served."""
from amaranth import *

from firmware_models.directions import SHIFT_MAX, finer

from .directions import row_shifts, row_sigma
from .noise import bias_bits
from .requantize import saturate

__all__ = ["perturbed", "perturbed_biases"]


def perturbed(m, memory, update, neighbour, codes):
    """Codes of a weight word in a pass: w = clip(w +- z * 2**sigma) where it is a probe.

    With option "sharp", and away from w,  w = clip(w + s * z_0 * 2**rho +- z * 2**sigma).

    Latency: combinational, from the codes that were addressed in the cycle before.

    Bit-exact with :func:`firmware_models.weight_memory.perturbed`.

    Parameters
    ----------
    m : Module
    memory : WeightMemory
        Its ``pass_tag``, ``selected``, ``sigma``, ``kernel``, ``away`` and ``rho`` are those of the
        word's address.
    update : UpdateSweep
        Has the signs of the lanes, and which of them are active.
    neighbour : Neighbour or None
        With option "sharp", has s * z_0.
    codes : list of Value
        Deployed weights, one per lane, in the format of the weights.

    Returns
    -------
    list of Value
        In the same format.
    """
    dense = memory.stage.dense
    shifts = row_shifts(memory.stage, memory.options)
    size = _amplitudes(m, memory, memory.pass_tag, "weight", shifts)
    owners = [shifts[lane // dense.inputs_per_word] for lane in range(dense.lanes)]
    negative = Signal()
    m.d.sync += negative.eq(memory.pass_tag.negative)
    noise = []
    for shift, bit in zip(owners, update.bits, strict=True):
        plus, minus = size[shift]
        noise.append(Mux(bit ^ negative, minus, plus))
    if update.masked:
        noise = [Mux(on, z, 0) for on, z in zip(update.active, noise, strict=True)]
    if neighbour is not None:
        size = _amplitudes(m, memory, memory.pass_tag, "ahead", shifts, away=True)
        ahead = [Mux(bit, *reversed(size[shift])) for shift, bit in zip(
            owners, neighbour.sign, strict=True)]
        if neighbour.masked:
            ahead = [Mux(on, z, 0) for on, z in zip(neighbour.active, ahead, strict=True)]
        noise = [z + more for z, more in zip(noise, ahead, strict=True)]
    return [saturate(m, code + z, dense.weight) for code, z in zip(codes, noise, strict=True)]


def perturbed_biases(m, memory, neighbour, codes):
    """The same of a bias word, by ``bias_tag``: the noise of the biases is the seed's start state.

    Parameters
    ----------
    m : Module
    memory : WeightMemory
        Its ``bias_tag`` and ``bias_addr`` count, and the settings as above.
    neighbour : Neighbour or None
    codes : list of Value
        Deployed biases of the word that was addressed in the cycle before.
    """
    stage, words = memory.stage, memory.stage.drain_words
    shifts = row_shifts(stage, memory.options)
    bits = bias_bits(stage, memory.first_generator, memory.bias_tag.seed, memory.bias_addr)
    size = _amplitudes(m, memory, memory.bias_tag, "bias", shifts)
    if neighbour is not None:
        ahead = _amplitudes(m, memory, memory.bias_tag, "bias_ahead", shifts, away=True)
    noisy = []
    for c, (code, bit) in enumerate(zip(codes, bits, strict=True)):
        sign = Signal(name=f"bias_sign{c}")
        m.d.sync += sign.eq(bit ^ memory.bias_tag.negative)
        plus, minus = _bias_size(m, memory, size, shifts[c * words:(c + 1) * words])
        noise = Mux(sign, minus, plus)
        if neighbour is not None:
            plus, minus = _bias_size(m, memory, ahead, shifts[c * words:(c + 1) * words])
            noise = noise + Mux(neighbour.bias_sign[c], minus, plus)
        noisy.append(saturate(m, code + noise, stage.dense.bias))
    return noisy


def _amplitudes(m, memory, tag, name, shifts, *, away=False):
    """2**sigma and its negative, by the d of a row; 0 in passes that this layer does not perturb.

    `away`: 2**rho, and 0 also in those that are not away. Both count in steps of 8-bit weights, of
    which wider ones have 2**finer. They are registered beside the memory's address.
    """
    on = tag.probe & memory.selected & ~memory.window_en
    log2, below = memory.sigma, finer(memory.stage.dense)
    if away:
        on, log2 = on & memory.away, memory.rho

    def of_rows(shift):
        sigma = row_sigma(log2, shift, getattr(memory, "kernel", None))
        plus, minus = (Signal(signed(9), name=f"{name}{shift or ''}_{s}")
                       for s in ("plus", "minus"))
        with m.If(on):
            m.d.sync += [plus.eq(1 << sigma), minus.eq(-(1 << sigma))]
        with m.Else():
            m.d.sync += [plus.eq(0), minus.eq(0)]
        return (plus.shift_left(below), minus.shift_left(below)) if below else (plus, minus)

    return {shift: of_rows(shift) for shift in sorted(set(shifts))}


def _bias_size(m, memory, size, shifts):
    """Amplitudes of the bias word that was addressed, whose outputs have these d."""
    if len(set(shifts)) == 1:
        return size[shifts[0]]
    shift = Signal(2)
    m.d.sync += shift.eq(Array(shifts)[memory.bias_addr])
    sizes = [size.get(d, size[shifts[0]]) for d in range(SHIFT_MAX + 1)]
    return tuple(Array(signs)[shift] for signs in zip(*sizes, strict=True))

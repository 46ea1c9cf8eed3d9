"""Direction of a sample's first pair, beside that of the running pass: the way to a neighbour."""
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.momentum import COUNTER_WIDTH
from firmware_models.network import Stage
from firmware_models.noise import BITS, generators

from .directions import SIGN_FORMS, Directions, settings_members
from .noise import NoiseGenerator, bias_bits
from .shapes import address

__all__ = ["Neighbour"]


class Neighbour(wiring.Component):
    """s * z_0 of the words that a pass reads; :mod:`rtl.perturbation` adds it times 2**rho

    A second generator runs through the noise of the first pair's seed in step with that of the
    pass. Update sweeps do not need it.

    Latency: 1 cycle after a word's address, as the noise of the pass. Throughput: a word per cycle.

    Bit-exact with :func:`firmware_models.directions.probe`.

    Parameters
    ----------
    stage : Stage
    first_generator : int
        Number of the layer's first noise generator in the core.
    options : tuple of str
        Of these, "sparse", "rank1" and "momentum".

    Members
    -------
    en, first : ``In(1)``
        A pass reads a word, its first.
    bias_addr : ``In``
        Bias word that is read.
    seed : ``In(32)``; down : ``In(1)``
        Seed of z_0, and whether s = -1.
    sparse, rank1, momentum : ``In``
        With the options of these names: settings.
    counters : ``In(3 * lanes)``
        "momentum": of the word, with its noise.
    sign : ``Out(lanes)``
        1 means -1.
    active : ``Out(lanes)``
        "sparse": 0 means 0.
    bias_sign : ``Out(drain_lanes)``
    """

    latency_cycles = 1

    def __init__(self, stage: Stage, *, first_generator: int, options: tuple[str, ...] = ()):
        self.stage, self.first_generator = stage, first_generator
        self.forms = settings_members(SIGN_FORMS & set(options))
        self.masked = "sparse" in options
        members = {"active": Out(stage.dense.lanes)} if self.masked else {}
        if "momentum" in self.forms:
            members |= {"counters": In(COUNTER_WIDTH * stage.dense.lanes)}
        super().__init__(self.forms | members | {
            "en": In(1), "first": In(1), "bias_addr": In(address(stage.drain_words)),
            "seed": In(BITS), "down": In(1),
            "sign": Out(stage.dense.lanes), "bias_sign": Out(stage.drain_lanes),
        })

    def elaborate(self, platform):
        m = Module()

        lanes = self.stage.dense.lanes
        m.submodules.noise = noise = NoiseGenerator(
            BITS * generators(lanes) if self.forms else lanes,
            first_generator=self.first_generator, slots=1)
        m.d.comb += [noise.en.eq(self.en), noise.load.eq(self.first), noise.step.eq(1),
                     noise.seed.eq(self.seed)]
        sign = noise.bits
        if self.forms:
            m.submodules.directions = directions = Directions(
                self.stage, first_generator=self.first_generator, options=tuple(self.forms))
            m.d.comb += [directions.state.eq(noise.bits),
                         *[getattr(directions, name).eq(getattr(self, name))
                           for name in self.forms]]
            if "momentum" in self.forms:
                m.d.comb += directions.counters.eq(self.counters)
            if "rank1" in self.forms:
                m.d.comb += directions.seed.eq(self.seed)
            if self.masked:
                m.d.comb += [directions.en.eq(self.en), directions.first.eq(self.first),
                             self.active.eq(directions.active)]
            sign = directions.sign
        m.d.comb += self.sign.eq(sign ^ self.down.replicate(lanes))

        signs = bias_bits(self.stage, self.first_generator, self.seed, self.bias_addr)
        m.d.sync += [to.eq(sign ^ self.down)
                     for to, sign in zip(self.bias_sign, signs, strict=True)]

        return m

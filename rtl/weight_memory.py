"""Weights of a trainable layer: words with noise or updates on read, commits, read-back."""
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from firmware_models.formats import Fixed
from firmware_models.fused_update import check
from firmware_models.momentum import COUNTER_WIDTH, COUNTER_WORD
from firmware_models.network import Stage
from firmware_models.noise import BITS
from firmware_models.rounding import ROUNDINGS
from firmware_models.rules.es import COEFFICIENT_WIDTH, VOTE_WIDTH
from firmware_models.weight_memory import to_master

from .directions import settings_members
from .fused_commit import fused_commit
from .neighbour import Neighbour
from .perturbation import perturbed, perturbed_biases
from .select import select
from .shadow_memory import ShadowMemory
from .shapes import address, tag_layout
from .sweep_commit import sweep_commit
from .weight_rom import pack_words

__all__ = ["WeightMemory"]


class WeightMemory(wiring.Component):
    """Serve a layer's weights like :class:`rtl.weight_rom.WeightRom`, and change them.

    Evolutionary strategy (rule "es"):

        read:   w = M >> R;  with a probe  w = clip(w +- z * 2**sigma)
        sweep:  M = clip(M - V), word by word, then the biases

    Node probes (rule "np"): the base pass of a learning sample changes each word that it reads,

        M = M - c_j * u_i  unless M is in the outer sixteenth of its range and would leave it,

    writes it back and uses it.

    Latency: read 2 cycles. Sweep :func:`firmware_models.cycles.sweep_cycles`, from the cycle after
    ``sweep`` to ``sweep_done``, both counted.
    Throughput: a word per cycle, changed or not; sweep one word per `pairs` cycles.

    Bit-exact with :mod:`firmware_models.weight_memory`, :mod:`firmware_models.fused_update` and
    :mod:`firmware_models.noise`.

    Source: AbdulQader et al. 2021, arXiv 2103.14007 (seed replay); error feedback as in Quantized
    Evolution Strategies, arXiv 2602.03120.

    Parameters
    ----------
    stage : Stage
    residual : int
        Residual bits R below each weight.
    rules : tuple of {"es", "np"}
    bits : int
        Of "np": magnitude bits of a coefficient: 1, or 4 with a multiplier per lane.
    first_generator, max_pairs : int
        Of "es".
    options : tuple of str
        Of "es": "vote", "sharp", "rounding", "replay", and those of
        :class:`rtl.directions.Directions`. Of both rules: "load", "snapshot".
    copy_words : int
        Of option "snapshot": words of the longest memory that is copied.
    picked_by_sums : bool
        The engine picks the lane of a weight word that is read back (:mod:`rtl.read_back`);
        without, a tree of multiplexers here does.

    Members
    -------
    addr, en, first : ``In``; data : ``Out``
        Weight word, while a pass (of tag ``pass_tag``) reads it; ``first`` starts its noise.
    bias_addr : ``In``; bias_data : ``Out``
        Bias word of the pass with tag ``bias_tag``.
    clipped : ``Out(2)``
        A lane of a weight word, of a bias word, was clipped or held back in this cycle.
    window_word, window_lane : ``In``; window_en : ``In(1)``; window_data : ``Out``
        Read-back of a master while nothing else runs, 1 cycle late, of a weight 3 with
        `picked_by_sums`; biases follow the weights.
        With option "momentum" the counters of word k are word 32768 + k.
    residue : ``Out``; window_weight : ``In``
        `picked_by_sums`: residual bits of the masters whose upper bits are ``data``; the master in
        the window's lane, 1 cycle later.
    load : ``In(1)``; load_data : ``In``
        Option "load": the master that ``window_data`` shows becomes the low bits of this.
    copy_addr, copy_take, copy_restore : ``In``
        Option "snapshot": copy this word, if there is one, aside or back; a cycle later it is.
    selected : ``In(1)``; sigma : ``In(3)``
        "es": probes perturb this layer, by 2**sigma steps of 8-bit weights.
    sweep, sweep_done, accumulate, pair, seed, coefficient, last_pair
        "es": :class:`rtl.update_sweep.UpdateSweep`.
    vote : ``In(14)``
        "es" with option "vote": threshold of :class:`rtl.vote.Vote`.
    away, down : ``In(1)``; rho : ``In(3)``; first_seed : ``In(32)``
        "es" with option "sharp": :class:`rtl.sharpness.Sharpness`.
    rounding : ``In(3)``
        "es" with option "rounding": kind of :class:`rtl.rounding.Rounding`.
    oldest : ``In(1)``
        "es" with option "replay": :class:`rtl.update_sweep.UpdateSweep`.
    sparse, rank1, kernel, momentum
        With the options: :class:`rtl.update_sweep.UpdateSweep`.
    accepted, started, next_addr, x, fired_in, negative_in, shift, loaded, w_word, w_lane, ready,
    spent, restart
        "np": :class:`rtl.fused_update.FusedUpdate`.
    update, bias_update, bias_last : ``In(1)``
        "np": the pass changes what it reads; this is one of its bias words, the last one.
    """

    def __init__(self, stage: Stage, *, residual: int, rules: tuple[str, ...] = ("es",),
                 bits: int = 1, first_generator: int = 0, max_pairs: int = 1,
                 options: tuple[str, ...] = (), copy_words: int = 0,
                 picked_by_sums: bool = False):
        dense = stage.dense
        self.copy_words = max(copy_words, dense.reuse_factor, stage.drain_words)
        self.stage, self.residual, self.rules, self.bits = stage, residual, rules, bits
        self.first_generator, self.max_pairs = first_generator, max_pairs
        self.options, self.picked_by_sums = options, picked_by_sums
        self.master = Fixed(dense.weight.width + residual, 0)
        self.bias_master = Fixed(dense.bias.width + residual, 0)
        word, bias_word = address(dense.reuse_factor), address(stage.drain_words)
        members = {
            "addr": In(word), "en": In(1), "first": In(1),
            "data": Out(dense.lanes * dense.weight.width),
            "bias_addr": In(bias_word), "bias_data": Out(stage.drain_lanes * dense.bias.width),
            "clipped": Out(2),
            "window_en": In(1), "window_word": In(16), "window_lane": In(12),
            "window_data": Out(signed(max(self.master.width, self.bias_master.width))),
        }
        if picked_by_sums:
            members |= {"residue": Out(max(1, dense.lanes * residual)),
                        "window_weight": In(signed(self.master.width))}
        if "load" in options:
            members |= {"load": In(1), "load_data": In(members["window_data"].shape)}
        if "snapshot" in options:
            members |= {"copy_addr": In(address(self.copy_words)), "copy_take": In(1),
                        "copy_restore": In(1)}
        if "es" in rules:
            tag = tag_layout(probes=True, seeds=True)
            members |= settings_members(options) | {
                "pass_tag": In(tag), "bias_tag": In(tag), "selected": In(1), "sigma": In(3),
                "sweep": In(1), "sweep_done": Out(1), "accumulate": Out(1),
                "pair": In(address(max_pairs)), "seed": In(BITS), "last_pair": In(1),
                "coefficient": In(signed(COEFFICIENT_WIDTH)),
            }
            if "vote" in options:
                members |= {"vote": In(VOTE_WIDTH)}
            if "sharp" in options:
                members |= {"away": In(1), "down": In(1), "rho": In(3), "first_seed": In(BITS)}
            if "rounding" in options:
                members |= {"rounding": In(range(len(ROUNDINGS)))}
            if "replay" in options:
                members |= {"oldest": In(1)}
        if "np" in rules:
            check(stage, residual, bits)
            members |= {
                "accepted": In(1), "started": In(1), "next_addr": In(word), "update": In(1),
                "x": In(dense.inputs_per_word * stage.source.width),
                "fired_in": In(bits), "negative_in": In(1), "shift": In(1), "loaded": In(1),
                "w_word": In(bias_word), "w_lane": In(address(stage.drain_lanes)),
                "ready": Out(1), "spent": Out(1), "restart": In(1),
                "bias_update": In(1), "bias_last": In(1),
            }
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()

        stage, dense, residual = self.stage, self.stage.dense, self.residual
        words, lanes, drain_words = dense.reuse_factor, dense.lanes, stage.drain_words
        master, bias_master = self.master, self.bias_master
        m.submodules.weights = weights = memory.Memory(
            shape=unsigned(lanes * master.width), depth=max(words, 2), init=pack_words(
                to_master(dense.words(dense.weight_codes), residual), master.width))
        m.submodules.biases = biases = memory.Memory(
            shape=unsigned(stage.drain_lanes * bias_master.width), depth=max(drain_words, 2),
            init=pack_words(to_master(dense.bias_codes, residual).reshape(
                stage.drain_lanes, drain_words).T, bias_master.width))
        read, write = weights.read_port(), weights.write_port()
        bias_read, bias_write = biases.read_port(), biases.write_port()

        m.d.comb += [
            read.addr.eq(Mux(self.window_en, self.window_word, self.addr)),
            bias_read.addr.eq(Mux(self.window_en, self.window_word - words, self.bias_addr)),
        ]
        codes = [read.data.word_select(lane, master.width).as_signed() for lane in range(lanes)]
        bias_codes = [bias_read.data.word_select(c, bias_master.width).as_signed()
                      for c in range(stage.drain_lanes)]
        served, bias_served = codes, bias_codes
        if "np" in self.rules:
            served, bias_served = fused_commit(m, self, codes, bias_codes, write, bias_write)
        if self.picked_by_sums:
            m.d.sync += [self.residue.word_select(lane, residual).eq(code[:residual])
                         for lane, code in enumerate(served)]
        served = [code[residual:].as_signed() for code in served]
        bias_served = [code[residual:].as_signed() for code in bias_served]
        if "es" in self.rules:
            update = sweep_commit(m, self, read, write, bias_read, bias_write)
            neighbour = self._neighbour(m, update) if "sharp" in self.options else None
            served = perturbed(m, self, update, neighbour, served)
            bias_served = perturbed_biases(m, self, neighbour, bias_served)
        if "load" in self.options:
            self._load(m, codes, bias_codes, write, bias_write)
        if "snapshot" in self.options:
            self._copy(m, "weights", words, lanes * master.width, read, write)
            self._copy(m, "biases", drain_words, stage.drain_lanes * bias_master.width, bias_read,
                       bias_write)
        m.d.sync += [
            *[self.data.word_select(lane, dense.weight.width).eq(code)
              for lane, code in enumerate(served)],
            *[self.bias_data.word_select(c, dense.bias.width).eq(code)
              for c, code in enumerate(bias_served)],
        ]

        # Read-back: one master, sign-extended; only the bits of the index that lanes need count.
        def selected(what, masters):
            return select(m, f"window_{what}", masters, self.window_lane).as_signed()

        weight = self.window_weight if self.picked_by_sums else selected("weight", codes)
        m.d.comb += self.window_data.eq(
            Mux(self.window_word < words, weight, selected("bias", bias_codes)))
        if "momentum" in self.options:
            with m.If(self.window_word >= COUNTER_WORD):
                m.d.comb += self.window_data.eq(selected("momentum", [
                    update.counters.word_select(lane, COUNTER_WIDTH).as_signed()
                    for lane in range(lanes)]))
        return m

    def _neighbour(self, m, update):
        """Option "sharp": the direction of the sample's first pair."""
        m.submodules.neighbour = neighbour = Neighbour(
            self.stage, first_generator=self.first_generator, options=self.options)
        m.d.comb += neighbour.seed.eq(self.first_seed)
        if "momentum" in self.options:
            m.d.comb += neighbour.counters.eq(update.counters)
        for name in ("en", "first", "bias_addr", "down", *neighbour.forms):
            m.d.comb += getattr(neighbour, name).eq(getattr(self, name))
        return neighbour

    def _load(self, m, codes, bias_codes, write, bias_write):
        """Write the word that the window reads back to where it was, with one lane replaced."""
        words = self.stage.dense.reuse_factor

        def replaced(masters):
            lane = self.window_lane[:address(len(masters)).width]
            return Cat(Mux(lane == k, self.load_data[:len(code)], code.as_unsigned())
                       for k, code in enumerate(masters))

        is_bias = self.window_word >= words
        with m.If(self.load):
            m.d.comb += [
                write.addr.eq(self.window_word), write.data.eq(replaced(codes)),
                write.en.eq(~is_bias),
                bias_write.addr.eq(self.window_word - words),
                bias_write.data.eq(replaced(bias_codes)), bias_write.en.eq(is_bias),
            ]

    def _copy(self, m, name, depth, width, read, write):
        """A shadow of one of the memories; nothing else uses the memory while it is copied."""
        shadow = ShadowMemory(depth, width, words=self.copy_words)
        m.submodules[f"{name}_shadow"] = shadow
        m.d.comb += [
            shadow.addr.eq(self.copy_addr), shadow.take.eq(self.copy_take),
            shadow.restore.eq(self.copy_restore), shadow.data.eq(read.data),
        ]
        with m.If(self.copy_take):
            m.d.comb += read.addr.eq(self.copy_addr)
        with m.If(shadow.w_en):
            m.d.comb += [write.addr.eq(shadow.w_addr), write.data.eq(shadow.w_data),
                         write.en.eq(1)]

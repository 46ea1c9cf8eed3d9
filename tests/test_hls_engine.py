# amaranth: UnusedElaboratable=no
"""The engine around an HLS core: what that finds at its ports, and what becomes of its logits."""
import random
import re
from dataclasses import replace

import pytest
from amaranth import Module

from rtl import hls_engine
from rtl.core import Core
from rtl.hls_top import Argument, HlsTop, LayerArguments
from rtl.shapes import tag_layout

from .networks import small_network
from .pysim import packed, simulate, until, wait

FROZEN_BETWEEN = small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3})


def top_of(network) -> HlsTop:
    """The table that :func:`hwgen.frontend.hls_project.hls_top` makes of hls4ml's names."""
    layers = []
    for index in network.trainable:
        dense = network.stages[index].dense
        layers.append(LayerArguments(
            layer=dense.name, depth=dense.reuse_factor,
            weight=Argument(name=f"w{index}", type="w_t", size=dense.n_in * dense.n_out,
                            width=dense.weight.width),
            bias=Argument(name=f"b{index}", type="b_t", size=dense.n_out, width=dense.bias.width)))
    return HlsTop(
        name="net", layers=tuple(layers),
        x=Argument(name="x", type="x_t", size=network.n_in, width=network.input.width),
        logits=Argument(name="y", type="y_t", size=network.n_classes,
                        width=network.stages[-1].result.width))


def test_ports_by_hand():
    """Names and widths as Vitis HLS gives them to arrays that hls4ml's pragmas shape."""
    top = top_of(small_network((4, 3, 2), (1,), {1: 3}))
    assert top.ports() == {
        "ap_clk": ("i", 1), "ap_rst": ("i", 1), "ap_start": ("i", 1), "ap_done": ("o", 1),
        "ap_idle": ("o", 1), "ap_ready": ("o", 1),
        "x": ("i", 32), "x_ap_vld": ("i", 1),
        "y_0": ("o", 16), "y_0_ap_vld": ("o", 1), "y_1": ("o", 16), "y_1_ap_vld": ("o", 1),
        "w1_address0": ("o", 2), "w1_ce0": ("o", 1), "w1_q0": ("i", 16),
        "b1_0": ("i", 8), "b1_1": ("i", 8)}


class Bench:
    """An engine in Amaranth's simulator; the bench is the HLS core, and what lies around."""

    def __init__(self, network, monkeypatch):
        def stand_in(name, **ports):
            self.ports = {port[2:]: value for port, value in ports.items()}
            return Module()

        monkeypatch.setattr(hls_engine, "Instance", stand_in)
        tag = tag_layout(probes=True)
        self.network, self.top = network, top_of(network)
        self.dut = hls_engine.HlsEngine(network, self.top, tag=tag, next_tag=tag)
        self.random = random.Random(1)
        self.words = {}         # of the pass that copies: weights and biases, by layer
        self.x, self.read = None, []

    async def memories(self, ctx):
        """Vectors 1 cycle after their address, weights and biases 2 cycles after it."""
        dut, late = self.dut, []
        while True:
            addr, en = ctx.get(dut.w_addr), ctx.get(dut.w_en)
            first, x_addr = ctx.get(dut.w_first), ctx.get(dut.x_addr)
            assert first == (addr == 0)
            await ctx.tick()
            noise = self.random.getrandbits
            ctx.set(dut.x_data, self.x[x_addr] if self.x and x_addr < len(self.x) else noise(8))
            for n, stage in enumerate(dut.trained):
                now = [noise(64), noise(64)]
                for k, words in enumerate(self.words.get(n, ())):
                    if late and late[0] < len(words) and (k or late[1] >> n & 1):
                        now[k] = words[late[0]]
                ctx.set(getattr(dut, f"w_data{n}"), now[0] % (
                    1 << stage.dense.lanes * stage.dense.weight.width))
                ctx.set(getattr(dut, f"bias_data{n}"), now[1] % (
                    1 << stage.drain_lanes * stage.dense.bias.width))
            late = (addr, en)


@pytest.mark.parametrize("ready_late", [True, False])
@pytest.mark.parametrize("network", [
    FROZEN_BETWEEN, small_network((6, 4, 3), (1,), {0: 6, 1: 2}),
    small_network((4, 9, 2), (0, 1), {0: 2, 1: 3}), small_network((4, 3, 12), (0,), {0: 2})],
    ids=["two", "long vector", "several lanes", "many classes"])
def test_protocol(network, ready_late, monkeypatch):
    """What the HLS core finds behind its ports in each pass, and what becomes of its logits.

    The first logit comes after ``load_cycles`` + 3 + L cycles; there are as many between passes,
    or those in which logits are drained.
    """
    bench = Bench(network, monkeypatch)
    dut, top, draw = bench.dut, bench.top, random.Random(2)
    passes, latency = 6, 7
    given_in, logits_out, accepted, first_logit = [], [], [], []
    for _ in range(passes):
        given_in.append({
            "x": [draw.getrandbits(len(dut.x_data)) for _ in
                  range(network.stages[0].dense.reuse_factor)],
            "words": {n: ([draw.getrandbits(layer.word_width) for _ in range(layer.depth)],
                          [draw.getrandbits(stage.drain_lanes * layer.bias.width)
                           for _ in range(stage.drain_words)])
                      for n, (layer, stage) in enumerate(zip(top.layers, dut.trained,
                                                             strict=True))},
            "tag": {"label": draw.randrange(9), "learn": 1, "probe": draw.getrandbits(1),
                    "negative": draw.getrandbits(1)},
            "logits": [draw.getrandbits(top.logits.width) for _ in range(top.logits.size)]})

    async def drive(ctx):
        ctx.set(dut.room, 1)
        for number, part in enumerate(given_in):
            ctx.set(dut.pass_tag, part["tag"])
            ctx.set(dut.pass_valid, 1)
            if number == 2:             # no pass starts without room
                ctx.set(dut.room, 0)
                await wait(ctx, 40)
                assert ctx.get(dut.idle) and not ctx.get(dut.reserve)
                ctx.set(dut.room, 1)
            await until(ctx, dut.pass_ready)
            accepted.append(cycle[0])
            bench.x, bench.words = part["x"], part["words"]
        ctx.set(dut.pass_valid, 0)
        while len(logits_out) < passes:
            await ctx.tick()
        await ctx.tick()
        assert ctx.get(dut.idle)

    async def hls(ctx):
        port = bench.ports
        while True:
            while not ctx.get(port["ap_start"]):
                await ctx.tick()
            part = given_in[len(seen)]
            seen.append(part)
            assert ctx.get(port["x_ap_vld"])
            n_in, per = top.x.size, network.stages[0].dense.reuse_factor
            want = [part["x"][e % per] >> top.x.width * (e // per) & (1 << top.x.width) - 1
                    for e in range(n_in)]
            for step in range(latency):
                last, ready = step == latency - 1, latency - 1 if ready_late else 2
                assert ctx.get(port["ap_start"]) == (step <= ready)
                if step <= ready:
                    assert ctx.get(port["x"]) == packed(want, top.x.width)
                for k, name in enumerate(top.logits.elements):
                    valid = step == min(k + 3, latency - 1)     # not all at once
                    ctx.set(port[f"{name}_ap_vld"], valid)
                    ctx.set(port[name], part["logits"][k] if valid
                            else draw.getrandbits(top.logits.width))
                for n, layer in enumerate(top.layers):
                    stage, biases = dut.trained[n], part["words"][n][1]
                    for j, name in enumerate(layer.bias.elements):
                        code = biases[j % stage.drain_words] >> layer.bias.width * (
                            j // stage.drain_words) & (1 << layer.bias.width) - 1
                        assert ctx.get(port[name]) == code, (name, len(seen))
                    if step:            # read latency 1
                        assert ctx.get(port[f"{layer.weight.name}_q0"]) == asked[n]
                    word = draw.randrange(layer.depth)
                    if enabled := draw.random() < 0.7:
                        asked[n] = part["words"][n][0][word]
                    elif step == 0:
                        enabled, asked[n] = True, part["words"][n][0][word]
                    ctx.set(port[f"{layer.weight.name}_address0"], word)
                    ctx.set(port[f"{layer.weight.name}_ce0"], enabled)
                ctx.set(port["ap_ready"], step == ready)
                ctx.set(port["ap_done"], last)
                await ctx.tick()
            for name in ("ap_ready", "ap_done"):
                ctx.set(port[name], 0)
            for name in top.logits.elements:
                ctx.set(port[f"{name}_ap_vld"], 0)

    async def drained(ctx):
        words = []
        while True:
            if ctx.get(dut.o_en):
                assert not ctx.get(dut.idle)
                if not words:
                    first_logit.append(cycle[0])
                assert ctx.get(dut.o_addr) == len(words)
                words.append(ctx.get(dut.o_data))
                assert ctx.get(dut.o_commit) == (len(words) == top.logits.size)
                if ctx.get(dut.o_commit):
                    tag = ctx.get(dut.o_tag)
                    logits_out.append((words, {name: tag[name] for name in
                                               ("label", "learn", "probe", "negative")}))
                    words = []
            await ctx.tick()

    async def clock(ctx):
        while True:
            await ctx.tick()
            cycle[0] += 1

    cycle, seen, asked = [0], [], {}
    simulate(dut, drive, clock, bench.memories, hls, drained, deadline=2000)
    assert logits_out == [(part["logits"], part["tag"]) for part in given_in]
    assert first_logit[0] - accepted[0] == dut.load_cycles + 3 + latency
    interval = max(dut.load_cycles + 3, network.n_classes + 1) + latency
    spaces = [b - a for a, b in zip(first_logit, first_logit[1:], strict=False)]
    assert [space for n, space in enumerate(spaces) if n != 1] == [interval] * (passes - 2)


def test_refusals():
    network = FROZEN_BETWEEN
    top = top_of(network)
    for options, message in [
            ({"rules": ("np",)}, "rule np adds noise inside the network, where an HLS core lets"),
            ({"rules": ("np", "es")}, "rule np adds noise inside the network"),
            ({"options": ("prompt",)}, "option prompt does not go with engine hls"),
            ({"options": ("sharp",)}, "option sharp does not go with engine hls"),
            ({"learning": False}, "without learning the HLS core needs nothing around it"),
            ({"hls": replace(top, layers=top.layers[:1])},
             "net: its arguments are the weights of fc1; fc1, fc3 are trainable"),
            ({"hls": replace(top, name="core")}, "the project of engine hls is called core"),
            ({"hls": replace(top, x=replace(top.x, width=9))},
             "net: x has 10 elements of 9 bits, the network 10 of 8"),
            ({"hls": replace(top, layers=(replace(top.layers[0], depth=2), top.layers[1]))},
             "net: 2 words of w0, fc1 has reuse factor 5")]:
        with pytest.raises(ValueError, match=re.escape(message)):
            Core(network, **{"rules": ("es",), "hls": top} | options)
    one_word = small_network((6, 4, 3), (1,), {1: 1})
    with pytest.raises(ValueError, match="fc2: weights in one word are no memory to Vitis HLS"):
        Core(one_word, rules=("es",), hls=top_of(one_word))

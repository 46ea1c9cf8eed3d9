# amaranth: UnusedElaboratable=no
"""The way to a neighbour: the unit, and the memory that serves weights there, against the model."""
import numpy as np
import pytest

from firmware_models import directions as model
from firmware_models import weight_memory as masters
from firmware_models.formats import Fixed
from firmware_models.momentum import LIMIT
from rtl.neighbour import Neighbour
from rtl.weight_memory import WeightMemory

from .pysim import simulate
from .test_directions import CASES, stage_of_rows, write
from .test_weight_memory import read_pass, stage_of

FORMS = [{}, {"sparse": "hash"}, {"sparse": "static"}, {"sparse": "biases"}, {"rank1": True},
         {"sparse": "hash", "rank1": True}, {"momentum": True},
         {"sparse": "hash", "rank1": True, "momentum": True}]
WIDE = {
    "wide": (stage_of((6, 4, 2), weight=Fixed(16, 12), bias=Fixed(16, 11), extreme=True), 1),
    "wide weights": (stage_of((4, 3, 2), weight=Fixed(16, 12), bias=Fixed(8, 5)), 0),
    "wide, unlike rows": (stage_of_rows((2, 0, 8, 1), (6, 4, 2), weight=Fixed(16, 12),
                                        bias=Fixed(11, 6), reuse={0: 3, 1: 2}), 2),
}


def directions_of(seed, first, dense, form, counters=None):
    """Directions of a form in which `kernel` is no matter."""
    bits = {name: value for name, value in form.items() if name not in ("kernel", "momentum")}
    return model.probe(seed, first, dense, **bits,
                       counters=counters if form.get("momentum") else None)


@pytest.mark.parametrize("options", [(), ("rank1",), ("sparse", "rank1"),
                                     ("sparse", "rank1", "momentum")], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_unit_equals_model(case, options):
    """Passes with gaps between their words; one seed after the other, both ways."""
    stage, first = CASES[case]
    dense = stage.dense
    dut = Neighbour(stage, first_generator=first, options=("kernel", *options))
    assert dut.latency_cycles == 1 and len(dut.sign) == dense.lanes
    forms = [form for form in FORMS if set(form) <= set(options)]
    counters = np.random.default_rng(6).integers(-LIMIT, LIMIT + 1, (dense.n_out, dense.n_in))
    got, expected = [], []

    async def bench(ctx):
        for n, form in enumerate(forms + forms):
            seed, down = 77 + 1000 * n, n < len(forms)
            write(ctx, dut, form)
            if hasattr(dut, "counters"):
                ctx.set(dut.momentum, "momentum" in form)
            ctx.set(dut.seed, seed)
            ctx.set(dut.down, down)
            for word in range(dense.reuse_factor):
                ctx.set(dut.en, 1)
                ctx.set(dut.first, word == 0)
                await ctx.tick()
                ctx.set(dut.en, 0)
                if hasattr(dut, "counters"):
                    ctx.set(dut.counters, sum(int(c) % 8 << 3 * lane for lane, c in enumerate(
                        dense.words(counters)[word])))
                for _ in range((word + n) % 3):
                    await ctx.tick()
                sign = ctx.get(dut.sign)
                active = ctx.get(dut.active) if dut.masked else -1
                got.append([(1 - 2 * (sign >> k & 1)) * (active >> k & 1)
                            for k in range(dense.lanes)])
            for word in range(stage.drain_words):
                ctx.set(dut.bias_addr, word)
                await ctx.tick()
                got.append([1 - 2 * (ctx.get(dut.bias_sign) >> c & 1)
                            for c in range(stage.drain_lanes)])
            z, z_bias = (-of if down else of for of in directions_of(
                seed, first, dense, form, counters))
            expected.extend(dense.words(z).tolist())
            expected.extend(z_bias[s::stage.drain_words].tolist()
                            for s in range(stage.drain_words))

    simulate(dut, bench, deadline=2 * len(forms) * 3 * (dense.reuse_factor + stage.drain_words))
    assert got == expected


@pytest.mark.parametrize("form", [*FORMS[:6], {"kernel": True}, {"sparse": "hash", "kernel": True}],
                         ids=str)
@pytest.mark.parametrize("case", WIDE | CASES)
def test_memory(case, form):
    """What passes are served: at w or away from it, of a probe or not, with one clip at the end."""
    stage, first = (CASES | WIDE)[case]
    dense = stage.dense
    dut = WeightMemory(stage, residual=2, first_generator=first, max_pairs=2,
                       options=("sharp", *form))
    shifts = model.row_shifts(dense, form.get("kernel", False))
    rng, got, expected = np.random.default_rng(5), [], []
    plans = [(sigma, rho, away, down, probe, selected, negative)
             for sigma, rho in ((0, 0), (2, 1), (3, 6), (7, 6))
             for away, down, probe, selected, negative in (
                 (0, 0, 1, 1, 0), (1, 0, 1, 1, 0), (1, 1, 1, 1, 1), (1, 0, 0, 1, 0),
                 (1, 1, 1, 0, 0))]

    async def bench(ctx):
        write(ctx, dut, form)
        for sigma, rho, away, down, probe, selected, negative in plans:
            seed, first_seed = (int(s) for s in rng.integers(1, 2 ** 32, 2))
            for name, value in (("sigma", sigma), ("rho", rho), ("away", away), ("down", down),
                                ("selected", selected), ("first_seed", first_seed)):
                ctx.set(getattr(dut, name), value)
            got.append(await read_pass(ctx, dut, seed=seed, probe=probe, negative=negative))
            w, b = dense.weight_codes, dense.bias_codes
            if probe and selected:
                size, ahead = (model.row_amplitudes(log2, shifts, model.finer(dense))
                               for log2 in (sigma, rho))
                z, z_bias = directions_of(seed, first, dense, form)
                way, way_bias = directions_of(first_seed, first, dense, form)
                s, sign = away * (-1 if down else 1), -1 if negative else 1
                w = masters.perturbed(w, sign * z, size[:, None], dense.weight,
                                      s * (way << ahead[:, None]))
                b = masters.perturbed(b, sign * z_bias, size, dense.bias, s * (way_bias << ahead))
            expected.append((dense.words(w).tolist(),
                             [b[k::stage.drain_words].tolist() for k in range(stage.drain_words)]))

    simulate(dut, bench, deadline=len(plans) * (dense.reuse_factor + stage.drain_words + 6))
    assert got == expected


def test_widths():
    dut = Neighbour(CASES["two inputs a word"][0], first_generator=0, options=("sparse", "rank1"))
    assert [len(getattr(dut, name)) for name in (
        "seed", "bias_addr", "sign", "active", "bias_sign")] == [32, 1, 8, 8, 2]
    assert not hasattr(Neighbour(dut.stage, first_generator=0), "active")

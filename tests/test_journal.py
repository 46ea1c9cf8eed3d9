# amaranth: UnusedElaboratable=no
"""The journal: format, file and replay by hand, and hardware against the model."""
import json
from dataclasses import fields, replace

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module

from firmware_models.journal import (
    COLUMNS,
    LANES,
    LAYERS_LSB,
    Journal,
    check,
    check_size,
    from_json,
    replay,
    slots,
    unpack,
)
from firmware_models.learner import Learner
from firmware_models.settings import Settings
from firmware_models.weight_memory import to_master
from rtl.journal import Journal as Hardware

from .networks import samples, small_network
from .pysim import pauses, simulate, wait

NETWORK = small_network((6, 5, 4, 3), (0, 2))
RESIDUAL = 4


def test_words_by_hand():
    words = [[0xFFFFFFFF, 0x0000_0001, 0], [1, 0x1FFF_01FF, 0x3FFF], [7, 0x0004_0481, 1],
             [9, 0x0001_097F, 0], [9, 0x0001_5700, 0]]
    expected = [[2 ** 32 - 1, 1, 0, 0, 0, 0, 0, 0, 0], [1, -1, 1, 0x1FFF, 0, 0, 0, 0, 0x3FFF],
                [7, -127, 0, 4, 2, 0, 0, 0, 1], [9, 127, 1, 1, 0, 1, 0, 0, 0],
                [9, 0, 1, 1, 3, 0, 1, 2, 0]]
    assert unpack(words).tolist() == expected
    # As the window shows them: 32 bits with a sign.
    assert unpack(np.array(words, np.uint32).view(np.int32)).tolist() == expected
    assert unpack(np.zeros((0, 3), np.int32)).shape == (0, 9)


def test_slots_by_hand():
    assert slots(0, 16).tolist() == []
    assert slots(3, 16).tolist() == [0, 1, 2]
    assert slots(16, 16).tolist() == list(range(16))
    assert slots(18, 16).tolist() == [*range(2, 16), 0, 1]


@pytest.mark.parametrize("size", [0, 8, 15, 17, 24, 8192, -16])
def test_sizes(size):
    with pytest.raises(ValueError, match=f"a power of two, 16 to 4096, not {size}"):
        check_size(size)
    assert check_size(16) == 16 and check_size(4096) == 4096


def test_replay_by_hand():
    """Seed 1: Marsaglia's next states 270369 and 67634689 give the signs of two weight words."""
    network = small_network((2, 2), (0,))
    dense = network.stages[0].dense
    records = np.zeros((3, 9), int)
    records[:, :4] = [1, 3, 0, 1], [1, 2, 1, 1], [1, 99, 0, 1]          # the last one is torn
    weights, biases = replay(network, 4, records)
    # Bits 1:0 are 01 in the seed and in both states: output 0 has z = -1, output 1 z = +1.
    moved = to_master(dense.weight_codes, 4) + np.array([[5, 5], [-5, -5]])
    assert weights[0].tolist() == moved.tolist()
    assert biases[0].tolist() == (to_master(dense.bias_codes, 4) + [5, -5]).tolist()


def learned(size: int, updates: int = 10) -> Learner:
    """A learner whose journal keeps `size` records, after updates of 3 pairs and two samples."""
    learner = Learner(NETWORK, Settings(rule="es", layers=(0, 2), pairs=3, batch=2, lr_shift=3,
                                        seed=5), RESIDUAL, journal_records=size)
    x, y = samples(NETWORK, 2 * updates)
    learner.learn(x, y)
    return learner


def test_records_of_the_learner():
    """One per pair of each update; the ring drops the oldest; without a ring there are none."""
    whole, ring = learned(4096).state, learned(16).state
    assert whole.written == ring.written == 30 and whole.updates == 10
    assert whole.records[:, 2].tolist() == 10 * [0, 0, 1]
    assert set(whole.records[:, 3]) == {0b101}
    assert (whole.records[-3:, 0] == whole.seeds).all()
    assert (ring.records == whole.records[-16:]).all()
    none = learned(0).state
    assert none.written == 0 and none.records.shape == (0, 9)
    assert (none.weights[0] == whole.weights[0]).all()


def test_replay_equals_learning():
    """Also with new settings on the way: another population, other layers, another rate."""
    learner = learned(4096)
    learner.configure(Settings(rule="es", layers=(2,), pairs=5, fitness="rank", lr_shift=2,
                               lr_decay=3, sigma_log2=4, seed=77))
    learner.learn(*samples(NETWORK, 12, seed=2))
    weights, biases = replay(NETWORK, RESIDUAL, learner.state.records)
    for index in (0, 2):
        assert (weights[index] == learner.state.weights[index]).all()
        assert (biases[index] == learner.state.biases[index]).all()
        assert (weights[index] != Learner(NETWORK, learner.settings, RESIDUAL)
                .state.weights[index]).any()


# Another value of every setting; a new one has to be named here, and to be replayed rightly.
OTHER = {"rule": "es", "layers": (2,), "sigma_log2": 5, "lr_shift": 1, "lr_decay": 3, "seed": 78,
         "probes": 3, "head_shift": 2, "turn": True, "skip": 40, "pairs": 5, "batch": 2,
         "fitness": "rank", "vote": 20, "sparse": "hash", "rank1": True, "kernel": True,
         "start": 600, "stop": 500, "restart": True, "sharp": 3, "sigma_decay": True,
         "rounding": "stochastic", "lmin": 26, "lmax": 200, "standardize": 16}
APART = {"momentum"}                # no core has it together with a journal


def test_every_setting_is_named():
    assert set(OTHER) | APART == {f.name for f in fields(Settings)}


@pytest.mark.parametrize("changes", [
    *[{name: value} for name, value in OTHER.items() if name not in ("stop", "lmax")],
    {"start": 600, "stop": 500}, {"lmin": 26, "lmax": 200}, {"sparse": "static"},
    {"sparse": "biases"},
    {"rounding": "nearest"}, {"rounding": "pseudo"},
    {"sparse": "static", "rank1": True, "kernel": True, "vote": 40},
], ids=str)
def test_replay_with_every_setting(changes):
    """Changed on the way: records say what each update depends on, whatever that is."""
    first = Settings(rule="es", layers=(0, 2), pairs=3, lr_shift=3, seed=5)
    learner = Learner(NETWORK, first, RESIDUAL, journal_records=4096)
    x, y = samples(NETWORK, 40)
    for settings in (first, replace(first, **changes), first):
        learner.configure(settings)
        learner.learn(x, y)
    state = learner.state
    one = Journal(network=NETWORK.digest(), residual=RESIDUAL, written=state.written,
                  updates=state.updates, lost=False, records=state.records)
    check(one, NETWORK, RESIDUAL)
    weights, biases = replay(NETWORK, RESIDUAL, from_json(one.to_json()).records)
    for index in (0, 2):
        assert (weights[index] == state.weights[index]).all()
        assert (biases[index] == state.biases[index]).all()


def journal(size: int = 4096, **changes) -> Journal:
    state = learned(size).state
    return replace(Journal(network=NETWORK.digest(), residual=RESIDUAL, written=state.written,
                           updates=state.updates, lost=False, records=state.records), **changes)


def test_file():
    one = journal()
    again = from_json(one.to_json())
    assert vars(again) | {"records": 0} == vars(one) | {"records": 0}
    assert (again.records == one.records).all() and again.numbers.tolist() == list(range(30))
    assert journal(16).numbers.tolist() == list(range(14, 30))
    empty = replace(one, written=0, updates=0, records=one.records[:0])
    assert from_json(empty.to_json()).records.shape == (0, 9)
    check(again, NETWORK, RESIDUAL)
    check(empty, NETWORK, RESIDUAL)


@pytest.mark.parametrize("damage", [
    lambda text: "", lambda text: text[:-20], lambda text: "[1, 2]", lambda text: "{}",
    lambda text: text.replace('"written": 30', '"written": 31'),
    lambda text: text.replace('"sha256": "', '"sha256": "0'),
    lambda text: text.replace('"kernel"', '"colonel"'),
    lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "records"})])
def test_corrupt_files(damage):
    with pytest.raises(ValueError, match="not a journal, or corrupt .*; read it from the core"):
        from_json(damage(journal().to_json()))


def with_record(at: int, column: int, value: int) -> np.ndarray:
    records = journal().records.copy()
    records[at, column] = value
    return records


@pytest.mark.parametrize("changes, message", [
    ({"network": "0" * 64}, "of a core for another network; name the one with digest 0000"),
    ({"residual": 3}, "a core with 3 residual bits, not 4"),
    ({"lost": True}, "was reset after an update"),
    ({"written": 31}, "wrote 31 records and the journal has 30; .* --journal-records"),
    ({"written": 29}, "wrote 29 records and the journal has 30"),
    ({"updates": 11}, "made 11 updates and the journal has 10; .*node probes"),
    ({"records": with_record(29, 2, 0)}, "update of record 29 is torn"),
    ({"records": with_record(5, 0, 0)}, "record 5 cannot come from this core"),
    ({"records": with_record(6, 1, -128)}, "record 6 cannot"),
    ({"records": with_record(7, 3, 0b010)}, "record 7 cannot"),
    ({"records": with_record(8, 3, 0b001)}, "record 8 cannot"),       # not its update's layers
    ({"records": with_record(9, 2, 2)}, "record 9 cannot"),
    ({"records": with_record(9, 4, 4)}, "record 9 cannot"),
    ({"records": with_record(10, 5, 1)}, "record 10 cannot"),       # not its update's settings
    ({"records": with_record(11, 7, 1 << 14)}, "record 11 cannot"),
])
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        check(journal(**changes), NETWORK, RESIDUAL)


def test_reading_in_parts():
    """Parts that overlap or touch give the whole; a gap stays one."""
    whole = journal()

    def part(first, end):
        return replace(whole, written=end, records=whole.records[first:end])
    for parts in ([(0, 30)], [(0, 12), (12, 30)], [(0, 12), (5, 20), (18, 30)], [(0, 0), (0, 30)],
                  [(0, 30), (14, 30)]):
        got = part(*parts[0])
        for piece in parts[1:]:
            got = got.extended(part(*piece))
        assert (got.records == whole.records).all() and got.numbers[0] == 0
    gap = part(0, 12).extended(part(13, 30))
    assert gap.numbers.tolist() == list(range(13, 30))
    # A core that was reset starts over.
    assert len(part(0, 30).extended(part(0, 3)).records) == 3


# Hardware

def hardware(depth: int, options=("sparse", "rank1", "kernel", "vote")):
    """A journal in a clock domain whose reset the bench drives."""
    m = Module()
    m.domains.sync = domain = ClockDomain()
    m.submodules.dut = dut = Hardware(NETWORK, depth=depth, options=options)
    return m, dut, domain


async def write(ctx, dut, record, position_mask):
    for name, value in zip(("seed", "coefficient", "w_last"), record[:3], strict=True):
        ctx.set(getattr(dut, name), int(value))
    for name, value in zip(COLUMNS[4:], record[4:], strict=False):
        if name in dut.settings:
            ctx.set(getattr(dut, name), int(value))
    ctx.set(dut.layers, position_mask)
    ctx.set(dut.w_en, 1)
    await ctx.tick()
    ctx.set(dut.w_en, 0)


@pytest.mark.parametrize("idle", ["none", "some", "most"])
@pytest.mark.parametrize("depth, count, options", [
    (16, 11, ()), (16, 16, ("vote",)), (16, 37, ("sparse", "rank1", "kernel", "vote")),
    (64, 150, ("sparse", "kernel"))])
def test_unit_equals_model(depth, count, options, idle):
    """All slots after every few records, the ring full or not."""
    rng, pause = np.random.default_rng(count), pauses(idle)
    m, dut, _ = hardware(depth, options)
    layers = rng.integers(1, 4, count)
    expected = np.stack([rng.choice([1, 2 ** 32 - 1, 0x12345678], count),
                         rng.choice([-127, -1, 0, 1, 127], count), rng.integers(0, 2, count),
                         (layers & 1) | (layers & 2) << 1,
                         *[rng.integers(0, limit, count) * (name in options) for name, limit in
                           zip(COLUMNS[4:], (4, 2, 2, 5, 1 << 14), strict=True)]], 1)
    checks = []

    async def bench(ctx):
        for n in range(count):
            while next(pause):                      # what is offered without w_en is not taken
                ctx.set(dut.seed, 0xDEAD)
                await ctx.tick()
            await write(ctx, dut, expected[n], int(layers[n]))
            assert ctx.get(dut.written) == n + 1 and not ctx.get(dut.lost)
            if n % 9 and n + 1 < count:
                continue
            words = []
            for slot in slots(n + 1, depth):
                words.append([])
                for lane in range(LANES):
                    ctx.set(dut.r_slot, int(slot))
                    ctx.set(dut.r_lane, lane)
                    await wait(ctx, dut.latency_cycles)
                    words[-1].append(ctx.get(dut.r_data))
            assert unpack(words).tolist() == expected[max(n + 1 - depth, 0):n + 1].tolist()
            checks.append(n)

    simulate(m, bench, deadline=(5 * depth + 6) * count)
    assert checks[-1] == count - 1


def test_bits_of_a_record():
    m, dut, _ = hardware(16)

    async def bench(ctx):
        # The upper one of stages 0 and 2; sparse 2, rank1 0, kernel 1, rounding 0, and the vote.
        await write(ctx, dut, (0x89ABCDEF, -2, 1, 0, 2, 0, 1, 0, 0x2345), 0b10)
        ctx.set(dut.r_slot, 0)
        for lane, word in ((0, 0x89ABCDEF), (1, 0x15FE | 1 << LAYERS_LSB + 2), (2, 0x2345)):
            ctx.set(dut.r_lane, lane)
            await ctx.tick()
            assert ctx.get(dut.r_data) == word

    simulate(m, bench, deadline=20)


@pytest.mark.parametrize("last", [(), (0, 0), (1,), (0, 1), (0, 1, 0)])
def test_reset(last):
    """The count starts over; that records of an update went is remembered until it is cleared."""
    m, dut, domain = hardware(16)

    async def pulse(ctx, signal):
        ctx.set(signal, 1)
        await ctx.tick()
        ctx.set(signal, 0)
        await wait(ctx, 3)

    async def bench(ctx):
        for bit in last:
            await write(ctx, dut, (5, 1, bit), 1)
        assert not ctx.get(dut.lost)
        for _ in range(2):
            await pulse(ctx, domain.rst)
            assert ctx.get(dut.written) == 0 and ctx.get(dut.lost) == any(last)
        await pulse(ctx, dut.lost_clear)
        assert not ctx.get(dut.lost)
        await write(ctx, dut, (6, 1, 1), 1)
        await wait(ctx, 3)
        assert ctx.get(dut.written) == 1 and not ctx.get(dut.lost)

    simulate(m, bench, deadline=50)


def test_weights_written_by_others():
    """Also while no record is there yet: the start weights are others then."""
    m, dut, domain = hardware(16)

    async def bench(ctx):
        ctx.set(dut.overwritten, 1)
        await ctx.tick()
        ctx.set(dut.overwritten, 0)
        ctx.set(domain.rst, 1)
        await ctx.tick()
        ctx.set(domain.rst, 0)
        await wait(ctx, 2)
        assert ctx.get(dut.lost)
        ctx.set(dut.lost_clear, 1)
        await wait(ctx, 2)
        assert not ctx.get(dut.lost)

    simulate(m, bench, deadline=20)


def test_widths():
    dut = Hardware(NETWORK, depth=64)
    assert (len(dut.seed), len(dut.coefficient), len(dut.layers), len(dut.written),
            len(dut.r_slot), len(dut.r_lane), len(dut.r_data)) == (32, 8, 2, 32, 6, 2, 32)
    assert not dut.settings                     # what the core does not have costs no bit
    dut = Hardware(NETWORK, depth=64, options=("sparse", "rank1", "kernel", "rounding", "vote"))
    assert [len(getattr(dut, name)) for name in COLUMNS[4:]] == [2, 1, 1, 3, 14]
    with pytest.raises(ValueError, match="journal_records must be a power of two"):
        Hardware(NETWORK, depth=100)

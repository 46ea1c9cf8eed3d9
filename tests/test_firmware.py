"""Generated C against the golden model: every byte of the state after every step."""
import numpy as np
import pytest

from firmware_models.fqt import paper
from firmware_models.fqt.integer import Settings, State, init
from firmware_models.fqt.layers import conv, dense, sequential
from hwgen.errors import HwgenError
from hwgen.firmware import generate, load, save
from hwgen.firmware.memory import buffers_of, place
from hwgen.firmware.state import pack, unpack
from sim import board
from sim.errors import SimulationError
from sim.firmware import FLAGS, Firmware, Storage

from .trained_firmware import lockstep, needs_gcc, predicted, trained
from .trained_networks import DIGITS, EVERY_KIND, PARTS, drawn, weights_of

NO_INPUT, WRONG_SIZE, WRONG_LABEL, STORAGE_FAILED, NOTHING_SAVED, CORRUPT = range(-1, -7, -1)

SETTINGS = {
    "plain": {}, "partial": dict(lmin=30, lr_shift=4), "skip": dict(skip=300, lr_decay=100),
    "standardize": dict(standardize=True, lr_shift=8), "bits": dict(error_bits=2, lmin=100),
    "all": dict(standardize=True, lmin=80, lmax=200, skip=200, lr_shift=8, lr_decay=70)}


def started(layers, seed=1, *, mean=None, scale=6.0) -> State:
    return init(layers, *weights_of(layers, seed, scale), mean)


@needs_gcc
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("layers", [DIGITS, EVERY_KIND, PARTS],
                         ids=["dense", "every kind", "parts"])
def test_equal(tmp_path, digits, layers, name):
    """More than one look at the weights' ranges, which comes after 256 samples."""
    mean = digits.x_train.mean(0) if name != "plain" else None
    lockstep(layers, started(layers, mean=mean), Settings(**SETTINGS[name]), digits.x_train[:300],
             digits.y_train[:300], tmp_path)


@needs_gcc
@pytest.mark.parametrize("number", range(20))
def test_random_networks(tmp_path, number, request):
    rng = np.random.default_rng([request.config.getoption("seed"), number])
    layers, x, y = drawn(rng)
    settings = Settings(
        lr_shift=int(rng.integers(-2, 12)), lr_decay=int(rng.choice([0, 7])),
        standardize=bool(rng.random() < 0.4), lmin=int(rng.choice([0, 26, 128, 256])),
        skip=int(rng.choice([0, 200])), error_bits=int(rng.choice([1, 3, 7])))
    mean = rng.uniform(0, 255, layers[0].n_in) if rng.random() < 0.5 else None
    lockstep(layers, started(layers, number, mean=mean, scale=float(rng.choice([0.1, 6, 100]))),
             settings, x, y, tmp_path)


@needs_gcc
def test_no_undefined_behaviour(tmp_path, digits, monkeypatch):
    """The sanitizers of the compiler end the program where it leaves its memory or the standard."""
    state = started(EVERY_KIND, mean=digits.x_train.mean(0))
    settings = Settings(**SETTINGS["all"])
    generate(EVERY_KIND, state, tmp_path, settings=settings)
    monkeypatch.setenv("CFLAGS", "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all")
    done = board.run(tmp_path, "host", digits.x_train[:100], digits.y_train[:100], range(100),
                     range(50))
    state = trained(EVERY_KIND, state, settings, digits.x_train[:100], digits.y_train[:100])
    assert done.state == pack(EVERY_KIND, state)
    np.testing.assert_array_equal(done.classes, predicted(EVERY_KIND, state, digits.x_train[:50]))


@needs_gcc
def test_refused(tmp_path, digits):
    state = started(DIGITS)
    generate(DIGITS, state, tmp_path)
    firmware = Firmware(tmp_path)
    before, x = firmware.state(), digits.x_train[0]
    assert firmware.train_step(x[:63], 1) == WRONG_SIZE
    assert firmware.train_step(np.append(x, 0), 1) == WRONG_SIZE
    assert firmware.train_step(x, 10) == firmware.train_step(x, -1) == WRONG_LABEL
    assert firmware.train_step(None, 1) == NO_INPUT
    np.testing.assert_array_equal(firmware.predict(digits.x_train[:3, :63]), [WRONG_SIZE] * 3)
    assert firmware.state() == before


@pytest.fixture(scope="module")
def saving(tmp_path_factory):
    """A firmware that is cheap to save, and two of its states."""
    layers = sequential((1, 3, 1), dense(2))
    folder = tmp_path_factory.mktemp("saving")
    generate(layers, started(layers), folder)
    firmware = Firmware(folder)
    states = [firmware.state()]
    for _ in range(2):
        firmware.train_step([10, 100, 200], 1)
        states.append(firmware.state())
    return firmware, states


def learned(firmware, steps) -> None:
    firmware.reset()
    for _ in range(steps):
        firmware.train_step([10, 100, 200], 1)


@needs_gcc
def test_save_and_load(saving):
    firmware, states = saving
    storage = Storage(len(states[0]) + 20)
    learned(firmware, 1)
    assert firmware.load(storage) == NOTHING_SAVED and firmware.state() == states[1]
    assert firmware.save(storage) == 0
    learned(firmware, 2)
    assert firmware.save(storage) == 0
    firmware.reset()
    assert firmware.load(storage) == 0 and firmware.state() == states[2]
    # A third save overwrites the first one.
    firmware.reset()
    assert firmware.save(storage) == 0
    learned(firmware, 1)
    assert firmware.load(storage) == 0 and firmware.state() == states[0]


@needs_gcc
def test_power_cut(saving):
    """Wherever a save ends, a load gives the state before it or after it, whole."""
    firmware, states = saving
    size = len(states[0]) + 20
    found = []
    for budget in range(2 * size + 1):
        storage = Storage(size)
        learned(firmware, 1)
        firmware.save(storage)
        learned(firmware, 2)
        storage.budget = budget
        said = firmware.save(storage)
        storage.budget = None
        firmware.reset()
        assert firmware.load(storage) == 0
        found.append(states.index(firmware.state()))
        assert said == (0 if budget == 2 * size else STORAGE_FAILED)
    assert found[-1] == 2 and set(found[:-1]) <= {1, 2}
    assert found.count(1) >= 2 * size - 20


@needs_gcc
def test_corrupt(saving):
    """A bit that flips anywhere in the only state is noticed, and in the newer one costs a step."""
    firmware, states = saving
    size = len(states[0]) + 20
    learned(firmware, 1)
    storage = Storage(size)
    firmware.save(storage)
    for at in range(size):
        storage.slots[0][at] ^= 1 << at % 8
        firmware.reset()
        assert firmware.load(storage) in (CORRUPT, NOTHING_SAVED)
        assert firmware.state() == states[0]
        storage.slots[0][at] ^= 1 << at % 8
    learned(firmware, 2)
    firmware.save(storage)
    storage.slots[1][size - 1] ^= 4
    firmware.reset()
    assert firmware.load(storage) == 0 and firmware.state() == states[1]


@needs_gcc
def test_state_of_another_network(saving, tmp_path):
    firmware, states = saving
    storage = Storage(len(states[0]) + 20)
    learned(firmware, 1)
    firmware.save(storage)
    layers = sequential((1, 3, 1), dense(2), dense(2, trainable=False))
    generate(layers, started(layers), tmp_path)
    assert Firmware(tmp_path).load(storage) == NOTHING_SAVED


def test_same_bytes(tmp_path):
    for name in "ab":
        generate(EVERY_KIND, started(EVERY_KIND), tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*")
             if path.is_file()]
    assert len(files) == 20
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_state_and_bytes():
    state = started(PARTS, mean=np.arange(64))
    state.samples = 70_000
    again = unpack(PARTS, state, pack(PARTS, state))
    assert pack(PARTS, again) == pack(PARTS, state) and again.samples == 70_000
    with pytest.raises(ValueError, match="a state of 3 bytes; this network's has 604"):
        unpack(PARTS, state, b"abc")


@pytest.mark.parametrize("number", range(20))
def test_tensors_do_not_overlap(number):
    """What is needed at the same time lies apart, and nothing is larger than need be."""
    layers, _, _ = drawn(np.random.default_rng(number))
    trained = [n for n, layer in enumerate(layers) if layer.trainable]
    floats = [None, len(layers), 1][number % 3]
    buffers = buffers_of(layers, first=trained[0] if trained else 0, scratch=40, floats=floats)
    at, size = place(buffers)
    for n, one in enumerate(buffers):
        assert at[one.name] % 4 == 0 and at[one.name] + one.size <= size
        for other in buffers[:n]:
            if one.meets(other):
                assert (at[one.name] + one.size <= at[other.name]
                        or at[other.name] + other.size <= at[one.name]), (one, other)
    steps = range(-1, 2 * len(layers))
    least = max(sum(b.size for b in buffers if b.first <= t <= b.last) for t in steps)
    assert least <= size <= sum(-(-b.size // 4) * 4 for b in buffers)


@pytest.mark.parametrize("layers, message", [
    ([dense(4, trainable=False), dense(2, trainable=False)],
     "no layer trains; make one trainable=True"),
    ([conv(2, (256, 1)), dense(2)], "conv1: a kernel of 256x1; the firmware takes sizes and"),
    ([conv(2, (1, 300), strides=(1, 256)), dense(2)], "conv1: a kernel of 1x300; the firmware"),
    ([conv(1, 1), dense(2)], "conv1: a sum of 90000 products of two bytes on the way back"),
    ([dense(1 << 16), dense(2)], "dense1: 65536 rows of 20 weights; the firmware counts both in"),
])
def test_no_room(tmp_path, layers, message):
    made = sequential((300, 300, 1) if layers[0]["kind"] == "conv" else (20, 1, 1), *layers)
    with pytest.raises(HwgenError, match=message):
        generate(made, started(made), tmp_path)
    assert not list(tmp_path.iterdir())


def test_compiler_refuses(tmp_path):
    generate(DIGITS, started(DIGITS), tmp_path)
    (tmp_path / "training.c").write_text("nonsense")
    with pytest.raises(SimulationError, match="gcc failed"):
        Firmware(tmp_path, flags=FLAGS)


@pytest.mark.parametrize("layers", [DIGITS, EVERY_KIND, PARTS],
                         ids=["dense", "every kind", "parts"])
@pytest.mark.parametrize("mode", ["integer", *paper.MODES])
def test_network_file(tmp_path, layers, mode):
    """What was saved comes back, frozen weights and means as well."""
    state = (started(layers, mean=np.arange(64) if layers is PARTS else None)
             if mode == "integer" else paper.init(layers, *weights_of(layers), mode))
    save(tmp_path / "a.npz", layers, state)
    save(tmp_path / "b.npz", *load(tmp_path / "a.npz"))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    for folder, given in (("a", (layers, state)), ("b", load(tmp_path / "b.npz"))):
        generate(*given, tmp_path / folder)
    assert ((tmp_path / "a" / "network.c").read_text()
            == (tmp_path / "b" / "network.c").read_text())

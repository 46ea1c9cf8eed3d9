"""A core, Verilated: hardware in a Python object with a face like scikit-learn's."""
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from firmware_models import window_load
from firmware_models.formats import Fixed
from firmware_models.journal import LANES, Journal, slots, unpack
from firmware_models.momentum import COUNTER_WORD
from firmware_models.options import needed
from firmware_models.registers import ERROR_SPACE, JOURNAL_SPACE, RECORD_SPACE, settings_fields
from firmware_models.rules.node_probe import MAX_PROBES
from firmware_models.sample_packets import (
    LEARN,
    BeatLayout,
    check_labels,
    check_samples,
    pack,
)
from firmware_models.settings import Settings

from . import hls_stand_in
from .errors import SimulationError
from .library import FAULTS, RESPONSES, SILENT, Core
from .verilate import DEVICE, build

CHUNK = 500                         # samples between two calls of `progress`
COUNTERS = ("samples", "passes", "updates", "saturations", "loss", "loss_average")


class Device:
    """One simulated core, freshly powered up.

    All arithmetic is in integer codes. Methods that stream samples wait for the learning of
    earlier ones only where they change settings; what is in flight goes on as in hardware.

    Parameters
    ----------
    manifest : path
        ``manifest.json`` of a generated core; the Verilog lies beside it.
    build_dir : path, optional
        Where the compiled simulation is kept; ``verilated`` beside the manifest by default.
    waves : path, optional
        VCD file to record every signal in. Slow, and large: about 1 MB per 1,000 cycles.
    seed : int
        Decides in which cycles `idle` and `stall` fall.

    Attributes
    ----------
    manifest : dict
    in_cycles, out_cycles : int64 [packets]
        Of the last job: the cycle in which each packet's first beat was taken, and in which the
        last beat of each answer was.

    Raises
    ------
    SimulationError
        When a tool is missing, the Verilog does not build, or the core breaks a rule of its buses.
    """

    def __init__(self, manifest, build_dir=None, waves=None, seed: int = 0):
        path = Path(manifest)
        try:
            self.manifest = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise SimulationError(f"{path} is not a manifest ({error}); build the core first") \
                from None
        self.learning = self.manifest["learning"]
        self.stages = self.manifest["stages"]
        parts = [*self.stages, *([self.manifest["prompt"]] if "prompt" in self.manifest else [])]
        # What has a memory that learns, by its number in the window and in register `layers`.
        self.trainable = {n: part for n, part in enumerate(parts) if part["trainable"]}
        self.n_in, self.n_classes = self.stages[0]["n_in"], self.stages[-1]["n_out"]
        self.input = Fixed(**self.manifest["network"]["input"])
        self.layout = BeatLayout(**self.manifest["input"])
        self.registers = {r["name"]: r for r in self.manifest["registers"]}
        self.in_cycles = self.out_cycles = np.zeros(0, np.int64)
        self._seed, self._jobs = seed, 0
        library = build(path.parent / self.manifest["verilog"], self.manifest["top"],
                        Path(build_dir) if build_dir else path.parent / "verilated",
                        target=hls_stand_in.beside(DEVICE, self.manifest, path.parent),
                        waves=bool(waves))
        self.core = Core(library, waves)
        self.reset()

    def close(self) -> None:
        """End the simulation; the waveform is complete after it."""
        self.core.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def cycles(self) -> int:
        """Clock cycles since power-up."""
        return self.core.cycle

    @property
    def clock_cycles(self) -> int:
        """Cycles of the last job, from the first beat taken to the last beat returned."""
        return int(self.out_cycles[-1] - self.in_cycles[0] + 1) if len(self.out_cycles) else 0

    def reset(self) -> None:
        """Two cycles of `rst`: registers and counters start over, weights stay."""
        self.core.reset()

    # Samples

    def predict(self, x, y=None, idle=0.0, stall=0.0, progress=None) -> np.ndarray:
        """Classes [n] of samples [n, n_in], without learning.

        Labels `y` are optional: they matter to the core's loss registers only.
        `idle` and `stall` are the probabilities that in a cycle the source offers nothing, or the
        sink takes nothing. `progress(samples)` is called now and then with the number done; it
        must not use the device.
        """
        return self._samples(x, y, False, False, idle, stall, progress)[:, 0]

    def logits(self, x, y=None, idle=0.0, stall=0.0, progress=None) -> np.ndarray:
        """Logit codes [n, n_classes] of samples [n, n_in], without learning.

        Of a network with a softmax, its output codes: :func:`firmware_models.softmax.readout`.
        """
        return self._samples(x, y, False, True, idle, stall, progress)[:, 1:]

    def score(self, x, y, idle=0.0, stall=0.0, progress=None) -> float:
        """Share of samples whose predicted class is their label."""
        y = check_labels(y, len(np.atleast_2d(x)), self.n_classes)
        return float(np.mean(self.predict(x, y, idle, stall, progress) == y))

    def partial_fit(self, x, y, learn=True, idle=0.0, stall=0.0, progress=None) -> np.ndarray:
        """Stream samples to learn from; the classes [n] predicted for them before learning.

        `learn` may be an array [n] of bool: which of the samples carry the learn bit.
        """
        self._must_learn()
        return self._samples(x, y, learn, False, idle, stall, progress)[:, 0]

    def send_raw(self, packets: Iterable, drain_cycles: int | None = None, idle=0.0,
                 stall=0.0) -> list[np.ndarray]:
        """Send packets as they are, bad ones too; return the packets that came back.

        Parameters
        ----------
        packets : iterable of (beats, tuser)
            Beats as 32-bit words; at least one in each packet.
        drain_cycles : int, optional
            Cycles without a transfer after which the core counts as finished.
        """
        packets = [(np.atleast_1d(np.asarray(beats, np.uint32)), user) for beats, user in packets]
        lengths = np.array([len(beats) for beats, _ in packets])
        if not len(packets) or not lengths.all():
            raise ValueError("a packet has at least one beat")
        lasts = np.zeros(lengths.sum(), np.uint8)
        lasts[np.cumsum(lengths) - 1] = 1
        capacity = len(packets) * (1 + self.n_classes) + 1
        self._stream(np.concatenate([beats for beats, _ in packets]),
                     np.repeat([user for _, user in packets], lengths), lasts, capacity, idle,
                     stall)
        # There is always room for more, so that only silence ends this job.
        patience = drain_cycles or self._patience(idle, stall)
        fault, got = self.core.run(capacity, patience)
        if fault != SILENT or got["sent"] < len(lasts):
            self._raise(fault, patience)
        self.in_cycles, self.out_cycles = got["in_cycles"], got["out_cycles"]
        return np.split(got["data"], np.flatnonzero(got["last"]) + 1)[:-1]

    def _samples(self, x, y, learn, logits, idle, stall, progress) -> np.ndarray:
        """Answers [n, 1 or 1 + n_classes] as int64."""
        x = check_samples(x, self.n_in, self.input)
        y = check_labels(y, len(x), self.n_classes) if y is not None else np.zeros(len(x), int)
        learn = np.broadcast_to(np.asarray(learn, bool), (len(x),))
        control = {"logits": int(logits)}
        if self.learning:
            control["learn"] = int(learn.any())
        if any(self.read("control", name) != value for name, value in control.items()):
            self._settle()
            self.write("control", **control)
        width = 1 + self.n_classes * logits
        if not len(x):
            return np.zeros((0, width), np.int64)
        beats = pack(x, self.layout)
        lasts = np.zeros(beats.shape, np.uint8)
        lasts[:, -1] = 1
        self._stream(beats.ravel(), np.repeat(y + LEARN * learn, self.layout.beats), lasts.ravel(),
                     len(x) * width, idle, stall)
        patience = self._patience(idle, stall)
        for done in [*range(CHUNK, len(x), CHUNK), len(x)]:
            fault, got = self.core.run(done * width, patience)
            if fault:
                self._raise(fault, patience)
            if progress:
                progress(done)
        self.in_cycles, self.out_cycles = got["in_cycles"], got["out_cycles"]
        ends = np.arange(len(x) * width) % width == width - 1
        if (got["last"] != ends).any():
            beat = int(np.argmax(got["last"] != ends))
            raise SimulationError(f"m_axis: tlast is {int(got['last'][beat])} in beat "
                                  f"{beat % width} of answer {beat // width}; answers have "
                                  f"{width} beats")
        return got["data"].view(np.int32).astype(np.int64).reshape(len(x), width)

    def _stream(self, beats, users, lasts, capacity, idle, stall):
        self._jobs += 1
        self.core.stream(beats, users, lasts, capacity, idle, stall,
                         self._seed * 1_000_003 + self._jobs)

    def _patience(self, idle, stall) -> int:
        """Cycles without a transfer that no working core needs, pauses included."""
        words = sum(s["reuse_factor"] + s["drain_words"] + s["n_out"] for s in self.stages)
        probed = len(self.trainable)
        passes = 2 + max(2 * self.manifest["max_pairs"], MAX_PROBES * probed)
        return int((1000 + 4 * passes * words) / (1 - max(idle, stall)))

    def _raise(self, fault, patience):
        raise SimulationError(f"cycle {self.cycles}: {FAULTS[fault].format(patience=patience)}")

    # Registers

    def read(self, name: str, field: str | None = None):
        """A field of a register; without `field` the only one, or a dict of all."""
        register = self._register(name)
        word, response = self.core.read(register["offset"])
        if response:
            raise SimulationError(f"reading {name}: {RESPONSES[response]}")
        values = {f["name"]: word >> f["lsb"] & (1 << f["width"]) - 1
                  for f in register["fields"]}
        if field is not None:
            self._fields(register, [field])
            return values[field]
        return next(iter(values.values())) if len(values) == 1 else values

    def write(self, name: str, **fields: int) -> None:
        """Write fields of a register; fields not named keep their value."""
        register = self._register(name)
        known = self._fields(register, fields)
        word = 0
        if register["access"] == "rw" and len(fields) < len(known):
            word, _ = self.core.read(register["offset"])
        for key, value in fields.items():
            lsb, width = known[key]["lsb"], known[key]["width"]
            if not 0 <= value < 1 << width:
                raise ValueError(f"{name}.{key} has {width} bits and cannot hold {value}")
            word = word & ~((1 << width) - 1 << lsb) | value << lsb
        response = self.core.write(register["offset"], word)
        if response:
            raise SimulationError(f"writing {name}: {RESPONSES[response]}")

    def _register(self, name: str) -> dict:
        if name not in self.registers:
            raise ValueError(f"no register {name!r}; this core has {', '.join(self.registers)}")
        return self.registers[name]

    @staticmethod
    def _fields(register: dict, names: Iterable[str]) -> dict:
        known = {f["name"]: f for f in register["fields"]}
        for name in names:
            if name not in known:
                raise ValueError(f"register {register['name']} has no field {name!r}; "
                                 f"it has {', '.join(known)}")
        return known

    # Learning

    def configure(self, settings: Settings) -> None:
        """Write the settings, the seed last: population and rate decay start over.

        Raises
        ------
        ValueError
            For more pairs than the core has room for, layers that it does not train, or what it
            was built without.
        """
        self._must_learn()
        if settings.rule == "es" and settings.pairs > self.manifest["max_pairs"]:
            raise ValueError(f"{settings.pairs} pairs; this core was built for at most "
                             f"{self.manifest['max_pairs']}")
        if not set(settings.layers) <= set(self.trainable):
            raise ValueError(f"layers {settings.layers} are not all trainable: this core trains "
                             f"{tuple(self.trainable)}")
        if settings.rule not in self.manifest["rules"]:
            raise ValueError(f"this core learns by {', '.join(self.manifest['rules'])}, not by "
                             f"{settings.rule}")
        for option in needed(settings):
            if option not in self.manifest["options"]:
                raise ValueError(f"these settings need a core with option {option}; this one has "
                                 f"{', '.join(self.manifest['options']) or 'none'}")
        self._settle()
        for name, fields in settings_fields(settings, self.registers).items():
            self.write(name, **fields)
        self._settle()

    def state(self) -> dict:
        """All state under the names of :class:`firmware_models.learner.State`.

        Waits for the learning under way, then reads everything through the registers.
        """
        self._must_learn()
        self._settle()
        state = {name: self.read(name) for name in COUNTERS}
        progress = self._all("progress")
        state |= {"batch_index": progress.get("batch_index", 0), "decays": progress["decays"],
                  "decay_count": progress["decay_count"], "on": progress.get("on", 1),
                  "decided": progress.get("decided", 1), "weights": {}, "biases": {}}
        for index, part in self.trainable.items():
            state["weights"][index], state["biases"][index] = self._masters(index, part)
        nodes = sum(stage["n_out"] for stage in self.stages if stage["trainable"])
        state["errors"] = self._window(ERROR_SPACE, 0, nodes, 1)[:, 0].astype(np.int64) \
            if "np" in self.manifest["rules"] else np.zeros(nodes, np.int64)
        state["error_max"] = self.read("error_max") if "error_max" in self.registers else 0
        pairs, state["seed"] = 0, self.read("seed")
        if "es" in self.manifest["rules"]:
            state["seed"] = self.read("next_seed")
            pairs = self.read("pairs") if self._drew_population() else 0
        journal = self._window(JOURNAL_SPACE, 0, pairs, 2)
        state["seeds"] = journal[:, 0].view(np.uint32).astype(np.int64)
        state["deltas"] = journal[:, 1].astype(np.int64)
        state["written"] = self.read("journal") if self.journal_records else 0
        state["records"] = self._records(state["written"])
        guided = "momentum" in self.manifest["options"]
        state["momenta"] = {index: self._momenta(index, part) for index, part in
                            self.trainable.items() if guided}
        return state

    @property
    def journal_records(self) -> int:
        """Records that the core's journal keeps; 0 for a core without one."""
        has = "journal" in self.manifest["options"]
        return self.manifest["journal_records"] if has else 0

    def journal(self) -> Journal:
        """The journal of updates, as far as the core still keeps it.

        Waits for the learning under way.

        Raises
        ------
        ValueError
            For a core without one.
        """
        self._must_learn()
        if not self.journal_records:
            raise ValueError("this core keeps no journal; build it with option journal")
        self._settle()
        written = self.read("journal")
        return Journal(network=self.manifest["digest"], residual=self.manifest["residual"],
                       written=written, updates=self.read("updates"),
                       lost=bool(self.read("status", "lost")), records=self._records(written))

    def _records(self, written: int) -> np.ndarray:
        """The last of `written` records, the oldest first."""
        order = slots(written, self.journal_records or 1)
        return unpack(self._window(RECORD_SPACE, 0, len(order), LANES)[order])

    def load(self, weights: dict, biases: dict) -> None:
        """Write masters of trainable stages, by stage as in :meth:`state`; all else stays.

        The core needs option load. See :meth:`firmware_models.learner.Learner.load`.

        Raises
        ------
        ValueError
            For a core without the option, a stage that is not trainable, and for masters of
            another shape or width; nothing is written then.
        """
        known = self._loadable()
        given = window_load.loaded(known, weights=weights, biases=biases)
        for kind, arrays in given.items():
            for index, values in arrays.items():
                self._poke(index, *known[index][kind].points(), values)

    def write_master(self, stage: int, value: int, output: int, input: int | None = None) -> None:
        """Write one master: the weight from `input` to `output`, or without `input` the bias."""
        kind, at = window_load.target(output, input)
        of = window_load.of_stage(self._loadable(), stage)[kind]
        value = of.element(at, value)
        word, lane = of.points()
        self._poke(stage, word[at], lane[at], value)

    def snapshot(self) -> None:
        """Keep the masters of all trainable stages aside, on the chip; needs option snapshot."""
        self._snapshot("take")

    def restore(self, restart: bool = True) -> None:
        """Masters as they were at :meth:`snapshot`; ValueError if none are kept.

        With `restart` the seed is written after it: see
        :meth:`firmware_models.learner.Learner.restore`.
        """
        self._must_have("snapshot")
        if not self.read("snapshot", "valid"):
            raise ValueError("no snapshot was taken")
        self._snapshot("restore")
        if restart:
            self.write("seed", value=self.read("seed"))
            self._settle()

    def _snapshot(self, what: str) -> None:
        self._must_have("snapshot")
        self._settle()
        self.write("snapshot", **{what: 1})
        self._settle()

    def _loadable(self) -> dict:
        """What :func:`firmware_models.window_load.masters` says of each trainable stage."""
        self._must_learn()
        self._must_have("load")
        return {index: window_load.masters(
                    s["name"], s["n_out"], s["n_in"], s["reuse_factor"], s["drain_words"],
                    s["master_width"], s["bias_master_width"])
                for index, s in self.trainable.items()}

    def _poke(self, space: int, word, lane, values) -> None:
        """Write masters through the window, after the learning under way."""
        self._settle()
        word, lane, values = (np.ravel(array) for array in (word, lane, values))
        self.core.poke(*self._points(space, word, lane), values)

    def _all(self, name: str) -> dict:
        """Every field of a register."""
        return {f["name"]: self.read(name, f["name"]) for f in self._register(name)["fields"]}

    def _drew_population(self) -> bool:
        """Whether the journal holds pairs of the population that the seed started."""
        return self.read("next_seed") != (self.read("seed") or 1)

    def _masters(self, index: int, stage: dict) -> tuple[np.ndarray, np.ndarray]:
        """Masters [n_out, n_in] and [n_out] of a stage.

        Lane m of weight word r is element ``r + reuse_factor * m`` of the flat [n_out][n_in]
        matrix, lane c of bias word s is output ``s + drain_words * c``: both are a transpose.
        """
        words = self._window(index, 0, stage["reuse_factor"], stage["lanes"])
        biases = self._window(index, stage["reuse_factor"], stage["drain_words"],
                              stage["drain_lanes"])
        return (words.T.astype(np.int64).reshape(stage["n_out"], stage["n_in"]),
                biases.T.astype(np.int64).reshape(stage["n_out"]))

    def _momenta(self, index: int, stage: dict) -> np.ndarray:
        """Counters [n_out, n_in] of a stage: they lie as the weights do."""
        words = self._window(index, COUNTER_WORD, stage["reuse_factor"], stage["lanes"])
        return words.T.astype(np.int64).reshape(stage["n_out"], stage["n_in"])

    def _window(self, space: int, first: int, words: int, lanes: int) -> np.ndarray:
        """Words [words, lanes] int32 of the window, from word `first` of `space` on."""
        word, lane = np.divmod(np.arange(words * lanes), max(lanes, 1))
        data = self.core.window(*self._points(space, first + word, lane))
        return data.view(np.int32).reshape(words, lanes)

    def _points(self, space: int, word, lane) -> tuple[int, int, np.ndarray]:
        """Offsets of `window` and `window_data`, and what to write to the first of them."""
        values = {"word": word, "lane": lane, "space": np.full_like(word, space)}
        points = sum(values[f["name"]] << f["lsb"] for f in self.registers["window"]["fields"])
        return (self.registers["window"]["offset"], self.registers["window_data"]["offset"],
                points)

    def _settle(self) -> None:
        """Wait until no sample is being learned from and every loss is counted."""
        if self.learning:
            for _ in range(self._patience(0, 0)):
                if not self.read("busy"):
                    break
            else:
                raise SimulationError("the core stays busy with one sample")
            # The last loss follows its answer by at most four walks over the classes and 5 cycles;
            # a read takes 3 or more.
            for _ in range(2 * self.n_classes + 4):
                self.read("busy")

    def _must_have(self, option: str):
        if option not in self.manifest["options"]:
            raise ValueError(f"this core was built without option {option}")

    def _must_learn(self):
        if not self.learning:
            raise ValueError("this core was built without learning")


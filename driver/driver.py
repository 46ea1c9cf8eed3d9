"""A core's registers as methods: settings, learning, counters, weights, journal."""
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from firmware_models import window_load
from firmware_models.journal import LANES, Journal, slots, unpack
from firmware_models.momentum import COUNTER_WORD
from firmware_models.options import needed
from firmware_models.registers import (
    ERROR_SPACE,
    ID,
    JOURNAL_SPACE,
    RECORD_SPACE,
    settings_fields,
)
from firmware_models.rules.node_probe import MAX_PROBES
from firmware_models.settings import Settings

from .transport import BusError, Transport

COUNTERS = ("samples", "passes", "updates", "saturations", "loss", "loss_average")


def connect(manifest, transport: Transport) -> "Driver":
    """The driver of the core that `manifest` describes, once it is known to be there.

    Parameters
    ----------
    manifest : path
        ``manifest.json`` of the build that the bitstream was made of.
    transport : Transport

    Raises
    ------
    BusError
        For a file that is no manifest, and for another core: see :meth:`Driver.identify`.
    """
    try:
        text = json.loads(Path(manifest).read_text(encoding="utf-8"))
        found = Driver(text, transport)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BusError(f"{manifest} is not a manifest ({error!r}); name the manifest.json of the "
                       "build") from None
    found.identify()
    return found


class Driver:
    """The registers of one core, by what they are for.

    All arithmetic is in integer codes. What changes settings or weights, and what reads state,
    waits for the learning under way. No other host may use the core meanwhile.

    Parameters
    ----------
    manifest : dict
        What ``manifest.json`` says.
    transport : Transport
        The way to the registers.

    Attributes
    ----------
    manifest : dict
    registers : dict of str to dict
        The manifest's, by name.
    trainable : dict of int to dict
        The manifest's stages that have a memory that learns, by their number in the window and in
        register `layers`; the prompt is behind the last one.
    """

    fault = BusError

    def __init__(self, manifest: dict, transport: Transport):
        self.manifest, self.transport = manifest, transport
        self.learning, self.stages = manifest["learning"], manifest["stages"]
        parts = [*self.stages, *([manifest["prompt"]] if "prompt" in manifest else [])]
        self.trainable = {n: part for n, part in enumerate(parts) if part["trainable"]}
        self.n_in, self.n_classes = self.stages[0]["n_in"], self.stages[-1]["n_out"]
        self.registers = {r["name"]: r for r in manifest["registers"]}
        words = sum(s["reuse_factor"] + s["drain_words"] + s["n_out"] for s in self.stages)
        passes = 2 + max(2 * manifest["max_pairs"], MAX_PROBES * len(self.trainable))
        # More cycles than any core works on a sample.
        self.sample_cycles = 1000 + 4 * passes * words

    def identify(self) -> None:
        """Make sure that the core at the other end is the one of the manifest.

        Raises
        ------
        BusError
            When no core of hwgen answers, or another one: of another network, with other options,
            or built before one of these changed.
        """
        found = self.read("id")
        if found != ID:
            raise self.fault(f"no core of this layout answers: register id reads {found:#010x}, "
                             f"not {ID:#010x}; check the address, and that the FPGA is configured")
        found, own = self.read("build"), self.registers["build"]["fields"][0]["reset"]
        if found != own:
            raise self.fault(f"another core answers: its build is {found:#010x}, the manifest's "
                             f"{own:#010x}; name the manifest.json of this bitstream")

    # Registers

    def read(self, name: str, field: str | None = None):
        """A field of a register; without `field` the only one, or a dict of all."""
        register = self._register(name)
        word = self._read(register)
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
            word = self._read(register)
        for key, value in fields.items():
            lsb, width = known[key]["lsb"], known[key]["width"]
            if not 0 <= value < 1 << width:
                raise ValueError(f"{name}.{key} has {width} bits and cannot hold {value}")
            word = word & ~((1 << width) - 1 << lsb) | value << lsb
        try:
            self.transport.write32(register["offset"], word)
        except BusError as error:
            raise type(error)(f"writing {name}: {error}") from None

    def _read(self, register: dict) -> int:
        try:
            return self.transport.read32(register["offset"])
        except BusError as error:
            raise type(error)(f"reading {register['name']}: {error}") from None

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

    def learn(self, on: bool) -> None:
        """Start or stop learning from the samples that carry the learn bit."""
        self._must_learn()
        self._settle()
        self.write("control", learn=int(on))

    def counters(self) -> dict[str, int]:
        """Counters and losses that the core has, by register, of no particular moment.

        `loss` in 1/256 bit, `loss_average` in 2**-16 bit; see ``docs/registers.md``.
        """
        names = ("dropped", *COUNTERS)
        return {name: self.read(name) for name in names if name in self.registers}

    def errors(self) -> dict[str, int]:
        """Bits of register `status`, by field: 1 is an error; empty without learning."""
        return self._all("status") if "status" in self.registers else {}

    def clear_errors(self) -> None:
        """Clear all bits of register `status`."""
        if "status" in self.registers:
            self.write("status", **dict.fromkeys(self.errors(), 1))

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
                  "decided": progress.get("decided", 1)}
        state["weights"], state["biases"] = self.masters()
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

    def masters(self) -> tuple[dict, dict]:
        """Masters of weights [n_out, n_in] and biases [n_out], int64, by trainable stage.

        Waits for the learning under way.
        """
        self._must_learn()
        self._settle()
        found = {index: self._masters(index, part) for index, part in self.trainable.items()}
        return ({index: weights for index, (weights, _) in found.items()},
                {index: biases for index, (_, biases) in found.items()})

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
        self.transport.poke(*self._points(space, word, lane), values)

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
        data = self.transport.window(*self._points(space, first + word, lane))
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
            for _ in range(self.sample_cycles):
                if not self.read("busy"):
                    break
            else:
                raise self.fault("the core stays busy with one sample")
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


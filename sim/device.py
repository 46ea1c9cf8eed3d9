"""A core, Verilated: hardware in a Python object with a face like scikit-learn's."""
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from driver.driver import Driver
from firmware_models.formats import Fixed
from firmware_models.sample_packets import (
    LEARN,
    BeatLayout,
    check_labels,
    check_samples,
    pack,
)

from . import hls_stand_in
from .errors import BusFault, SimulationError
from .library import FAULTS, SILENT, Core
from .verilate import DEVICE, build

CHUNK = 500                         # samples between two calls of `progress`


class Device(Driver):
    """One simulated core, freshly powered up: samples, and :class:`driver.driver.Driver`.

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

    fault = BusFault

    def __init__(self, manifest, build_dir=None, waves=None, seed: int = 0):
        path = Path(manifest)
        try:
            text = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise SimulationError(f"{path} is not a manifest ({error}); build the core first") \
                from None
        library = build(path.parent / text["verilog"], text["top"],
                        Path(build_dir) if build_dir else path.parent / "verilated",
                        target=hls_stand_in.beside(DEVICE, text, path.parent), waves=bool(waves))
        self.core = Core(library, waves)
        super().__init__(text, self.core)
        self.input = Fixed(**text["network"]["input"])
        self.layout = BeatLayout(**text["input"])
        self.in_cycles = self.out_cycles = np.zeros(0, np.int64)
        self._seed, self._jobs = seed, 0
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
        return int(self.sample_cycles / (1 - max(idle, stall)))

    def _raise(self, fault, patience):
        raise SimulationError(f"cycle {self.cycles}: {FAULTS[fault].format(patience=patience)}")

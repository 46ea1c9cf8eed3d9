"""ctypes face of sim/harness.cpp: one simulated core, in words and cycles."""
import ctypes
from pathlib import Path

import numpy as np

from driver.transport import Transport

from .errors import BusFault

OKAY = 0
RESPONSES = {-1: "no answer on AXI4-Lite", 2: "SLVERR", 3: "DECERR"}
CHANGED, UNASKED, SILENT = 1, 2, 3
FAULTS = {CHANGED: "the core changed or withdrew a word on m_axis before it was taken",
          UNASKED: "the core sent a word on m_axis that no sample asked for",
          SILENT: "the core neither took nor sent a word for {patience} cycles"}
PROBABILITY_ONE = 2 ** 32

_U64, _U32, _I32, _POINTER = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int32, ctypes.c_void_p
_FUNCTIONS = {
    "core_create": (_POINTER, [ctypes.c_char_p]),
    "core_destroy": (None, [_POINTER]),
    "core_cycle": (_U64, [_POINTER]),
    "core_idle": (None, [_POINTER, _U64]),
    "core_reset": (None, [_POINTER, _U32]),
    "core_write": (_I32, [_POINTER, _U32, _U32, _U32]),
    "core_read": (_I32, [_POINTER, _U32, _POINTER]),
    "core_window": (_I32, [_POINTER, _U32, _U32, _POINTER, _POINTER, _U64]),
    "core_poke": (_I32, [_POINTER, _U32, _U32, _POINTER, _POINTER, _U64]),
    "core_stream": (None, [_POINTER] * 4 + [_U64] + [_POINTER] * 2 + [_U64] + [_POINTER] * 2
                    + [_U32, _U32, _U64]),
    "core_run": (_I32, [_POINTER, _U64, _U64, _POINTER]),
}


class Core(Transport):
    """A powered-up core and the way to its registers: all as the Verilog initializes it.

    Parameters
    ----------
    library : Path
        From :func:`sim.verilate.build`.
    waves : Path, optional
        VCD file to write; the library must have been built with waveforms.
    """

    def __init__(self, library: Path, waves: Path | None = None):
        self._pointer = None
        self._lib = ctypes.CDLL(str(library))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._lib, name)
            function.restype, function.argtypes = result, arguments
        self._pointer = self._lib.core_create(str(waves).encode() if waves else None)
        self._job = None

    def close(self) -> None:
        """End the simulation and write the rest of the waveform."""
        if self._pointer:
            self._lib.core_destroy(self._pointer)
            self._pointer = None

    __del__ = close

    @property
    def cycle(self) -> int:
        """Clock cycles since power-up."""
        return self._lib.core_cycle(self._pointer)

    def idle(self, cycles: int) -> None:
        """Let `cycles` pass without traffic."""
        self._lib.core_idle(self._pointer, cycles)

    def reset(self, cycles: int = 2) -> None:
        """Hold `rst` for `cycles`."""
        self._lib.core_reset(self._pointer, cycles)

    def write(self, address: int, data: int, strobe: int = 0xF) -> int:
        """AXI4-Lite write; the response, a key of `RESPONSES` or OKAY."""
        return self._lib.core_write(self._pointer, address, data & 0xFFFFFFFF, strobe)

    def read(self, address: int) -> tuple[int, int]:
        """AXI4-Lite read: word and response."""
        word = _U32()
        response = self._lib.core_read(self._pointer, address, ctypes.byref(word))
        return word.value, response

    def read32(self, offset: int) -> int:
        word, response = self.read(offset)
        if response:
            raise BusFault(RESPONSES[response])
        return word

    def write32(self, offset: int, word: int) -> None:
        if response := self.write(offset, word):
            raise BusFault(RESPONSES[response])

    def window(self, window: int, window_data: int, points: np.ndarray) -> np.ndarray:
        """Words [n] uint32 that the register `window_data` shows for each of `points` [n]."""
        points = np.ascontiguousarray(points, np.uint32)
        data = np.zeros_like(points)
        response = self._lib.core_window(self._pointer, window, window_data,
                                         points.ctypes.data, data.ctypes.data, len(points))
        if response:
            raise BusFault(f"reading window_data: {RESPONSES[response]}")
        return data

    def poke(self, window: int, window_data: int, points: np.ndarray, data: np.ndarray) -> None:
        """Write the low 32 bits of `data` [n] to `window_data` at each of `points` [n]."""
        points = np.ascontiguousarray(points, np.uint32)
        data = np.ascontiguousarray(np.asarray(data, np.int64) & 0xFFFFFFFF, np.uint32)
        response = self._lib.core_poke(self._pointer, window, window_data, points.ctypes.data,
                                       data.ctypes.data, len(points))
        if response:
            raise BusFault(f"writing window_data: {RESPONSES[response]}")

    def stream(self, beats, users, lasts, capacity: int, idle: float, stall: float, seed: int):
        """Begin to send beats: tdata, tuser and tlast, each [n]; for at most `capacity` back.

        `idle` and `stall` are the probabilities that a cycle passes in which no beat is offered,
        or none taken; `seed` decides which.
        """
        arrays = {
            "beats": np.ascontiguousarray(beats, np.uint32),
            "users": np.ascontiguousarray(users, np.uint16),
            "lasts": np.ascontiguousarray(lasts, np.uint8),
            "data": np.zeros(capacity, np.uint32),
            "last": np.zeros(capacity, np.uint8),
            "in_cycles": np.zeros(len(beats), np.uint64),
            "out_cycles": np.zeros(capacity, np.uint64),
        }
        for name, probability in (("idle", idle), ("stall", stall)):
            if not 0 <= probability <= 0.99:
                raise ValueError(f"{name} must be 0 to 0.99, not {probability}")
        self._job = arrays              # the harness keeps pointers into them
        at = {name: array.ctypes.data for name, array in arrays.items()}
        self._lib.core_stream(self._pointer, at["beats"], at["users"], at["lasts"], len(beats),
                              at["data"], at["last"], capacity, at["in_cycles"],
                              at["out_cycles"], int(idle * PROBABILITY_ONE),
                              int(stall * PROBABILITY_ONE), seed)

    def run(self, stop: int, patience: int) -> tuple[int, dict]:
        """Go on until `stop` beats came back, or until `patience` cycles without any transfer.

        Returns the fault (a key of `FAULTS`, or 0) and what came back until now: `sent` beats,
        `data` and `last` of the beats received, `in_cycles` of each packet's first beat and
        `out_cycles` of each packet's last.
        """
        progress = np.zeros(4, np.uint64)
        fault = self._lib.core_run(self._pointer, stop, patience, progress.ctypes.data)
        sent, received, packets_in, packets_out = map(int, progress)
        job = self._job
        return fault, {"sent": sent, "data": job["data"][:received],
                       "last": job["last"][:received].astype(bool),
                       "in_cycles": job["in_cycles"][:packets_in].astype(np.int64),
                       "out_cycles": job["out_cycles"][:packets_out].astype(np.int64)}

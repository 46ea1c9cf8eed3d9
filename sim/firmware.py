"""Generated firmware compiled for this machine, as a Python object."""
import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .errors import SimulationError

FLAGS = ("-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fPIC",
         "-shared")


class Firmware:
    """Firmware in a folder, compiled with the host's C compiler and loaded.

    It computes what it computes on the board; tests compare both with the golden model.

    Parameters
    ----------
    folder : path
        What :func:`hwgen.firmware.generate` wrote.
    flags : sequence of str
        Of the C compiler.

    Raises
    ------
    SimulationError
        Where the compiler is missing or refuses the sources.
    """

    def __init__(self, folder, *, flags=FLAGS):
        folder = Path(folder)
        if shutil.which("gcc") is None:
            raise SimulationError("gcc is missing; on Debian and Ubuntu: apt install gcc")
        # A place of its own: a library of the same name would not be loaded a second time.
        with tempfile.TemporaryDirectory() as place:
            library = Path(place) / "firmware.so"
            done = subprocess.run(["gcc", *flags, "-o", library,
                                   *sorted(folder.glob("*.c")), "-lm"],
                                  capture_output=True, text=True)
            if done.returncode:
                raise SimulationError(f"{folder}: gcc failed: {done.stderr.strip()}")
            self._library = ctypes.CDLL(str(library))
        self._library.net_state.restype = ctypes.POINTER(ctypes.c_uint8)
        self.reset()

    def reset(self) -> None:
        self._library.net_reset()

    def train_step(self, x, label: int) -> int:
        """Loss of the sample before the step, in 1/256 bit, or the firmware's error below 0."""
        return self._library.net_train_step(_bytes(x), ctypes.c_size_t(0 if x is None else len(x)),
                                            int(label))

    def predict(self, x) -> np.ndarray:
        """Classes [n] of samples [n, n_in]."""
        return np.array([self._library.net_predict(_bytes(row), ctypes.c_size_t(len(row)))
                         for row in x])

    def save(self, storage: "Storage") -> int:
        """0, or the firmware's error below 0."""
        return self._library.net_save(ctypes.byref(storage.functions))

    def load(self, storage: "Storage") -> int:
        """0, or the firmware's error below 0; then nothing has changed."""
        return self._library.net_load(ctypes.byref(storage.functions))

    def state(self) -> bytes:
        """All that training changes, as it lies in memory."""
        n = ctypes.c_size_t()
        start = self._library.net_state(ctypes.byref(n))
        return ctypes.string_at(start, n.value)


class Storage:
    """Two slots of flash: erased bytes are 0xFF, and a write can only clear bits.

    Parameters
    ----------
    size : int
        Bytes of a slot.
    budget : int, optional
        Bytes erased or written until the power is cut: from then on nothing changes.
    """

    def __init__(self, size: int, budget: int | None = None):
        self.slots = [bytearray(b"\xff" * size) for _ in range(2)]
        self.budget = budget
        kinds = (ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int),
                 *[ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p,
                                    ctypes.c_size_t)] * 2)
        # The structure keeps the callbacks alive.
        self._kept = [kind(run) for kind, run in
                      zip(kinds, (self._erase, self._write, self._read), strict=True)]

        class Functions(ctypes.Structure):
            _fields_ = [(name, kind) for name, kind in
                        zip(("erase", "write", "read"), kinds, strict=True)]

        self.functions = Functions(*self._kept)

    def _put(self, slot: int, offset: int, values) -> int:
        for n, value in enumerate(values):
            if self.budget == 0:
                return 1
            if self.budget is not None:
                self.budget -= 1
            self.slots[slot][offset + n] = value
        return 0

    def _erase(self, slot) -> int:
        return self._put(slot, 0, b"\xff" * len(self.slots[slot]))

    def _write(self, slot, offset, start, n) -> int:
        before = self.slots[slot][offset:offset + n]
        return self._put(slot, offset, bytes(a & b for a, b in
                                             zip(before, ctypes.string_at(start, n), strict=True)))

    def _read(self, slot, offset, start, n) -> int:
        ctypes.memmove(start, bytes(self.slots[slot][offset:offset + n]), n)
        return 0


def _bytes(x):
    if x is None:
        return None
    x = np.ascontiguousarray(x, np.uint8)
    return x.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))

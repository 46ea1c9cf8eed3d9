"""How a host reaches a core's registers: what the driver asks of the way there."""
import numpy as np

MASK = 0xFFFFFFFF


class BusError(RuntimeError):
    """A register cannot be reached, or what answers is not the core that the manifest describes.

    One line that names the thing and the remedy.
    """


class Transport:
    """Words of 32 bits at byte offsets from the start of the core's registers.

    A subclass has `read32` and `write32`, each a single AXI4-Lite transaction; it may do better
    than one at a time in `window` and `poke`. One host at a time: these are pairs of transactions.
    """

    def read32(self, offset: int) -> int:
        """The word at `offset`, a multiple of 4; BusError if there is none."""
        raise NotImplementedError

    def write32(self, offset: int, word: int) -> None:
        """Write all four bytes at `offset`; BusError if the core refuses."""
        raise NotImplementedError

    def window(self, window: int, window_data: int, points: np.ndarray) -> np.ndarray:
        """Words [n] uint32 that the register `window_data` shows for each of `points` [n]."""
        data = np.zeros(len(points), np.uint32)
        for k, point in enumerate(np.asarray(points).tolist()):
            self.write32(window, point)
            data[k] = self.read32(window_data)
        return data

    def poke(self, window: int, window_data: int, points: np.ndarray, data: np.ndarray) -> None:
        """Write the low 32 bits of `data` [n] to `window_data` at each of `points` [n]."""
        for point, word in zip(np.asarray(points).tolist(), np.asarray(data).tolist(),
                               strict=True):
            self.write32(window, point)
            self.write32(window_data, word & MASK)


class Mmio(Transport):
    """An object with ``read(offset)`` and ``write(offset, word)``, such as ``pynq.MMIO``.

    An IP of a PYNQ overlay is one, too.
    """

    def __init__(self, mmio):
        self.mmio = mmio

    def read32(self, offset: int) -> int:
        return int(self.mmio.read(offset)) & MASK

    def write32(self, offset: int, word: int) -> None:
        self.mmio.write(offset, int(word) & MASK)

"""Registers that the operating system maps into memory: UIO, /dev/mem, a PCIe bridge's user BAR."""
import mmap
import os
import sys

import numpy as np

from .transport import MASK, BusError, Transport

SIZE = 256              # bytes of the register space: 8 address bits


class MemoryMap(Transport):
    """Registers in a file that can be mapped.

    The kernel maps pages, `offset` is any multiple of 4. An access is one load or store of 32 bits.
    A core that answers with SLVERR, or an address without a slave, ends the program with a bus
    error on most systems: hence the driver asks for registers of the manifest alone.

    Parameters
    ----------
    path : str or path
        ``/dev/uio0``, ``/dev/mem``, ``/dev/xdma0_user``, or a PCIe ``resource0``.
    offset : int
        Byte of the file at which the registers start: 0 of a UIO device, the physical address in
        ``/dev/mem``.
    size : int
        Bytes of the register space.

    Raises
    ------
    BusError
        For a file that cannot be opened or mapped, and an offset that is not aligned.
    """

    def __init__(self, path, offset: int = 0, size: int = SIZE):
        if offset < 0 or offset % 4 or size <= 0 or size % 4:
            raise BusError(f"offset {offset:#x} and size {size:#x} are not multiples of 4; "
                           "registers are words of 4 bytes")
        if sys.byteorder != "little":
            raise BusError("this host stores words big-endian; AXI4-Lite is little-endian")
        self.path, self.size, self._words = str(path), size, None
        first = offset % mmap.ALLOCATIONGRANULARITY
        try:
            file = os.open(path, os.O_RDWR | getattr(os, "O_SYNC", 0))    # not through a cache
            try:
                self._map = mmap.mmap(file, first + size, offset=offset - first)
            finally:
                os.close(file)
        except (OSError, ValueError, OverflowError) as error:
            raise BusError(f"cannot map {size} bytes of {path} from {offset:#x} on ({error}); "
                           "check the name, the offset and the rights") from None
        # A view of whole words: slices of a map are copied byte by byte.
        self._words = np.frombuffer(self._map, np.uint32, size // 4, first)

    def read32(self, offset: int) -> int:
        return int(self._words[self._index(offset)])

    def write32(self, offset: int, word: int) -> None:
        self._words[self._index(offset)] = np.uint32(word & MASK)

    def close(self) -> None:
        """Give the memory back; no access is possible after it."""
        if self._words is not None:
            self._words = None
            self._map.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _index(self, offset: int) -> int:
        if self._words is None:
            raise BusError(f"{self.path} is closed; map it again")
        if offset % 4:
            raise BusError(f"address {offset:#x} is not a multiple of 4")
        if not 0 <= offset < self.size:
            raise BusError(f"address {offset:#x} is outside the {self.size} bytes of {self.path}")
        return offset // 4

"""What a host runs to configure a core and to read it; needs numpy and `firmware_models` alone.

    from driver import MemoryMap, connect
    core = connect("manifest.json", MemoryMap("/dev/uio0"))      # refuses any other core
    core.configure(Settings(layers=(0, 2), probes=8))
    core.learn(True)                                             # samples come by DMA
    print(core.counters(), core.errors())
"""
from .driver import Driver, connect
from .memory_map import MemoryMap
from .transport import BusError, Mmio, Transport

__all__ = ["BusError", "Driver", "MemoryMap", "Mmio", "Transport", "connect"]

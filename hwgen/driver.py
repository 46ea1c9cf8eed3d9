"""The package `driver`, which a host runs where the rest of hwgen is not installed."""
from driver import BusError, Driver, MemoryMap, Mmio, Transport, connect

__all__ = ["BusError", "Driver", "MemoryMap", "Mmio", "Transport", "connect"]

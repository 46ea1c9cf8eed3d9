"""C firmware that infers and trains, from a network of :mod:`firmware_models.fqt`."""
from sim.firmware import Firmware

from . import example, run
from .generate import generate
from .network_file import load, save

__all__ = ["Firmware", "example", "generate", "load", "run", "save"]

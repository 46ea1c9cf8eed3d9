"""C firmware that infers and trains, from a network of :mod:`firmware_models.fqt`."""
from sim import board
from sim.firmware import Firmware

from . import example, run
from .generate import generate
from .network_file import load, save
from .state import ARITHMETICS, arithmetic_of, mode_of

__all__ = ["ARITHMETICS", "Firmware", "arithmetic_of", "board", "example", "generate", "load",
           "mode_of", "run", "save"]

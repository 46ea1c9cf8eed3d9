"""hwgen: FPGA cores from quantized networks, bit-exact with hls4ml, that learn on the chip.

    graph    an hls4ml ModelGraph, backend Vitis
    network = hwgen.lower(graph, trainable=["fc3"])
    manifest = hwgen.build(network, "build/mine")
    device = hwgen.Device(manifest)              # Verilated; predict, partial_fit, score
"""
from firmware_models.dense import quantize
from firmware_models.learner import Learner
from firmware_models.network import Network
from firmware_models.settings import Settings
from sim.device import Device

from .build import build
from .errors import HwgenError
from .frontend import Emulation, from_layers, lower

__all__ = ["Device", "Emulation", "HwgenError", "Learner", "Network", "Settings", "build",
           "from_layers", "lower", "quantize"]

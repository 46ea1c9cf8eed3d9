"""Front ends: the only folder that knows hls4ml. What leaves it are our own descriptions."""
from .emulation import Emulation
from .hls_project import around_hls
from .layer_list import DenseSpec, NetworkSpec, from_layers
from .lower import lower

__all__ = ["DenseSpec", "Emulation", "NetworkSpec", "around_hls", "from_layers", "lower"]

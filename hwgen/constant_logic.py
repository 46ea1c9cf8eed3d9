"""What constant logic needs beyond this package."""
from importlib.util import find_spec

from .errors import HwgenError


def need_da4ml(layer: str) -> None:
    """Refuse to make constant logic where da4ml, an optional extra, is missing."""
    if find_spec("da4ml") is None:
        raise HwgenError(f'{layer}: da4ml is missing, strategy distributed_arithmetic needs it; '
                         f'install it (pip install "hwgen[da]"), or set LayerName: {layer}: '
                         "Strategy: Resource")

"""C firmware that infers and trains, from a network of :mod:`firmware_models.fqt`."""
from .generate import generate

__all__ = ["generate"]

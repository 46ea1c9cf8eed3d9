"""Compile the golden models that run compiled, once: python -m firmware_models"""
import numpy as np

from .fast import FastLearner
from .fast_evolution import FastEvolution
from .formats import Fixed
from .line_rate_cycles import schedule
from .network import Dense, Network
from .settings import Settings


def main() -> None:
    wide, byte = Fixed(24, 12), Fixed(8, 6)
    layers = tuple(
        Dense(name=name, n_in=2, n_out=2, reuse_factor=2, weight=byte, bias=byte, accum=wide,
              result=wide, weight_codes=np.eye(2, dtype=np.int64),
              bias_codes=np.zeros(2, np.int64), trainable=True) for name in ("fc1", "fc2"))
    network = Network(name="smallest", input=Fixed(8, 8, signed=False), layers=layers)
    samples = np.ones((3, 2), np.int64), np.zeros(3, np.int64)
    settings = Settings(layers=network.trainable)
    FastLearner(network, settings).learn(*samples)
    FastEvolution(network, Settings(rule="es", layers=network.trainable)).learn(*samples)
    schedule(network, 3, settings)


if __name__ == "__main__":
    main()

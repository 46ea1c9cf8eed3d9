"""Describes the finished model in our own terms, or refuses it."""
from hls4ml.model.optimizer import ModelOptimizerPass

from ..lower import lower


class LowerNetwork(ModelOptimizerPass):
    """Behind all other passes: what we cannot build is refused at conversion."""

    def __init__(self):
        self.name = "lower_network"

    def transform(self, model):
        lower(model)
        return False

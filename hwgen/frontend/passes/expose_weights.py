"""Weights that learn become arguments of the top function, where the core is built around it."""
from hls4ml.model.optimizer import ModelOptimizerPass

from ..hls_project import expose


class ExposeWeights(ModelOptimizerPass):
    """Behind all passes that still look at weights."""

    def __init__(self):
        self.name = "expose_weights"

    def transform(self, model):
        if model.config.backend.core_engine(model) == "hls":
            expose(model)
        return False

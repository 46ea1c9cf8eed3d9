"""Keeps the weights of constant layers, which hls4ml deletes once they are in its C++."""
from hls4ml.model.optimizer import OptimizerPass

from ..dense import CONSTANT


class KeepConstantWeights(OptimizerPass):
    """Behind the passes that decide on types, before the one that deletes."""

    def match(self, node):
        return node.class_name == "Dense" and node.get_attr("strategy") == CONSTANT \
            and node.get_attr("kept_weights") is None

    def transform(self, model, node):
        node.set_attr("kept_weights", dict(node.weights))
        return False

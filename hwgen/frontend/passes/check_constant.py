"""Refuses constant layers that hls4ml could not make, in our words."""
from hls4ml.model.optimizer import ModelOptimizerPass

from ...constant_logic import need_da4ml
from ...errors import HwgenError
from ..dense import CONSTANT


class CheckConstant(ModelOptimizerPass):
    """Before hls4ml's own passes, which stop at the same layers."""

    def __init__(self):
        self.name = "check_constant"

    def transform(self, model):
        for node in model.get_layers():
            if node.class_name != "Dense" or \
                    model.config.get_strategy(node).lower() not in (CONSTANT, "da"):
                continue
            need_da4ml(node.name)
            if (reuse := model.config.get_reuse_factor(node)) != 1:
                raise HwgenError(f"{node.name}: reuse factor {reuse}, constant logic needs 1; set "
                                 f"LayerName: {node.name}: ReuseFactor: 1")
        return False

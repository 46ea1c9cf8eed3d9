"""Lets hls4ml's own passes run under our name, and turns strategies into the one we build."""
from hls4ml.model.optimizer import ModelOptimizerPass

RESOURCE = "resource"


class AliasBackend(ModelOptimizerPass):
    """Before all other passes: some accept only the names of hls4ml's own back ends."""

    def __init__(self):
        self.name = "alias_backend"

    def transform(self, model):
        config = model.config
        # The name in the configuration alone; config.backend stays ours.
        config.config["Backend"] = "Vitis"
        # Our engines are Resource layers, whose results Latency layers have as well.
        config.model_strategy = _engine(config.model_strategy)
        for strategies in (config.layer_type_strategy, config.layer_name_strategy):
            for name, strategy in strategies.items():
                strategies[name] = _engine(strategy)
        return False


def _engine(strategy: str) -> str:
    return RESOURCE if strategy == "latency" else strategy

"""What a report reads of a manifest: its parts, and blocks by their modules."""
import re

__all__ = ["block_names", "block_of", "inference_part", "parts"]


def parts(manifest):
    """The stages, and the prompt if there is one."""
    return [*manifest["stages"], *([manifest["prompt"]] if "prompt" in manifest else [])]


def inference_part(manifest):
    """The network without what says how it learns."""
    layers = [{k: v for k, v in layer.items() if k != "trainable"}
              for layer in manifest["network"]["layers"]]
    return {k: v for k, v in manifest["network"].items() if k != "prompt"} | {"layers": layers}


def block_names(manifest):
    """Name of each block by its module, in the order of the report."""
    names = {"core.sample_input": "input"}
    for index, stage in enumerate(parts(manifest)):
        for unit in ("buffer", "engine", "weights"):
            names[f"core.{unit}{index}"] = f"{unit} {stage['name']}"
        names[f"core.weights{index}.update.noise"] = f"noise {stage['name']}"
        names[f"core.weights{index}.update.directions"] = f"directions {stage['name']}"
        for unit, of in (("vote", "vote"), ("rounding", "rounding"), ("neighbour", "neighbour"),
                         ("update.momentum", "momentum"),
                         ("weights_shadow", "shadow"), ("biases_shadow", "shadow")):
            names[f"core.weights{index}.{unit}"] = f"{of} {stage['name']}"
        names[f"core.noise{index}"] = f"node noise {stage['name']}"
    names |= {f"core.{unit}": unit
              for unit in ("prompt", "readout", "loss", "controller", "progress", "journal",
                           "drift", "load", "snapshot")}
    names["core.partial_updates"] = "top k"
    names["core.nodes"] = "node errors"
    names |= {"core.controller.population.fitness": "fitness",
              "core.controller.sharpness": "sharpness", "core.registers": "registers"}
    return names | {manifest["top"]: "between blocks"}


def block_of(module, names):
    """Block that a module belongs to: its own or that of the component around it."""
    module = re.sub(r"\$\d+", "", module)       # Amaranth numbers a name that is taken
    while module not in names:
        module = module.rpartition(".")[0]
        if not module:
            return list(names.values())[-1]
    return names[module]

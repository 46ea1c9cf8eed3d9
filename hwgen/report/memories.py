"""Memory map: every memory of a core, and the words by which the host reads masters."""
import re

from .manifest import block_names, block_of, parts

__all__ = ["memories", "window"]

MODULE = re.compile(r"^module \\?(\S+)")
MEMORY = re.compile(r"^\s*reg (?:signed )?\[(\d+):0\] \\?(\S+)\s+\[(\d+):0\];")


def memories(verilog: str, manifest: dict) -> list[dict]:
    """Memories of the Verilog that :func:`hwgen.build.build` wrote.

    What is small becomes LUT RAM and what is large block RAM, as the synthesizer decides; the
    counts of the blocks say which.

    Returns
    -------
    list of dict with block, name : str, and words, width (in bits) : int
    """
    names, block, found = block_names(manifest), None, []
    for line in verilog.splitlines():
        if module := MODULE.match(line):
            block = block_of(module[1], names)
        elif memory := MEMORY.match(line):
            width, name, depth = memory.groups()
            found.append({"block": block, "name": name, "words": int(depth) + 1,
                          "width": int(width) + 1})
    order = {name: position for position, name in enumerate(names.values())}
    return sorted(found, key=lambda row: order[row["block"]])


def window(manifest: dict) -> list[dict]:
    """Where the host finds a layer's masters: register window selects word and lane.

    Returns
    -------
    list of dict with layer : str; weights, biases : [first word, last word, lanes, bits]
    """
    return [{"layer": part["name"],
             "weights": [0, part["reuse_factor"] - 1, part["lanes"], part["master_width"]],
             "biases": [part["reuse_factor"], part["reuse_factor"] + part["drain_words"] - 1,
                        part["drain_lanes"], part["bias_master_width"]]}
            for part in parts(manifest) if manifest["learning"] and part["trainable"]]

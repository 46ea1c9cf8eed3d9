"""The graph of an hls4ml model: its layers in chains, and the layers that join chains."""
from firmware_models.branches import Add, Concatenate

from ..errors import HwgenError
from .codes import result_of, size_of


def in_chains(nodes) -> list:
    """The nodes with each elementwise layer right behind what feeds it, else in their order."""
    first, *waiting = nodes
    ordered, done = [first], {*first.outputs}
    while waiting:
        ready = [node for node in waiting if done.issuperset(node.inputs)]
        behind = [node for node in ready if node.class_name not in ("Dense", "Concatenate")
                  and ordered[-1].outputs[0] in node.inputs]
        # A constant has no input; it is refused later.
        node = (behind or ready or waiting)[0]
        waiting.remove(node)
        ordered.append(node)
        done.update(node.outputs)
    return ordered


def join(node, fed: list[str], last: str):
    """The Add or Concatenate that a node is; None for other nodes.

    Parameters
    ----------
    node : hls4ml layer
    fed : list of str
        The vectors that feed it, by the names of our layers.
    last : str
        The layer in front of it.

    Raises
    ------
    HwgenError
        For other ways to join vectors, and for vectors that do not fit together.
    """
    if node.class_name not in ("Merge", "Concatenate"):
        return None
    common = {"name": node.name, "n": size_of(node), "result": result_of(node)}
    shapes = [list(node.get_input_variable(name).shape) for name in node.inputs]
    if any(len(shape) > 1 for shape in shapes):
        raise HwgenError(f"{node.name}: joins arrays of shapes {shapes}, needs flat vectors; put "
                         "Flatten in front of it")
    if node.class_name == "Concatenate":
        return Concatenate(**common, parts=fed)
    op = node.get_attr("op").lower()
    if op != "add":
        raise HwgenError(f"{node.name}: {op} of two layers, needs Add or Concatenate; replace it "
                         "in the model")
    if shapes[0] != shapes[1]:
        raise HwgenError(f"{node.name}: adds {shapes[1][0]} outputs to {shapes[0][0]}, needs as "
                         "many; give both layers the same size")
    if last not in fed:
        raise HwgenError(f"{node.name}: adds {' and '.join(fed)}, needs the layer before it, "
                         f"{last}; add right behind the later of the two")
    return Add(**common, other=fed[1 - fed.index(last)])

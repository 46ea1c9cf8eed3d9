"""hls4ml's Softmax in our terms: the types and sizes that it chooses, the tables that it fills."""
from firmware_models.formats import Fixed
from firmware_models.softmax import Softmax, check_table

from ..errors import HwgenError
from .codes import fixed, result_of, size_of
from .tables import exponentials, inverses


def softmax(node, source: Fixed) -> Softmax:
    """A Softmax node behind logits of format `source`, as its C++ computes it.

    Source: hls4ml 1.3.0, SoftmaxConfigTemplate of back end Vivado.

    Raises
    ------
    HwgenError
        For what the C++ does otherwise, or what would depend on the order of a sum.
    """
    name, implementation = node.name, node.get_attr("implementation")
    if implementation == "legacy":
        raise HwgenError(f"{name}: softmax implementation legacy, needs stable, latency or argmax; "
                         f"set LayerName: {name}: Implementation: stable")
    slices = node.get_attr("n_outer", 1) * node.get_attr("n_inner", 1)
    if slices > 1:
        raise HwgenError(f"{name}: {slices} softmaxes side by side, needs one over all classes; "
                         "put a Flatten before it")
    common = {"name": name, "n": size_of(node), "result": result_of(node),
              "implementation": implementation}
    try:
        layer = Softmax(**common) if implementation == "argmax" else with_tables(
            **common, source=source, **_types_and_sizes(node))
        layer.check(source)
        return layer
    except ValueError as error:
        raise HwgenError(f"{error}; set LayerName: {name}: TableSize, exp_table_t, inv_table_t, "
                         "inv_inp_t, or Precision: accum, result") from error


def _types_and_sizes(node) -> dict:
    """What :func:`with_tables` needs of a node."""
    def type_of(what):
        return fixed(node.get_attr(f"{what}_t").precision, node.name, what)

    found = {what: type_of(what) for what in ("exp_table", "inv_table", "accum", "inv_inp")}
    if node.get_attr("inv_inp_t").name == "model_default_t":
        found["inv_inp"] = found["exp_table"]
    if node.get_attr("inp_norm_t") is not None:
        found["inp_norm"] = type_of("inp_norm")
    for table in ("exp", "inv"):
        size = node.get_attr(f"{table}_table_size", node.get_attr("table_size"))
        found[f"{table}_size"] = int(size)
    return found | {"scale": node.get_attr("exp_scale", 1.0)}


def with_tables(*, source: Fixed, exp_size: int, inv_size: int, inp_norm: Fixed | None = None,
                scale: float = 1.0, **given) -> Softmax:
    """A softmax with tables ("stable" or "latency") behind logits of format `source`.

    Parameters
    ----------
    source : Fixed
    exp_size, inv_size : int
        Entries of the tables. hls4ml makes the first one smaller where signed logits of "stable"
        have fewer distances.
    inp_norm : Fixed, optional
        Of "stable"; hls4ml's own choice by default.
    scale : float
        What logits are multiplied by in the first table.
    **given
        All else of :class:`Softmax`.
    """
    name, stable = given["name"], given["implementation"] == "stable"
    if stable and inp_norm is None:
        # The distance wraps where it is larger than the largest logit.
        inp_norm = Fixed(source.width - source.signed, source.frac, False)
        if source.signed:
            exp_size = min(inv_size, 1 << inp_norm.width)
    exp_inp, inv_inp = inp_norm if stable else source, given["inv_inp"]
    check_table(name, exp_size, exp_inp)
    check_table(name, inv_size, inv_inp)
    return Softmax(
        **given, inp_norm=inp_norm if stable else None, exp_size=exp_size, inv_size=inv_size,
        exp_codes=exponentials(exp_size, exp_inp, given["exp_table"], -scale if stable else scale),
        inv_codes=inverses(inv_size, inv_inp, given["inv_table"]))

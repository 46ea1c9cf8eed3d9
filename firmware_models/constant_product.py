"""A frozen Dense layer as constant logic: the cycles of its adders.

Its sums are those of every Dense layer, :func:`firmware_models.dense.accumulate`, where nothing is
rounded. How many registers lie between its adders follows from shapes and formats alone, so that
cycles are known without a solution, and are the same for all weights.
"""
ADDER_LEVELS = 3            # adders one behind the other between two registers
WEIGHT_BITS_MAX = 24        # da4ml takes weights in single precision
EXTRA_LEVELS = 2            # beyond those of a balanced tree, for shared sums: hls4ml's hard_dc


def register_levels(dense) -> int:
    """Cycles from the last inputs of a pass to its sums: registers between the adders.

    A weight of w bits has at most (w + 1) / 2 digits -1 or 1, each a term of its output's sum; the
    bias is added last. At least 1, as behind multipliers.
    """
    bits = dense.weight.width + (not dense.weight.signed)
    terms = dense.n_in * ((bits + 1) // 2)
    levels = (terms - 1).bit_length() + EXTRA_LEVELS + 1
    return max(1, -(-levels // ADDER_LEVELS) - 1)

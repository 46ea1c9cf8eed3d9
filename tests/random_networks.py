"""Small networks drawn at random, for comparing engines on formats nobody would think of."""
from dataclasses import replace

import numpy as np

from firmware_models.activation import (
    SPANS,
    BatchNorm,
    HardSigmoid,
    Linear,
    Lookup,
    PRelu,
    Relu,
    ReluMax,
    ThresholdedRelu,
)
from firmware_models.branches import FEATURES, Add, Concatenate
from firmware_models.formats import OVERFLOWS, ROUNDINGS, Fixed
from firmware_models.network import Network
from firmware_models.softmax import Softmax
from hwgen.frontend import DenseSpec, NetworkSpec
from hwgen.frontend.merge import narrowest_sum
from hwgen.frontend.softmax import with_tables
from hwgen.frontend.tables import entries

from .da4ml import HAS_DA4ML
from .networks import LOGITS

MAX_LANES = 64              # more multipliers only take longer to compile


def random_spec(rng: np.random.Generator, name: str = "random",
                constant: bool = HAS_DA4ML, branches: bool = True) -> NetworkSpec:
    """A network of one to three dense layers, 1 to 24 wide; with `branches`, a third are graphs.

    Formats have 2 to 10 bits with the binary point inside or outside, any rounding and overflow.
    Weights are random codes with extreme ones among them; reuse factors are any divisor of the
    inputs that leaves at most MAX_LANES multipliers; activations follow a hidden layer in two of
    three cases, a softmax the last one in one of four. No rounding drops more bits than its
    operand has, which hls4ml's C++ cannot do.
    If `constant`, a layer of five is constant logic, but never all of them.
    """
    features = random_format(rng, signed=bool(rng.integers(2)))
    draw = random_graph if branches and rng.integers(3) == 1 else random_chain
    layers = draw(rng, features, constant)
    if rng.integers(4) == 0:
        n = [layer for layer in layers if isinstance(layer, DenseSpec)][-1].n_out
        layers.append(random_softmax(rng, "softmax", n, layers[-1].result))
    return NetworkSpec(name=name, input=features, layers=tuple(layers))


def draw_constant(rng, n_layers: int) -> np.ndarray:
    """Which layers are constant logic.

    Drawn apart: networks without such layers are the same with and without da4ml.
    """
    made_constant = rng.spawn(1)[0].integers(5, size=n_layers) == 0
    made_constant[-1] &= not made_constant.all()
    return made_constant


def random_chain(rng, features: Fixed, constant: bool) -> list:
    """One to three dense layers one after the other; activations of hidden ones."""
    n_layers = int(rng.integers(1, 4))
    made_constant = draw_constant(rng, n_layers)
    sizes, source, layers = rng.integers(1, 25, n_layers + 1), features, []
    for k in range(n_layers):
        n_in, n_out = int(sizes[k]), int(sizes[k + 1])
        layers.append(random_dense(rng, f"fc{k + 1}", n_in, n_out, source,
                                   constant=constant and made_constant[k]))
        source = layers[-1].result
        if k < n_layers - 1 and rng.integers(3):
            for more in range(1 + (rng.integers(4) == 0)):
                layers.append(random_activation(rng, f"act{k + 1}{'ab'[more]}", n_out, source))
                source = layers[-1].result
    return layers


def random_graph(rng, features: Fixed, constant: bool) -> list:
    """Two to four dense layers that read any earlier vector, with Add and Concatenate.

    Sizes are multiples of a number that all reuse factors but the first one divide, so that words
    lie evenly. What nothing has read is concatenated before the last layer.
    """
    unit, n_layers = int(rng.integers(1, 5)), int(rng.integers(2, 5))
    made_constant = draw_constant(rng, n_layers)
    vectors = {FEATURES: (unit * int(rng.integers(1, 8 // unit + 1)), features)}
    layers, unread, last = [], [], FEATURES

    def concatenate(*parts):
        of = random_format(rng, width=int(rng.integers(4, 12)), frac=vectors[parts[0]][1].frac)
        layer = Concatenate(name=f"cat{len(layers)}", parts=parts, result=of,
                            n=sum(vectors[part][0] for part in parts))
        layers.append(replace(layer, result=reached(layer, *[vectors[p][1] for p in parts])))
        unread[:] = [vector for vector in unread if vector not in parts] + [layer.name]
        vectors[layer.name] = layer.n, layers[-1].result
        return layer.name

    for k in range(1, n_layers + 1):
        read = last if k == n_layers or rng.integers(2) else str(rng.choice(list(vectors)))
        n_in, source = vectors[read]
        n_out = unit * int(rng.integers(1, 8 // unit + 1))
        if rng.integers(2):         # so that it can be added
            n_out = vectors[str(rng.choice(list(vectors)))][0]
        layer = random_dense(rng, f"fc{k}", n_in, n_out, source, None if k == 1 else unit,
                             constant=constant and made_constant[k - 1])
        layers.append(replace(layer, reads=None if read == last else read))
        unread = [vector for vector in unread if vector != read]
        kinds = ["add"] if k == n_layers else ["relu", "add", "any"]
        for more in range(int(rng.integers(0, 3))):
            name_of, source = f"act{k}{'ab'[more]}", layers[-1].result
            others = [vector for vector, (n, _) in vectors.items() if n == n_out]
            kind = str(rng.choice(kinds))
            if kind == "add" and others:
                other = str(rng.choice(others))
                of = random_format(rng, frac=source.frac - int(rng.integers(-1, 4)))
                layer = Add(name=name_of, n=n_out, result=of, other=other)
                layers.append(replace(layer, result=reached(layer, source, vectors[other][1])))
                unread = [vector for vector in unread if vector != other]
            elif kind != "add":
                layers.append(random_activation(rng, name_of, n_out, source,
                                                "relu" if kind == "relu" else None))
        last = layers[-1].name
        vectors[last] = n_out, layers[-1].result
        unread.append(last)
        if k < n_layers and rng.integers(3) == 0:
            parts = [last, str(rng.choice([v for v in vectors if v != last]))]
            last = concatenate(*parts[::int(rng.choice([-1, 1]))])
        while k == n_layers - 1 and len(unread) > 1:
            last = concatenate(*unread[:2])
    return layers


def random_dense(rng, name: str, n_in: int, n_out: int, source: Fixed,
                 unit: int | None = None, constant: bool = False) -> DenseSpec:
    """A Dense layer fed by codes of format `source`; its reuse factor divides `unit`, if given."""
    weight, bias = random_format(rng), random_format(rng)
    # Close to the sums that occur, so that rounding, wrapping and clipping all happen.
    dropped = min(int(rng.integers(-1, 8)), source.width + weight.width)
    frac = source.frac + weight.frac - dropped
    result = random_format(rng, width=int(rng.integers(4, 17)), frac=frac)
    accum = None
    if rng.integers(4) == 0:
        # Narrow: products lose low bits and sums wrap.
        width = int(rng.integers(6, 14))
        accum = random_format(rng, width=width, frac=frac + int(rng.integers(0, 3)),
                              overflow="WRAP")
        bias = replace(bias, frac=min(bias.frac, accum.frac + bias.width))
    divisors = [d for d in range(1, n_in + 1) if n_in % d == 0 and (unit or d) % d == 0]
    divisors = [d for d in divisors if n_out * n_in // d <= MAX_LANES] or divisors[-1:]
    layer = DenseSpec(
        name=name, weight=weight, bias=bias, result=result, accum=accum,
        weight_codes=random_codes(rng, weight, (n_out, n_in)),
        bias_codes=random_codes(rng, bias, (n_out,)), reuse_factor=int(rng.choice(divisors)))
    return fitted_constant(layer, source) if constant else layer


def random_activation(rng, name: str, n: int, source: Fixed, kind: str | None = None):
    """An elementwise layer; if `kind` is not given of any, a plain ReLU in a third of the cases."""
    kind = kind or (str(rng.choice(["relu", *KINDS])) if rng.integers(3) else "relu")
    result = random_format(rng, frac=source.frac - int(rng.integers(-1, 5)),
                           signed=bool(rng.integers(4) == 0))
    if kind not in ("relu", "relu_max", "thresholded"):
        result = replace(result, signed=True)
    parameter = random_format(rng, width=int(rng.integers(1, 9)))
    given = {"name": name, "result": result}
    match kind:
        case "relu":
            return fitted(Relu(**given, n=n), source)
        case "relu_max":
            return fitted(ReluMax(**given, n=n, limit=int(rng.choice([1, 6]))), source)
        case "linear":
            # hls4ml leaves out one that changes nothing.
            return fitted(Linear(name=name, n=n, result=replace(result, width=11)), source)
        case "thresholded":
            # Where codes of the input lie.
            threshold = replace(parameter, frac=source.frac + parameter.width - source.width
                                + int(rng.integers(0, 3)))
            code = int(random_codes(rng, threshold, ()))
            return fitted(ThresholdedRelu(**given, n=n, threshold=threshold,
                                          threshold_code=code or 1 - 2 * threshold.signed), source)
        case "prelu" | "leaky":
            codes = random_codes(rng, parameter, (n,))
            codes = codes[:1].repeat(n) if kind == "leaky" else codes
            return fitted(PRelu(**given, n=n, slope=parameter, slope_codes=codes), source)
        case "sigmoid" | "tanh":
            table = random_format(rng, width=int(rng.integers(4, 25)))
            table = replace(table, frac=table.width - int(rng.integers(-1, 4)))
            # The index has at most 31 bits.
            size = min(int(rng.choice([16, 128, 1024])),
                       SPANS[kind] << max(31 - source.width + source.frac, 1))
            return fitted(Lookup(**given, n=n, function=kind, size=size, table=table,
                                 table_codes=entries(kind, size, table)), source)
        case "batch_norm":
            bias = random_format(rng, frac=source.frac + int(rng.integers(-2, 3)))
            return fitted(BatchNorm(
                **given, n=n, scale=parameter, scale_codes=random_codes(rng, parameter, (n,)),
                bias=bias, bias_codes=random_codes(rng, bias, (n,))), source)
        case _:
            slope = replace(random_format(rng), rounding="TRN", overflow="WRAP",
                            signed=bool(rng.integers(3)))
            shift = replace(slope, width=slope.width // 2 + 1, frac=int(rng.integers(0, 5)))
            # In C++ they are constants, whose types have no modes.
            return fitted(HardSigmoid(
                **given, n=n, slope=slope, slope_code=int(random_codes(rng, slope, ())),
                shift=shift, shift_code=int(random_codes(rng, shift, ())), tanh=kind == "hard_tanh"
            ), source)


KINDS = ("relu_max", "linear", "thresholded", "prelu", "leaky", "hard_sigmoid", "hard_tanh",
         "batch_norm", "sigmoid", "tanh")


def random_softmax(rng, name: str, n: int, source: Fixed,
                   implementation: str | None = None) -> Softmax:
    """A softmax; if `implementation` is not given, of any."""
    implementation = implementation or str(rng.choice(["stable", "stable", "latency", "argmax"]))
    given = {"name": name, "n": n, "implementation": implementation}
    result = random_format(rng, width=int(rng.integers(2, 20)), signed=bool(rng.integers(2)))
    if implementation == "argmax":
        return Softmax(**given, result=result)
    # Around 1, where exponentials and their inverses are.
    tables = {}
    for what, most in (("exp_table", 20), ("inv_table", 20), ("accum", 24), ("inv_inp", 20)):
        width = int(rng.integers(4, most))
        tables[what] = random_format(rng, width=width, frac=width - int(rng.integers(0, 8)),
                                     signed=bool(rng.integers(2)))
    exp, accum = tables["exp_table"], tables["accum"]
    # No rounding drops more bits than there are; and see Softmax.accum.
    negative = exp.signed and exp.overflow == "WRAP"
    tables["accum"] = accum = replace(accum, frac=max(accum.frac, exp.frac - exp.width),
                                      overflow="WRAP" if negative else accum.overflow)
    inv = replace(tables["inv_inp"], frac=max(tables["inv_inp"].frac, accum.frac - accum.width))
    tables["inv_inp"] = inv
    least = accum.frac - accum.width + tables["inv_table"].frac - tables["inv_table"].width
    most = min(11, source.width, inv.width, tables["inv_table"].width)
    size = 1 << int(rng.integers(1, most + 1))
    return with_tables(**given, **tables, source=source, exp_size=size, inv_size=size,
                       result=replace(result, frac=max(result.frac, least)))


def fitted_constant(layer: DenseSpec, source: Fixed) -> DenseSpec:
    """The layer as constant logic, with a result that its rounding can reach."""
    width, frac = narrowest_sum(layer, source)
    return replace(layer, constant=True, result=replace(
        layer.result, frac=max(layer.result.frac, frac - width)))


def soft(n: int, source: Fixed = LOGITS, **given) -> Softmax:
    """A softmax of n classes with the types that hls4ml chooses."""
    table = Fixed(18, 10, True, "RND", "SAT")
    return with_tables(**{
        "name": "softmax", "n": n, "result": Fixed(16, 10), "implementation": "stable",
        "source": source, "exp_table": table, "inv_table": table, "accum": Fixed(16, 10),
        "inv_inp": table, "exp_size": 64, "inv_size": 64} | given)


def ending(layer: Softmax, network: Network) -> Network:
    """The network with a softmax behind its logits."""
    return replace(network, layers=(*network.layers, layer))


def fitted(layer, source: Fixed):
    """The layer with a result that its rounding can reach; see random_spec."""
    return replace(layer, result=reached(layer, source))


def reached(layer, *sources: Fixed) -> Fixed:
    """The layer's result, with as many fraction bits as its rounding needs."""
    least = max(frac - width for width, frac in layer.values(*sources))
    return replace(layer.result, frac=max(layer.result.frac, least))


def random_format(rng, width: int | None = None, frac: int | None = None, signed: bool = True,
                  overflow: str | None = None) -> Fixed:
    """A format; what is not given is drawn."""
    width = int(rng.integers(2, 11)) if width is None else width
    frac = int(rng.integers(-2, width + 3)) if frac is None else frac
    return Fixed(width, frac, signed, str(rng.choice(ROUNDINGS)),
                 overflow or str(rng.choice(OVERFLOWS)))


def random_codes(rng, of: Fixed, shape) -> np.ndarray:
    """Uniform codes, a quarter of them 0 or one of the ends."""
    codes = rng.integers(of.min, of.max + 1, shape)
    extreme = rng.choice([of.min, of.min + 1, 0, of.max - 1, of.max], shape)
    return np.where(rng.random(shape) < 0.25, extreme, codes)

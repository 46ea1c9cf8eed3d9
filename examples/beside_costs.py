"""What learning from a sample costs beside inference, counted from geometry and formats alone.

Memory is what a method keeps from one pass, sample or update to another; registers of pipelines are
not in it (docs/resources.md has Yosys's counts). Weights count once for inference, as codes.
"""
from dataclasses import dataclass

from firmware_models.cycles import SLOTS
from firmware_models.fused_update import DELAY, step_of
from firmware_models.loss import LOGIT, LOSS_WIDTH
from firmware_models.network import Network
from firmware_models.noise import BITS, generators
from firmware_models.rules.es import COEFFICIENT_WIDTH
from firmware_models.rules.node_probe import ERROR
from firmware_models.settings import Settings
from hwgen.firmware.memory import buffers_of, place

WEIGHT_BYTES, BIAS_BYTES = 1, 4     # of an integer network that only infers
COEFFICIENT_BITS = 2                # of a node: it fires, and its sign
COEFFICIENT_COPIES = 4              # weights: next and in use; biases: two slots


@dataclass(frozen=True)
class Operations:
    """Of a sample that is learned from; biases, activations and the loss are left out.

    Parameters
    ----------
    passes : int
        Forward passes, whole or from some layer on.
    forward, backward : int
        Multiply-accumulates.
    update : float
        Additions to weights, or to sums that become their changes; a mean over a batch.
    """
    passes: int
    forward: int
    backward: int
    update: float


def operations(sizes, *, learning, probes: int = 0, pairs: int = 0, batch: int = 1,
               backward: bool = False) -> Operations:
    """Operations of a chain of dense layers.

    Every method makes the base pass. A node probe of a hidden layer that learns is a pass of the
    layers behind it, for it reuses the layer's sums; a weight probe, two of them a pair, is a pass
    from the first layer that learns on. Backpropagation has a product for each weight that learns,
    for its gradient, and one for each weight behind the first such layer, for the errors.

    An update is an addition a weight that learns. Of `pairs` it takes one for each of them as well,
    to sum up their signs.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, then the outputs of every layer.
    learning : sequence of int
        Layers that learn.
    probes, pairs : int
        Node probes a hidden layer that learns; pairs of weight probes.
    batch : int
        Samples of an update.
    backward : bool
    """
    weights = [n_in * n_out for n_in, n_out in zip(sizes, sizes[1:], strict=False)]
    first, last = min(learning), len(weights) - 1
    learned = sum(weights[i] for i in learning)
    hidden = [i for i in learning if i != last]
    forward = (sum(weights) + probes * sum(sum(weights[i + 1:]) for i in hidden)
               + 2 * pairs * sum(weights[first:]))
    return Operations(passes=1 + probes * len(hidden) + 2 * pairs, forward=forward,
                      backward=backward * (learned + sum(weights[first + 1:])),
                      update=(pairs + 1) * learned / batch)


def core_operations(network: Network, settings: Settings) -> Operations:
    """Of a core's rule."""
    by_pairs = settings.rule == "es"
    return operations(sizes_of(network), learning=settings.layers,
                      probes=0 if by_pairs else settings.probes,
                      pairs=settings.pairs if by_pairs else 0,
                      batch=settings.batch if by_pairs else 1)


def sizes_of(network: Network) -> list[int]:
    return [network.n_in, *(stage.dense.n_out for stage in network.stages)]


def core_bits(network: Network, settings: Settings, residual: int) -> dict[str, int]:
    """Bits that a core keeps to learn by these settings, beside the codes of its weights.

    "np", and "delta" without probes:
        inputs of the last samples of every stage that learns, the first one's running means,
        coefficients, errors of the nodes; for a probed stage its noise register, and for two
        samples the sign and the activity of each node.
    "es", and "qzo":
        a seed, a loss difference and a coefficient for each pair; for every stage that learns a
        state of its noise generators for each pair, and a sum of changes a lane.
    Both: residual bits of the weights and biases, and the logits that wait for the loss unit.
    """
    stages = [network.stages[i] for i in settings.layers]
    found = {
        "residual": residual * sum((s.dense.n_in + 1) * s.dense.n_out for s in stages),
        "logits": SLOTS * network.n_classes * LOGIT.width}
    if settings.rule == "es":
        bits = (settings.pairs - 1).bit_length()
        return found | {
            "seeds": BITS * (settings.pairs + 1),
            "differences": settings.pairs * (LOSS_WIDTH + 1 + (settings.batch - 1).bit_length()),
            "coefficients": settings.pairs * COEFFICIENT_WIDTH,
            "noise": sum(settings.pairs * BITS * generators(s.dense.lanes) for s in stages),
            "sums of changes": sum(s.dense.lanes * (COEFFICIENT_WIDTH + bits) for s in stages)}
    steps = [step_of(stage, residual) for stage in stages]
    nodes = sum(stage.dense.n_out for stage in stages)
    probed = [s for s in stages if s.index in network.hidden and settings.probes]
    return found | {
        "inputs": sum(DELAY * s.dense.n_in * s.source.width for s in stages),
        "means": sum(step.centred * step.mean.width * s.dense.n_in
                     for s, step in zip(stages, steps, strict=True)),
        "coefficients": COEFFICIENT_COPIES * COEFFICIENT_BITS * nodes,
        "errors": ERROR.width * nodes,
        "noise": BITS * len(probed),
        "signs and activity": DELAY * 2 * sum(s.dense.n_out for s in probed)}


def firmware_bytes(layers, plan: dict, scratch: int) -> dict[str, int]:
    """Bytes of a firmware that trains, and what is more in them than in one that infers.

    Parameters
    ----------
    layers : sequence of firmware_models.fqt.layers.Layer
        Dense ones alone.
    plan : dict
        What :func:`hwgen.firmware.generate` returned: "state_bytes", "arena_bytes" and
        "gradient_bytes".
    scratch : int
        Bytes that its forward pass needs beside its tensors.

    Returns
    -------
    dict
        "state", "arena", "gradients"; "inference": codes of a byte a weight and a word a bias, and
        an arena without what only the backward pass needs; "extra".
    """
    parameters = sum(WEIGHT_BYTES * layer.rows * layer.columns + BIAS_BYTES * layer.rows
                     for layer in layers)
    _, arena = place(buffers_of(layers, first=len(layers), scratch=scratch))
    found = {"state": plan["state_bytes"], "arena": plan["arena_bytes"],
             "gradients": plan["gradient_bytes"], "inference": parameters + arena}
    extra = found["state"] + found["arena"] + found["gradients"] - found["inference"]
    return found | {"extra": extra}

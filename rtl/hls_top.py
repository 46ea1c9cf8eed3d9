"""The top function of an hls4ml project whose trainable layers have their weights as arguments."""
from dataclasses import dataclass

from firmware_models.network import Network

from .shapes import address

__all__ = ["Argument", "HlsTop", "LayerArguments", "check_engine"]


@dataclass(frozen=True, kw_only=True)
class Argument:
    """An array among the arguments: C++ name and type, elements, bits of one."""
    name: str
    type: str
    size: int
    width: int

    @property
    def elements(self) -> tuple[str, ...]:
        """Ports of an array that is partitioned completely, one per element."""
        return tuple(f"{self.name}_{k}" for k in range(self.size))


@dataclass(frozen=True, kw_only=True)
class LayerArguments:
    """Weights and biases of a trainable layer, in the order of the arguments.

    Parameters
    ----------
    layer : str
    depth : int
        Words of the memory behind the weights' port = reuse factor; lane m of word r is element
        ``r + depth * m``, hls4ml's ``ARRAY_RESHAPE block``.
    weight, bias : Argument
    """
    layer: str
    depth: int
    weight: Argument
    bias: Argument

    @property
    def word_width(self) -> int:
        """Bits of a word of weights."""
        return self.weight.size // self.depth * self.weight.width


@dataclass(frozen=True, kw_only=True)
class HlsTop:
    """Names and sizes of the ports that Vitis HLS makes of the top function's arguments.

    Source: hls4ml 1.3.0, the pragmas of its ``myproject.cpp`` (io_parallel) and
    ``nnet_dense_resource.h``; Vitis HLS, control protocol ``ap_ctrl_hs``, arguments ``ap_vld``,
    ``ap_memory`` and, of partitioned arrays, ``ap_none``. docs/hls4ml.md says what is not verified.

    Parameters
    ----------
    name : str
        Top function = module.
    x, logits : Argument
    layers : tuple of LayerArguments
        Of the trainable layers, in the order of the network.
    """
    name: str
    x: Argument
    logits: Argument
    layers: tuple[LayerArguments, ...]

    def ports(self) -> dict[str, tuple[str, int]]:
        """Direction (``i`` or ``o``, seen from the module) and width of every port, by name."""
        ports = {"ap_clk": ("i", 1), "ap_rst": ("i", 1), "ap_start": ("i", 1), "ap_done": ("o", 1),
                 "ap_idle": ("o", 1), "ap_ready": ("o", 1)}
        ports |= {self.x.name: ("i", self.x.size * self.x.width), f"{self.x.name}_ap_vld": ("i", 1)}
        for port in self.logits.elements:
            ports |= {port: ("o", self.logits.width), f"{port}_ap_vld": ("o", 1)}
        for layer in self.layers:
            weight = layer.weight.name
            ports |= {f"{weight}_address0": ("o", address(layer.depth).width),
                      f"{weight}_ce0": ("o", 1), f"{weight}_q0": ("i", layer.word_width)}
            ports |= {port: ("i", layer.bias.width) for port in layer.bias.elements}
        return ports

    def check(self, network: Network) -> None:
        """Raise ValueError where this is not the top function of `network`."""
        trained = [network.stages[i].dense for i in network.trainable]
        names, want = [layer.layer for layer in self.layers], [dense.name for dense in trained]
        if names != want:
            raise ValueError(f"{self.name}: its arguments are the weights of "
                             f"{', '.join(names) or 'no layer'}; {', '.join(want)} are trainable")
        sizes = [(self.x, network.n_in, network.input),
                 (self.logits, network.n_classes, network.stages[-1].result)]
        for layer, dense in zip(self.layers, trained, strict=True):
            sizes += [(layer.weight, dense.n_in * dense.n_out, dense.weight),
                      (layer.bias, dense.n_out, dense.bias)]
            if layer.depth != dense.reuse_factor:
                raise ValueError(f"{self.name}: {layer.depth} words of {layer.weight.name}, "
                                 f"{dense.name} has reuse factor {dense.reuse_factor}")
        for argument, size, of in sizes:
            if (argument.size, argument.width) != (size, of.width):
                raise ValueError(f"{self.name}: {argument.name} has {argument.size} elements of "
                                 f"{argument.width} bits, the network {size} of {of.width}")


def check_engine(network: Network, top: HlsTop, *, learning: bool, rules: tuple[str, ...],
                 options: tuple[str, ...]) -> None:
    """Raise ValueError for what a core around an HLS core cannot be."""
    if not learning:
        raise ValueError(f"{network.name}: without learning the HLS core needs nothing around it; "
                         "build hls4ml's project alone")
    if "np" in rules:
        raise ValueError("rule np adds noise inside the network, where an HLS core lets nobody in; "
                         "with engine hls use rule es")
    for option in ("prompt", "sharp"):
        if option in options:
            raise ValueError(f"option {option} does not go with engine hls")
    for index in network.trainable:
        dense = network.stages[index].dense
        if dense.reuse_factor < 2:
            raise ValueError(f"{dense.name}: weights in one word are no memory to Vitis HLS; with "
                             "engine hls set its reuse factor to 2 or more")
    if top.name == "core":
        raise ValueError("the project of engine hls is called core, as the module around it; "
                         "give it another name")
    top.check(network)

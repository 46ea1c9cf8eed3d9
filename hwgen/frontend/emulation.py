"""hls4ml's own C++ emulation, as a function from codes to codes."""
import contextlib
import shutil

import numpy as np

from firmware_models.formats import Fixed

from ..errors import HwgenError
from .codes import fixed
from .graph import in_chains
from .lower import is_linear, lower
from .merge import holds
from .quiet import LOG, quiet


@contextlib.contextmanager
def text_weights(model_graph):
    """What is written within reads its weights from text files.

    As static initialisers they take g++ ten minutes for 25,000 of them. Read from text files they
    take seconds, and the decimals are the same.
    """
    writer = model_graph.config.get_writer_config()
    as_asked = writer.get("WriteWeightsTxt", True)
    writer["WriteWeightsTxt"] = True
    try:
        yield
    finally:
        writer["WriteWeightsTxt"] = as_asked


class Emulation:
    """An hls4ml model compiled with g++: the reference that every other engine must equal.

    Parameters
    ----------
    model_graph : hls4ml.model.ModelGraph
        As :func:`from_layers` or a converter of hls4ml returns it. Tracing needs layers with
        ``Trace: True``.

    Raises
    ------
    HwgenError
        Where g++ is missing or fails, or a type does not fit hls4ml's interface of doubles.
    """

    def __init__(self, model_graph):
        self._graph = model_graph
        self._folder = model_graph.config.get_output_dir()
        if shutil.which("g++") is None:
            raise HwgenError("g++ is missing, hls4ml's C++ emulation needs it; install it "
                             "(on Debian and Ubuntu: apt install g++)")
        first, *nodes = in_chains(model_graph.get_layers())
        self._input, self._parts = self._format(first), self._outputs(nodes)
        *_, (_, self._output) = self._parts.values()
        # Compiled once for both: the probes cost nothing while no trace is asked for.
        self._traced = any(node.get_attr("trace") for node in model_graph.get_layers())
        model_graph.config.trace_output = self._traced
        with quiet(self._folder), text_weights(model_graph):
            try:
                model_graph.compile()
            except Exception as error:      # hls4ml raises no narrower one
                raise HwgenError("g++ could not compile hls4ml's C++; see "
                                 f"{self._folder}/{LOG}") from error

    def _format(self, node) -> Fixed:
        result = fixed(node.get_output_variable().type.precision, node.name, "result")
        if result.width > 53:
            raise HwgenError(f"{node.name}: result type {result} does not fit the double that "
                             f"hls4ml returns; set LayerName: {node.name}: Precision: result to "
                             "53 bits at most")
        return result

    def _outputs(self, nodes) -> dict[str, tuple[str, Fixed]]:
        """Node that holds each layer's output, and its format.

        That is the layer's own, or the last of those that :func:`lower` makes part of it.
        """
        parts, names = {}, {layer.name for layer in lower(self._graph, ()).layers}
        part_of = {}                # by what a node delivers
        for node in nodes:
            if node.class_name == "Reshape":
                part_of[node.outputs[0]] = part_of.get(node.inputs[0])
                continue
            name, of = node.name, self._format(node)
            if name not in names:
                name = part_of.get(node.inputs[0])
            part_of[node.outputs[0]] = name
            # What changes nothing is left out.
            if name is not None and (name == node.name or not is_linear(node)
                                     or not holds(of, parts[name][1])):
                parts[name] = node.name, of
        return parts

    def logits(self, x_codes) -> np.ndarray:
        """Codes int64 [n, n_classes] of input codes [n, n_in]: logits, or what a softmax makes.

        Features may have the axes of the model's input in place of n_in.
        """
        x = self._values(x_codes)
        with quiet(self._folder):
            y = self._graph.predict(x)
        return _codes(y, self._output, len(x))

    def trace(self, x_codes) -> dict[str, np.ndarray]:
        """Output codes int64 [n, width of the layer] of every layer, by name.

        What :func:`lower` makes part of the layer before it goes by the name of that layer.
        """
        if not self._traced:
            raise HwgenError("no layer of the model is traced; set Trace: True on its layers "
                             "(from_layers: trace=True)")
        x = self._values(x_codes)
        compile_again = self._graph.compile
        # ModelGraph.trace compiles on every call; the library is there already.
        self._graph.compile = lambda: None
        try:
            with quiet(self._folder):
                _, layers = self._graph.trace(x)
        finally:
            self._graph.compile = compile_again
        return {name: _codes(layers[node], of, len(x))
                for name, (node, of) in self._parts.items() if node in layers}

    def _values(self, x_codes) -> np.ndarray:
        """Inputs as the doubles that hls4ml takes; float32 would round wide outputs."""
        x = np.asarray(x_codes)
        try:
            x = self._input.check(x)
        except ValueError as error:
            raise HwgenError(f"features: {error}; quantize them to the input type") from error
        n_in = self._graph.get_input_variables()[0].size()
        if x.ndim < 2 or np.prod(x.shape[1:]) != n_in or not len(x):
            raise HwgenError(f"features have shape {x.shape}; give one row of {n_in} per sample")
        return np.ascontiguousarray(x * 2.0 ** -self._input.frac)


def _codes(values, of: Fixed, n: int) -> np.ndarray:
    """Codes of exact values; hls4ml drops the batch axis of a single sample."""
    scaled = np.asarray(values, np.float64).reshape(n, -1) * 2.0 ** of.frac
    codes = scaled.astype(np.int64)
    assert (codes == scaled).all(), f"hls4ml returned a value that is not a code of {of}"
    return of.check(codes)

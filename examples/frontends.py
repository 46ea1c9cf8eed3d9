"""A network from Keras, PyTorch, QONNX or HGQ2 goes the whole way to Verilog that learns.

A small network for 8x8 digits is trained by scikit-learn and written down in the front end's own
words. hls4ml converts it for its back end Hwgen; the core is built and Verilated; it meets digits
that are turned, and both layers learn from some hundred of them, one after the other. The golden
model takes the same steps.
"""
import argparse
import importlib.util
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from firmware_models.dense import forward
from firmware_models.learner import Learner, compare
from hwgen import Device, Emulation, HwgenError, Settings, build, data, lower, quantize
from hwgen.frontend.quiet import quiet

HIDDEN = 32
PACKAGES = {"keras": "keras", "torch": "torch", "qonnx": "qonnx", "hgq2": "hgq"}
FEATURES = "ap_ufixed<8,0,AP_RND_CONV,AP_SAT>"          # a pixel byte is the code of value / 256
ACTIVATIONS = "ap_ufixed<8,3,AP_RND,AP_SAT>"
WEIGHTS = {"weight": "ap_fixed<8,3,AP_RND,AP_SAT>", "bias": "ap_fixed<8,3,AP_RND,AP_SAT>"}
EPILOG = """examples:
  python -m examples.frontends keras
  python -m examples.frontends qonnx -o build/qonnx --samples 500
  python -m examples.frontends hgq2 --disturb rotate:45
"""


@dataclass(frozen=True)
class Trained:
    """Weights [n_in, n_out] and biases of both layers; logits are base 2, as the core's loss."""
    weights: tuple[np.ndarray, np.ndarray]
    biases: tuple[np.ndarray, np.ndarray]


def trained(dataset: data.Dataset) -> Trained:
    """A network of one hidden layer for pixels from 0 to 1."""
    x, y = dataset.training()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier((HIDDEN,), max_iter=100, random_state=0).fit(x / 256, y)
    (first, last), (first_bias, last_bias) = model.coefs_, model.intercepts_
    to_base_2 = np.log2(np.e)
    return Trained((first, last * to_base_2), (first_bias, last_bias * to_base_2))


def keras(of: Trained, folder: Path):
    """Keras 3: layers are configured by their names."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    from hls4ml.converters import convert_from_keras_model
    from hls4ml.utils import config_from_keras_model
    model = keras.Sequential([keras.Input((of.weights[0].shape[0],), name="features"),
                              keras.layers.Dense(HIDDEN, name="fc1", activation="relu"),
                              keras.layers.Dense(of.weights[1].shape[1], name="fc2")])
    model.set_weights([of.weights[0], of.biases[0], of.weights[1], of.biases[1]])
    config = config_from_keras_model(model, granularity="name", backend="Hwgen")
    by_name(config, of, "features", "fc1", "fc1_relu", "fc2")
    return convert_from_keras_model(model, hls_config=config, output_dir=str(folder),
                                    backend="Hwgen", io_type="io_parallel")


def torch(of: Trained, folder: Path):
    """PyTorch: hls4ml takes the names of the modules, and the argument of forward."""
    import torch
    from hls4ml.converters import convert_from_pytorch_model
    from hls4ml.utils import config_from_pytorch_model
    n_in, n_out = of.weights[0].shape[0], of.weights[1].shape[1]

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = torch.nn.Linear(n_in, HIDDEN), torch.nn.Linear(HIDDEN, n_out)

        def forward(self, x):
            return self.fc2(torch.relu(self.fc1(x)))

    model = Network().eval()
    for layer, weights, biases in zip((model.fc1, model.fc2), of.weights, of.biases, strict=True):
        layer.load_state_dict({"weight": torch.as_tensor(weights.T),
                               "bias": torch.as_tensor(biases)})
    config = config_from_pytorch_model(model, (n_in,), granularity="name", backend="Hwgen")
    by_name(config, of, "x", "fc1", "relu", "fc2")
    return convert_from_pytorch_model(model, hls_config=config, output_dir=str(folder),
                                      backend="Hwgen", io_type="io_parallel")


def by_name(config: dict, of: Trained, features: str, first: str, relu: str, last: str) -> None:
    """Types, reuse factors and that both layers learn, in hls4ml's configuration."""
    layers = config["LayerName"]
    layers[features]["Precision"] = {"result": FEATURES}
    layers[relu]["Precision"]["result"] = ACTIVATIONS
    for name, weights in zip((first, last), of.weights, strict=True):
        layers[name]["Precision"] |= WEIGHTS
        # One input per cycle.
        layers[name] |= {"ReuseFactor": weights.shape[0], "Trainable": True}


def qonnx(of: Trained, folder: Path):
    """QONNX, as Brevitas exports it: types are those of the Quant nodes."""
    from hls4ml.converters import convert_from_onnx_model
    from hls4ml.utils import config_from_onnx_model
    from onnx import TensorProto, helper, numpy_helper
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model
    nodes, constants = [], []

    def constant(values):
        constants.append(numpy_helper.from_array(np.asarray(values, np.float32),
                                                 f"constant{len(constants)}"))
        return constants[-1].name

    def node(kind, *inputs, **attributes):
        nodes.append(helper.make_node(kind, inputs, [f"{kind}{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def quant(source, step, signed=1):
        return node("Quant", source, constant(step), constant(0), constant(8), signed=signed,
                    narrow=0, rounding_mode="ROUND", domain="qonnx.custom_op.general")

    x = quant("features", 2.0 ** -8, signed=0)
    for k, (weights, biases) in enumerate(zip(of.weights, of.biases, strict=True)):
        if k:
            x = quant(node("Relu", x), 2.0 ** -5, signed=0)
        x = node("MatMul", x, quant(constant(weights), 2.0 ** -5))
        x = node("Add", x, quant(constant(biases), 2.0 ** -5))
    info, (n_in, n_out) = helper.make_tensor_value_info, (len(of.weights[0]), len(of.biases[1]))
    graph = helper.make_graph(nodes, "digits", [info("features", TensorProto.FLOAT, [1, n_in])],
                              [info(x, TensorProto.FLOAT, [1, n_out])], constants)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
    model = cleanup_model(ModelWrapper(helper.make_model(graph, opset_imports=opsets,
                                                         ir_version=8)))
    config = config_from_onnx_model(model, granularity="name", backend="Hwgen",
                                    default_precision="fixed<16,6>")
    layers = config["LayerName"]
    layers["global_in"]["Precision"] = {"result": FEATURES}         # that of its Quant node
    for k, weights in enumerate(of.weights):
        layers[f"MatMul_{k}"] |= {"ReuseFactor": len(weights), "Trainable": True}
    return convert_from_onnx_model(model, hls_config=config, output_dir=str(folder),
                                   backend="Hwgen", io_type="io_parallel")


def hgq2(of: Trained, folder: Path):
    """HGQ2: hls4ml takes types from values, hwgen widens those of what learns."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    from hgq.config import QuantizerConfig, QuantizerConfigScope
    from hgq.layers import QDense
    from hls4ml.converters import convert_from_keras_model
    n_in, n_out = of.weights[0].shape[0], of.weights[1].shape[1]
    # One type for all activations of a layer, which saturates; weights have widths of their own.
    of_layer = {"k0": False, "heterogeneous_axis": (), "homogeneous_axis": None,
                "overflow_mode": "SAT"}
    features = QuantizerConfig(place="datalane", i0=0, f0=8, **of_layer)
    with QuantizerConfigScope(place="datalane", i0=3, f0=5, **of_layer), \
            QuantizerConfigScope(place="weight", i0=2, b0=8), \
            QuantizerConfigScope(place="bias", i0=2, b0=8):
        model = keras.Sequential([keras.Input((n_in,), name="features"),
                                  QDense(HIDDEN, name="fc1", activation="relu", iq_conf=features),
                                  QDense(n_out, name="fc2")])
    for name, weights, biases in zip(("fc1", "fc2"), of.weights, of.biases, strict=True):
        model.get_layer(name).kernel.assign(weights)
        model.get_layer(name).bias.assign(biases)
    config = {"Model": {"Precision": "fixed<16,6>", "ReuseFactor": 1}, "LayerName": {
        "fc1": {"ReuseFactor": n_in, "Trainable": True},
        "fc2": {"ReuseFactor": HIDDEN, "Trainable": True}}}
    return convert_from_keras_model(model, hls_config=config, output_dir=str(folder),
                                    backend="Hwgen", io_type="io_parallel")


CONVERTERS = {"keras": keras, "torch": torch, "qonnx": qonnx, "hgq2": hgq2}


def run(front_end: str, folder: Path, samples: int, disturbance: str, console: Console) -> dict:
    """Convert, build, learn; what came of it."""
    if importlib.util.find_spec(PACKAGES[front_end]) is None:
        raise HwgenError(f"{PACKAGES[front_end]} is missing; install the extra {front_end}: "
                         f"pip install 'hwgen[{front_end}]'")
    dataset = data.load("digits")
    weights = trained(dataset)
    with quiet(folder):
        model = CONVERTERS[front_end](weights, folder)
    network = lower(model)
    def features(images, kind=disturbance):
        return quantize(data.disturb(images, kind, 1) / 256, network.input)

    x, y = (values[:samples] for values in dataset.field())
    x, y_test = features(x), dataset.y_test
    x_test, turned = features(dataset.x_test, "none"), features(dataset.x_test)
    console.print("hls4ml's C++: compile and compare", style="dim")
    same = (Emulation(model).logits(turned) == forward(network, turned)).all(-1)
    console.print("the core: build, verilate and learn", style="dim")
    settings = Settings(layers=network.trainable, probes=8, lr_shift=8, head_shift=5)
    with Device(build(network, folder / "core")) as device:
        device.configure(settings)
        learner = Learner(network, settings, coefficient_bits=device.manifest["coefficient_bits"])
        predicted, cycles = device.partial_fit(x, y), device.cycles
        expected = [learner.step(row, int(label)).argmax()
                    for row, label in zip(x, y, strict=True)]
        difference = compare(learner.state, device.state())
        learned = device.score(turned, y_test)
    clean, disturbed = ((forward(network, test).argmax(-1) == y_test).mean()
                        for test in (x_test, turned))
    return {"layers": network.layers, "same": (int(same.sum()), len(same)), "clean": clean,
            "disturbed": disturbed, "learned": learned, "samples": len(x), "cycles": cycles,
            "bit_exact": not difference and predicted.tolist() == expected}


def table(front_end: str, disturbance: str, results: dict) -> Table:
    """The results as a table."""
    shown = Table(title=f"digits from {front_end}, {disturbance}", show_header=False)
    for layer in results["layers"]:
        kind = type(layer).__name__
        if kind == "Dense":
            learns = ", learns" if layer.trainable else ""
            kind = f"Dense, weights {layer.weight}, sums {layer.accum}{learns}"
        shown.add_row(layer.name, f"{kind}, out {layer.result}")
    equal, of = results["same"]
    for name, value in (
            ("accuracy", f"{results['clean']:.1%} clean, {results['disturbed']:.1%} disturbed, "
             f"{results['learned']:.1%} after learning"),
            ("learned from", f"{results['samples']:,} samples in {results['cycles']:,} cycles"),
            ("bit-exact with the golden model", "yes" if results["bit_exact"] else "NO"),
            ("equal to hls4ml's C++", f"{equal} of {of} test images")):
        shown.add_row(name, value)
    return shown


def main(argv=None) -> int:
    """Status 0; 1 if something differs; 2 with one line on what is wrong and what to do."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.frontends", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("front_end", choices=CONVERTERS)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR",
                        help="where hls4ml and hwgen write (default: build/<front end>)")
    parser.add_argument("--samples", type=int, default=1000, help="to learn from (default: 1000)")
    parser.add_argument("--disturb", default="rotate:30", metavar="KIND",
                        help=f"{', '.join(data.KINDS)} (default: rotate:30)")
    args = parser.parse_args(argv)
    folder = args.output or Path("build") / args.front_end
    console = Console()
    try:
        results = run(args.front_end, folder, args.samples, args.disturb, console)
    except HwgenError as error:
        print(f"frontends: {error}", file=sys.stderr)
        return 2
    console.print(table(args.front_end, args.disturb, results))
    console.print(f"{folder}: hls4ml's project; {folder / 'core'}: core.v, manifest.json")
    equal, of = results["same"]
    return 0 if results["bit_exact"] and equal == of else 1


if __name__ == "__main__":
    sys.exit(main())

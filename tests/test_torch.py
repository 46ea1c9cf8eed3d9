"""PyTorch models: modules and functions, fused normalization, names that hls4ml gives."""
import warnings

import numpy as np
import pytest

from firmware_models.formats import Fixed
from hwgen.errors import HwgenError
from hwgen.frontend.quiet import quiet

from .frontends import HIDDEN, JET_TAGGER, MNIST, TYPES, engines, equal, learns

with warnings.catch_warnings():
    warnings.simplefilter("ignore")         # PyTorch's own, of its parts
    torch = pytest.importorskip("torch", reason="needs the extra torch")


class Perceptron(torch.nn.Module):
    """With ReLU as a module, as a function, as another; normalized once."""

    def __init__(self, sizes=JET_TAGGER, bias: bool = True):
        super().__init__()
        n_in, n_1, n_2, n_3, n_out = sizes
        self.fc1, self.fc2 = torch.nn.Linear(n_in, n_1), torch.nn.Linear(n_1, n_2)
        self.fc3, self.fc4 = torch.nn.Linear(n_2, n_3), torch.nn.Linear(n_3, n_out, bias=bias)
        self.active, self.norm = torch.nn.ReLU(), torch.nn.BatchNorm1d(n_2)
        self.dropout = torch.nn.Dropout(0.1)

    def forward(self, x):
        x = self.active(self.fc1(x))
        x = torch.relu(self.norm(self.fc2(x)))
        x = torch.nn.functional.relu(self.fc3(x))
        return self.fc4(self.dropout(x))


def random(model):
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for name, values in model.state_dict().items():
            drawn = rng.uniform(0.1, 0.9, values.shape) if "running_var" in name \
                else rng.normal(0, 0.3, values.shape)
            values.copy_(torch.as_tensor(drawn))
    return model.eval()


def convert(model, folder, n_in: int = JET_TAGGER[0], **layers):
    with quiet(folder):
        from hls4ml.converters import convert_from_pytorch_model
        from hls4ml.utils import config_from_pytorch_model
        config = config_from_pytorch_model(model, (n_in,), granularity="name", backend="Hwgen")
        for name, settings in config["LayerName"].items():
            settings["Trace"] = True
            if "weight" in settings["Precision"] and hasattr(model, name):
                settings["ReuseFactor"] = getattr(getattr(model, name), "in_features", 1)
            if "act" in name or "relu" in name:
                settings["Precision"] |= HIDDEN
            for key, value in layers.get(name, {}).items():
                settings[key] = settings["Precision"] | value if key == "Precision" else value
        return convert_from_pytorch_model(model, hls_config=config, output_dir=str(folder),
                                          backend="Hwgen", io_type="io_parallel")


def test_jet_tagger(tmp_path):
    model = convert(random(Perceptron()), tmp_path / "hls",
                    fc4={"Trainable": True, "Precision": TYPES})
    network = equal(model)
    assert [layer.name for layer in network.layers] == \
        ["fc1", "active", "fc2", "relu", "fc3", "relu_1", "fc4"]
    assert network.stages[3].dense.weight == Fixed(8, 6)
    engines(model)
    learns(network, tmp_path / "core")


def test_mnist(tmp_path):
    model = convert(random(Perceptron(MNIST)), tmp_path, n_in=784,
                    fc4={"Trainable": True, "Precision": TYPES})
    assert equal(model).n_in == 784
    engines(model)


def test_sequential(tmp_path):
    """Layers without names: hls4ml calls them by their number."""
    parts = torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 5)
    model = convert(random(torch.nn.Sequential(*parts)), tmp_path,
                    _2={"Trainable": True, "Precision": TYPES})
    network = equal(model)
    assert [layer.name for layer in network.layers] == ["_0", "_1", "_2"]
    assert network.trainable == (1,)


def test_no_bias(tmp_path):
    convert(random(Perceptron(bias=False)), tmp_path / "a", fc4={"Precision": TYPES})
    with pytest.raises(HwgenError, match="fc4: has no bias, a trainable layer needs one; give it"):
        convert(random(Perceptron(bias=False)), tmp_path / "b",
                fc4={"Trainable": True, "Precision": TYPES})


def test_unknown_activation(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ELU(), torch.nn.Linear(8, 5))
    with pytest.raises(HwgenError, match="_1: unknown layer kind .*elu, needs one of docs/lay"):
        convert(random(model), tmp_path)

"""hls4ml's back end Hwgen: its functions, from configuration to report, on our engines."""
import re
import shutil
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

import hwgen
from firmware_models import dense
from firmware_models.settings import Settings
from hwgen import report, vivado
from hwgen.errors import HwgenError
from hwgen.frontend.quiet import quiet
from sim.device import Device

from .lockstep import lockstep
from .test_vivado import samples

ROOT = Path(__file__).parent.parent
JET_TAGGER = (16, 64, 32, 32, 5)        # of hls4ml's documentation
FEATURES, HIDDEN = "ap_fixed<16,6>", "ap_ufixed<8,4,AP_RND,AP_SAT>"
TYPES = {"weight": "ap_fixed<8,2>", "bias": "ap_fixed<8,2>", "accum": "auto",
         "result": "ap_fixed<16,6,AP_RND,AP_SAT>"}
# What config_from_keras_model writes for a softmax, layer by layer.
SOFTMAX = {"Implementation": "stable", "Skip": False, "TableSize": 1024, "Precision": {
    what: "fixed<18,8,RND,SAT,0>" for what in ("exp_table", "inv_table", "inv_inp", "accum")}
    | {"result": "auto", "table": "fixed<18,8,TRN,WRAP,0>"}}
needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture(autouse=True)
def hls4ml_prints(tmp_path_factory):
    with quiet(tmp_path_factory.mktemp("log")):
        yield


def convert(folder, sizes=JET_TAGGER, trainable=(), reuse=None, layer=None, softmax=None, **model):
    """A multilayer perceptron of random weights, converted as hls4ml's users do.

    It ends with a softmax of these settings, or without one.
    """
    from hls4ml.model import ModelGraph
    from hls4ml.utils.config import create_config
    rng = np.random.default_rng(len(sizes))
    layers = [{"name": "features", "class_name": "InputLayer", "input_shape": [sizes[0]]}]
    settings = {"features": {"Precision": {"result": FEATURES}}}
    for k, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False), 1):
        layers.append({
            "name": f"fc{k}", "class_name": "Dense", "inputs": [layers[-1]["name"]], "n_in": n_in,
            "n_out": n_out, "weight_data": rng.integers(-128, 128, (n_in, n_out)) / 64,
            "bias_data": rng.integers(-128, 128, n_out) / 64})
        settings[f"fc{k}"] = {"Precision": TYPES, "ReuseFactor": reuse or n_in, "Trace": True,
                              "Trainable": f"fc{k}" in trainable} | (layer or {})
        if k < len(sizes) - 1:
            layers.append({"name": f"relu{k}", "class_name": "Activation", "activation": "relu",
                           "inputs": [f"fc{k}"], "n_in": n_out})
            settings[f"relu{k}"] = {"Precision": {"result": HIDDEN}, "Trace": True}
    if softmax is not None:
        layers.append({"name": "softmax", "class_name": "Softmax", "activation": "softmax",
                       "inputs": [layers[-1]["name"]], "n_in": sizes[-1], "axis": -1})
        settings["softmax"] = {"Trace": True} | softmax
    config = create_config(output_dir=str(folder), backend="Hwgen",
                           part="xcku115-flvb2104-2-e")
    config["HLSConfig"] = {
        "Model": {"Precision": FEATURES, "ReuseFactor": 1, "Strategy": "Latency"} | model,
        "LayerName": settings}
    return ModelGraph.from_layer_list(config, layers, ["features"], [layers[-1]["name"]])


def test_entry_point():
    from hls4ml.backends import get_available_backends, get_backend
    assert "hwgen" in [point.name for point in entry_points(group="hls4ml.backends")]
    assert "hwgen" in get_available_backends()
    assert get_backend("Hwgen").get_default_flow() == "hwgen:ip"


@needs_gxx
def test_jet_tagger(tmp_path):
    model = convert(tmp_path, trainable=("fc1", "fc4"), softmax=SOFTMAX)
    model.compile()
    x = np.random.default_rng(1).normal(size=(1000, 4, 4)) * 4
    outputs = {engine: model.predict(x, engine=engine) for engine in ("cpp", "golden", "rtl")}
    assert len(np.unique(outputs["cpp"])) > 30
    for engine in ("golden", "rtl"):
        np.testing.assert_array_equal(outputs[engine], outputs["cpp"], engine)
    # One sample has no batch axis, as hls4ml has it; and types stay.
    for engine in outputs:
        one = model.predict(x[:1].astype(np.float32), engine=engine)
        assert one.shape == (5,) and one.dtype == np.float32
    _, layers = model.trace(x)
    network = hwgen.lower(model)
    expected = dense.trace(network, dense.quantize(x.reshape(-1, 16), network.input))
    results = {layer.name: layer.result for layer in network.layers}
    assert list(layers) == list(expected) and len(layers) == 8
    np.testing.assert_array_equal(outputs["cpp"], layers["softmax"])
    for name, values in layers.items():
        np.testing.assert_array_equal(values * 2.0 ** results[name].frac, expected[name], name)


@needs_gxx
@pytest.mark.parametrize("rule, learning", [
    ("np", {"Rules": ["np"], "Residual": 2}),
    ("es", {"Rules": ["es"], "Options": ["sparse", "rank"], "MaxPairs": 2})])
def test_learning(rule, learning, tmp_path):
    model = convert(tmp_path, (8, 6, 4), ("fc1", "fc2"), Learning=learning)
    network, manifest = hwgen.lower(model), model.config.backend.manifest(model)
    assert network.trainable == (0, 1)
    settings = Settings(rule=rule, layers=(0, 1), lr_shift=4, pairs=2, probes=2,
                        sparse="hash" if rule == "es" else "off")
    lockstep((network, learning.get("Residual", 4), manifest), (settings, 20))


@needs_gxx
def test_frozen(tmp_path):
    model = convert(tmp_path, (8, 6, 4))
    x = np.random.default_rng(2).normal(size=(50, 8))
    np.testing.assert_array_equal(model.predict(x, engine="rtl"), model.predict(x, engine="golden"))
    with Device(model.config.backend.manifest(model)) as device:
        assert not device.learning


@needs_gxx
def test_strategy_and_reuse(tmp_path):
    """hls4ml's default strategy is taken as ours; a factor that it would change is refused."""
    model = convert(tmp_path / "a", (8, 6, 4), reuse=2)
    assert [stage.dense.reuse_factor for stage in hwgen.lower(model).stages] == [2, 2]
    with pytest.raises(HwgenError, match="reuse factor 3 does not divide its 8 inputs"):
        convert(tmp_path / "b", (8, 6, 4), reuse=3)


@pytest.fixture
def counted(monkeypatch):
    """Synthesis that takes no time: a core has these cells, less without learning."""
    def synthesize(manifest, flatten=False):
        more = manifest.parent.name != "inference"
        total = {"lut": 100 + more, "ff": 50 + more, "dsp": 3, "bram36": 1.5}
        return {"yosys": "0", "blocks": {"readout": total}, "total": total}
    for module in (report, report.compare):
        monkeypatch.setattr(module, "synthesize", synthesize)
    monkeypatch.setattr(report.compare, "earlier_counts", lambda *_: True)


@pytest.mark.parametrize("trainable", [(), ("fc2",)])
def test_report(trainable, tmp_path, counted):
    """hls4ml's own functions read what build() leaves."""
    from hls4ml.report import parse_vivado_report, read_vivado_report
    model = convert(tmp_path, (8, 6, 4), trainable)
    found = model.build(vitis=False)
    again = parse_vivado_report(str(tmp_path))
    assert found == again | {"HwgenReport": found["HwgenReport"]}
    synthesis = again["CSynthesisReport"]
    assert again["VivadoSynthReport"] == {
        "LUT": "101", "FF": "51", "DSP48E": "3", "BRAM_18K": "1.5", "URAM": "0"}
    assert (synthesis["LUT"], synthesis["BRAM_18K"], synthesis["AvailableLUT"]) == (
        "101", "3", "663360")
    assert synthesis["TargetClockPeriod"] == "5" and synthesis["EstimatedClockPeriod"] == "NA"
    read_vivado_report(str(tmp_path))
    # The cycles are those of the core.
    with Device(model.config.backend.manifest(model)) as device:
        for count in (1, 30):
            device.predict(np.zeros((count, 8), int))
            if count == 1:
                assert device.clock_cycles == int(synthesis["BestLatency"])
        assert np.diff(device.out_cycles)[-1] == int(synthesis["IntervalMax"])
    assert (tmp_path / "core" / "report.json").exists() == bool(trainable)


def test_reports_of_vivado(tmp_path, counted):
    """Where Vivado has run on the core, hls4ml sees its figures; ours stay beside them."""
    model = convert(tmp_path, (8, 6, 4), ("fc2",))
    model.config.backend.manifest(model)
    samples(vivado.generate(tmp_path / "core", part="xcku115-flvb2104-2-e"))
    found = model.build(vitis=False)
    assert found["VivadoSynthReport"] == {
        "LUT": "1234", "FF": "2345", "DSP48E": "58", "BRAM_18K": "8.5"}
    assert found["TimingReport"]["WNS"] == 0.625
    assert found["CSynthesisReport"]["LUT"] == "101"
    ours = found["HwgenReport"]["learning"]
    assert (ours["total"]["lut"], ours["vivado"]["routed"]["lut"]) == (101, 1111)


def test_refusals(tmp_path):
    model = convert(tmp_path / "a", (8, 6, 4))
    with pytest.raises(HwgenError, match="unknown engine 'hls'; there are cpp, golden, rtl"):
        model.predict(np.zeros((1, 8)), engine="hls")
    with pytest.raises(HwgenError, match="csim, cosim: for Vitis HLS, and vitis-run is not on"):
        model.build(vitis=False, csim=True, cosim=True)
    with pytest.raises(HwgenError, match="Model: Learning: Rule is unknown; there are Rules, "):
        other = convert(tmp_path / "b", (8, 6, 4), ("fc1",), Learning={"Rule": ["np"]})
        other.config.backend.manifest(other)
    around = {"Engine": "hls", "Rules": ["es"]}
    with pytest.raises(HwgenError, match="softmax: a softmax, and with engine hls the loss needs .*"
                       "set LayerName: softmax: Skip: true"):
        other = convert(tmp_path / "d", (8, 6, 4), ("fc1",), softmax={}, Learning=around)
        other.config.backend.manifest(other)
    other = convert(tmp_path / "e", (8, 6, 4), ("fc1",), softmax={"Skip": True}, Learning=around)
    assert hwgen.lower(other).softmax is None
    with pytest.raises(HwgenError, match="fc1: the first call of hls4ml's C.* write_weights_txt"):
        model.config.get_writer_config()["WriteWeightsTxt"] = True
        hwgen.lower(model, ["fc1"])
    with pytest.raises(HwgenError, match="fc1: weight .* is not a value of fixed<4,1>"):
        convert(tmp_path / "c", (8, 6, 4), layer={"Precision": TYPES | {"weight": "ap_fixed<4,1>"}})


@needs_gxx
def test_session_of_the_document(tmp_path, monkeypatch, counted):
    """The code of docs/hls4ml.md, one block after the other."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/hls4ml.md").read_text(),
                           re.DOTALL):
        exec(code, names)
    assert names["after"] > names["before"]

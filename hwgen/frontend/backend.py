"""hls4ml's back end "Hwgen": its ordinary project, and beside it a core in Verilog that learns.

hls4ml finds :func:`register` by the entry point ``hls4ml.backends`` of this package.
"""
import json
import shutil
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from hls4ml.backends.vitis.vitis_backend import VitisBackend
from hls4ml.backends.vivado.vivado_backend import VivadoBackend
from hls4ml.model.attributes import ConfigurableAttribute
from hls4ml.model.flow import get_flow, register_flow
from hls4ml.model.layers import Dense
from hls4ml.report import parse_vivado_report
from hls4ml.writer.vitis_writer import VitisWriter

from ..errors import HwgenError
from .emulation import text_weights
from .hls_project import around_hls
from .lower import lower

NAME = "Hwgen"
CORE = "core"               # folder of the Verilog in hls4ml's output folder
ENGINES = ("cpp", "golden", "rtl")
CORE_ENGINES = ("dense", "hls")
# Model: Learning in hls4ml's configuration, as arguments of hwgen.build; beside them "Engine".
LEARNING = {"Rules": "rules", "Residual": "residual", "Options": "options",
            "MaxPairs": "max_pairs", "Multipliers": "multipliers",
            "JournalRecords": "journal_records"}


def register(*, register_backend, register_writer) -> None:
    """What hls4ml calls when it is imported. The back end looks its writer up by name."""
    register_writer(NAME, VitisWriter)
    register_backend(NAME, HwgenBackend)


class HwgenBackend(VitisBackend):
    """The flow of back end Vitis, then our description of the result.

    In the configuration, layers with ``Trainable: True`` learn on the chip; those of ``Strategy:
    distributed_arithmetic`` become constant logic, which reads its inputs in ``InputWords`` words;
    ``Model: Learning: {...}`` holds settings of the core, the keys of `LEARNING`. Strategy Latency,
    hls4ml's default, becomes Resource: the engines are Resource layers, with equal results.
    ``Model: Learning: Engine: hls`` puts the core around hls4ml's own, which Vitis synthesizes.

    Raises
    ------
    HwgenError
        At conversion, for a model that :func:`hwgen.lower` refuses.
    """

    def __init__(self):
        # Past VitisBackend and VivadoBackend, which register names of their own.
        super(VivadoBackend, self).__init__(name=NAME)
        self._register_layer_attributes()
        self.attribute_map[Dense] = [*self.attribute_map.get(Dense, []), ConfigurableAttribute(
            "trainable", value_type=bool, default=False,
            description="The layer learns on the chip"), ConfigurableAttribute(
            "input_words", default=1,
            description="Words in which constant logic of our own reads its inputs")]
        self._register_flows()
        self._manifests = WeakKeyDictionary()       # of models whose core is built

    def _register_flows(self):
        alias = register_flow("alias", ["hwgen:alias_backend", "hwgen:check_constant"],
                              backend=self.name)
        # The flows of back end Vitis in their order, and ours between two of them.
        flows = get_flow("vitis:ip").requires
        behind = flows.index("vivado:specific_types")
        keep = register_flow("keep", ["hwgen:keep_constant_weights"], requires=flows[:behind],
                             backend=self.name)
        last = register_flow("lower", ["hwgen:lower_network", "hwgen:expose_weights"],
                             requires=["vitis:ip"], backend=self.name)
        self._default_flow = register_flow("ip", None, requires=[alias, keep, "vitis:ip", last],
                                           backend=self.name)
        self._writer_flow = register_flow("write", ["make_stamp", "hwgen:write_hls"],
                                          requires=[self._default_flow], backend=self.name)

    def create_initial_config(self, write_weights_txt=False, **options):
        """As of back end Vitis; but the project for Vitis holds its weights, as a core has to."""
        return super().create_initial_config(write_weights_txt=write_weights_txt, **options)

    def write(self, model):
        """hls4ml's C++ project, to be compiled by g++."""
        with text_weights(model):
            super().write(model)

    def predict(self, model, x, engine: str = "cpp"):
        """Outputs of a model with the weights that it was converted with.

        Parameters
        ----------
        model : ModelGraph
        x : float array [n, ...]
            Contiguous; one row per sample.
        engine : {"cpp", "golden", "rtl"}
            hls4ml's compiled C++ (needs ``compile()``), our integer model, or the Verilated core.
            All three give the same.

        Returns
        -------
        float array [n, n_out], or [n_out] of a single sample as hls4ml has it
        """
        if engine not in ENGINES:
            raise HwgenError(f"unknown engine {engine!r}; there are {', '.join(ENGINES)}")
        if engine == "cpp":
            return model._predict(x)
        from firmware_models.dense import forward, quantize
        from firmware_models.softmax import readout
        network = lower(model)
        x = np.asarray(x)
        codes = quantize(x.reshape(-1, network.n_in), network.input)
        if engine == "golden":
            codes = readout(network, forward(network, codes))
        else:
            from sim.device import Device
            with Device(self.manifest(model)) as device:
                codes = device.logits(codes)
        values = (codes * 2.0 ** -network.output.frac).astype(x.dtype)
        return values[0] if len(values) == 1 else values

    def manifest(self, model) -> Path:
        """``manifest.json`` of the model's core, which is built first unless it is there."""
        if model not in self._manifests:
            self._manifests[model] = _build(model, Path(model.config.get_output_dir()) / CORE)
        return self._manifests[model]

    @staticmethod
    def core_engine(model) -> str:
        """What infers in the model's core: engines of our own ("dense"), or hls4ml's ("hls")."""
        return _learning(model)[1]

    def build(self, model, vitis: bool | None = None, **options) -> dict:
        """Verilog of the core, and a report.

        Parameters
        ----------
        model : ModelGraph
        vitis : bool, optional
            Also run Vitis HLS on hls4ml's project, with `options` of back end Vitis. By default
            where ``vitis-run`` is on the path.

        Returns
        -------
        dict
            As of hls4ml's :func:`parse_vivado_report`: what Vitis says where it has run, else what
            Yosys and the cycle model say of the core, and Vivado in place of Yosys where
            ``hwgen vivado`` has run on it. ``HwgenReport`` is :mod:`hwgen.report`'s.
        """
        from .. import report
        from ..vivado import reports
        from . import hls_report
        folder = Path(model.config.get_output_dir())
        manifest = self.manifest(model)
        with_vitis = shutil.which("vitis-run") is not None if vitis is None else vitis
        if options and not with_vitis:
            raise HwgenError(f"{', '.join(options)}: for Vitis HLS, and vitis-run is not on the "
                             "path; leave it out, or install Vitis")
        if self.core_engine(model) == "hls":
            if not with_vitis:
                raise HwgenError("engine hls: Vitis HLS synthesizes the layers, and vitis-run is "
                                 "not on the path; manifest(model) has the Verilog around them")
            summary = json.loads(manifest.read_text())["hls"]
        elif any(node.get_attr("trainable") for node in model.get_layers()):
            summary = report.report(manifest, _build(model, folder / CORE / "inference", False))
            report.write(summary, folder / CORE)
        else:
            summary = {"inference": report.synthesize(manifest)}
        if with_vitis:
            VitisBackend.write(self, model)         # with the weights in the C++
            found = super().build(model, **options)
        else:
            self.write(model)
            hls_report.write(summary, lower(model), folder, model.config)
            reports.place(manifest, folder, model.config.get_project_name())
            found = parse_vivado_report(str(folder))
        return found | {"HwgenReport": summary}


def _learning(model) -> tuple[dict, str]:
    """Arguments of hwgen.build from ``Model: Learning``, and its engine."""
    settings = dict(
        model.config.get_config_value("HLSConfig").get("Model", {}).get("Learning") or {})
    engine = settings.pop("Engine", CORE_ENGINES[0])
    if unknown := set(settings) - set(LEARNING):
        raise HwgenError(f"Model: Learning: {min(unknown)} is unknown; there are "
                         f"{', '.join(LEARNING)}, Engine")
    if engine not in CORE_ENGINES:
        raise HwgenError(f"Model: Learning: unknown engine {engine!r}; there are "
                         f"{', '.join(CORE_ENGINES)}")
    return {LEARNING[name]: tuple(value) if isinstance(value, list) else value
            for name, value in settings.items()}, engine


def _build(model, folder: Path, learning: bool = True) -> Path:
    from ..build import build
    settings, engine = _learning(model)
    if engine == "hls":
        return around_hls(model, folder, **settings)
    network = lower(model)
    return build(network, folder, learning=learning and bool(network.trainable), **settings)

"""Our figures in the files that hls4ml's report functions read."""
import xml.etree.ElementTree as ET
from pathlib import Path

from firmware_models.cycles import CycleModel
from firmware_models.network import Network

from ..devices import DEVICES
from ..report import CYCLE_SAMPLES

NOTE = "Written by hwgen: Yosys for UltraScale, before place and route; cycles by the cycle model."
SOLUTION = "solution1"


def write(summary: dict, network: Network, folder: Path, config) -> None:
    """Reports of a core beside hls4ml's project in `folder`, where Vitis would leave its own.

    Parameters
    ----------
    summary : dict
        Of :func:`hwgen.report.report`, or with the resources of ``inference`` alone.
    network : Network
    folder : Path
        Holds hls4ml's ``project.tcl``.
    config : hls4ml.model.graph.HLSConfig
    """
    name = config.get_project_name()
    project = Path(folder) / f"{name}_prj"
    reports = project / SOLUTION / "syn" / "report"
    reports.mkdir(parents=True, exist_ok=True)
    (project / "hls.app").write_text(
        f'<project><solutions><solution name="{SOLUTION}"/></solutions></project>\n')
    total = summary.get("learning", summary["inference"])["total"]
    times = CycleModel(network, learning=bool(network.trainable)).run(CYCLE_SAMPLES)
    latency = int(times.out_cycles[0] - times.in_cycles[0]) + 1
    interval = int(times.out_cycles[-1] - times.out_cycles[-2])
    tree = _csynth(total, latency, interval, config)
    ET.indent(tree)
    tree.write(reports / f"{name}_csynth.xml")
    rows = {"Latency (cycles)": latency, "Interval (cycles)": interval,
            **{key.upper(): f"{value:g}" for key, value in total.items()}}
    (reports / f"{name}_csynth.rpt").write_text(
        "\n".join(["", "", NOTE, *(f"{key}: {value}" for key, value in rows.items())]) + "\n")
    (Path(folder) / "vivado_synth.rpt").write_text(_utilization(total))


def _csynth(total: dict, latency: int, interval: int, config) -> ET.ElementTree:
    """The part of Vitis HLS's csynth.xml that hls4ml reads."""
    root = ET.Element("profile")
    root.append(ET.Comment(NOTE))

    def tell(path: str, value) -> None:
        node = root
        for tag in path.split("/"):
            found = node.find(tag)
            node = ET.SubElement(node, tag) if found is None else found
        node.text = str(value)

    tell("UserAssignments/TargetClockPeriod", config.get_config_value("ClockPeriod"))
    # Before place and route there is none.
    tell("PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod", "NA")
    for what in ("Best-caseLatency", "Worst-caseLatency"):
        tell(f"PerformanceEstimates/SummaryOfOverallLatency/{what}", latency)
    for what in ("Interval-min", "Interval-max"):
        tell(f"PerformanceEstimates/SummaryOfOverallLatency/{what}", interval)
    for name, value in _resources(total).items():
        tell(f"AreaEstimates/Resources/{name}", value)
    tell("AreaEstimates/AvailableResources", "")
    part = config.get_config_value("Part") or ""
    for device in DEVICES:
        if device.name.lower() in part:
            for name, value in _resources(vars(device)).items():
                tell(f"AreaEstimates/AvailableResources/{name}", value)
    return ET.ElementTree(root)


def _resources(counts: dict) -> dict[str, int]:
    """In Vitis's names and units."""
    return {"BRAM_18K": round(2 * counts["bram36"]), "DSP": counts["dsp"], "FF": counts["ff"],
            "LUT": counts["lut"], "URAM": 0}


def _utilization(total: dict) -> str:
    """The rows of Vivado's report_utilization that hls4ml reads."""
    sections = {"1. CLB Logic": {"CLB LUTs": total["lut"], "CLB Registers": total["ff"]},
                "2. BLOCKRAM": {"Block RAM Tile": total["bram36"], "URAM": 0},
                "3. ARITHMETIC": {"DSPs": total["dsp"]}}
    lines = [NOTE]
    for title, rows in sections.items():
        lines += ["", title, *(f"| {name} | {value:g} |" for name, value in rows.items())]
    return "\n".join(lines) + "\n"

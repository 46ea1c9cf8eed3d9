"""What FuseSoC needs of a core: a core file with its targets, and Verilator's waivers."""
from sim.verilate import LINT_WAIVERS

from .ipxact import VERSION, name
from .registers_header import template

PART = "xcku040-ffva1156-2-e"


def core_file(manifest: dict, names: dict[str, str]) -> str:
    """Text of the CAPI2 core file: targets lint, sim and synth.

    A core around a module of Vitis HLS has synth alone: the module is not among its files.

    Parameters
    ----------
    manifest : dict
        ``manifest.json``.
    names : dict of str to str
        Names of the files: "header", "ipxact", "manifest", "waivers", and, if it has one,
        "testbench".
    """
    hls = manifest.get("hls")
    note = f"add the Verilog that Vitis HLS makes of {hls['name']}" if hls else \
        ("learns by " + " and ".join(manifest["rules"]) if manifest["learning"] else "infers")
    return template("core").render(
        names | {"testbench": names.get("testbench")}, name=name(manifest),
        top=manifest["top"], note=note, part=PART,
        network=manifest["network"]["name"], version=VERSION, verilog=manifest["verilog"])


def waivers(manifest: dict) -> str:
    """Verilator configuration: the rules of -Wall that a generated core does not keep, and why."""
    lines = ["`verilator_config", "// SPDX-License-Identifier: Apache-2.0"]
    for rule, reason in LINT_WAIVERS.items():
        lines += [f"// {reason}", f'lint_off -rule {rule} -file "*{manifest["verilog"]}"']
    return "\n".join(lines) + "\n"

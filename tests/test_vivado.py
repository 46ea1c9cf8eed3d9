"""The Vivado project: its Tcl run with stand-ins for Vivado's commands, its reports read back.

tests/vivado holds the checked list of commands and options, what stands in for them, the calls that
the scripts shall make, and sample reports. Vivado itself is nowhere needed.
"""
import json
import os
import re
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from firmware_models.sample_packets import LEARN, beat_layout, pack
from hwgen import cli, ipxact, report, vivado
from hwgen.build import build
from hwgen.errors import HwgenError
from hwgen.vivado import reports
from hwgen.vivado.generate import word

from .networks import small_network
from .test_report import toy

HERE = Path(__file__).parent / "vivado"
NETWORK = small_network((5, 3), trainable=(0,))
SAMPLES = {"synthesized.rpt": reports.SYNTHESIZED, "routed.rpt": reports.ROUTED,
           "timing.rpt": reports.TIMING}
SYNTHESIZED = {"lut": 1234, "ff": 2345, "dsp": 58, "bram36": 8.5}
ROUTED = {"lut": 1111, "ff": 2222, "dsp": 57, "bram36": 8.0}
SLACKS = {"wns": 0.625, "tns": 0.0, "whs": 0.031, "ths": 0.0, "wpws": 1.958, "tpws": 0.0,
          "met": True}
needs_tclsh = pytest.mark.skipif(shutil.which("tclsh") is None,
                                 reason="needs tclsh, of package tcl")
needs_sh = pytest.mark.skipif(os.name != "posix", reason="its Vivado is a shell script")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A core with registers of every kind, and its project."""
    folder = tmp_path_factory.mktemp("vivado")
    manifest = build(NETWORK, folder, rules=("es",), options=("load", "snapshot"))
    vivado.generate(folder)
    return manifest


@pytest.fixture
def project(built, tmp_path):
    """A copy of the project, where no script has run yet."""
    return shutil.copytree(built.parent / "vivado", tmp_path / "copy")


def run(project, script, built):
    """Calls of a script, one a line, and what was wrong."""
    ports = json.loads(built.read_text())["ports"]
    widths = {name: port["width"] for name, port in ports.items()} | {"clk": 1, "rst": 1}
    calls = project.parent / f"{script}.txt"
    ran = subprocess.run(
        ["tclsh", HERE / "stand_in.tcl", project / f"{script}.tcl", calls,
         " ".join(f"{name} {width}" for name, width in widths.items())],
        capture_output=True, text=True)
    assert bool(ran.returncode) == bool(ran.stderr)
    return calls.read_text(), ran.stderr


def register_calls(manifest):
    """Calls that describe the registers, from the same records as IP-XACT."""
    for register in ipxact.registers(manifest):
        name = register["name"]
        yield f"ipx::add_register {name} block:registers"
        yield f"set_property address_offset 0x{register['offset']:02X} register:{name}"
        yield f"set_property size 32 register:{name}"
        yield f"set_property access {register['access']} register:{name}"
        for field in register["fields"]:
            of = f"field:{name}.{field['name']}"
            reset = f"; 0x{field['reset']:X} after reset" if field["reset"] else ""
            yield f"ipx::add_field {field['name']} register:{name}"
            yield f"set_property bit_offset {field['lsb']} {of}"
            yield f"set_property bit_width {field['width']} {of}"
            yield f"set_property access {field['access']} {of}"
            yield f"set_property description {{{field['description']}{reset}}} {of}"
            if field["one_to_clear"]:
                yield f"set_property modified_write_value oneToClear {of}"


@needs_tclsh
@pytest.mark.parametrize("script", vivado.SCRIPTS)
def test_calls(script, project, built):
    """All calls of a script, and nothing else; tests/vivado/*.txt has them but for registers."""
    calls, said = run(project, script, built)
    assert said == ""
    described = "\n".join(register_calls(json.loads(built.read_text())))
    behind = {"block_design": ["package_ip"], "bitstream": ["package_ip", "block_design"]}
    expected = "".join((HERE / f"{name}.txt").read_text()
                       for name in (*behind.get(script, ()), script))
    assert calls == expected.replace("<registers>", described)


@needs_tclsh
def test_registers_of_every_kind(built):
    calls = "\n".join(register_calls(json.loads(built.read_text())))
    assert "modified_write_value oneToClear field:snapshot.take" in calls
    assert "set_property access read-write register:window_data" in calls


@needs_tclsh
def test_a_block_design_that_is_there(project, built):
    """The bitstream is made of it, not of another."""
    run(project, "block_design", built)
    assert run(project, "bitstream", built) == (
        "open_project ./board/board.xpr\n" + (HERE / "bitstream.txt").read_text(), "")


@needs_tclsh
@pytest.mark.parametrize("script, name, old, new, message", [
    ("run", "run.tcl", "core.xdc", "cores.xdc", "read_xdc: no file"),
    ("run", "run.tcl", "core.v]", "core.vhd]", "read_verilog: no file"),
    ("run", "run.tcl", "-mode out_of_context\n", "-mode out_of_contxt\n", "is none of default out"),
    ("run", "run.tcl", "phys_opt_design", "physopt_design", "unknown command physopt_design"),
    ("run", "run.tcl", "synth_design -top core", "synth_design -to core", "unknown option -to"),
    ("run", "run.tcl", "write_checkpoint -force ", "write_checkpoint -force; #", "0 arguments"),
    ("run", "route_reports.tcl", "file mkdir", "#", "report_timing_summary: no folder"),
    ("run", "route_reports.tcl", "hierarchical_percentages", "hierarchical_percentage",
     "unknown option -hierarchical_percentage"),
    ("run", "core.xdc", "s_axis_tdata[*]", "s_axis_data[*]", "no port s_axis_data"),
    ("run", "core.xdc", "s_axis_tvalid", "s_axis_tvalid[*]", "no port s_axis_tvalid[*]"),
    ("run", "core.xdc", "-period 5.000", "-period", "create_clock: top_port:clk is no number"),
    ("project", "project.tcl", "synth_reports.tcl", "reports.tcl", "set_property: no file"),
    ("project", "project.tcl", "ROUTE_DESIGN.TCL.POST", "ROUTE_DESIGN.TCL.BEHIND",
     "run has no property"),
    ("project", "project.tcl", "get_runs impl_1", "get_runs impl", "impl is none of"),
    ("package_ip", "package_ip.tcl", "s_axil_wdata", "s_axil_data", "no port s_axil_data"),
    ("package_ip", "package_ip.tcl", "-busif $name", "-busif s_axi", "no interface s_axi"),
    ("package_ip", "package_ip.tcl", "modified_write_value", "modified_write",
     "field has no property modified_write"),
    ("package_ip", "package_ip.tcl", "ipx::add_field", "ipx::add_fields", "unknown command"),
    ("block_design", "block_design.tcl", "CONFIG.FIFO_DEPTH", "CONFIG.FIFO_DEPT",
     "to_core has no CONFIG.FIFO_DEPT"),
    ("block_design", "block_design.tcl", "xilinx.com:ip:xdma", "xilinx.com:ip:xdm", "no IP"),
    ("block_design", "block_design.tcl", "wire reset/peripheral_reset core/rst", "",
     "nothing drives core/rst"),
    ("block_design", "block_design.tcl", " registers/aclk1", " registers/aclk2",
     "registers has no pin aclk2"),
    ("block_design", "block_design.tcl", "wire clock/locked reset/dcm_locked",
     "wire clock/locked clock/clk_out1", "2 drivers"),
    ("block_design", "block_design.tcl", "link to_core/M_AXIS unpack/S_AXIS", "",
     "M_AXIS is open"),
    ("block_design", "block_design.tcl", "link to_core/M_AXIS unpack/S_AXIS",
     "link to_core/M_AXIS core/s_axis", "core/s_axis is connected already"),
    ("block_design", "block_design.tcl", "wire xdma/axi_aclk clock/clk_in1 to_core/s_axis_aclk",
     "wire xdma/axi_aclk clock/clk_in1; wire clock/clk_out1 to_core/s_axis_aclk",
     "different clocks"),
    ("block_design", "block_design.tcl", "ip_repo_paths [file join $here ip]",
     "ip_repo_paths [file join $here ipx]", "no IP in"),
    ("block_design", "block_design.tcl", "get_files system.bd", "get_files design.bd",
     "no file design.bd"),
    ("block_design", "block_design.tcl", "make_wrapper -top", "make_wrapper -wrap",
     "unknown option -wrap"),
    ("block_design", "board.xdc", "pcie_perst_n", "pcie_perst", "no port pcie_perst"),
])
def test_faults_are_found(script, name, old, new, message, project, built):
    """Each of these slips ends the script with a line that names it."""
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new))
    assert message in run(project, script, built)[1]


def remap(expression, tdata):
    """Value and bits that a subset converter makes of a word; the first element is the highest."""
    value = bits = 0
    for element in reversed(expression.split(",")):
        if constant := re.fullmatch(r"(\d+)'b([01]+)", element):
            width, part = int(constant[1]), int(constant[2], 2)
        else:
            high, _, low = re.fullmatch(r"tdata\[(.*)\]", element)[1].partition(":")
            low = int(low or high)
            width = int(high) + 1 - low
            part = tdata >> low & (1 << width) - 1
        value, bits = value | part << bits, bits + width
    return value, bits


@needs_tclsh
def test_words_of_the_dma(project, built):
    """What the block design's converters make of words is what the core's ports take and give."""
    calls = run(project, "block_design", built)[0]
    remaps = {cell: dict(re.findall(r"CONFIG\.(T\w+)_REMAP \{?([^} ]+)", call))
              for call, cell in re.findall(r"set_property -dict \{(.*)\} cell:(\w+)\n", calls)}
    ports = json.loads(built.read_text())["ports"]
    layout = beat_layout(NETWORK)
    beats = pack(np.arange(200, 205)[None], layout)[0]
    user = LEARN | 2
    assert len(beats) == 2
    for beat, last in zip(beats, (0, 1), strict=True):
        sent = int(beat) | user << 32 | last << 48
        given = {"tdata": int(beat), "tuser": user, "tlast": last}
        assert {name.lower(): remap(expression, sent)
                for name, expression in remaps["unpack"].items()} == {
            name: (value, ports[f"s_axis_{name}"]["width"]) for name, value in given.items()}
    answer = 0x89ABCDEF
    value, bits = remap(remaps["repeat"]["TDATA"], answer)
    assert bits == 8 * 64 and value.to_bytes(64, "little") == answer.to_bytes(4, "little") * 16
    assert remap(remaps["repeat"]["TKEEP"], answer) == (2**64 - 1, 64)
    assert remap(remaps["repeat"]["TLAST"], answer) == (0, 1)


@needs_tclsh
@pytest.mark.parametrize("text", ["", "plain", "a b", "$x [exit] \"q\"", "un}even {", "back\\slash",
                                  "{[$\\\"", "{even}"])
def test_words_of_tcl(text):
    ran = subprocess.run(["tclsh"], input=f"puts -nonewline {word(text)}\n", capture_output=True,
                         text=True)
    assert (ran.stdout, ran.stderr) == (text, "")


def test_same_bytes_and_no_paths(built, tmp_path):
    """Another folder gives the same project, which names no place of this machine."""
    again = tmp_path / "again"
    vivado.generate(shutil.copytree(built.parent, again, ignore=lambda *_: ["vivado"]))
    files = [path.relative_to(again / "vivado") for path in (again / "vivado").rglob("*.*")
             if path.is_file()]
    assert len(files) >= 12
    for name in files:
        text = (again / "vivado" / name).read_text()
        assert text == (built.parent / "vivado" / name).read_text()
        assert str(tmp_path) not in text and str(built.parent) not in text
    assert vivado.generate(again) == again / "vivado"           # nothing to lose


def test_clock_and_part(built, tmp_path):
    folder = vivado.generate(built.parent, part="xcku115-flvb2104-2-i", clock_mhz=312.5,
                             output=tmp_path)
    assert "create_clock -name clk -period 3.200 [get_ports clk]" in (
        folder / "core.xdc").read_text()
    assert "set_part xcku115-flvb2104-2-i\n" in (folder / "run.tcl").read_text()
    assert not (folder / "block_design.tcl").exists() and not (folder / "board.xdc").exists()
    assert json.loads((folder / "settings.json").read_text()) == {
        "part": "xcku115-flvb2104-2-i", "board": None, "clock_mhz": 312.5}


def samples(folder):
    """The reports that Vivado would leave."""
    for sample, name in SAMPLES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / sample, folder / name)


def test_reports_are_read(project):
    assert reports.read(project) == {}
    samples(project)
    assert reports.read(project) == {
        "part": "xcku040-ffva1156-2-e", "board": "kcu105", "clock_mhz": 200.0,
        "synthesized": SYNTHESIZED, "routed": ROUTED, "timing": SLACKS}
    assert reports.summary(reports.read(project)) == (
        "200 MHz met: slack 0.625 ns setup, 0.031 ns hold; 229 MHz by setup")


def test_a_clock_that_is_missed(project):
    samples(project)
    text = (HERE / "timing.rpt").read_text().replace(" 0.625 ", "-1.250 ", 1)
    (project / reports.TIMING).write_text(text)
    found = reports.read(project)
    assert found["timing"]["met"] is False
    assert reports.summary(found).startswith("200 MHz NOT met: slack -1.25 ns setup")
    assert reports.summary(found).endswith("160 MHz by setup")


@pytest.mark.parametrize("name, old, message", [
    (reports.SYNTHESIZED, "CLB LUTs", "no report_utilization"),
    (reports.ROUTED, "Block RAM Tile", "no report_utilization"),
    (reports.TIMING, "WNS(ns)", "no report_timing_summary"),
    (reports.TIMING, "0.625", "no report_timing_summary"),
])
def test_other_reports_are_refused(name, old, message, project):
    samples(project)
    text = (project / name).read_text()
    (project / name).write_text(text.replace(old, "NA"))
    with pytest.raises(HwgenError, match=message):
        reports.read(project)


def test_hls4ml_reads_them(project, capsys):
    """The project's folder is one that hls4ml's own functions take."""
    from hls4ml.report import parse_vivado_report, read_vivado_report
    samples(project)
    assert parse_vivado_report(str(project)) == {
        "VivadoSynthReport": {"LUT": "1234", "FF": "2345", "BRAM_18K": "8.5", "DSP48E": "58"},
        "TimingReport": {key.upper(): value for key, value in SLACKS.items() if key != "met"}}
    read_vivado_report(str(project))
    assert "Found 1 solution(s)" in capsys.readouterr().out


def test_one_rule(tmp_path, monkeypatch):
    """Reports count where they are of the very Verilog; hls4ml then sees them, not estimates."""
    cores = [toy(tmp_path / "core", learning=True), toy(tmp_path / "core" / "inference",
                                                        learning=False)]
    total = dict.fromkeys(("lut", "ff", "dsp", "bram36"), 1)
    monkeypatch.setattr(report.compare, "synthesize", lambda manifest, flatten=False: {
        "yosys": "0", "blocks": {"readout": total}, "total": total})
    monkeypatch.setattr(report.compare, "earlier_counts", lambda *_: True)
    folder, verilog = cores[0].parent / "vivado", cores[0].parent / "core.v"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(
        {"part": "xcku040-ffva1156-2-e", "board": "kcu105", "clock_mhz": 200.0}))
    samples(folder)
    estimate = tmp_path / "vivado_synth.rpt"
    shown = tmp_path / f"my{reports.TIMING_TAIL}"
    for text, current in ((verilog.read_text(), True), ("// other\n", False)):
        (folder / "core.v").write_text(text)
        estimate.write_text("estimate")
        reports.place(cores[0], tmp_path, "my_project")
        assert (estimate.read_text() != "estimate") == shown.exists() == current
        made = report.report(*cores)
        assert made["learning"].get("vivado", {}).get("routed") == (ROUTED if current else None)
        assert "vivado" not in made["inference"]
        console = Console(file=StringIO(), width=120)
        console.print(report.table(made))
        written = report.write(made, tmp_path)[1].read_text()
        for said in (written, console.file.getvalue()):
            assert ("learning, routed by Vivado" in said) == current
        assert ("slack 0.625 ns setup" in written) == current


def fake_vivado(folder, monkeypatch, then):
    """A `vivado` on the path that writes its arguments down, and does what `then` says."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "vivado"
    program.write_text(f'#!/bin/sh\necho "$@" >> arguments.txt\n{then}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}"
                               f"{os.pathsep}{os.environ['PATH']}")


@needs_sh
def test_it_runs_vivado(built, tmp_path, monkeypatch, capsys):
    copies = "\n".join(f"mkdir -p $(dirname {name}); cp {HERE / sample} {name}"
                       for sample, name in SAMPLES.items())
    fake_vivado(tmp_path, monkeypatch, "echo 'Command: synth_design -top core'\n"
                "echo 'Phase 1.2 Global Placement'\n" + copies)
    monkeypatch.setattr(cli.vivado, "console", Console(width=120))
    output = tmp_path / "out"
    assert cli.main(["vivado", str(built.parent), "-o", str(output)]) == 0
    said = capsys.readouterr().out
    for text in ("1,234 LUT, 2,345 FF, 58 DSP, 8.5 BRAM36", "1,111 LUT", "200 MHz met",
                 "229 MHz by setup"):
        assert text in said
    assert cli.main(["vivado", str(built.parent), "-o", str(output), "--script",
                     "bitstream"]) == 0
    assert (output / "arguments.txt").read_text().splitlines() == [
        "-mode batch -nojournal -log run.log -source run.tcl",
        "-mode batch -nojournal -log bitstream.log -source bitstream.tcl"]
    # --no-run leaves it alone, and says how.
    assert cli.main(["vivado", str(built.parent), "-o", str(output), "--no-run"]) == 0
    assert f"vivado -mode batch -source {output / 'run.tcl'}" in capsys.readouterr().out
    assert len((output / "arguments.txt").read_text().splitlines()) == 2


@needs_sh
def test_no_block_design_without_a_board(built, tmp_path, monkeypatch, capsys):
    fake_vivado(tmp_path, monkeypatch, "")
    assert cli.main(["vivado", str(built.parent), "-o", str(tmp_path / "out"), "--part",
                     "xcku115-flvb2104-2-i", "--script", "bitstream"]) == 2
    assert "bitstream.tcl does not exist: a block design needs a --board" in (
        capsys.readouterr().err)
    assert not (tmp_path / "out" / "arguments.txt").exists()


@needs_sh
def test_vivado_fails(built, tmp_path, monkeypatch, capsys):
    fake_vivado(tmp_path, monkeypatch, "echo 'ERROR: [Synth 8-87] no such'\nexit 1")
    assert cli.main(["vivado", str(built.parent), "-o", str(tmp_path / "out")]) == 2
    assert re.fullmatch(r"hwgen: Vivado failed on \S+run.tcl: ERROR: \[Synth 8-87\] no such "
                        r"\(see \S+run.log\)\n", capsys.readouterr().err)


def test_without_vivado(built, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["vivado", str(built.parent)]) == 0
    assert f"vivado -mode batch -source {built.parent / 'vivado' / 'run.tcl'}" in (
        capsys.readouterr().out)


@pytest.mark.parametrize("words, message", [
    ("nowhere", "nowhere/manifest.json does not exist; build the core first"),
    ("BUILT --board zcu102", "unknown board 'zcu102'; there are kcu105, and --part"),
    ("BUILT --part ku115", "'ku115' is no part; name device, package and speed grade"),
    ("BUILT --part xcku115-flvb2104-2-i --board kcu105", "leave --part out"),
    ("BUILT --part xcku115-flvb2104-2-i --board other", "give --board or --part, not both"),
    ("BUILT --clock-mhz 0", "--clock-mhz is 1 to 1000, not 0"),
    ("BUILT --clock-mhz 100", "core.xdc is of another build or other settings, or was changed"),
    ("BUILT --part xcku115-flvb2104-2-i", "run.tcl is of another build or other settings"),
])
def test_refusals(words, message, built, capsys):
    files = {path: path.read_bytes() for path in built.parent.rglob("*.*") if path.is_file()}
    assert cli.main(["vivado", *words.replace("BUILT", str(built.parent)).split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hwgen: ") and said.count("\n") == 1 and message in said
    assert {path: path.read_bytes() for path in files} == files


def test_no_core_of_vitis(tmp_path, capsys):
    (tmp_path / "core.v").write_text("")
    (tmp_path / "manifest.json").write_text(json.dumps(
        {"verilog": "core.v", "hls": {"name": "myproject"}}))
    assert cli.main(["vivado", str(tmp_path)]) == 2
    assert "myproject inside this core is a module of Vitis HLS" in capsys.readouterr().err


def test_replace(project, built):
    """Files are replaced together with what Vivado made of them, and nothing else is touched."""
    samples(project)
    (project / "notes.txt").touch()
    (project / "board").mkdir()
    vivado.generate(built.parent, output=project)               # nothing differs: reports stay
    assert set(reports.read(project)) > {"routed"} and (project / "board").exists()
    vivado.generate(built.parent, output=project, part="xcku115-flvb2104-2-i", replace=True)
    assert reports.read(project) == {} and (project / "notes.txt").exists()
    assert not (project / "block_design.tcl").exists() and not (project / "board").exists()
    assert "xcku115" in (project / "run.tcl").read_text()

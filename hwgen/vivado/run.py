"""Runs Vivado on a project of :mod:`hwgen.vivado.generate`."""
import re
import shutil
import subprocess
from pathlib import Path

from ..errors import HwgenError

__all__ = ["SCRIPTS", "command", "installed", "run"]

SCRIPTS = ("run", "project", "package_ip", "block_design", "bitstream")
STEP = re.compile(r"Command: (\w+)|Phase \S+ (.+)")


def installed() -> bool:
    """Whether ``vivado`` is on the path."""
    return shutil.which("vivado") is not None


def command(folder: Path, script: str = "run") -> str:
    """The line that runs a script by hand."""
    return f"vivado -mode batch -source {Path(folder) / script}.tcl"


def run(folder: Path, script: str, console) -> None:
    """Run a script in batch mode, and show which step Vivado is at.

    Parameters
    ----------
    folder : Path
        Where the scripts are; Vivado's log goes to ``<script>.log`` there.
    script : str
        Of `SCRIPTS`.
    console : rich.console.Console

    Raises
    ------
    HwgenError
        When the project has no such script, or Vivado ends with an error.
    """
    folder = Path(folder)
    name = f"{script}.tcl"
    if not (folder / name).is_file():
        raise HwgenError(f"{folder / name} does not exist: a block design needs a --board")
    log = folder / f"{script}.log"
    errors = []
    with console.status("Vivado starts") as status, subprocess.Popen(
            [shutil.which("vivado"), "-mode", "batch", "-nojournal", "-log", log.name, "-source",
             name], cwd=folder, text=True, errors="replace", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as vivado:
        for line in vivado.stdout:
            if step := STEP.match(line):
                status.update(f"Vivado: {step[1] or step[2]}")
            elif line.startswith("ERROR"):
                errors.append(line.strip())
    if vivado.returncode:
        reason = errors[0] if errors else f"exit status {vivado.returncode}"
        raise HwgenError(f"Vivado failed on {folder / name}: {reason} (see {log})")

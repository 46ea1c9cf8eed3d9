"""Generated firmware on an emulated Cortex-M board, or on this machine."""
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import SimulationError

# QEMU's machine and processor. A Cortex-M3 runs the code of a Cortex-M0+ as it is.
MACHINES = {"m0plus": ("mps2-an385", "cortex-m3"), "m4": ("mps2-an386", "cortex-m4"),
            "m7": ("mps2-an500", "cortex-m7")}
CORES = ("host", *MACHINES)
ICOUNT_SHIFT = 2                    # 2**2 ns an instruction: the counter's 24 bits hold 167 million
INSTRUCTIONS_PER_TICK = 40 / 2 ** ICOUNT_SHIFT      # of 25 MHz
TIMEOUT_S = 1800                    # thousands of samples on a busy machine


def missing(core: str) -> str | None:
    """What this machine lacks to build and run for a core, as a sentence; None: nothing."""
    needed = ["gcc"] if core == "host" else ["arm-none-eabi-gcc", "qemu-system-arm"]
    for program in ["make", *needed]:
        if shutil.which(program) is None:
            return (f"{program} is missing; on Debian and Ubuntu: apt install gcc-arm-none-eabi "
                    "libnewlib-arm-none-eabi qemu-system-arm")
    return None


@dataclass(frozen=True)
class Run:
    """What a firmware did with its samples.

    Parameters
    ----------
    state : bytes
        All that training changed, as it lies in memory.
    classes : array of int64
        Of the test samples.
    losses : array of int64
        Of each training sample before its step, in 1/256 bit.
    train_instructions, test_instructions : float
        A sample; 0 on the host, which does not count.
    stack_bytes : int
        The deepest stack of a training step.
    ram_bytes, flash_bytes : int
        Of the network without its test program, from the map of its sections.
    """
    state: bytes
    classes: np.ndarray
    losses: np.ndarray
    train_instructions: float
    test_instructions: float
    stack_bytes: int
    ram_bytes: int
    flash_bytes: int


def build(folder, core: str) -> Path:
    """Compile the firmware in a folder; the path of the program."""
    lacking = missing(core)
    if lacking:
        raise SimulationError(lacking)
    done = subprocess.run(["make", "-C", folder, f"CORE={core}"], capture_output=True, text=True)
    if done.returncode:
        raise SimulationError(f"{folder}: make CORE={core} failed: {done.stderr.strip()}")
    return Path(folder, "build", core, "firmware.elf")


def run(folder, core: str, x, y, train, test) -> Run:
    """Train on samples and classify others, on a board with the processor `core` or on the host.

    Parameters
    ----------
    folder : path
        What :func:`hwgen.firmware.generate` wrote.
    core : {"host", "m0plus", "m4", "m7"}
    x : array of uint8 [n, n_in]
    y : array of int [n]
    train, test : array of int
        Which samples, in their order.

    Raises
    ------
    SimulationError
        Where a program is missing, or the firmware fails or does not end.
    """
    program = build(folder, core)
    place = program.parent
    np.column_stack([y, x]).astype(np.uint8).tofile(place / "samples.bin")
    for name, which in (("train", train), ("test", test)):
        np.asarray(which, "<u4").tofile(place / f"{name}.bin")
    if core == "host":
        command = [f"./{program.name}"]
    else:
        machine, processor = MACHINES[core]
        command = ["qemu-system-arm", "-M", machine, "-cpu", processor, "-nographic",
                   "-semihosting-config", "enable=on,target=native",
                   "-icount", f"shift={ICOUNT_SHIFT}", "-kernel", program.name]
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True,
                              timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise SimulationError(f"{program} did not end within {TIMEOUT_S} s") from error
    if done.returncode:
        raise SimulationError(f"{program} failed: {(done.stdout + done.stderr).strip()}")
    told = json.loads(done.stdout)
    out = (place / "out.bin").read_bytes()
    n_losses, n_classes = 2 * len(train), len(test)
    state = len(out) - n_losses - n_classes
    return Run(
        state=out[:state], classes=np.frombuffer(out, np.int8, n_classes, state).astype(np.int64),
        losses=np.frombuffer(out, "<i2", len(train), state + n_classes).astype(np.int64),
        train_instructions=_instructions(told["train_ticks"], len(train)),
        test_instructions=_instructions(told["test_ticks"], len(test)),
        stack_bytes=told["stack_bytes"], **sizes(place, core))


def _instructions(ticks: float, n: int) -> float:
    return ticks * INSTRUCTIONS_PER_TICK / max(n, 1)


def sizes(place: Path, core: str) -> dict[str, int]:
    """RAM and flash of the network's own objects, in bytes."""
    size = "size" if core == "host" else "arm-none-eabi-size"
    objects = [place / f"{source.stem}.o" for source in sorted(place.parents[1].glob("*.c"))
               if source.stem != "storage"]
    done = subprocess.run([size, *objects], capture_output=True, text=True, check=True)
    text, data, bss = np.array([line.split()[:3] for line in done.stdout.splitlines()[1:]],
                               int).sum(0)
    return {"ram_bytes": int(data + bss), "flash_bytes": int(text + data)}


def versions() -> dict[str, str]:
    """Of the compilers and the emulator that are installed."""
    found = {}
    for program in ("gcc", "arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(program):
            done = subprocess.run([program, "--version"], capture_output=True, text=True)
            found[program] = done.stdout.splitlines()[0]
    return found

"""Imports go one way; this test reads every file and checks it."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = {"firmware_models", "driver", "rtl", "hwgen", "sim", "examples", "tests"}
MAY_IMPORT = {
    "firmware_models": set(),
    "rtl": {"firmware_models"},
    "driver": {"firmware_models"},
    "sim": {"firmware_models", "driver"},
    "hwgen": {"firmware_models", "driver", "rtl", "sim"},
    "examples": {"firmware_models", "hwgen"},
}
# sim meets the hardware as Verilog and manifest, as any user of the Verilog does.
AMARANTH = {"rtl", "hwgen"}
# One folder knows hls4ml, and one example calls it as its users do.
HLS4ML = (Path("hwgen/frontend"), Path("examples/frontends.py"))
# One component has its adders from it, and imports it when a core is made.
DA4ML = Path("rtl/constant_product.py")
# Files that are compiled.
NUMBA = tuple(Path("firmware_models") / name for name in (
    "compiled.py", "compiled_directions.py", "compiled_update.py", "fast.py", "fast_evolution.py",
    "line_rate_cycles.py"))


def imported(text: str) -> set[str]:
    """Top-level names of the absolute imports in a file, also of those inside functions."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def wrong(path: Path, text: str) -> set[str]:
    """Imports that the file `path`, relative to the root, must not have."""
    layer = path.parts[0]
    names = imported(text)
    bad = names & PROJECT - MAY_IMPORT[layer] - {layer}
    if layer not in AMARANTH:
        bad |= names & {"amaranth"}
    if not any(map(path.is_relative_to, HLS4ML)):
        bad |= names & {"hls4ml"}
    if path != DA4ML:
        bad |= names & {"da4ml"}
    if path not in NUMBA:
        bad |= names & {"numba"}
    return bad


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_imports(layer):
    paths = sorted((ROOT / layer).rglob("*.py"))
    assert paths
    for path in paths:
        bad = wrong(path.relative_to(ROOT), path.read_text())
        assert not bad, f"{path.relative_to(ROOT)} imports {', '.join(sorted(bad))}"


@pytest.mark.parametrize("path, text, bad", [
    ("sim/device.py", "from rtl.core import Core", {"rtl"}),
    ("sim/device.py", "def f():\n    import amaranth.sim", {"amaranth"}),
    ("sim/device.py", "from .errors import SimulationError", set()),
    ("driver/driver.py", "from sim.device import Device", {"sim"}),
    ("firmware_models/loss.py", "import sim", {"sim"}),
    ("rtl/core.py", "from hwgen import build", {"hwgen"}),
    ("firmware_models/learner.py", "from numba import njit", {"numba"}),
    ("firmware_models/fast.py", "from numba import njit", set()),
    ("hwgen/build.py", "import hls4ml", {"hls4ml"}),
    ("rtl/dense.py", "def f():\n    import da4ml.cmvm", {"da4ml"}),
    ("rtl/constant_product.py", "from da4ml.cmvm import solve", set()),
    ("hwgen/frontend/backend.py", "import hls4ml", set()),
    ("examples/digits.py", "import rtl, hwgen", {"rtl"}),
])
def test_the_check_itself(path, text, bad):
    assert wrong(Path(path), text) == bad

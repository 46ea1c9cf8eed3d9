"""What numba keeps of the compiled models is not what stood in a shared file before a change."""
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from firmware_models import compiled, compiled_directions, compiled_update
from firmware_models.fast import FastLearner
from firmware_models.fast_evolution import FastEvolution
from firmware_models.settings import Settings

from .networks import small_network

ROOT = Path(__file__).parent.parent
LEARN_ONCE = """
import numpy as np
from firmware_models.fast import FastLearner, _learn
from firmware_models.settings import Settings
from tests.networks import samples, small_network
network = small_network((6, 5, 4), (0, 1))
model = FastLearner(network, Settings(layers=(0, 1)))
model.learn(*samples(network, 3))
print(len(_learn.stats.cache_hits), model.state.loss)
"""


@pytest.mark.nightly            # compiles three times
def test_a_change_is_compiled(tmp_path):
    """Code that numba keeps is taken again, but not after a change of the file with the kernels."""
    for name in ("firmware_models", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name,
                        ignore=shutil.ignore_patterns("__pycache__", "*_verilog.py"))

    def run():
        done = subprocess.run([sys.executable, "-c", LEARN_ONCE], cwd=tmp_path, check=True,
                              capture_output=True, text=True, timeout=300)
        return [int(word) for word in done.stdout.split()]

    assert run()[0] == 0
    hits, loss = run()
    assert hits == 1
    path = tmp_path / "firmware_models" / "compiled.py"
    text, old = path.read_text(), "return min((below[label] << 4) + log_sum, constants.loss_max)"
    assert text.count(old) == 1
    path.write_text(text.replace(old, "return min((below[label] << 4) + log_sum, 7)"))
    assert run() == [0, 7] and loss != 7


def test_no_record_is_taken_for_another():
    """In one process, numba compiled a function for the records of each learner."""
    network = small_network((6, 5, 4), (0, 1))
    learners = [compiled.arrays(network, 0)] + [
        kind(network, Settings(rule=rule, layers=(0, 1)))._arrays._asdict()
        for kind, rule in ((FastLearner, "np"), (FastEvolution, "es"))]
    for name in ("stages", "constants", "options", "counters"):
        types = {numba.from_dtype(arrays[name].dtype) for arrays in learners}
        assert len(types) == 3
        for one, other in itertools.permutations(types, 2):
            assert one.can_convert_to(None, other) is None, name


@pytest.mark.parametrize("kind, rule, called", [
    (FastLearner, "np", [compiled]),
    (FastEvolution, "es", [compiled, compiled_directions, compiled_update])])
def test_one_function_is_cached(kind, rule, called):
    """That which gets the arrays, whose type changes with the files that it calls."""
    model = kind(small_network((6, 5, 4), (0, 1)), Settings(rule=rule, layers=(0, 1)))
    path = ROOT.joinpath(*kind.__module__.split(".")).with_suffix(".py")
    assert path.read_text().count("cache=True") == 1
    for module in called:
        assert module.DIGEST == compiled.digest(module.__file__)
        assert module.DIGEST in str(numba.typeof(model._arrays))
        assert "cache=True" not in Path(module.__file__).read_text()

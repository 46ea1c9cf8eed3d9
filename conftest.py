"""Options of the test run: the seed and waveforms of benches, how examples are drawn."""
import gc

import pytest
from hypothesis import settings

from hwgen import data

# The same examples every time, or fresh ones: pytest --hypothesis-profile nightly.
# No deadline: a first example may wait for a C++ compiler.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("nightly", deadline=None)
settings.load_profile("ci")


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=1, help="seed of the cocotb benches")
    parser.addoption("--waves", action="store_true", help="record the signals of the benches")


def pytest_collection_finish():
    """What is there now stays to the end: the collector need not walk over it again and again."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture
def seed(request) -> int:
    """Seed of whatever a test draws beside hypothesis."""
    return request.config.getoption("--seed")


@pytest.fixture(scope="session")
def digits():
    """The data set that needs no download."""
    return data.load("digits")


@pytest.fixture
def cocotb_run(request, seed) -> dict:
    """Keyword arguments of :func:`sim.runner.run_bench` that the command line decides."""
    return {"seed": seed, "waves": request.config.getoption("--waves")}

"""Keeps hls4ml's prints and warnings off the terminal."""
import contextlib
import warnings
from pathlib import Path

LOG = "hls4ml.log"


@contextlib.contextmanager
def quiet(output_dir):
    """Send what Python code prints to ``hls4ml.log`` in `output_dir` while the block runs."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOG, "a", encoding="utf-8") as log, warnings.catch_warnings(), \
            contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        # Always shown, hence logged, even where warnings are errors: they are not ours.
        warnings.simplefilter("always")
        yield

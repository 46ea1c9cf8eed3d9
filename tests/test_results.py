"""What the documents claim can be run: every file has its run, and what has ended is kept."""
from pathlib import Path

import pytest

from examples import results
from examples.results import Run

DOCUMENTS = Path(__file__).parent.parent / "docs" / "results"
# docs/generate.py draws the figures; the comparison is with a report of an older core.
OTHERS = {"forwards.png", "growth.png", "study_noise.png", "study_table.png", "mnist.changes.json"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.py").write_text(
        "import sys; from pathlib import Path; count = Path('count');"
        "count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1));"
        "(Path(sys.argv[1]) / 'a.json').write_text(count.read_text()); sys.exit(len(sys.argv) - 2)")
    return tmp_path


def test_every_file_has_a_run():
    made = [target for run in results.RUNS for target in run.files.values()]
    assert len(set(made)) == len(made)
    assert len({run.name for run in results.RUNS}) == len(results.RUNS)
    assert {path.name for path in DOCUMENTS.iterdir()} == {*made, *OTHERS}


@pytest.mark.parametrize("spreads", [False, True])
def test_goes_on_where_it_was(folder, monkeypatch, spreads):
    monkeypatch.setattr(results, "RUNS", (
        Run("one", "job {}", {"a.json": "one.json", "log.txt": "one.txt"}, spreads),))
    for arguments, count in (([], "1"), ([], "1"), (["--again"], "2")):
        assert results.main(arguments) == 0
        assert (folder / "docs/results/one.json").read_text() == count
    assert (folder / "docs/results/one.txt").read_text() == ""


def test_a_failure_keeps_what_is_there(folder, monkeypatch, capsys):
    kept = folder / "docs/results/one.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    monkeypatch.setattr(results, "RUNS", (Run("one", "job {} more", {"a.json": "one.json"}),))
    for count in (1, 2):        # it is not taken for done
        assert results.main([]) == 2
        assert kept.read_text() == "kept" and (folder / "count").read_text() == str(count)
    error = capsys.readouterr().err
    assert error.count("\n") == 2 and "one ended with status 1" in error and "errors.txt" in error

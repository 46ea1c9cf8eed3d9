"""What documents take from code and runs is up to date, and the README's code runs."""
import importlib.util
import re
from pathlib import Path

import numpy as np

import hwgen
from hwgen import data, example

ROOT = Path(__file__).parent.parent


def test_generated_parts_are_current():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for path, text in generate.documents().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)}: run make docs"


def test_readme_code(tmp_path, monkeypatch):
    """The block under 'With your own network', with a graph and data as it asks for them."""
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    _, graph = example.prepare("digits", tmp_path)
    digits = data.load("digits")
    names = {"hwgen": hwgen, "graph": graph, "x": digits.x_train[:20].astype(np.int64),
             "y": digits.y_train[:20], "x_test": digits.x_test[:50].astype(np.int64),
             "y_test": digits.y_test[:50]}
    exec(code, names)
    assert names["device"].read("samples") == 70
    names["device"].close()


def test_links_of_documents():
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"

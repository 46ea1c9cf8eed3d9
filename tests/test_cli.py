"""The command line: files it leaves, one line and status 2 for what is wrong."""
import json

import pytest

from hwgen import recover
from hwgen.cli import main
from hwgen.recover import settings_for

RECOVER_KEYS = {"example", "rule", "disturbance", "clean", "before", "after", "samples", "passes",
                "cycles", "clock_mhz", "seconds", "bit_exact", "curve", "probes", "layers",
                "cycles_per_sample_learning", "cycles_per_sample_inference"}


def test_build_gives_the_same_bytes(tmp_path, capsys):
    for folder in ("a", "b"):
        assert main(["build", "-o", str(tmp_path / folder), "--lint"]) == 0
    assert "lint: clean" in capsys.readouterr().out
    for name in ("core.v", "manifest.json"):
        text = (tmp_path / "a" / name).read_text()
        assert text == (tmp_path / "b" / name).read_text()
        assert str(tmp_path) not in text


def test_recover(tmp_path, capsys):
    assert main(["recover", "-o", str(tmp_path), "--samples", "360", "--seeds", "1", "2",
                 "--rule", "qzo", "--train", "fc2", "fc3", "--layers", "fc2"]) == 0
    summary = json.loads((tmp_path / "recover.json").read_text())
    assert RECOVER_KEYS <= set(summary)
    assert summary["bit_exact"] is True and summary["cycles_exact"] is True
    assert (summary["samples"], summary["passes"]) == (360, 1800)
    assert summary["layers"] == ["fc2"] and len(summary["runs"]) == 2
    assert (tmp_path / "recover.png").read_bytes().startswith(b"\x89PNG")
    assert "bit-exact with the golden model" in capsys.readouterr().out


@pytest.mark.parametrize("words, message", [
    ("build --example nope", "unknown example 'nope'; there are digits, mnist"),
    ("build --train fc9", "unknown layer 'fc9' of digits; its dense layers are fc1, fc2, fc3"),
    ("build --reuse fc1=5", "reuse factor 5 does not divide its 64 inputs"),
    ("build --residual 9", "residual must be 0 to 8 bits, not 9"),
    ("build --max-pairs 0", "max_pairs must be 1 to 64, not 0"),
    ("recover --rule magic", "unknown rule 'magic'; there are np, es, qzo, delta"),
    ("recover --rule qzo --fitness rank", "rule qzo has fitness sign"),
    ("recover --rule qzo --vote 2", "rule qzo has vote 0; for 2 use rule es"),
    ("recover --vote 2", "rule np has no vote; it is for rule es"),
    ("recover --rule es --fitness zscore", "these settings need --options shaping"),
    ("recover --rule es --vote 2", "these settings need --options vote"),
    ("recover --rule es --pairs 17", "17 pairs do not fit a core for 16; raise --max-pairs"),
    ("recover --pairs 4", "rule np has no pairs; it is for rule es"),
    ("recover --rule es --probes 4", "rule es has no probes; it is for rule np"),
    ("recover --probes 33", "probes must be 0 to 32, not 33"),
    ("recover --rule es --rules np", "rule es needs es in --rules"),
    ("recover --layers fc2", "layer 'fc2' is not trainable in this core; name it in --train"),
    ("recover --disturb fog", "unknown disturbance 'fog'; choose one of none, noise:STD"),
    ("recover --samples 3", "3 samples are fewer than the curve has points; give 20 or more"),
])
def test_refusals(words, message, tmp_path, capsys):
    assert main([*words.split(), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1 and "Traceback" not in error


def test_a_difference_is_a_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recover, "compare", lambda *_: "weights[2][0, 0]: 1, expected 2")
    assert main(["recover", "-o", str(tmp_path), "--samples", "40"]) == 2
    assert "state or predictions of core and golden model differ" in capsys.readouterr().err


def test_does_not_overwrite_what_it_did_not_write(tmp_path, capsys):
    (tmp_path / "core.v").write_text("module mine; endmodule\n")
    assert main(["build", "-o", str(tmp_path)]) == 2
    assert "is not an earlier build" in capsys.readouterr().err
    assert (tmp_path / "core.v").read_text() == "module mine; endmodule\n"


@pytest.mark.parametrize("words", ["--help", "demo --help", "build --help", "simulate --help",
                                   "report --help", "recover --help"])
def test_help(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 0
    assert "usage: hwgen" in capsys.readouterr().out


def test_node_probes(tmp_path):
    assert main(["recover", "-o", str(tmp_path), "--samples", "300", "--seeds", "1",
                 "--layers", "fc1", "fc3", "--probes", "4"]) == 0
    summary = json.loads((tmp_path / "recover.json").read_text())
    assert summary["bit_exact"] is True and summary["cycles_exact"] is True
    assert (summary["rule"], summary["probes"], summary["passes"]) == ("np", 4, 300 * 5)
    assert summary["layers"] == ["fc1", "fc3"]
    assert summary["cycles_per_sample_inference"] == 64


def test_settings_of_rules():
    assert settings_for("np", (0, 2)).probes == 8
    assert settings_for("qzo", (2,), pairs=None).fitness == "sign"
    assert settings_for("es", (2,), pairs=8).pairs == 8

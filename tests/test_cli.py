"""The command line: files it leaves, one line and status 2 for what is wrong."""
import json
from dataclasses import replace

import numpy as np
import pytest

from driver import weights as checkpoint
from firmware_models import journal
from firmware_models.learner import Learner
from hwgen import cli, data, example, firmware, recover
from hwgen.cli import main
from hwgen.recover import settings_for

RECOVER_KEYS = {"example", "rule", "disturbance", "clean", "before", "after", "samples", "passes",
                "cycles", "clock_mhz", "seconds", "bit_exact", "curve", "probes", "layers",
                "cycles_per_sample_learning", "cycles_per_sample_inference"}


def test_build_gives_the_same_bytes(tmp_path, capsys):
    for folder in ("a", "b"):
        assert main(["build", "-o", str(tmp_path / folder), "--lint"]) == 0
    assert "lint: clean" in capsys.readouterr().out
    for name in ("core.v", "manifest.json", "core_registers.h", "core.xml", "core.core",
                 "core_lint.vlt", "core_tb.sv"):
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
    ("build --journal-records 100", "journal_records must be a power of two, 16 to 4096, not 100"),
    ("build --options journal", "option journal needs rule es"),
    ("build --rules es --options momentum,journal", "option momentum does not go with journal"),
    ("recover --rule qzo --momentum", "these settings need --options momentum"),
    ("build --rules es --options replay", "option replay needs option rounding"),
    ("build --rules es --options rounding,replay,journal",
     "option replay does not go with journal"),
    ("build --options topk --train fc1", "fc3 is not trainable; make it so"),
    ("recover --lmin 26", "these settings need --options topk"),
    ("recover --rule delta --train fc3 --options topk --lmin 26 --lmax 20",
     "lmin must be 0 to 20, not 26"),
    ("recover --rule delta --train fc3 --standardize 16",
     "these settings need --options standardize"),
    ("recover --rule es --lmin 26", "rule es has no lmin; it is for rule np"),
    ("build --train prompt", "option prompt needs rule es"),
    ("build --options prompt --rules np,es", "a core with rule np cannot have it"),
    ("build --reuse prompt=2", "unknown layer 'prompt' of digits"),
    ("recover --layers prompt", "layer 'prompt' is not trainable in this core; name it in --train"),
    ("sweep --layers prompt", "a prompt learns by rule es"),
    ("recover --rule es --save-journal", "--save-journal needs --options journal"),
    ("recover --rule delta --probes 4", "rule delta has no probes: the last layer learns alone"),
    ("recover --rule delta --lr-shift 4", "rule delta has no lr-shift: the last layer learns"),
    ("recover --rule delta --train fc1", "rule delta learns in the last layer alone; name fc3"),
    ("recover --rule delta --layers fc1 fc3", "rule delta learns in the last layer alone; name"),
    ("recover --rule magic", "unknown rule 'magic'; there are np, es, qzo, delta"),
    ("recover --rule qzo --fitness rank", "rule qzo has fitness sign"),
    ("recover --rule qzo --vote 2", "rule qzo has vote 0; for 2 use rule es"),
    ("recover --vote 2", "rule np has no vote; it is for rule es"),
    ("recover --rule es --fitness zscore", "these settings need --options shaping"),
    ("recover --rule es --vote 2", "these settings need --options vote"),
    ("recover --rule es --rounding nearest", "these settings need --options rounding"),
    ("recover --rule es --options rounding --rounding replay",
     "these settings need --options replay"),
    ("recover --rounding nearest", "rule np has no rounding; it is for rule es"),
    ("recover --rule es --pairs 17", "17 pairs do not fit a core for 16; raise --max-pairs"),
    ("recover --pairs 4", "rule np has no pairs; it is for rule es"),
    ("recover --rule es --probes 4", "rule es has no probes; it is for rule np"),
    ("recover --probes 33", "probes must be 0 to 32, not 33"),
    ("recover --rule es --rules np", "rule es needs es in --rules"),
    ("recover --layers fc2", "layer 'fc2' is not trainable in this core; name it in --train"),
    ("recover --disturb fog", "unknown disturbance 'fog'; choose one of none, noise:STD"),
    ("netlist --samples 1", "state is compared twice; give --samples of 2 or more"),
    ("pnr --part ice40", "unknown part 'ice40'; there are LFE5U-85F-6"),
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
                                   "report --help", "recover --help", "replay --help",
                                   "netlist --help", "pnr --help"])
def test_help(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 0
    assert "usage: hwgen" in capsys.readouterr().out


def test_help_has_every_option_of_every_rule(capsys):
    """Each on its rule's line with its default, and an example of each rule."""
    with pytest.raises(SystemExit):
        main(["recover", "--help"])
    text = capsys.readouterr().out
    table, examples = text[text.index("options of the rules"):].split("examples:")
    lines = " ".join(table.split())
    for rule, more in (("np", "--probes=8 --head-shift=7"), ("es", "--pairs=4 --batch=2"),
                       ("qzo", "--pairs=2 --sparse=off"), ("delta", "--head-shift=7 --skip=0")):
        assert more in lines and f"--rule {rule} " in examples
    for name in (*recover.COMMON, *sum(recover.OPTIONS.values(), ())):
        flag = f"--{name.replace('_', '-')}"
        assert f"  {flag} " in text and flag in table
        if name in ("sparse", "rank1", "kernel", "momentum", "vote", "sharp",
                    "sigma_decay", "start", "lmin", "lmax", "standardize"):
            option = {"start": "drift", "lmin": "topk", "lmax": "topk"}.get(name, name)
            assert f"with --options {option}:" in " ".join(text.split())
    # The examples are commands that are understood.
    for line in examples.replace("\\\n", "").strip().splitlines():
        cli.parser().parse_args(line.split()[1:])


def refused(capsys, *words: str) -> str:
    """The line that a command ends with."""
    assert main([*words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    return error


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Folder of a recovery that saved its journal, of more records than the core keeps."""
    folder = tmp_path_factory.mktemp("learned")
    assert main(["recover", "-o", str(folder), "--rule", "es", "--train", "fc2", "fc3", "--layers",
                 "fc3", "--samples", "200", "--seeds", "2", "1", "--pairs", "3", "--batch", "2",
                 "--options", "journal", "--journal-records", "16", "--save-journal"]) == 0
    return folder


def test_replay(learned, tmp_path, monkeypatch, capsys):
    """What is rebuilt from the journal is what the golden model of the run ended with."""
    settings = settings_for("es", (2,), pairs=3, batch=2)
    network, _ = example.prepare("digits", tmp_path, ["fc2", "fc3"])
    twin = Learner(network, replace(settings, seed=0x9E3779B9 * 2 % 0xFFFFFFFF + 1))
    twin.learn(*recover.stream(data.load("digits"), "rotate:30", 200, 2))
    words = ["replay", "--manifest", str(learned / "manifest.json"), "--journal",
             str(learned / "journal.json"), "-o"]
    for name in ("a", "b"):
        assert main([*words, str(tmp_path / name / "weights.npz")]) == 0
    assert "weights after 100 updates" in " ".join(capsys.readouterr().out.split())
    path = tmp_path / "a" / "weights.npz"
    assert path.read_bytes() == (tmp_path / "b" / "weights.npz").read_bytes()
    assert json.loads((learned / "journal.json").read_text())["written"] == 300
    deployed = twin.deployed_network()
    with np.load(path) as got:
        assert len(got.files) == 9          # and which cores may have them
        for index, layer in ((1, "fc2"), (2, "fc3")):
            dense = deployed.stages[index].dense
            assert (got[f"{layer}.weight_master"] == twin.state.weights[index]).all()
            assert (got[f"{layer}.bias_master"] == twin.state.biases[index]).all()
            assert (got[f"{layer}.weight"] == dense.weight_codes).all()
            assert (got[f"{layer}.bias"] == dense.bias_codes).all()
            assert (dense.weight_codes == network.stages[index].dense.weight_codes).all() \
                == (layer == "fc2")
    masters, _ = checkpoint.load(path, json.loads((learned / "manifest.json").read_text()))
    assert list(masters) == [1, 2] and (masters[2] == twin.state.weights[2]).all()


def test_replay_refuses(learned, tmp_path, capsys):
    """One line for each journal or manifest that the weights do not follow from."""
    files = {name: learned / f"{name}.json" for name in ("manifest", "journal")}

    def line(*more, **changed):
        for name, text in changed.items():
            (tmp_path / f"{name}.json").write_text(text)
        paths = {name: tmp_path / f"{name}.json" if name in changed else files[name]
                 for name in files}
        return refused(capsys, "replay", "--manifest", str(paths["manifest"]), "--journal",
                       str(paths["journal"]), "-o", str(tmp_path / "weights.npz"), *more)

    text = files["journal"].read_text()
    whole = journal.from_json(text)
    manifest = json.loads(files["manifest"].read_text())
    assert "and the journal has 200; read it more often" in line(
        journal=replace(whole, records=whole.records[100:]).to_json())
    assert "for another network; name the one with digest 0000" in line(
        journal=replace(whole, network="0" * 64).to_json())
    assert "with 3 residual bits, not 4" in line(journal=replace(whole, residual=3).to_json())
    assert "residual bits, not 5" in line(manifest=json.dumps(manifest | {"residual": 5}))
    assert "is of another network than digits" in line(
        manifest=json.dumps(manifest | {"digest": "1" * 64}))
    assert "is of another network than ecg" in line("--example", "ecg")
    assert "unknown example 'nope'" in line("--example", "nope")
    assert "not a journal, or corrupt" in line(journal=text[:-9])
    assert "checksum does not match" in line(journal=text.replace('"written": 300',
                                                                  '"written": 200'))
    assert "is not a manifest" in line(manifest="{}")
    files["journal"] = tmp_path / "missing.json"
    assert "hwgen recover --save-journal writes one" in line()
    assert not (tmp_path / "weights.npz").exists()


def test_prompt(tmp_path):
    """A core that learns nothing but a prompt, and its prompt from the journal."""
    assert main(["recover", "-o", str(tmp_path), "--rule", "qzo", "--train", "prompt", "--options",
                 "journal", "--samples", "40", "--seeds", "1", "--save-journal"]) == 0
    summary = json.loads((tmp_path / "recover.json").read_text())
    assert summary["bit_exact"] is True and summary["cycles_exact"] is True
    assert summary["layers"] == ["prompt"]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["prompt"]["n_in"] == 64 and manifest["options"] == ["prompt", "journal"]
    assert main(["replay", "--manifest", str(tmp_path / "manifest.json"), "--journal",
                 str(tmp_path / "journal.json"), "-o", str(tmp_path / "weights.npz")]) == 0
    with np.load(tmp_path / "weights.npz") as got:
        assert got["prompt.weight"].shape == (1, 64) and got["prompt.weight_master"].any()


def test_node_probes(tmp_path):
    assert main(["recover", "-o", str(tmp_path), "--samples", "300", "--seeds", "1",
                 "--layers", "fc1", "fc3", "--probes", "4"]) == 0
    summary = json.loads((tmp_path / "recover.json").read_text())
    assert summary["bit_exact"] is True and summary["cycles_exact"] is True
    assert (summary["rule"], summary["probes"], summary["passes"]) == ("np", 4, 300 * 5)
    assert summary["layers"] == ["fc1", "fc3"]
    assert summary["cycles_per_sample_inference"] == 64


@pytest.mark.parametrize("rule", ["np", "es"])
def test_drift(rule, tmp_path):
    """A disturbance that is learned away: learning stops before the end of the stream."""
    words = ["recover", "-o", str(tmp_path), "--samples", "1200", "--seeds", "1", "--rule", rule,
             "--disturb", "none", "--start", "800", "--stop", "700", "--restart"]
    assert main([*words, "--options", "drift"]) == 0
    summary = json.loads((tmp_path / "recover.json").read_text())
    assert summary["bit_exact"] is True and summary["cycles_exact"] is True
    assert summary["runs"][0]["learned"] == 192         # from the first decision on it is off
    assert main(words) == 2


def test_settings_of_rules():
    assert settings_for("np", (0, 2)).probes == 8
    assert settings_for("qzo", (2,), pairs=None).fitness == "sign"
    assert settings_for("es", (2,), pairs=8).pairs == 8


def test_firmware(tmp_path, capsys):
    """An example that runs, and sources of a network from a file; the same network's bytes."""
    assert main(["firmware", "digits", "-o", str(tmp_path), "--samples", "300", "--seeds", "1", "2",
                 "--board-samples", "40", "--lmin", "0.25"]) == 0
    summary = json.loads((tmp_path / "firmware.json").read_text())
    assert set(summary["cores"]) == {"m0plus", "m4", "m7"} and len(summary["runs"]) == 2
    assert all(found.get("equal") or "apt install" in found["missing"]
               for found in summary["cores"].values())
    assert summary["after"] > summary["before"] + 40
    assert summary["settings"]["lmin"] == 64
    assert "after 300 samples, mean of 2 seeds" in capsys.readouterr().out

    layers = firmware.example.task("digits").layers
    path = firmware.save(tmp_path / "mine.npz", layers, firmware.example.start("digits", 1))
    assert main(["firmware", str(path), "-o", str(tmp_path / "mine"), "--lmin", "0.25",
                 "--lr-shift", "3", "--lr-decay", "1400"]) == 0
    assert "5,060 bytes of state" in " ".join(capsys.readouterr().out.split())
    for name in ("network.c", "training.c"):
        one, two = ((folder / name).read_text() for folder in (tmp_path, tmp_path / "mine"))
        assert one.replace(" * digits", " * mine") == two


@pytest.mark.parametrize("mode", ["uint8", "mixed", "float32"])
def test_firmware_modes(tmp_path, capsys, mode):
    """An example that runs, in a folder of its own, and sources of a file that knows its mode."""
    assert main(["firmware", "digits", "-o", str(tmp_path), "--mode", mode, "--samples", "480",
                 "--board-samples", "20", "--batch", "12", "--cores"]) == 0
    summary = json.loads((tmp_path / "firmware.json").read_text())
    assert summary["after"] > summary["before"] + 40 and summary["mode"] == mode
    assert summary["settings"]["batch"] == 12 and summary["gradient_bytes"] == 4 * (65 * 32 + 330)
    assert f"digits, {mode}, none" in capsys.readouterr().out

    layers = firmware.example.task("digits").layers
    state = firmware.example.start("digits", 1, mode)
    path = firmware.save(tmp_path / "mine.npz", layers, state)
    assert main(["firmware", str(path), "-o", str(tmp_path / "mine"), "--batch", "12"]) == 0
    one, two = ((folder / "network.c").read_text() for folder in (tmp_path, tmp_path / "mine"))
    assert one.replace(" * digits", " * mine") == two
    assert main(["firmware", str(path), "--mode", "integer"]) == 2
    assert (f"a network of mode {mode}, not integer; leave out --mode"
            in " ".join(capsys.readouterr().err.split()))


@pytest.mark.parametrize("arguments, message", [
    (["nope"], "unknown example 'nope'; there are digits, depthwise, fashion, mnist, speech, ecg"),
    (["none.npz"], "none.npz: there is no such file; write one with hwgen.firmware.save"),
    (["digits", "--skip", "99999"], "skip must be 0 to 16383, not 99999"),
    (["digits", "--lmin", "0.5", "--lmax", "0.25"], "lmin must be 0 to 64, not 128"),
    (["digits", "--mode", "uint8", "--lr", "-1"], "lr must be 0 to 1024, not -1.0"),
    (["digits", "--mode", "uint8", "--lr-shift", "3"],
     "mode uint8 takes no --lr-shift; it has --lr, --batch, --standardize, --moving-errors, "
     "--floor-errors, --lmin, --lmax"),
    (["digits", "--lr", "0.1"], "mode integer takes no --lr; it has --lr-shift, --lr-decay, "
     "--standardize, --lmin, --lmax, --error-bits, --skip"),
    (["digits", "--mode", "float32", "--no-floor-errors"],
     "mode float32 takes no --floor-errors; it has --lr, --batch, --standardize, --lmin, --lmax"),
    (["digits", "--samples", "0"], "there is nothing to learn from; give --samples"),
])
def test_firmware_refuses(arguments, message, tmp_path, capsys):
    assert main(["firmware", *arguments, "-o", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_firmware_of_a_damaged_file(tmp_path, capsys):
    (tmp_path / "x.npz").write_bytes(b"PK nothing")
    assert main(["firmware", str(tmp_path / "x.npz")]) == 2
    assert "x.npz: not a network of hwgen.firmware.save" in capsys.readouterr().err

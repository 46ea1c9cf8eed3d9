"""The study's own arithmetic: flipped bits, scores, changed models, one small row of each kind."""
import numpy as np
import pytest

from examples import ablation, study, study_page
from firmware_models import line_rate
from firmware_models.learner import Learner, compare
from firmware_models.rules import node_probe
from firmware_models.settings import Settings
from hwgen import data, example

from .networks import samples, small_network


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    network, _ = example.prepare("digits", tmp_path_factory.mktemp("digits"), train=["fc1", "fc3"])
    return network


def test_flipped_bits():
    masters = np.random.default_rng(1).integers(-2048, 2048, (40, 50))
    got = study.flipped(masters, 12, np.random.default_rng(2))
    assert got.min() >= -2048 and got.max() < 2048
    assert np.bitwise_count((got ^ masters) & 0xFFF).sum() == 240


def test_scores():
    assert study.scores(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])) == [75, 75]
    assert study.scores(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])) == [75, 50]


def test_unchanged_variant_is_the_golden_model():
    network = small_network([6, 8, 4], trainable=(0, 1))
    settings = Settings(layers=(0, 1), lr_shift=4, head_shift=4)
    x, y = samples(network, 40)
    plain = Learner(network, settings)
    for one in zip(x, y, strict=True):
        plain.step(*one)
    same = ablation.learner_of(ablation.VARIANTS[0], network, settings)
    ablation.learn(ablation.VARIANTS[0], same, x, y)
    assert not compare(plain.state, vars(same.state))


@pytest.mark.parametrize("variant", ablation.VARIANTS[1:], ids=lambda v: v.name)
def test_variants_change_the_weights_and_nothing_behind_them(variant):
    network = small_network([6, 8, 4], trainable=(0, 1))
    settings = Settings(layers=(0, 1), lr_shift=4, head_shift=4)
    x, y = samples(network, 40)
    before = (node_probe.signs, node_probe.accumulate, line_rate.apply, line_rate.step_of)
    plain = ablation.learner_of(ablation.Variant("", residual=variant.residual), network, settings)
    ablation.learn(ablation.VARIANTS[0], plain, x, y)
    other = ablation.learner_of(variant, network, settings)
    ablation.learn(variant, other, x, y)
    assert compare(plain.state, vars(other.state))
    assert before == (node_probe.signs, node_probe.accumulate, line_rate.apply, line_rate.step_of)


@pytest.mark.parametrize("delay", [1, 3])
def test_delay(delay):
    """The first update arrives with the sample that is `delay` after the first."""
    network = small_network([6, 8, 4], trainable=(1,))
    learner = ablation.learner_of(ablation.Variant("", delay=delay), network,
                                  Settings(layers=(1,), head_shift=0))
    x, y = samples(network, delay + 1)
    start = learner.state.biases[1]
    for n, one in enumerate(zip(x, y, strict=True)):
        learner.step(*one)
        assert (learner.state.biases[1] == start).all() == (n < delay)


def test_runs_of_every_kind(digits):
    run = study.run_np(digits, "stuck:0.2", study.NP, 1, (50, 100))
    assert [point[0] for point in run["curve"]] == [0, 50, 100]
    dataset = data.load("digits")
    x, y = study.judged_by("digits", "stuck:0.2", 1, "test")
    assert run["curve"][0][1:] == study.judge(digits, x, y) and len(y) == len(dataset.y_test)
    es = study.run_es(digits, "stuck:0.2", {"pairs": 1}, 1, (50, 100), 64)
    assert [n for n, *_ in es["curve"]] == [0, 50, 100]
    assert [n for n, *_ in es["at_cycles"]] == [50, 100]
    # What takes longer than np sees less in np's cycles.
    assert [same for _, same, *_ in es["at_cycles"]] == [
        round(n * 64 / es["cycles_per_sample"]) for n in (50, 100)]
    error = study.run_error(digits, "nodes", study.NP, 1)
    assert error["before"][0] > error["curve"][0][1]


def test_float_training_learns(digits, monkeypatch):
    monkeypatch.setattr(study, "ROUNDS", 1)
    start = study.judge(digits, *study.judged_by("digits", "rotate:30", 1, "test"))
    assert study.run_float(digits, "rotate:30", 1)["accuracy"][0] > start[0] + 30


def row(rule, layers=("fc1", "fc3"), example="mnist", level=80.0):
    """A row as examples/study.py writes it, of two seeds."""
    def points(seed):
        return [[n, level + seed, 50.0] for n in (0, 500, 2000, 16000)]
    runs = [{"seed": s, "accuracy": [level + s, 50.0], "curve": points(s), "cycles_per_sample": 800,
             "at_cycles": [[n, 2 * n, level - s, 40.0] for n in (500, 2000, 16000)]}
            for s in (1, 2)]
    return {"title": rule, "rule": rule, "example": example, "disturbance": "noise:0.3",
            "layers": list(layers), "settings": {"lr_shift": 9}, "runs": runs, "seeds": [1, 2],
            "cycles_per_sample": 784}


STUDY = {
    "np": {"settings": {"lr_shift": 9}, "layers": ["fc1"], "residual": 4,
           "of": {"ecg": {"skip": 64}}},
    "sets": {name: {"field": 1000, "known": [97.0, 96.0]} for name in ("mnist", "ecg")},
    "float": {"rounds": 2, "samples": 100},
    "main": {"command": "run it", "rows": [row("np")]},
    "table": {"command": "run it", "rows": [
        row(rule, layers, name, level) for name in ("mnist", "ecg") for rule, layers, level in (
            ("np", ("fc1", "fc3"), 80.0), ("float", ("fc1", "fc3"), 90.0), ("es", ("fc3",), 70.0),
            ("qzo", ("fc3",), 60.0))]},
}


def test_page_of_what_has_been_run():
    page = study_page.markdown(STUDY)
    assert "| np | 81.5 ± 0.7 | 81.5 ± 0.7 | 81.5 ± 0.7 | 81.5 ± 0.7 | 784 |" in page
    assert ("| `mnist` noise:0.3 | fc3 | 2,000 | 81.5 ± 0.7 | 71.5 ± 0.7 | 68.5 ± 0.7 (4,000) |"
            in page)
    # Of ecg the mean of the classes, which are the second number of a point.
    assert "| `ecg` noise:0.3 | 1,000 | 96.0 | 50.0 ± 0.0 |" in page
    assert "After errors" not in page and "What matters" not in page


def test_figures(tmp_path):
    study_page.plot(STUDY, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"study_noise.png", "study_table.png"}

"""The landscape study's own arithmetic: losses at known points, known paths, what is written."""
import json

import numpy as np
import pytest

from examples import landscape, landscape_page, study
from firmware_models.learner import Learner
from firmware_models.settings import Settings
from hwgen import data
from hwgen.recover import stream

from .networks import samples, small_network


def test_start_is_the_network():
    network = small_network([6, 8, 4], trainable=(0, 1))
    point = landscape.point_of(network)
    assert point.shape == (6 * 8 + 8 + 8 * 4 + 4,)
    assert landscape.placed(network, point).digest() == network.digest()
    # Half a step up is the next code, anything less is not.
    for less in (-0.5, 0.49):
        assert landscape.placed(network, point + less).digest() == network.digest()
    weights = network.stages[0].dense.weight_codes
    moved = landscape.placed(network, point - 0.51).stages[0].dense
    assert (moved.weight_codes == np.maximum(weights - 1, moved.weight.min)).all()
    far = landscape.placed(network, point + 1e6).stages[1].dense
    assert (far.weight_codes == far.weight.max).all() and (far.bias_codes == far.bias.max).all()


def test_only_layers_that_learn_are_placed():
    network = small_network([6, 8, 4], trainable=(1,))
    point = landscape.point_of(network)
    assert point.shape == (8 * 4 + 4,)
    moved = landscape.placed(network, point + 1).stages
    assert (moved[0].dense.weight_codes == network.stages[0].dense.weight_codes).all()
    assert (moved[1].dense.bias_codes != network.stages[1].dense.bias_codes).any()


def test_integer_loss_is_the_models():
    """At the start and at the end of a path: mean of the losses that the learner has."""
    network = small_network([6, 8, 4], trainable=(0, 1))
    learner = Learner(network, Settings(layers=(0, 1), lr_shift=4, head_shift=4))
    x, y = samples(network, 60)
    for point in (landscape.point_of(network), None):
        if point is None:
            learner.learn(x, y)
            # What is applied to weights with the samples that come later.
            learner.configure(learner.settings)
            point = landscape.point_of(learner.deployed_network())
        losses = []
        for row, label in zip(x, y, strict=True):
            learner.step(row, int(label), learn=False)
            losses.append(learner.state.loss)
        assert landscape.integer_loss(network, point, x, y) == np.mean(losses) / 256


def test_float_loss_by_hand():
    """Two inputs, two hidden nodes, two classes: log2(1 + 2**-d), d the difference of logits."""
    network = small_network([2, 2, 2], trainable=(0, 1))
    unit, scale = 2.0 ** network.input.frac, [
        2.0 ** stage.dense.weight.frac for stage in network.stages]
    bias = [2.0 ** stage.dense.bias.frac for stage in network.stages]
    # h = max(0, (x0 - x1, x1 + 1/2)), logits = (2 h0, h1 - 1).
    point = np.concatenate([scale[0] * np.array([1, -1, 0, 1]), bias[0] * np.array([0, 0.5]),
                            scale[1] * np.array([2, 0, 0, 1]), bias[1] * np.array([0, -1])])
    x = np.array([[0.5 * unit, 0.25 * unit], [0.25 * unit, 0.5 * unit]])
    # Logits: (0.5, -0.25) and (0, 0).
    one = landscape.float_loss(network, point, x[:1], np.array([0]))
    assert one == pytest.approx(np.log2(1 + 2 ** -0.75))
    assert landscape.float_loss(network, point, x[:1], np.array([1])) == pytest.approx(0.75 + one)
    assert landscape.float_loss(network, point, x, np.array([0, 1])) == pytest.approx(
        (one + 1) / 2)


def test_plane_of_a_known_path():
    """A path in a known plane: its coordinates up to a rotation, and nothing outside."""
    rng = np.random.default_rng(1)
    a, b = np.linalg.qr(rng.normal(size=(50, 2)))[0].T
    known = np.array([[0, 0], [4, 0], [8, 0.5], [12, -1], [20, 1]])
    moved = known @ np.array([a, b])
    directions = landscape.plane(moved)
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)
    coordinates = moved @ directions.T
    np.testing.assert_allclose(coordinates @ coordinates.T, known @ known.T, atol=1e-9)
    assert (coordinates[-1] > 0).all() and abs(directions[0] @ a) > 0.99
    assert sum(landscape.share(moved, directions)) == pytest.approx(1)
    # With as much outside the plane as in it.
    outside = np.linalg.norm(moved, axis=1)[:, None] * np.eye(50)[None, 7]
    outside -= outside @ directions.T @ directions
    outside *= np.linalg.norm(moved) / np.linalg.norm(outside)
    assert sum(landscape.share(moved + outside, directions)) == pytest.approx(0.5)


def test_random_walk():
    """Shares of a long walk: those of Brownian motion; of a drawn one: what was computed."""
    n = np.arange(1, 1001)
    # Eigenvalues of min(s, t) on [0, 1] are ((k - 1/2) pi)**-2; their sum is 1/2.
    assert landscape.walk_share(n) == pytest.approx([8 / np.pi ** 2, 8 / 9 / np.pi ** 2], abs=2e-3)
    spaced = landscape.spaced(5000, 1)[1:]
    walk = np.random.default_rng(2).choice((-1.0, 1.0), (5000, 3000)).cumsum(0)[spaced - 1]
    assert landscape.share(walk, landscape.plane(walk)) == pytest.approx(
        landscape.walk_share(spaced), abs=0.02)


def test_points_of_a_path():
    got = landscape.spaced(16_000, 1)
    assert got[0] == 0 and got[1] == 50 and got[-1] == 16_000 and (np.diff(got) > 0).all()
    assert (landscape.spaced(400_000, 50) % 50 == 0).all()


def test_normalized_directions():
    """Each row of the perturbation is as long as that of the weights; biases stay."""
    network = small_network([6, 8, 4], trainable=(0, 1))
    point = landscape.point_of(network)
    drawn = landscape.normalized(network, point, np.random.default_rng(1))
    for index, (rows, biases) in landscape.parts_of(network, drawn).items():
        weights = landscape.parts_of(network, point)[index][0]
        np.testing.assert_allclose((rows ** 2).sum(1), (weights ** 2).sum(1))
        assert not biases.any()
    assert set(landscape.signs(network, point, np.random.default_rng(1))) == {-1, 1}


def test_sharpness_starts_at_the_loss():
    network = small_network([6, 8, 4], trainable=(0, 1))
    point, held = landscape.point_of(network), samples(network, 20)
    rows = landscape.sharpness("integer", network, point, held, landscape.normalized, (0, 3))
    assert rows[0] == [round(landscape.integer_loss(network, point, *held), 4), 0]
    assert rows[1][1] > 0


def test_judged_samples_are_the_streams_first():
    dataset = data.load("digits")
    for a, b in zip(stream(dataset, "noise:0.3", 30, 5), stream(dataset, "noise:0.3", 90, 5),
                    strict=True):
        assert (a == b[:30]).all()


def test_study(tmp_path, monkeypatch):
    """All of it at small size: paths start at the network, and figures and tables are made."""
    for name, value in {"SAMPLES": 200, "POINTS": 5, "JUDGED": 60, "GRID": 5,
                        "DIRECTIONS": 2}.items():
        monkeypatch.setattr(landscape, name, value)
    monkeypatch.setattr(study, "ROUNDS", 1)
    monkeypatch.setattr(study, "ROUND", 500)
    monkeypatch.setattr(study, "FOLDER", tmp_path / "build")
    study.network_of.cache_clear()
    landscape.main(["-o", str(tmp_path / "landscape.json"), "--example", "digits",
                    "--seeds", "3", "4", "--jobs", "1"])
    study.network_of.cache_clear()
    found = json.loads((tmp_path / "landscape.json").read_text())
    assert set(found["paths"]) == set(landscape_page.NAMES)
    for kind, rows in found["paths"].items():
        assert [row["seed"] for row in rows] == [3, 4]
        for row in rows:
            own = landscape_page.own(kind)
            end = row["samples"][-1]
            assert row["samples"][0] == row["distance"][0] == 0 and row["distance"][-1] > 0
            assert end == (500 if kind == "float" else 200)
            # Start and end, on the line and in perturbations of amplitude 0, are the same points.
            line = dict(zip(found["alphas"], row["line"][own], strict=True))
            assert line[0] == found["start"][own]["relative"][0][0] or row["seed"] != 3
            assert line[1] == row["projected"][0] == row["sharpness"][own]["steps"][0][0]
        assert "plane" in rows[0] and "plane" not in rows[1]
    assert found["settings"]["qzo-last"]["layers"] == [2]
    assert found["plane"]["cosine"]["float"] == pytest.approx(1)
    # Node probes on this disturbance lower the loss of what they have seen.
    seen = found["paths"]["np"][0]["curves"]["integer"][0]
    assert seen[-1] < seen[0]
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"landscape_{name}.png" for name in ("plane", "own", "paths", "sharpness")}
    assert "| node probes | 200 | integer |" in landscape_page.end_table(found)
    assert "| start | float |" in landscape_page.sharpness_table(found)
    assert landscape_page.path_table(found).count("\n") == 5


def test_float_path_is_that_of_the_study(monkeypatch):
    """The last visited weights: after every step, from the network's own."""
    network = study.network_of("digits", study.LAYERS)
    monkeypatch.setattr(study, "ROUNDS", 1)
    monkeypatch.setattr(study, "ROUND", 100)
    seen = []
    study.run_float(network, "none", 1, lambda n, parts: seen.append((n, parts[0][0].copy())))
    assert [n for n, _ in seen] == [50, 100]
    start = network.stages[0].dense
    assert 0 < np.abs(seen[0][1] - start.weight_codes.T * 2.0 ** -start.weight.frac).max() < 0.01

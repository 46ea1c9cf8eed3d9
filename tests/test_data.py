"""Data sets, checks of what a user brings, and disturbances."""
import numpy as np
import pytest

from hwgen import data
from hwgen.errors import HwgenError


def load(name):
    """The data set, or a skip where its file is not on this machine."""
    try:
        if name in data.FILES:
            data.find(name, download=False)
    except HwgenError as error:
        pytest.skip(str(error))
    return data.load(name)


def mnist():
    return load("mnist")


def test_digits():
    digits = data.load("digits")
    assert digits.x_train.shape == (1400, 64) and digits.x_test.shape == (397, 64)
    assert digits.x_train.dtype == np.uint8 and digits.y_train.dtype == np.int64
    # The bundled set has levels 0 to 16.
    assert set(np.unique(digits.x_train)) <= {*range(0, 256, 16), 255}
    assert set(digits.y_test) == set(range(10))


def test_validation_is_no_part_of_training():
    digits = data.load("digits")
    (x, y), (x_held, y_held) = digits.training(), digits.validation()
    assert (len(x), len(x_held)) == (1200, 200)
    np.testing.assert_array_equal(np.concatenate([x, x_held]), digits.x_train)
    np.testing.assert_array_equal(np.concatenate([y, y_held]), digits.y_train)


def test_mnist():
    dataset = mnist()
    assert dataset.x_train.shape == (60000, 784) and dataset.x_test.shape == (10000, 784)
    # Published counts of the classes.
    assert np.bincount(dataset.y_test).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(dataset.validation()[0]) == 5000


def test_fashion():
    dataset = load("fashion")
    assert dataset.x_train.shape == (60000, 784) and dataset.x_test.shape == (10000, 784)
    assert dataset.x_train.dtype == np.uint8 and dataset.y_train.dtype == np.int64
    assert np.bincount(dataset.y_train).tolist() == [6000] * 10
    assert np.bincount(dataset.y_test).tolist() == [1000] * 10


def test_field_of_images_is_the_training_split():
    digits = data.load("digits")
    for got, want in ((digits.field(), digits.training()),
                      (digits.field_validation(), digits.validation()),
                      (digits.known(), (digits.x_test, digits.y_test))):
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, other)


def splits(dataset):
    return {"training": dataset.training(), "validation": dataset.validation(),
            "known": dataset.known(), "field": dataset.field(),
            "field validation": dataset.field_validation(),
            "test": (dataset.x_test, dataset.y_test)}


@pytest.mark.parametrize("name, n_in, sizes", [
    ("speech", 512, [1600, 200, 200, 240, 60, 200]),
    ("ecg", 128, [7389, 1055, 2103, 1015, 253, 843])])
def test_splits_by_people(name, n_in, sizes):
    dataset = load(name)
    assert [len(y) for _, y in splits(dataset).values()] == sizes
    for x, y in splits(dataset).values():
        assert x.shape == (len(y), n_in) and x.dtype == np.uint8 and y.dtype == np.int64
        assert set(y) == set(range(dataset.n_classes))


def rows_of(x, everything) -> list[np.ndarray]:
    """For each sample, the rows of `everything` that are equal to it."""
    where = {}
    for row, sample in enumerate(everything):
        where.setdefault(sample.tobytes(), []).append(row)
    return [np.array(where[sample.tobytes()]) for sample in x]


def test_unseen_speaker_and_takes():
    dataset = load("speech")
    with np.load(data.find("speech")) as file:
        x, speaker, take = file["logmel"].reshape(-1, 512), file["speaker"], file["take"]
        assert file["speaker_names"][data.UNSEEN_SPEAKER] == "jackson"
    seen = set()
    for split, takes in (("training", (5, 44)), ("validation", (45, 49)), ("known", (0, 4)),
                         ("field", (20, 43)), ("field validation", (44, 49)), ("test", (0, 19))):
        rows = [row[0] for row in rows_of(splits(dataset)[split][0], x)]
        assert (take[rows].min(), take[rows].max()) == takes
        assert ((speaker[rows] == 1) == (split in ("field", "field validation", "test"))).all()
        assert not seen & set(rows)
        seen |= set(rows)
    assert len(seen) == 2500


def test_unseen_patients_and_times():
    dataset = load("ecg")
    with np.load(data.find("ecg")) as file:
        y, record, sample = file["y"], file["record"], file["sample"]
        x = data.ecg_bytes(file["x"])
    last = dict.fromkeys(np.unique(record), -1)
    total = 0
    for split, (beats, labels) in splits(dataset).items():
        if split == "field":
            assert not {*data.UNSEEN_PATIENTS} & {r for r, s in last.items() if s >= 0}
            last = dict.fromkeys(last, -1)
        rows = [row[0] for row in rows_of(beats, x) if len(row) == 1]
        assert len(rows) > 0.99 * len(beats)        # a few beats of one patient are equal
        assert np.isin(record[rows], data.UNSEEN_PATIENTS).all() == (
            split in ("field", "field validation", "test"))
        # Every beat comes after all of its patient's in the splits before.
        for patient in np.unique(record[rows]):
            times = sample[rows][record[rows] == patient]
            assert times.min() > last[patient]
            last[patient] = times.max()
        total += len(labels)
    assert total == np.isin(y, (0, 1, 2)).sum()


def test_rule_of_unseen_patients():
    load("ecg")
    with np.load(data.find("ecg")) as file:
        y, record, sample = file["y"], file["record"], file["sample"]
    found = []
    for patient in np.unique(record):
        own = np.flatnonzero((record == patient) & (y < 3))
        classes = y[own[np.argsort(sample[own])]]
        parts = np.split(classes, [-(-60 * len(classes) // 100)])
        if all((np.bincount(part, minlength=3) >= 5).all() for part in parts):
            found.append(int(patient))
    assert tuple(found) == data.UNSEEN_PATIENTS


def test_ecg_scale_by_hand():
    beats = np.array([-1024, -514, -512, -6, -2, 0, 2, 6, 508, 510, 770], np.int16)
    assert data.ecg_bytes(beats).tolist() == [0, 0, 0, 126, 128, 128, 128, 130, 255, 255, 255]


def test_unknown_name():
    with pytest.raises(HwgenError, match="unknown data set 'cifar'; choose one of digits, mnist"):
        data.load("cifar")


@pytest.mark.parametrize("name", data.FILES)
def test_missing_file(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HWGEN_DATA", str(tmp_path))
    with pytest.raises(HwgenError, match=f"no {data.FILES[name]} in the folder .* HWGEN_DATA"):
        data.load(name)


@pytest.mark.parametrize("name", ["fashion", "speech", "ecg"])
def test_no_file_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.delenv("HWGEN_DATA", raising=False)
    monkeypatch.setattr(data, "SHARED", tmp_path)
    with pytest.raises(HwgenError, match=f"{data.FILES[name]} is not on this machine; set "
                                         "HWGEN_DATA to .*; docs/data.md says how") as error:
        data.load(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", data.FILES)
def test_corrupt_file(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HWGEN_DATA", str(tmp_path))
    (tmp_path / data.FILES[name]).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(HwgenError, match=f"{data.FILES[name]} in .* is not the file of {name} "):
        data.load(name)


@pytest.mark.parametrize("name, change, message", [
    ("speech", ("take", lambda take: take // 2), "fsdd5.npz: not 50 takes"),
    ("speech", ("y", lambda y: y + 1), "fsdd5.npz: label 10 is out of range"),
    ("speech", ("logmel", lambda x: x[:, :16]), r"logmel is uint8 \(2500, 16, 16\), not uint8"),
    ("ecg", ("record", lambda record: record + 1), "no beats of the records .118, 201, 223"),
    ("ecg", ("x", lambda x: x.astype(float)), r"x is float64 \(13080, 128\), not int16")])
def test_other_contents(name, change, message, tmp_path, monkeypatch):
    load(name)
    with np.load(data.find(name)) as file:
        arrays = {key: file[key] for key in file.files if key != "audio"}
    key, function = change
    arrays[key] = function(arrays[key])
    np.savez(tmp_path / data.FILES[name], **arrays)
    monkeypatch.setenv("HWGEN_DATA", str(tmp_path))
    with pytest.raises(HwgenError, match=message):
        data.load(name)


def test_no_network(tmp_path, monkeypatch):
    import pooch

    def retrieve(*_):
        raise ConnectionError("no route")
    monkeypatch.delenv("HWGEN_DATA", raising=False)
    monkeypatch.setattr(data, "SHARED", tmp_path)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(HwgenError, match="could not download mnist.npz .*set HWGEN_DATA to its"):
        data.load("mnist")


def test_file_of_wrong_shape(tmp_path, monkeypatch):
    monkeypatch.setenv("HWGEN_DATA", str(tmp_path))
    x, y = np.zeros((5, 28, 28), np.uint8), np.zeros(5, np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(HwgenError, match=r"x_train is uint8 \(5, 28, 28\), not uint8"):
        data.load("mnist")


def test_label_out_of_range(tmp_path, monkeypatch):
    monkeypatch.setenv("HWGEN_DATA", str(tmp_path))
    x, y = np.zeros((60000, 28, 28), np.uint8), np.full(60000, 10, np.uint8)
    np.savez_compressed(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:10000],
                        y_test=y[:10000])
    with pytest.raises(HwgenError, match="mnist.npz: label 10 is out of range; the classes are 0 "):
        data.load("mnist")


def test_rotation_by_hand():
    x = np.arange(9, dtype=np.uint8)[None]
    assert data.disturb(x, "rotate:90", 0).reshape(3, 3).tolist() == [
        [2, 5, 8], [1, 4, 7], [0, 3, 6]]
    # At 45 degrees the corners come from outside the image: black.
    assert data.disturb(x + 1, "rotate:45", 0).reshape(3, 3)[1, 1] == 5
    assert data.disturb(np.full((1, 16), 9, np.uint8), "rotate:45", 0)[0, 0] == 0


def test_disturbances_do_what_they_say():
    grey = np.full((500, 64), 128, np.uint8)
    assert (data.disturb(grey, "none", 0) == grey).all()
    assert (data.disturb(grey, "invert", 0) == 127).all()
    stuck = data.disturb(grey, "stuck:0.25", 3).reshape(-1, 8, 8) == 255
    assert (stuck == stuck[0, 0]).all() and stuck[0, 0].sum() == 2
    noise = data.disturb(grey, "noise:0.1", 3).astype(float)
    assert abs(noise.std() - 25.5) < 0.5 and abs(noise.mean() - 128) < 0.5
    impulse = data.disturb(grey, "impulse:0.2", 3)
    assert abs((impulse == 0).mean() - 0.1) < 0.01 and abs((impulse == 255).mean() - 0.1) < 0.01
    assert (grey == 128).all()


@pytest.mark.parametrize("kind", ["noise:0.3", "impulse:0.3"])
def test_seed_decides(kind):
    x = np.arange(256, dtype=np.uint8).reshape(4, 64)
    first = data.disturb(x, kind, 1)
    assert (data.disturb(x, kind, 1) == first).all()
    assert (data.disturb(x, kind, 2) != first).any()
    assert (data.disturb(x, kind, 1, sensor=2) == first).all()


def test_sensor_decides_its_stuck_columns():
    x = np.arange(256, dtype=np.uint8).reshape(4, 64)
    first = data.disturb(x, "stuck:0.3", 1, sensor=1)
    assert (data.disturb(x, "stuck:0.3", 2, sensor=1) == first).all()
    assert (data.disturb(x, "stuck:0.3", 1, sensor=2) != first).any()


@pytest.mark.parametrize("kind", ["fog", "noise", "noise:", "noise:-1", "noise:nan", "stuck:2",
                                  "invert:1", "rotate:x", ""])
def test_unknown_disturbance(kind):
    with pytest.raises(HwgenError, match="unknown disturbance .*; choose one of none, noise:STD"):
        data.disturb(np.zeros((1, 64), np.uint8), kind, 0)


def test_disturb_refuses_other_shapes():
    with pytest.raises(HwgenError, match="invert needs one square image of bytes per row"):
        data.disturb(np.zeros((1, 63), np.uint8), "invert", 0)
    with pytest.raises(HwgenError, match="samples are int64 of shape .1, 64.; give rows of bytes"):
        data.disturb(np.zeros((1, 64), np.int64), "none", 0)


def test_no_disturbance_takes_any_row():
    x = np.arange(126, dtype=np.uint8).reshape(2, 63)
    y = data.disturb(x, "none", 0)
    assert (y == x).all() and y is not x

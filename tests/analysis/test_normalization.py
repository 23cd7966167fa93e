"""`normalize=True` of the stages is L2 normalization before everything."""

import numpy as np
import pytest
from command_line import run
from fashion_images import first_images
from sklearn.preprocessing import normalize

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.rld.definition import dense_rld

LABELS = np.arange(120) % 3
POINTS = (np.random.default_rng(0).normal(size=(120, 6)) + 2.0 * np.eye(3, 6)[LABELS]) * (1 + np.arange(120))[:, None]
FAST = {"probes": ["linear"], "map_points": 0, "device": "cpu"}


def test_rld_of_normalized_images():
    images, labels = first_images(500)
    temperatures = (1.0, 0.1)
    result = cs.rld(images, labels, temperatures=temperatures, method="exact", device="cpu", normalize=True)
    expected = dense_rld(normalize(images.astype(np.float64)), labels, np.array(temperatures))
    np.testing.assert_allclose(result.values, expected.values, atol=1e-6)
    assert result.mean_distance == pytest.approx(expected.mean_distance, rel=1e-5)
    assert result.details["normalized"] is True
    raw = cs.rld(images, labels, temperatures=temperatures, method="exact", device="cpu")
    assert "normalized" not in raw.details
    assert np.abs(raw.values - result.values).max() > 0.01


def test_neighbors_of_normalized_points_are_those_of_the_cosine():
    table = cs.knn(POINTS, 5, normalize=True)
    np.testing.assert_array_equal(table.indices, cs.knn(POINTS, 5, metric="cosine").indices)
    assert (table.indices != cs.knn(POINTS, 5).indices).any()
    assert table.distances.max() <= 2


def test_analysis_of_normalized_points(tmp_path):
    test = {"test_embeddings": POINTS[:30] * 3 + 0.1, "test_labels": LABELS[:30]}
    raw = cs.analyze(POINTS, LABELS, output=tmp_path, **test, **FAST)
    ours = cs.analyze(POINTS, LABELS, output=tmp_path, normalize=True, **test, **FAST)
    by_hand = test | {"test_embeddings": normalize(test["test_embeddings"])}
    theirs = cs.analyze(normalize(POINTS), LABELS, **by_hand, **FAST)
    assert (raw.settings["normalize"], ours.settings["normalize"]) == (False, True)
    np.testing.assert_allclose(ours.rld.values, theirs.rld.values, atol=1e-6)
    assert ours.calinski_harabasz == pytest.approx(theirs.calinski_harabasz)
    assert ours.class_homogeneity == theirs.class_homogeneity
    assert ours.probes[0].accuracy == theirs.probes[0].accuracy
    assert np.abs(np.subtract(raw.rld.values, ours.rld.values)).max() > 0.01
    page = (tmp_path / "report.html").read_text()
    assert "6 features, normalized to length 1" in page
    with pytest.warns(UserWarning, match="Only the embeddings of 'b' were normalized"):
        cs.compare({"a": raw, "b": ours})


def test_vectors_without_a_direction_are_refused():
    points = POINTS.copy()
    points[7] = 0
    for compute in (
        lambda: cs.rld(points, LABELS, normalize=True),
        lambda: cs.knn(points, 5, normalize=True),
        lambda: cs.analyze(points, LABELS, normalize=True, **FAST),
    ):
        with pytest.raises(InputError, match=r"zero vectors?\b.*row 7"):
            compute()


@pytest.mark.parametrize("command", ["rld", "knn"])
def test_commands(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", POINTS)
    np.save("y.npy", LABELS)
    np.save("unit.npy", normalize(POINTS))
    labels = ("--labels", "y.npy") if command == "rld" else ()
    ours, theirs = run(command, "x.npy", *labels, "--normalize"), run(command, "unit.npy", *labels)
    assert ours.code == theirs.code == 0
    assert ours.out.replace("normalized points", "points") == theirs.out
    assert run(command, "x.npy", *labels).out != theirs.out

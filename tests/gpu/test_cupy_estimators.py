"""Estimators take points on the GPU and leave their predictions there; on a GPU CuPy is the real one."""

import numpy as np
import pytest
from gpu_data import points, tables

import clorg_scale as cs
from clorg_scale.probes import KNNProbe, LinearProbe, nearest


@pytest.mark.parametrize("probe", [LinearProbe(max_epochs=4, seed=1), KNNProbe(5, device="cpu")])
def test_predictions_are_where_the_points_are(cupy, probe):
    X, codes = points()
    labels = np.abs(codes)
    host = type(probe)(**probe.get_params() | {"device": "cpu"}).fit(X, labels)
    fitted = probe.fit(cupy.asarray(X), cupy.asarray(labels))
    for predict in ("predict", "predict_proba"):
        ours = getattr(fitted, predict)(cupy.asarray(X[:50]))
        assert isinstance(ours, cupy.ndarray)
        theirs = getattr(host, predict)(X[:50])
        assert isinstance(theirs, np.ndarray)
        assert (np.abs(ours.get() - theirs) < 1e-3).mean() > 0.97
    assert isinstance(fitted.predict(X[:2]), np.ndarray)
    assert fitted.score(cupy.asarray(X), cupy.asarray(labels)) == pytest.approx(host.score(X, labels), abs=0.02)
    names = np.array([f"class {label}" for label in labels])
    assert set(probe.fit(cupy.asarray(X), names).predict(cupy.asarray(X[:50]))) <= set(names)


@pytest.mark.parametrize("most_pairwise", [0, 32])  # sorted in main memory, compared on the device
@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_votes_are_counted_where_the_table_is(cupy, monkeypatch, weights, most_pairwise):
    """Their sums, by `bincount` here, have the same bits, so that a tie is one everywhere."""
    monkeypatch.setattr(nearest, "MOST_PAIRWISE", most_pairwise)
    table, on_device, codes = tables(cupy)
    probe = KNNProbe(9, weights=weights, device="cpu", unlabelled=None).fit(points()[0], codes)
    for _, ours, votes in probe._voters(on_device):
        assert isinstance(ours, cupy.ndarray)
        theirs, host_votes = codes[table.indices] + 1, votes.get()
        np.testing.assert_array_equal(ours.get(), theirs)
        counts = np.array([np.bincount(c, v)[c] for c, v in zip(theirs, host_votes, strict=True)])
        found = nearest.votes_of_classes(ours, votes)
        assert isinstance(found, cupy.ndarray)
        np.testing.assert_array_equal(found.get(), counts)
    np.testing.assert_array_equal(probe._elected(on_device), probe._elected(table))


def test_the_graph_of_neighbors_and_scores(cupy):
    X, codes = points()
    ours, theirs = (
        cs.KNeighborsTransformer(n_neighbors=4, device="cpu").fit_transform(part) for part in (cupy.asarray(X), X)
    )
    np.testing.assert_allclose(ours.toarray(), theirs.toarray(), atol=1e-4)
    scorer = cs.scorers["calinski_harabasz"]
    assert scorer(None, cupy.asarray(X), codes) == pytest.approx(scorer(None, X, codes))


def test_issues_of_points_on_the_device(cupy):
    """Scores, sets and tables as those of the same points in main memory, in NumPy's arrays."""
    X, codes = points()
    X[7], codes[7] = X[9] + 1e-5, codes[9]
    test = np.concatenate([X[:2] + 1e-5, X[2:20] + 5])
    ours, theirs = (
        cs.find_issues(part(X), codes, test_embeddings=part(test), k=9, device="cpu")
        for part in (cupy.asarray, np.asarray)
    )
    assert ours.counts() == theirs.counts()
    assert theirs.counts()["test_points_in_train"] == 2
    for name, column in theirs.columns().items():
        found = ours.columns()[name]
        assert isinstance(found, np.ndarray)
        if column.dtype.kind == "f":
            np.testing.assert_allclose(found, column, atol=2e-3)
        else:
            np.testing.assert_array_equal(found, column)

"""Near-duplicates, leakage, outliers, overlapping classes, look-alikes: each against an independent computation."""

import json

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import LocalOutlierFactor

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.issues.duplicates import CLOSE, find_duplicates
from clorg_scale.issues.look_alikes import nearest_strangers
from clorg_scale.issues.outliers import find_outliers
from clorg_scale.issues.overlap import class_affinity, overlaps


def test_near_duplicates(planted):
    table = planted.issues.near_duplicates
    assert table["index"].tolist() == [3, 700, 701]
    assert table["set"].tolist() == [0, 0, 0]
    assert table["distance"][0] == 0
    assert not table["in_test"].any()


def test_sets_of_near_duplicates_are_the_components_of_close_pairs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    X[100:140] = X[:40]  # copies
    X[140:160] = X[:20] + 1e-3  # a third, nearly
    X[200:240] = X[200]  # more copies than neighbors
    found = find_duplicates(cs.knn(X, 5))
    D = pairwise_distances(X)
    np.fill_diagonal(D, np.inf)
    limit = CLOSE * np.median(D.min(1))
    assert found.limit == pytest.approx(limit, rel=1e-6)
    in_a_set = D.min(1) <= limit
    np.testing.assert_array_equal(found.set_of >= 0, in_a_set)
    assert (found.set_of[200:240] == 0).all()  # the largest set comes first
    assert np.bincount(found.set_of[found.set_of >= 0]).tolist() == [40] + [3] * 20 + [2] * 20
    for i in range(20):
        assert found.set_of[i] == found.set_of[100 + i] == found.set_of[140 + i]


def test_test_points_among_the_points_are_told():
    rng = np.random.default_rng(1)
    X, labels = rng.normal(size=(200, 5)), np.arange(200) % 4
    test, test_labels = rng.normal(size=(50, 5)), np.arange(50) % 4
    test[7], test[9] = X[30], X[31] + 1e-4
    test_labels[7] = labels[30]
    test_labels[9] = -1
    found = cs.find_issues(X, labels, test_embeddings=test, test_labels=test_labels, k=6)
    leaks = found.leaks
    assert leaks[["test_index", "index"]].tolist() == [(7, 30), (9, 31)]
    assert leaks["label"].tolist() == [str(labels[30]), str(labels[31])]
    assert leaks["test_label"].tolist() == [str(labels[30]), ""]
    assert found.counts()["test_points_in_train"] == 2
    members = found.near_duplicates
    in_test = dict(zip(members["index"].tolist(), members["in_test"].tolist(), strict=True))
    assert in_test == {7: True, 9: True, 30: False, 31: False}
    assert len(members["index"]) == 4
    assert np.flatnonzero(found.columns()["in_test_set"]).tolist() == [30, 31]
    assert len(cs.find_issues(X, labels, k=6).leaks) == 0


def test_the_local_outlier_factor_is_that_of_scikit_learn():
    X = np.random.default_rng(2).normal(size=(400, 6))
    X[:5] *= 6
    ours = find_outliers(cs.knn(X, 12))
    theirs = -LocalOutlierFactor(n_neighbors=12, algorithm="brute").fit(X).negative_outlier_factor_
    np.testing.assert_allclose(ours.factor, theirs, rtol=1e-4)
    D = np.sort(pairwise_distances(X), axis=1)[:, 1:13].mean(1)
    np.testing.assert_allclose(ours.isolation, D / np.median(D), rtol=1e-5)
    assert ours.is_outlier[:5].all()
    assert ours.is_outlier.mean() < 0.05


def test_a_small_group_far_from_all_is_isolated_though_as_dense_as_its_neighbors():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, 3))
    X[:3] = X[:3] / 10 + 40
    found = find_outliers(cs.knn(X, 8))
    assert found.is_outlier[:3].all()


def test_copies_make_no_outliers_of_their_neighbors():
    X = np.random.default_rng(4).normal(size=(300, 3))
    X[:20] = X[0]
    found = find_outliers(cs.knn(X, 10))
    assert np.isfinite(found.factor).all()
    assert np.isfinite(find_outliers(cs.knn(np.repeat(X[:30], 20, axis=0), 10)).isolation[:5]).any()


def test_among_copies_the_few_others_are_isolated():
    """The median distance is 0: nothing overflows, and the file can be written."""
    rng = np.random.default_rng(7)
    X = np.repeat(rng.normal(size=(20, 3)), 12, axis=0)
    X = np.concatenate([X, 50 + rng.normal(size=(4, 3))])
    found = cs.find_issues(X, np.arange(244) // 12 % 4, k=6)
    assert found.is_outlier[240:].all()
    assert not found.is_outlier[:240].any()
    assert found.duplicates.limit == 0
    assert np.bincount(found.duplicates.set_of[:240]).tolist() == [12] * 20
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["counts"]["outliers"] == 4


def test_overlap_of_classes_is_the_share_of_the_dense_affinity():
    rng = np.random.default_rng(5)
    codes = rng.integers(-1, 3, 240)
    X = rng.normal(size=(240, 2)) + np.array([[0, 0], [1, 0], [9, 9], [4, 4]])[codes]
    graph = cs.affinity_graph(cs.knn(X, 10))
    A = graph.to_scipy().toarray().astype(float)
    W = np.array([[A[np.ix_(codes == a, codes == b)].sum() for b in range(3)] for a in range(3)])
    found = class_affinity(graph, codes, 3)
    np.testing.assert_allclose(found.toarray(), W, rtol=1e-5)
    pairs, shares = overlaps(found)
    assert pairs[0].tolist() == [0, 1]
    K = W.sum(1)
    np.testing.assert_allclose(shares[0], [2 * W[0, 1] / (K[0] + K[1]), W[0, 1] / K[0], W[0, 1] / K[1]], rtol=1e-5)
    assert np.all(np.diff(shares[:, 0]) <= 0)


def test_look_alikes_are_the_nearest_pairs_of_different_classes():
    rng = np.random.default_rng(6)
    X, codes = rng.normal(size=(120, 3)), rng.integers(-1, 3, 120)
    pairs, apart = nearest_strangers(cs.knn(X, 119), codes, 10)
    D = pairwise_distances(X)
    D[(codes[:, None] == codes) | (codes < 0) | (codes < 0)[:, None]] = np.inf
    for (i, j), distance in zip(pairs, apart, strict=True):
        assert D.min() == pytest.approx(distance, rel=1e-5)
        assert sorted(np.unravel_index(D.argmin(), D.shape)) == [i, j]
        D[[i, j]] = D[:, [i, j]] = np.inf  # each point is in one pair


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": None}, "no labels"),
        ({"k": 0}, "k must be a whole number from 1 to 29"),
        ({"k": 30}, "k must be a whole number from 1 to 29"),
        ({"temperature": 0}, "temperature must be a positive number"),
        ({"labels": np.zeros(30, int)}, "single class"),
        ({"labels": np.arange(29)}, "29 labels"),
        ({"class_names": ["a"]}, "holds? the class|hold the class"),
        ({"test_embeddings": np.ones((3, 5))}, "have 5 features, the embeddings 4"),
        ({"seed": -1}, "seed must be"),
        ({"embeddings": np.full((30, 4), np.nan)}, "NaN"),
        ({"neighbors": "other points"}, "k-NN table is of"),
        ({"neighbors": "cosine"}, "metric 'cosine'"),
    ],
)
def test_what_cannot_be_used(change, sentence):
    X = np.random.default_rng(0).normal(size=(30, 4))
    if change.get("neighbors") == "other points":
        change = {"neighbors": cs.knn(X[:20], 3)}
    elif change.get("neighbors") == "cosine":
        change = {"neighbors": cs.knn(X, 3, metric="cosine")}
    arguments = {"embeddings": X, "labels": np.arange(30) % 3, "k": 5} | change
    with pytest.raises(InputError, match=sentence):
        cs.find_issues(arguments.pop("embeddings"), arguments.pop("labels"), **arguments)

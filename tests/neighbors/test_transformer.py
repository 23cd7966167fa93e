"""`KNeighborsTransformer` in scikit-learn's pipelines, beside scikit-learn's own."""

import warnings

import numpy as np
import pytest
from sklearn import neighbors as sklearn_neighbors
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE, Isomap
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import clorg_scale as cs
from clorg_scale.errors import InputError

OURS, THEIRS = cs.KNeighborsTransformer, sklearn_neighbors.KNeighborsTransformer


@pytest.fixture(scope="module")
def points():
    X, y = load_digits(return_X_y=True)
    X = X[:500] + np.random.default_rng(0).normal(scale=0.1, size=(500, 64))  # no ties in distance
    return X[:300], y[:300], X[300:], y[300:500]


@pytest.mark.slow
def test_checks_of_scikit_learn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(OURS(), on_fail=None)
    assert {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"} == {}
    assert len(results) > 40


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_graph_is_that_of_scikit_learn(points, mode, metric):
    X, _, X_test, _ = points
    ours, theirs = (kind(mode=mode, n_neighbors=6, metric=metric) for kind in (OURS, THEIRS))
    for A, B in (
        (ours.fit_transform(X), theirs.fit_transform(X)),
        (ours.transform(X_test), theirs.transform(X_test)),
        (ours.transform(X_test[:1]), theirs.transform(X_test[:1])),
    ):
        assert A.format == "csr"
        assert A.shape == B.shape
        assert A.nnz == B.nnz
        # Distances of float32; a point's own is rounded off 0 by scikit-learn's cosine.
        np.testing.assert_allclose(A.toarray(), B.toarray(), atol=2e-4)
    np.testing.assert_array_equal(ours.get_feature_names_out()[:2], [f"kneighborstransformer{i}" for i in range(2)])


def test_pipelines_of_scikit_learn_s_examples(points):
    X, y, X_test, y_test = points
    fitted = [
        make_pipeline(kind(n_neighbors=12), sklearn_neighbors.KNeighborsClassifier(10, metric="precomputed")).fit(X, y)
        for kind in (OURS, THEIRS)
    ]
    assert fitted[0].score(X_test, y_test) == fitted[1].score(X_test, y_test) > 0.85
    clusters = [
        make_pipeline(kind(n_neighbors=30), DBSCAN(eps=22, min_samples=5, metric="precomputed")).fit_predict(X)
        for kind in (OURS, THEIRS)
    ]
    np.testing.assert_array_equal(*clusters)
    assert clusters[0].max() > 2
    maps = [
        make_pipeline(kind(n_neighbors=20), Isomap(n_neighbors=15, metric="precomputed")).fit_transform(X)
        for kind in (OURS, THEIRS)
    ]
    np.testing.assert_allclose(np.abs(maps[0]), np.abs(maps[1]), atol=0.05)
    tsne = TSNE(perplexity=5, max_iter=300, init="random", metric="precomputed", random_state=0)
    flat = make_pipeline(OURS(n_neighbors=16), tsne).fit_transform(X)
    near = sklearn_neighbors.KNeighborsClassifier(5).fit(flat, y).score(flat, y)
    assert near > 0.85


def test_an_approximate_index_says_what_it_found(points):
    transformer = OURS(n_neighbors=10, index="hnsw")
    graph = transformer.fit_transform(np.tile(points[0], (4, 1)) + np.random.default_rng(1).normal(size=(1200, 64)))
    assert graph.shape == (1200, 1200)
    assert transformer.index_.startswith("HNSW")
    assert transformer.measured_recall_ > 0.95


def test_what_is_refused(points):
    X = points[0]
    for wrong, sentence in (
        ({"mode": "graph"}, "mode must be"),
        ({"metric": "manhattan"}, "metric must be"),
        ({"metric": "inner_product"}, "not distances"),
        ({"n_neighbors": 0}, "n_neighbors must be"),
        ({"n_neighbors": 300}, "needs 301 training points"),
    ):
        with pytest.raises(InputError, match=sentence):
            OURS(**wrong).fit_transform(X)
    with pytest.raises(InputError, match="NaN"):
        OURS().fit(np.where(np.arange(64) == 2, np.nan, X))
    assert OURS(mode="connectivity", n_neighbors=1).fit_transform(X).diagonal().sum() == len(X)

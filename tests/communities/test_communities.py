"""Communities and modularity against igraph, NetworkX and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import metrics

from clorg_scale import InputError
from clorg_scale.affinity import AffinityGraph, affinity_graph
from clorg_scale.agreement import agreement
from clorg_scale.communities import communities, modularity
from clorg_scale.neighbors import knn


def clusters(n_clusters=5, size=60, d=8, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_clusters), size)
    return rng.standard_normal((n_clusters, d))[codes] * 4 + rng.standard_normal((n_clusters * size, d)), codes


def random_graph(seed, n=40, density=0.15):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) * (rng.random((n, n)) < density), 1)
    return AffinityGraph.from_scipy(sparse.csr_array(upper + upper.T))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(2, 6), resolution=st.floats(0, 3))
def test_modularity_equals_igraph_and_networkx(seed, n_classes, resolution):
    graph = random_graph(seed)
    labels = np.random.default_rng(seed + 1).integers(0, n_classes, graph.n_nodes)
    labels[:n_classes] = np.arange(n_classes)
    ours = modularity(graph, labels, resolution=resolution)
    theirs = graph.to_igraph().modularity(labels.tolist(), weights="weight", resolution=resolution)
    assert ours == pytest.approx(theirs, abs=1e-9)
    networkx = pytest.importorskip("networkx")
    sets = [set(np.flatnonzero(labels == c).tolist()) for c in range(n_classes)]
    reference = networkx.community.modularity(graph.to_networkx(), sets, weight="weight", resolution=resolution)
    assert ours == pytest.approx(reference, abs=1e-9)
    doubled = AffinityGraph(graph.indptr, graph.indices, graph.weights * 2)
    assert modularity(doubled, labels, resolution=resolution) == pytest.approx(ours, abs=1e-9)


def test_unlabelled_points_count_in_2m_only():
    graph = random_graph(3)
    labels = np.random.default_rng(0).integers(-1, 3, graph.n_nodes)
    A = graph.to_scipy().toarray().astype(np.float64)
    expected = sum(
        A[np.ix_(labels == c, labels == c)].sum() / A.sum() - (A[labels == c].sum() / A.sum()) ** 2 for c in range(3)
    )
    assert modularity(graph, labels) == pytest.approx(expected, abs=1e-12)
    assert modularity(graph, np.zeros(graph.n_nodes, int)) == pytest.approx(0)


@pytest.mark.parametrize("method", ["leiden", "louvain"])
def test_finds_planted_clusters_and_repeats_for_a_seed(method):
    X, codes = clusters()
    graph = affinity_graph(knn(X, 10))
    found = communities(graph, method=method, seed=3)
    assert agreement(found.labels, codes).nmi > 0.95
    assert found.modularity == pytest.approx(modularity(graph, found.labels), abs=1e-12)
    assert found.modularity >= modularity(graph, codes) - 1e-3
    assert (np.diff(found.sizes) <= 0).all()
    np.testing.assert_array_equal(np.bincount(found.labels), found.sizes)
    np.testing.assert_array_equal(communities(graph, method=method, seed=3).labels, found.labels)


@pytest.mark.parametrize("method", ["leiden", "louvain"])
def test_weights_are_used(method):
    """A ring of 40 nodes whose weights alone make two arcs."""
    n = 40
    i = np.arange(n)
    weights = np.where((i % 20) == 19, 0.001, 1.0)
    ring = sparse.coo_array((weights, (i, (i + 1) % n)), shape=(n, n))
    found = communities(AffinityGraph.from_scipy(ring + ring.T), method=method, resolution=0.5)
    assert found.labels[19] != found.labels[20]
    assert found.labels[39] != found.labels[0]


def test_resolution_and_isolated_nodes():
    X, _ = clusters()
    graph = affinity_graph(knn(X, 10), symmetrize="mutual")
    few, many = communities(graph, resolution=0.5), communities(graph, resolution=5.0)
    assert len(many.sizes) > len(few.sizes)
    lonely = AffinityGraph.from_scipy(sparse.block_diag([graph.to_scipy(), sparse.csr_array((3, 3))]))
    found = communities(lonely)
    assert len(found.labels) == graph.n_nodes + 3
    assert found.sizes.sum() == graph.n_nodes + 3


def test_the_process_wide_generator_is_put_back():
    import random

    X, _ = clusters()
    graph = affinity_graph(knn(X, 10))
    random.seed(5)
    expected = random.random()
    random.seed(5)
    communities(graph, seed=1)
    assert random.random() == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"method": "kmeans"}, "leiden"), ({"resolution": 0}, "resolution"), ({"resolution": -1.0}, "resolution")],
)
def test_a_wrong_option_gets_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        communities(random_graph(0), **options)


def test_labels_of_other_libraries():
    """Tensors, lists, and labels below -1, which are classes like others."""
    torch = pytest.importorskip("torch")
    graph, labels = random_graph(0), np.arange(40) % 3
    expected = modularity(graph, labels)
    for other in (torch.from_numpy(labels), labels.tolist(), labels.astype(str), labels.astype(float), labels - 9):
        assert modularity(graph, other) == pytest.approx(expected, abs=1e-12)
    unlabelled = np.where(labels == 2, -1, labels)
    assert modularity(graph, np.where(labels == 1, -7, unlabelled)) == pytest.approx(modularity(graph, unlabelled))


def test_no_edges_and_wrong_labels_get_a_sentence():
    empty = AffinityGraph.from_scipy(sparse.csr_array((5, 5)))
    with pytest.raises(InputError, match="no edges"):
        communities(empty)
    with pytest.raises(InputError, match="no edges"):
        modularity(empty, [0, 1, 0, 1, 0])
    with pytest.raises(InputError, match="label"):
        modularity(random_graph(0), [0, 1])
    with pytest.raises(InputError, match="resolution"):
        modularity(random_graph(0), np.arange(40) % 2, resolution=-1)
    with pytest.raises(InputError, match="all points are unlabelled"):
        modularity(random_graph(0), np.full(40, -1))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), a=st.integers(1, 6), b=st.integers(1, 6))
def test_agreement_equals_scikit_learn(seed, a, b):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-1, a, 50), rng.integers(-1, b, 50)
    x[0], y[0] = 0, 0
    result = agreement(x, y)
    both = (x >= 0) & (y >= 0)
    assert result.nmi == pytest.approx(metrics.normalized_mutual_info_score(x[both], y[both]))
    assert result.ari == pytest.approx(metrics.adjusted_rand_score(x[both], y[both]))
    np.testing.assert_array_equal(result.contingency, metrics.cluster.contingency_matrix(x[both], y[both]))


def test_agreement_of_many_points_equals_scikit_learn():
    """Products of the numbers of pairs exceed 64 bits."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 200_000)
    for y in (
        x,
        1 - x,
        rng.integers(0, 700, len(x)),
        np.where(rng.random(len(x)) < 0.999, 0, x),
        np.arange(len(x)) % 2,
    ):
        result = agreement(x, y)
        assert result.nmi == pytest.approx(metrics.normalized_mutual_info_score(x, y), abs=1e-13)
        assert result.ari == pytest.approx(metrics.adjusted_rand_score(x, y), rel=1e-12)
    assert agreement(x, 1 - x).nmi == 1


def test_agreement_needs_common_points():
    with pytest.raises(InputError, match="same points"):
        agreement([0, 1], [0])
    with pytest.raises(InputError, match="labeled in both"):
        agreement([-1, 1], [0, -1])

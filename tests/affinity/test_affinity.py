"""The affinity graph against dense formulas; its invariants; its conversions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from clorg_scale import InputError
from clorg_scale.affinity import AffinityGraph, affinity_graph
from clorg_scale.affinity.symmetrize import undirected_edges
from clorg_scale.neighbors import KNN, knn

WEIGHTINGS = ("rld", "laplacian", "gaussian", "cosine", "binary")


def points(n=120, d=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def dense(table, temperature, weighting, symmetrize, mu):
    """The same graph from n x n matrices in float64."""
    n = table.n_points
    listed = np.zeros((n, n), bool)
    d = np.zeros((n, n))
    for i in range(n):
        for j, distance in zip(table.indices[i], table.distances[i], strict=True):
            listed[i, j] = True
            d[i, j] = d[j, i] = distance
    kept = listed & listed.T if symmetrize == "mutual" else listed | listed.T
    x = d / (mu * temperature)
    E = np.exp(-x) * kept
    r = E.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        A = {
            "rld": n**2 * E**2 / np.outer(r, r),
            "laplacian": E,
            "gaussian": np.exp(-(x**2) / 2),
            "cosine": np.maximum(0, 1 - d),
            "binary": np.ones((n, n)),
        }[weighting]
    A = np.where(kept, A, 0)
    return np.where(listed & listed.T, A, A / 2) if symmetrize == "mean" else A


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("symmetrize", ["max", "mean", "mutual"])
def test_weights_equal_the_dense_formula(weighting, symmetrize):
    table = knn(points(), 6, metric="cosine" if weighting == "cosine" else "euclidean")
    mu = 2.0
    graph = affinity_graph(table, temperature=0.3, weighting=weighting, symmetrize=symmetrize, mean_distance=mu)
    np.testing.assert_allclose(
        graph.to_scipy().toarray(), dense(table, 0.3, weighting, symmetrize, mu), rtol=2e-6, atol=1e-30
    )


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(4, 80),
    k=st.integers(1, 10),
    seed=st.integers(0, 10**6),
    symmetrize=st.sampled_from(["max", "mean", "mutual"]),
    temperature=st.floats(1e-3, 10),
)
def test_symmetric_sorted_without_loops_and_finite(n, k, seed, symmetrize, temperature):
    table = knn(points(n, 3, seed), min(k, n - 1))
    graph = affinity_graph(table, temperature=temperature, symmetrize=symmetrize)
    matrix = graph.to_scipy()
    assert graph.n_nodes == n
    assert abs(matrix - matrix.T).max() == 0
    assert (graph.rows() != graph.indices).all()
    assert all(
        (np.diff(graph.indices[a:b]) > 0).all() for a, b in zip(graph.indptr[:-1], graph.indptr[1:], strict=True)
    )
    assert np.isfinite(graph.weights).all()
    assert (graph.weights >= 0).all()
    assert graph.n_edges * 2 == len(graph.indices) == graph.indptr[-1]
    assert graph.weights.dtype == np.float32
    assert graph.indices.dtype == graph.indptr.dtype == np.int32


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_points_does_not_matter(seed):
    X = points(60, 4, seed)
    order = np.random.default_rng(seed).permutation(60)
    before = affinity_graph(knn(X, 5)).to_scipy().toarray()
    after = affinity_graph(knn(X[order], 5)).to_scipy().toarray()
    np.testing.assert_allclose(after, before[np.ix_(order, order)], rtol=1e-5)


def test_duplicates_keep_their_edges():
    X = np.repeat(points(20), 3, axis=0)
    graph = affinity_graph(knn(X, 4), mean_distance=1.0, weighting="laplacian")
    assert np.isclose(graph.to_scipy()[0, 1], 1.0)


def test_default_scale_is_the_mean_distance_of_the_points_else_of_the_kept_pairs():
    X = points(400)
    table = knn(X, 6)
    mu = np.sqrt(((X[:, None] - X[None]) ** 2).sum(-1)).sum() / (400 * 399)
    assert table.mean_distance == pytest.approx(mu, rel=0.01)  # 3,200 of 159,600 pairs, sd .3 mu: two sigma
    default = affinity_graph(table, weighting="laplacian", temperature=1.0)
    given = affinity_graph(table, weighting="laplacian", temperature=1.0, mean_distance=table.mean_distance)
    np.testing.assert_array_equal(default.weights, given.weights)
    own = KNN.from_arrays(table.indices, table.distances, metric="euclidean")
    assert own.mean_distance is None
    edges = undirected_edges(own, "max")
    default = affinity_graph(own, weighting="laplacian", temperature=1.0)
    given = affinity_graph(
        own, weighting="laplacian", temperature=1.0, mean_distance=float(edges.distances.mean(dtype=np.float64))
    )
    np.testing.assert_array_equal(default.weights, given.weights)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"weighting": "heavy"}, "weighting"),
        ({"symmetrize": "min"}, "symmetrize"),
        ({"mean_distance": -1}, "mean distance"),
        ({"weighting": "cosine"}, "cosine"),
    ],
)
def test_a_wrong_option_gets_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        affinity_graph(knn(points(), 3), **options)


def test_inner_products_are_no_distances():
    with pytest.raises(InputError, match="binary"):
        affinity_graph(knn(points(), 3, metric="inner_product"))


def test_a_sampled_table_makes_no_graph():
    from clorg_scale.neighbors import knn_of

    with pytest.raises(InputError, match="sample"):
        affinity_graph(knn_of(points(), np.arange(10), 3))


def test_from_scipy_repairs_and_refuses():
    matrix = sparse.coo_array(([1.0, 1.0, 2.0, 2.0, 5.0], ([0, 1, 1, 2, 2], [1, 0, 2, 1, 2])), shape=(4, 4))
    graph = AffinityGraph.from_scipy(matrix)
    assert graph.n_nodes == 4
    assert graph.n_edges == 2
    np.testing.assert_array_equal(graph.to_scipy().toarray(), [[0, 1, 0, 0], [1, 0, 2, 0], [0, 2, 0, 0], [0] * 4])
    for wrong, sentence in (
        (sparse.eye_array(3, 4), "square"),
        (sparse.coo_array(([1.0], ([0], [1])), shape=(2, 2)), "symmetric"),
        (-matrix, "negative"),
        (matrix * np.nan, "NaN"),
        (np.eye(3), "SciPy"),
    ):
        with pytest.raises(InputError, match=sentence):
            AffinityGraph.from_scipy(wrong)


def test_a_file_and_back(tmp_path):
    graph = affinity_graph(knn(points(), 6))
    graph.save(tmp_path / "graph.npz")
    again = AffinityGraph.load(tmp_path / "graph.npz")
    for name in ("indptr", "indices", "weights"):
        np.testing.assert_array_equal(getattr(again, name), getattr(graph, name))
    (tmp_path / "half.npz").write_bytes((tmp_path / "graph.npz").read_bytes()[:200])
    with pytest.raises(InputError, match="damaged"):
        AffinityGraph.load(tmp_path / "half.npz")
    with pytest.raises(InputError, match="no file"):
        AffinityGraph.load(tmp_path / "none.npz")


def test_conversions_keep_every_edge_and_weight():
    graph = affinity_graph(knn(points(), 6), symmetrize="mutual")
    expected = graph.to_scipy().toarray()
    networkx = pytest.importorskip("networkx")
    np.testing.assert_allclose(networkx.to_numpy_array(graph.to_networkx(), nodelist=range(120)), expected)
    igraph_graph = graph.to_igraph()
    assert igraph_graph.ecount() == graph.n_edges
    assert igraph_graph.vcount() == 120
    np.testing.assert_allclose(np.array(igraph_graph.get_adjacency_sparse("weight").todense()), expected)
    anndata = pytest.importorskip("anndata")
    converted = graph.to_anndata()
    assert isinstance(converted, anndata.AnnData)
    np.testing.assert_array_equal(converted.obsp["connectivities"].toarray(), expected)
    utils = pytest.importorskip("torch_geometric.utils")
    data = graph.to_pyg(normalize=False)
    dense_again = utils.to_dense_adj(data.edge_index, edge_attr=data.edge_weight, max_num_nodes=120)[0]
    np.testing.assert_array_equal(dense_again.numpy(), expected)


def test_subgraph_and_components():
    X = np.concatenate([points(50), points(50, seed=1) + 100])
    graph = affinity_graph(knn(X, 4))
    assert graph.n_components() == 2
    half = graph.subgraph(np.arange(100) < 50)
    np.testing.assert_array_equal(half.to_scipy().toarray(), graph.to_scipy().toarray()[:50, :50])
    assert half.n_components() == 1
    with pytest.raises(InputError, match="boolean"):
        graph.subgraph(np.arange(3))


@pytest.mark.parametrize("k", [1, 9, 70])
def test_edges_of_a_table_with_absent_own_and_repeated_neighbors(k):
    """Unsorted lists, short and long, whose two ends disagree on the distance."""
    n, rng = 150, np.random.default_rng(k)
    ids = rng.integers(-1, n, (n, k)).astype(np.int32)
    distances = rng.random((n, k), dtype=np.float32) + np.float32(0.5)
    listed = np.zeros((n, n), bool)
    largest, smallest = np.zeros((n, n), np.float32), np.full((n, n), np.inf, np.float32)
    for i, j, distance in zip(np.repeat(np.arange(n), k), ids.ravel(), distances.ravel(), strict=True):
        if j >= 0 and j != i:
            listed[i, j] = True
            largest[i, j] = largest[j, i] = max(largest[i, j], distance)
            smallest[i, j] = smallest[j, i] = min(smallest[i, j], distance)
    table = KNN(ids, distances, "euclidean", "drawn", n)
    for rule, kept, wanted in (("mean", listed | listed.T, largest), ("mutual", listed & listed.T, smallest)):
        edges = undirected_edges(table, rule)
        rows, columns = np.nonzero(kept)
        np.testing.assert_array_equal(edges.indptr, np.append(0, np.cumsum(kept.sum(1))))
        np.testing.assert_array_equal(edges.indices, columns)
        np.testing.assert_array_equal(edges.distances, wanted[rows, columns])
        if edges.in_both is not None:
            np.testing.assert_array_equal(edges.in_both, (listed & listed.T)[rows, columns])

"""Graphs and tables in the hands of other libraries: scikit-learn, openTSNE, PyTorch Geometric, NetworkX."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor, NearestNeighbors

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.neighbors import knn_between

K = 12


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(1)
    return np.concatenate([rng.normal(size=(60, 5)), rng.normal(size=(60, 5)) + 5]).astype(np.float32)


@pytest.fixture(scope="module")
def labels():
    return np.repeat([0, 1], 60)


@pytest.fixture(scope="module")
def table(points):
    return cs.knn(points, K)


def change(array):
    array[...] = 7


@pytest.mark.parametrize(
    "hand_out",
    [
        lambda graph: [(m := graph.to_scipy()).data, m.indices, m.indptr],
        lambda graph: [(d := graph.to_pyg()).edge_index.numpy(), d.edge_weight.numpy()],
        lambda graph: [(d := graph.to_pyg(normalize=False)).edge_index.numpy(), d.edge_weight.numpy()],
        lambda graph: [part for m in graph.to_anndata().obsp.values() for part in (m.data, m.indices, m.indptr)],
        lambda graph: [(m := graph.knn.to_scipy(include_self=False)).data, m.indices, m.indptr],
        lambda graph: [(m := graph.knn.to_scipy("connectivity")).data, m.indices],
    ],
    ids=["scipy", "pyg", "pyg raw", "anndata", "table", "table connectivity"],
)
def test_changes_in_place_do_not_reach_the_graph(table, hand_out):
    pytest.importorskip("torch_geometric")
    pytest.importorskip("anndata")
    graph = cs.affinity_graph(table)
    own = [graph.indptr, graph.indices, graph.weights, table.indices, table.distances]
    before = [array.copy() for array in own]
    for array in hand_out(graph):
        change(array)
    for array, kept in zip(own, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_table_as_scikit_learn_makes_it(points, table):
    theirs = NearestNeighbors(n_neighbors=K).fit(points)
    for ours, expected in [
        (table.to_scipy(include_self=False), theirs.kneighbors_graph(mode="distance")),
        (table.to_scipy("connectivity"), theirs.kneighbors_graph()),
    ]:
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours.toarray(), expected.toarray(), atol=1e-5)
    with_self = table.to_scipy()
    np.testing.assert_array_equal(np.diff(with_self.indptr), K + 1)
    np.testing.assert_array_equal(with_self.indices.reshape(-1, K + 1)[:, 0], np.arange(len(points)))
    np.testing.assert_array_equal(with_self.data.reshape(-1, K + 1)[:, 1:], table.distances)


def test_precomputed_neighbors_are_all_found(table):
    """Without the points themselves scikit-learn would drop the nearest neighbor of each."""
    distances, indices = NearestNeighbors(n_neighbors=K, metric="precomputed").fit(table.to_scipy()).kneighbors()
    np.testing.assert_array_equal(indices, table.indices)
    np.testing.assert_array_equal(distances, table.distances)


@pytest.mark.filterwarnings("error")
def test_estimators_with_precomputed_neighbors(points, labels):
    table = cs.knn(points, 60)
    matrix = table.to_scipy()
    eps = 2.0
    assert table.distances[:, -1].min() > eps, "no neighborhood is cut off"
    own = DBSCAN(eps=eps, min_samples=4).fit(points).labels_
    assert len(set(own)) > 2
    np.testing.assert_array_equal(DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit(matrix).labels_, own)
    outliers = LocalOutlierFactor(n_neighbors=10, metric="precomputed").fit(matrix).negative_outlier_factor_
    expected = LocalOutlierFactor(n_neighbors=10).fit(points).negative_outlier_factor_
    np.testing.assert_allclose(outliers, expected, rtol=1e-5)


def test_tsne_with_precomputed_neighbors(labels, points):
    matrix = cs.knn(points, 40).to_scipy()
    options = {"perplexity": 10, "init": "random", "random_state": 0, "max_iter": 300}
    flat = TSNE(metric="precomputed", **options).fit_transform(matrix)
    own = KNeighborsClassifier(5).fit(flat[::2], labels[::2]).score(flat[1::2], labels[1::2])
    assert own > 0.95
    np.testing.assert_allclose(
        TSNE(metric="precomputed", **options).fit(matrix).kl_divergence_,
        TSNE(**options).fit(points).kl_divergence_,
        rtol=0.05,
    )


def test_classifier_with_precomputed_neighbors(points, labels):
    train, test = points[::2], points[1::2]
    own = KNeighborsClassifier(5, weights="distance").fit(train, labels[::2])
    ours = KNeighborsClassifier(5, weights="distance", metric="precomputed")
    ours.fit(cs.knn(train, 20).to_scipy(), labels[::2])
    queries = other_points(train, test)
    assert queries.shape == (60, 60)
    np.testing.assert_array_equal(np.diff(queries.indptr), 20)
    np.testing.assert_allclose(ours.predict_proba(queries), own.predict_proba(test), atol=1e-5)


def other_points(train, test):
    table = knn_between(test, train, 20)
    with pytest.raises(InputError, match="among its points"):
        table.to_scipy(include_self=True)
    return table.to_scipy()


def test_opentsne_takes_the_table(points, labels):
    openTSNE = pytest.importorskip("openTSNE")
    from openTSNE.nearest_neighbors import PrecomputedDistanceMatrix, PrecomputedNeighbors, Sklearn

    matrix = cs.knn(points, 30).to_scipy(include_self=False)
    neighbors = PrecomputedNeighbors(matrix.indices.reshape(-1, 30), matrix.data.reshape(-1, 30))
    affinities = openTSNE.affinity.PerplexityBasedNN(knn_index=neighbors, perplexity=10)
    # method="exact" takes the same neighbors, but imports PyNNDescent, which compiles for a minute.
    own = openTSNE.affinity.PerplexityBasedNN(knn_index=Sklearn(points, 30), perplexity=10)
    assert abs(affinities.P - own.P).max() < 1e-5
    PrecomputedDistanceMatrix(cs.knn(points, 31).to_scipy(), 30)
    flat = openTSNE.TSNE(n_iter=100).fit(affinities=affinities, initialization="spectral")
    assert KNeighborsClassifier(5).fit(flat[::2], labels[::2]).score(flat[1::2], labels[1::2]) > 0.95


def test_what_is_no_distance_is_refused(points):
    table = cs.knn(points, 4, metric="inner_product")
    with pytest.raises(InputError, match="not distances"):
        table.to_scipy()
    assert table.to_scipy("connectivity").nnz == 480
    with pytest.raises(InputError, match="mode must be"):
        table.to_scipy("weights")


def test_normalized_weights_for_pyg(table):
    utils = pytest.importorskip("torch_geometric.utils")
    graph = cs.affinity_graph(table)
    A = graph.to_scipy().toarray().astype(np.float64)
    roots = np.sqrt(A.sum(0))
    for normalize, expected in ((True, A / np.outer(roots, roots)), (False, A)):
        data = graph.to_pyg(normalize=normalize)
        dense = utils.to_dense_adj(data.edge_index, edge_attr=data.edge_weight, max_num_nodes=len(A))[0]
        np.testing.assert_allclose(dense.numpy(), expected, rtol=1e-5)
    lonely = graph.subgraph(np.arange(120) < 1).to_pyg()
    assert lonely.num_nodes == 1
    assert lonely.edge_weight.shape == (0,)


@pytest.mark.parametrize("layer", ["GraphConv", "GCNConv"])
def test_layers_of_pyg_learn_from_rld_weights(points, labels, layer):
    """As the GCN probe: the nodes' inputs are labels, masked at random; the loss is taken on the masked ones."""
    torch = pytest.importorskip("torch")
    nn = pytest.importorskip("torch_geometric.nn")
    graph = cs.affinity_graph(cs.knn(points, 8), temperature=0.05)
    assert graph.weights.max() > 1000, "raw RLD weights are large"
    data, y = graph.to_pyg(), torch.from_numpy(labels)
    torch.manual_seed(0)
    shown = torch.rand(len(y)) < 0.6
    network = getattr(nn, layer)(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)

    def outputs(visible):
        inputs = torch.nn.functional.one_hot(torch.where(visible, y, 2), 3).float()
        return network(inputs, data.edge_index, data.edge_weight)

    for _ in range(60):
        masked = shown & (torch.rand(len(y)) < 0.5)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(outputs(shown & ~masked)[masked], y[masked]).backward()
        optimizer.step()
    accuracy = (outputs(shown).argmax(1) == y)[~shown].float().mean()
    assert accuracy > 0.95

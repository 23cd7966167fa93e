"""Scanpy, UMAP and AnnData on an affinity graph: what they read is there, and what they change is a copy."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

import clorg_scale as cs
from clorg_scale.affinity import AffinityGraph
from clorg_scale.errors import InputError

anndata = pytest.importorskip("anndata")
sc = pytest.importorskip("scanpy")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")

needs_umap = pytest.mark.slow
"""On its first import UMAP compiles for half a minute."""

N, K = 240, 10


@pytest.fixture(scope="module")
def embeddings():
    """Four groups in a row that touch."""
    rng = np.random.default_rng(0)
    centers = np.repeat(1.5 * np.arange(4), N // 4)
    return (rng.normal(size=(N, 6)) + centers[:, None] * np.eye(6)[0]).astype(np.float32)


@pytest.fixture
def graph(embeddings):
    return cs.affinity_graph(cs.knn(embeddings, K))


def separated(n_groups):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(30, 6)) + 100 * i for i in range(n_groups)]).astype(np.float32)
    return X, cs.affinity_graph(cs.knn(X, 6))


def run_tools(adata, key=None):
    """Every tool of Scanpy that starts from neighbors."""
    adata.obs["group"] = np.repeat(["a", "b", "c", "d"], adata.n_obs // 4)
    adata.obs["group"] = adata.obs["group"].astype("category")
    adata.uns["iroot"] = 0
    sc.tl.paga(adata, groups="group", neighbors_key=key)
    sc.tl.diffmap(adata, neighbors_key=key)
    sc.tl.dpt(adata, neighbors_key=key)
    sc.tl.leiden(adata, neighbors_key=key, flavor="igraph", n_iterations=2, directed=False)
    sc.tl.umap(adata, maxiter=10, neighbors_key=key)


def check_tools(adata):
    between = adata.uns["paga"]["connectivities"].toarray()
    assert between[0, 1] > between[0, 3], "neighboring groups are connected more closely than distant ones"
    pseudotime = adata.obs.groupby("group", observed=True)["dpt_pseudotime"].mean().to_numpy()
    assert (np.diff(pseudotime) > 0).all(), "the groups lie in a row that starts at the root"
    assert adata.obs["leiden"].nunique() > 1
    assert np.isfinite(adata.obsm["X_umap"]).all()


@needs_umap
def test_tools_on_a_new_anndata_leave_the_graph_as_it_is(graph):
    before = [array.copy() for array in (graph.indptr, graph.indices, graph.weights)]
    adata = graph.to_anndata()
    run_tools(adata)
    check_tools(adata)
    assert (adata.obsp["connectivities"].data == 0).any() or adata.obsp["connectivities"].nnz < len(before[2]), (
        "umap drops the small weights of what it is handed: otherwise this test shows nothing"
    )
    for array, kept in zip((graph.indptr, graph.indices, graph.weights), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@needs_umap
@pytest.mark.parametrize("key", [None, "rld"])
def test_tools_on_an_anndata_that_was_there(embeddings, graph, key):
    adata = anndata.AnnData(embeddings)
    adata.obs["kept"] = np.arange(N)
    assert graph.to_anndata(adata, key_added=key) is adata
    run_tools(adata, key)
    check_tools(adata)
    assert adata.obs["kept"].tolist() == list(range(N))


def test_neighbors_as_scanpy_writes_them(embeddings, graph):
    ours, theirs = anndata.AnnData(embeddings), anndata.AnnData(embeddings)
    graph.to_anndata(ours)
    sc.pp.neighbors(theirs, n_neighbors=K + 1, use_rep="X", method="gauss")
    assert ours.uns["neighbors"]["params"]["n_neighbors"] == theirs.uns["neighbors"]["params"]["n_neighbors"] == K + 1
    assert set(theirs.uns["neighbors"]) <= set(ours.uns["neighbors"])
    assert type(ours.obsp["distances"]) is type(theirs.obsp["distances"])
    np.testing.assert_allclose(
        ours.obsp["distances"].toarray(), theirs.obsp["distances"].toarray(), rtol=1e-5, atol=1e-5
    )
    neighbors = sc.Neighbors(ours)
    neighbors.compute_transitions()
    neighbors.compute_eigen(n_comps=4)
    assert neighbors.n_neighbors == K + 1
    assert neighbors.eigen_values[0] == pytest.approx(1, abs=1e-5)


def test_neighbors_replace_those_of_scanpy(embeddings, graph):
    adata = anndata.AnnData(embeddings)
    sc.pp.neighbors(adata, n_neighbors=5, use_rep="X", method="gauss")
    graph.to_anndata(adata)
    assert adata.uns["neighbors"]["params"]["n_neighbors"] == K + 1
    assert (adata.obsp["connectivities"] != graph.to_scipy()).nnz == 0
    np.testing.assert_array_equal(np.diff(adata.obsp["distances"].indptr), K)


def test_duplicates_keep_their_distance_of_zero(embeddings):
    adata = cs.affinity_graph(cs.knn(np.repeat(embeddings[:40], 6, axis=0), 5)).to_anndata()
    np.testing.assert_array_equal(np.diff(adata.obsp["distances"].indptr), 5)
    assert not adata.obsp["distances"].data.any()


@needs_umap
@pytest.mark.parametrize("n_groups", [2, 3, 8])
def test_umap_of_a_graph_in_several_pieces(n_groups):
    X, graph = separated(n_groups)
    for adata in (graph.to_anndata(), graph.to_anndata(anndata.AnnData(X))):
        sc.tl.umap(adata, maxiter=5)
        assert np.isfinite(adata.obsm["X_umap"]).all()


@needs_umap
def test_graph_without_a_table(graph, embeddings):
    foreign = AffinityGraph.from_scipy(graph.to_scipy())
    adata = foreign.to_anndata(anndata.AnnData(embeddings))
    run_tools(adata)
    check_tools(adata)
    assert "no k-NN table" in adata.uns["neighbors"]["params"]["distances"]
    distances = foreign.to_anndata().obsp["distances"]
    assert distances.data.min() == 1
    row = graph.to_scipy()[[0]].toarray()[0]
    order = np.argsort(-row)[: np.count_nonzero(row)]
    assert (np.diff(distances[[0]].toarray()[0][order]) >= 0).all(), "the stronger the edge, the nearer"


def test_graph_without_edges():
    adata = AffinityGraph.from_scipy(sparse.csr_array((4, 4))).to_anndata()
    assert adata.obsp["distances"].nnz == 0
    assert adata.uns["neighbors"]["params"]["n_neighbors"] == 2


@needs_umap
def test_written_and_read_again(graph, embeddings, tmp_path):
    graph.to_anndata(anndata.AnnData(embeddings), use_rep="X").write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X"
    run_tools(adata)
    check_tools(adata)


@needs_umap
def test_many_features_are_read_where_the_embeddings_are(graph, embeddings):
    wide = anndata.AnnData(np.random.default_rng(0).random((N, 100), dtype=np.float32), obsm={"X_model": embeddings})
    graph.to_anndata(wide, use_rep="X_model")
    sc.tl.umap(wide, maxiter=5)
    assert "X_pca" not in wide.obsm


def test_a_view_becomes_its_own_data(graph, embeddings):
    whole = anndata.AnnData(np.concatenate([embeddings, embeddings]))
    view = whole[:N]
    with warnings.catch_warnings():
        warnings.simplefilter("error", anndata.ImplicitModificationWarning)
        graph.to_anndata(view)
    assert view.obsp["distances"].shape == (N, N)
    assert "distances" not in whole.obsp


@pytest.mark.parametrize(
    ("target", "options", "sentence"),
    [
        (lambda X: anndata.AnnData(X[:-1]), {}, "239 observations, the graph 240 nodes"),
        (lambda X: X, {}, "not into a ndarray"),
        (anndata.AnnData, {"use_rep": "X_none"}, "X_none"),
        (lambda X: None, {"use_rep": "X"}, "pass the AnnData"),
    ],
)
def test_what_does_not_fit_is_refused(graph, embeddings, target, options, sentence):
    adata = target(embeddings)
    with pytest.raises(InputError, match=sentence):
        graph.to_anndata(adata, **options)
    assert not isinstance(adata, anndata.AnnData) or "neighbors" not in adata.uns


@needs_umap
def test_umap_learn_takes_the_table(graph, embeddings):
    umap = pytest.importorskip("umap")
    table = graph.knn.to_scipy()
    graphs = []
    for distances, indices in (
        (table.data.reshape(N, -1), table.indices.reshape(N, -1)),
        NearestNeighbors(n_neighbors=K + 1).fit(embeddings).kneighbors(embeddings),
    ):
        random, neighbors = np.random.RandomState(0), {"knn_indices": indices, "knn_dists": distances}
        graph_, *_ = umap.umap_.fuzzy_simplicial_set(embeddings, K + 1, random, "euclidean", **neighbors)
        graphs.append(graph_)
    assert abs(graphs[0] - graphs[1]).max() < 1e-4

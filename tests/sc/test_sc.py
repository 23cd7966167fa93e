"""`cs.sc` writes what Scanpy writes, and Scanpy's tools run on it."""

import warnings

import numpy as np
import pandas as pd
import pytest

anndata = pytest.importorskip("anndata")
sc = pytest.importorskip("scanpy")

from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

import clorg_scale as cs
from clorg_scale.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    names = pd.Categorical([f"digit {label}" for label in y[:400]])
    adata = anndata.AnnData(X[:400].astype(np.float32), obs=pd.DataFrame({"digit": names}, index=map(str, range(400))))
    sc.pp.pca(adata, n_comps=20)
    return adata


@pytest.fixture(scope="module")
def ours(digits):
    adata = digits.copy()
    assert cs.sc.neighbors(adata, 12, n_pcs=10) is None
    assert cs.sc.leiden(adata) is None
    return adata


def test_the_same_places_as_scanpy(digits, ours):
    theirs = digits.copy()
    sc.pp.neighbors(theirs, 12, n_pcs=10)
    sc.tl.leiden(theirs, flavor="igraph", n_iterations=2, directed=False)
    assert set(ours.obsp) == set(theirs.obsp)
    assert set(ours.uns["neighbors"]) == set(theirs.uns["neighbors"])
    assert set(ours.uns["neighbors"]["params"]) >= set(theirs.uns["neighbors"]["params"])
    for name in ("n_neighbors", "metric", "random_state", "n_pcs"):
        assert ours.uns["neighbors"]["params"][name] == theirs.uns["neighbors"]["params"][name], name
    # The distances of the same neighbors: a point's own is not counted among the 12 entries of either.
    np.testing.assert_allclose(ours.obsp["distances"].toarray(), theirs.obsp["distances"].toarray(), atol=1e-3)
    assert set(ours.uns["leiden"]["params"]) == set(theirs.uns["leiden"]["params"])
    assert ours.obs["leiden"].dtype == "category"
    assert list(ours.obs["leiden"].cat.categories) == [str(i) for i in range(ours.obs["leiden"].nunique())]
    assert adjusted_rand_score(ours.obs["leiden"], theirs.obs["leiden"]) > 0.6
    graph = cs.AffinityGraph.from_scipy(ours.obsp["connectivities"])
    found = cs.communities(graph)
    np.testing.assert_array_equal(ours.obs["leiden"].cat.codes, found.labels)
    assert ours.uns["leiden"]["modularity"] == pytest.approx(found.modularity)


@pytest.mark.slow
def test_scanpy_s_tools_run_on_the_result(ours, tmp_path):
    adata = ours.copy()
    sc.tl.umap(adata)  # sets the connectivities to 0 that are too small for its number of epochs
    assert np.isfinite(adata.obsm["X_umap"]).all()
    sc.tl.diffmap(adata, n_comps=5)
    assert adata.obsm["X_diffmap"].shape == (400, 5)
    sc.tl.paga(adata, groups="leiden")
    assert adata.uns["paga"]["connectivities"].shape[0] == adata.obs["leiden"].nunique()
    sc.tl.rank_genes_groups(adata, "leiden", method="t-test")
    assert adata.uns["rank_genes_groups"]["names"].dtype.names == tuple(adata.obs["leiden"].cat.categories)
    sc.tl.leiden(adata, key_added="again", flavor="igraph", n_iterations=2, directed=False)
    assert adjusted_rand_score(adata.obs["again"], adata.obs["leiden"]) > 0.5
    cs.sc.rld(adata, "digit", n_pcs=10)
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(again.uns["rld"]["values"], adata.uns["rld"]["values"])
    assert list(again.uns["rld"]["classes"]) == sorted(set(adata.obs["digit"]))


def test_rld_is_that_of_the_representation(digits):
    adata = digits.copy()
    assert cs.sc.rld(adata, "digit", n_pcs=10, temperatures=(0.5, 0.1), key_added="r") is None
    expected = cs.rld(digits.obsm["X_pca"][:, :10], digits.obs["digit"], temperatures=(0.5, 0.1))
    np.testing.assert_array_equal(adata.uns["r"]["values"], expected.values)
    np.testing.assert_array_equal(adata.obsm["r_density"], expected.local_density.T)
    assert adata.uns["r"]["params"] == {"label_key": "digit", "use_rep": "X_pca", "random_state": 0, "n_pcs": 10}
    of_X = cs.sc.rld(adata, "digit", use_rep="X", temperatures=(0.5,), copy=True)
    assert "rld" not in adata.uns
    assert of_X.uns["rld"]["values"][0] == cs.rld(digits.X, digits.obs["digit"], temperatures=(0.5,)).values[0]


def test_other_places(digits):
    adata = digits.copy()
    copied = cs.sc.neighbors(adata, use_rep="X", key_added="raw", copy=True)
    assert not adata.obsp
    assert set(copied.obsp) == {"raw_connectivities", "raw_distances"}
    assert copied.uns["raw"]["params"]["use_rep"] == "X"
    cs.sc.leiden(copied, neighbors_key="raw", key_added="groups", random_state=3)
    by_matrix = cs.sc.leiden(copied, obsp="raw_connectivities", random_state=3, copy=True)
    again = cs.sc.leiden(copied, adjacency=copied.obsp["raw_connectivities"], random_state=3, copy=True)
    for found in (by_matrix, again):
        assert list(found.obs["leiden"]) == list(copied.obs["groups"])
    view = adata[:200]
    cs.sc.neighbors(view)
    assert not view.is_view
    assert view.obsp["distances"].shape == (200, 200)


def test_principal_components_that_are_missing_are_computed(digits):
    adata = anndata.AnnData(digits.X.copy())
    cs.sc.neighbors(adata)
    assert "X_pca" in adata.obsm
    assert adata.uns["neighbors"]["params"]["use_rep"] == "X_pca"
    narrow = anndata.AnnData(digits.X[:, 20:40].copy())
    cs.sc.neighbors(narrow)
    assert "X_pca" not in narrow.obsm


def test_what_is_refused(digits):
    adata = digits.copy()
    for call, sentence in (
        (lambda: cs.sc.neighbors(adata.X), "An AnnData is needed, not a ndarray"),
        (lambda: cs.sc.neighbors(adata, use_rep="X_none"), "is not in the AnnData's obsm; it has"),
        (lambda: cs.sc.neighbors(adata, n_pcs=99), "n_pcs=99, but X_pca has 20 columns"),
        (lambda: cs.sc.neighbors(adata, 1), "n_neighbors must be a whole number of 2 or more"),
        (lambda: cs.sc.leiden(adata), r"has no uns\['neighbors'\]; run clorg_scale.sc.neighbors"),
        (lambda: cs.sc.leiden(adata, obsp="none"), "obsp='none' is not in the AnnData"),
        (lambda: cs.sc.leiden(adata, obsp="a", neighbors_key="b"), "not both"),
        (lambda: cs.sc.rld(adata, "class"), r"label_key='class' is not in the AnnData's obs; it has \['digit'\]"),
        (lambda: cs.sc.neighbors(anndata.AnnData(obs=adata.obs)), "no X"),
    ):
        with pytest.raises(InputError, match=sentence), warnings.catch_warnings():
            call()
    assert not adata.obsp

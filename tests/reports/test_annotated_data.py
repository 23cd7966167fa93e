"""AnnData in HDF5 and in Zarr, as anndata of every version writes it, is read by the same rules."""

import numpy as np
import pytest
from command_line import run

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.store import load_labels

N = 30
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4)).astype(np.float32)
PCA = RNG.normal(size=(N, 3)).astype(np.float32)
TYPES = np.array(["B cell", "T cell", "NK"])[RNG.integers(0, 3, N)]
CODES = np.unique(TYPES, return_inverse=True)[1].astype(np.int8)
CATEGORIES = np.unique(TYPES)


@pytest.fixture
def annotated():
    """An AnnData object with a sparse X of as many genes as there are other columns, loadings and pairs."""
    ad = pytest.importorskip("anndata")
    pd = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    obs = pd.DataFrame(
        {
            "label": pd.Categorical(TYPES),
            "batch": pd.array(np.arange(N) % 2, "Int64"),
            "donor": pd.array([f"d{i % 3}" for i in range(N)], "string"),
            "score": X[:, 0],
        },
        index=pd.Index([f"cell{i}" for i in range(N)], name="barcode"),
    )
    data = ad.AnnData(sparse.csr_matrix(X), obs=obs, obsm={"X_pca": PCA}, varm={"PCs": np.ones((4, 3))})
    data.obsp["connectivities"] = sparse.csr_matrix(np.eye(N))
    data.layers["counts"] = X
    return data


def write(data, path):
    import anndata as ad

    before = ad.settings.allow_write_nullable_strings
    ad.settings.allow_write_nullable_strings = True
    try:
        data.write_zarr(path) if path.suffix == ".zarr" else data.write_h5ad(path)
    finally:
        ad.settings.allow_write_nullable_strings = before


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("ending", [".h5ad", ".h5", ".zarr"])
def test_what_describes_genes_is_never_taken_for_cells(tmp_path, annotated, ending):
    path = tmp_path / f"x{ending}"
    write(annotated, path)
    stored = cs.load_embeddings(path)
    np.testing.assert_array_equal(stored.embeddings, PCA)
    assert stored.labels.tolist() == TYPES.tolist()
    columns = stored.metadata["columns"]
    assert (columns["taken"], columns["labels"]) == (["obsm/X_pca"], "obs/label")
    assert columns["left_out"] == {
        "X": "not a dense matrix",
        "obs/batch": "a column of obs",
        "obs/donor": "a column of obs",
        "obs/score": "a column of obs",
    }
    with pytest.raises(InputError, match="is a sparse matrix; choose a dense embedding"):
        cs.load_embeddings(f"{path}:X")
    for gene in ("varm/PCs", "layers/counts", "obsp/connectivities/data", "var/_index"):
        with pytest.raises(InputError, match="holds no array"):
            cs.load_embeddings(f"{path}:{gene}")
    assert load_labels(f"{path}:obs/batch").tolist() == (np.arange(N) % 2).tolist()
    assert load_labels(f"{path}:donor").tolist() == [f"d{i % 3}" for i in range(N)]
    del annotated.obsm["X_pca"]
    write(annotated, tmp_path / f"sparse{ending}")
    with pytest.raises(InputError, match=r"no two-dimensional array of numbers; it holds 'X' \(not a dense matrix\)"):
        cs.load_embeddings(tmp_path / f"sparse{ending}")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
@pytest.mark.parametrize("column", ["label", "batch", "donor"])
def test_missing_labels_are_refused_with_their_row(tmp_path, annotated, ending, column):
    annotated.obs.loc[annotated.obs.index[[7, 9]], column] = None
    write(annotated, tmp_path / f"x{ending}")
    with pytest.raises(InputError, match=r"2 of the labels in .* are missing .*the first at row 7\); write -1"):
        cs.load_embeddings(tmp_path / f"x{ending}", labels=column)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
def test_frames_and_sparse_matrices_of_obsm(tmp_path, annotated, ending):
    pd = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    annotated.obsm["protein"] = pd.DataFrame(PCA, columns=["CD3", "CD4", "CD19"], index=annotated.obs_names)
    annotated.obsm["atac"] = sparse.csr_matrix(X)
    path = tmp_path / f"x{ending}"
    write(annotated, path)
    np.testing.assert_array_equal(cs.load_embeddings(f"{path}:obsm/protein").embeddings, PCA)
    with pytest.raises(InputError, match="is a sparse matrix"):
        cs.load_embeddings(f"{path}:atac")
    with pytest.raises(InputError, match=r"may be the embeddings \('obsm/X_pca', 'obsm/protein'\)"):
        cs.load_embeddings(path)


def write_0_7(group, codes, *, zarr):
    """``obs`` as anndata 0.7 wrote it; into HDF5 with references, into Zarr with the name below ``obs``."""
    obs = group.create_group("obs")
    obs.attrs["encoding-type"], obs.attrs["encoding-version"] = "dataframe", "0.1.0"
    obs.attrs["_index"], obs.attrs["column-order"] = "barcode", ["label", "batch"]
    categories = obs.create_group("__categories")
    if zarr:
        group.create_array("X", data=X)
        obs.create_array("barcode", data=np.arange(N).astype("<U8"))
        obs.create_array("label", data=codes)
        categories.create_array("label", data=CATEGORIES)
        obs.create_array("batch", data=np.arange(N) % 2)
        obs["label"].attrs["categories"] = "__categories/label"
    else:
        import h5py

        text = h5py.string_dtype()
        group["X"] = X
        obs.create_dataset("barcode", data=np.arange(N).astype("S8"))
        obs["label"] = codes
        categories.create_dataset("label", data=CATEGORIES.astype(object), dtype=text)
        obs["batch"] = np.arange(N) % 2
        obs["label"].attrs["categories"] = categories["label"].ref
    categories["label"].attrs["ordered"] = False
    var = group.create_group("var")
    var.attrs["encoding-type"] = "dataframe"
    group.create_group("varm")


@pytest.mark.parametrize("zarr", [False, True])
def test_categories_of_anndata_0_7(tmp_path, zarr):
    holes = CODES.copy()
    holes[4] = -1
    for name, codes in (("whole", CODES), ("holes", holes)):
        path = tmp_path / f"{name}{'.zarr' if zarr else '.h5ad'}"
        if zarr:
            library = pytest.importorskip("zarr")
            write_0_7(library.open_group(path, mode="w", zarr_format=2), codes, zarr=True)
        else:
            with pytest.importorskip("h5py").File(path, "w") as file:
                write_0_7(file, codes, zarr=False)
    stored = cs.load_embeddings(tmp_path / f"whole{path.suffix}")
    np.testing.assert_array_equal(stored.embeddings, X)
    assert stored.labels.tolist() == TYPES.tolist()
    assert load_labels(f"{tmp_path}/whole{path.suffix}:batch").tolist() == (np.arange(N) % 2).tolist()
    with pytest.raises(InputError, match=r"1 of the labels in .* is missing .*row 4"):
        cs.load_embeddings(path)


def write_0_6(path, codes, *, sparse=False):
    """Records for ``obs``, ``var`` and ``obsm``, the categories under ``uns``, as anndata 0.6 wrote them."""
    h5py = pytest.importorskip("h5py")
    index = np.arange(N).astype("S8")
    donor = np.array(["d1", "donor22"] * (N // 2)).astype("S7")
    with h5py.File(path, "w") as file:
        if sparse:
            group = file.create_group("X")
            group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", X.shape
            group["data"], group["indices"], group["indptr"] = X.ravel(), np.tile(np.arange(4), N), np.arange(N + 1) * 4
        else:
            file["X"] = X
        file["obs"] = np.rec.fromarrays([index, codes, donor, X[:, 0]], names="index,label,donor,score")
        file["var"] = np.rec.fromarrays([np.arange(4).astype("S4")], names="index")
        embedded = np.empty(N, dtype=[("X_pca", "<f4", (3,)), ("X_umap", "<f4", (2,))])
        embedded["X_pca"], embedded["X_umap"] = PCA, PCA[:, :2]
        file["obsm"] = embedded
        file["varm"] = np.ones(4, dtype=[("PCs", "<f4", (3,))])
        file["raw.X"] = np.ones((N, 9))
        file.create_dataset("uns/label_categories", data=CATEGORIES.astype("S"))


def test_records_of_anndata_0_6(tmp_path):
    path = tmp_path / "x.h5ad"
    write_0_6(path, CODES)
    stored = cs.load_embeddings(path)
    np.testing.assert_array_equal(stored.embeddings, X)
    assert stored.labels.tolist() == TYPES.tolist()
    np.testing.assert_array_equal(cs.load_embeddings(f"{path}:obsm/X_pca").embeddings, PCA)
    assert load_labels(f"{path}:donor").tolist() == ["d1", "donor22"] * (N // 2)
    with pytest.raises(InputError, match="holds no array 'index'"):
        load_labels(f"{path}:index")
    write_0_6(path, np.where(np.arange(N) == 3, -1, CODES).astype(np.int8), sparse=True)
    with pytest.raises(InputError, match=r"'obsm/X_pca', 'obsm/X_umap'"):
        cs.load_embeddings(path)
    with pytest.raises(InputError, match="is a sparse matrix"):
        cs.load_embeddings(f"{path}:X")
    with pytest.raises(InputError, match=r"1 of the labels in .* is missing .*row 3"):
        cs.load_embeddings(f"{path}:obsm/X_umap")


def test_one_category_and_codes_beyond_the_categories(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5ad"
    write_0_6(path, np.zeros(N, np.int8))
    with h5py.File(path, "a") as file:
        del file["uns/label_categories"]
        file["uns/label_categories"] = "B cell"  # one category was stored as a single value
    assert set(load_labels(path).tolist()) == {"B cell"}
    write_0_6(path, np.full(N, 3, np.int8))
    with pytest.raises(InputError, match="holds the code 3, but there are 3 categories"):
        load_labels(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_command_line_tells_what_was_taken(tmp_path, annotated):
    write(annotated, tmp_path / "x.zarr")
    done = run("rld", tmp_path / "x.zarr", "--temperatures", "0.5", "--json")
    assert done.code == 0
    assert done.err.startswith(
        f"{tmp_path / 'x.zarr'}: embeddings from 'obsm/X_pca'; labels from 'obs/label'; left out"
    )

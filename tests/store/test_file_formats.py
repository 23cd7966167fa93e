"""Embeddings in files of every format: whole, damaged, and with several arrays."""

import pickle
import sys

import numpy as np
import pytest
from stored_arrays import X, Y, check

from clorg_scale.arrays import spool
from clorg_scale.errors import InputError, MissingDependencyError
from clorg_scale.store import load_embeddings, load_labels
from clorg_scale.store.readers import npz, parquet


def test_npy(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.asfortranarray(X))
    check(load_embeddings(path), labels=None)
    assert isinstance(load_embeddings(path).embeddings, np.memmap)
    np.save(tmp_path / "y.npy", Y)
    check(load_embeddings(path, labels=tmp_path / "y.npy"))
    whole = path.read_bytes()
    for damaged, sentence in (
        (whole[:-1], "is truncated: 1200 bytes of data are announced, but it has 1199"),
        (whole[:20], "is not a .npy file, or it is damaged"),
        (b"", "is not a .npy file"),
        (pickle.dumps([1, 2]), "is not a .npy file"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': bad}  ", "is not a .npy file, or it is damaged"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=sentence):
            load_embeddings(path)
    np.save(path, np.array([{}, 1, 2], object), allow_pickle=True)
    with pytest.raises(InputError, match="holds Python objects, which are never unpickled"):
        load_embeddings(path)


def test_npz_is_mapped_in_place(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, odd_name=np.zeros(3, np.uint8), embeddings=X, labels=Y)
    stored = load_embeddings(path)
    check(stored)
    assert isinstance(stored.embeddings, np.memmap)
    assert stored.embeddings.filename == path
    np.savez_compressed(path, features=np.asfortranarray(X), y=Y, other=X[:, :2])
    check(load_embeddings(path))
    check(load_embeddings(f"{path}:other"), X[:, :2])
    assert load_labels(path).tolist() == Y.tolist()


def test_compressed_npz_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "available_memory", lambda: 0)
    monkeypatch.setattr(npz, "BLOCK_BYTES", 100)
    np.savez_compressed(tmp_path / "x.npz", X=X, y=Y)
    stored = load_embeddings(tmp_path / "x.npz")
    check(stored)
    assert isinstance(stored.embeddings, np.memmap)


@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
def test_damaged_npz(tmp_path, save_npz):
    path = tmp_path / "x.npz"
    save_npz(path, embeddings=X)
    whole = path.read_bytes()
    for damaged in (whole[:-30], whole[: len(whole) // 2], b"", pickle.dumps(X)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"is not a .npz file, or it is truncated"):
            load_embeddings(path)
    if save_npz is np.savez:
        path.write_bytes(whole.replace(b"(50, 6)", b"(50, 7)"))
        with pytest.raises(InputError, match=r"is damaged|Bad CRC-32"):
            load_embeddings(path)
    if save_npz is np.savez_compressed:
        path.write_bytes(whole[:300] + bytes(50) + whole[350:])
        with pytest.raises(InputError, match=r"is damaged|or it is truncated"):
            load_embeddings(path)
    save_npz(path, embeddings=np.array([{}] * 3, object), allow_pickle=True)
    with pytest.raises(InputError, match="holds no two-dimensional array of numbers; it holds 'embeddings'"):
        load_embeddings(path)
    with pytest.raises(InputError, match="holds Python objects, which are never unpickled"):
        load_embeddings(f"{path}:embeddings")


def test_safetensors(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "x.safetensors"
    tensor = torch.from_numpy(X)
    save_file = safetensors.save_file
    save_file({"embeddings": tensor, "labels": torch.from_numpy(Y)}, path, metadata={"model": "vit"})
    stored = load_embeddings(path)
    check(stored)
    assert isinstance(stored.embeddings, np.memmap)
    assert stored.metadata == {"model": "vit"}
    save_file({"a": tensor.half()}, path)
    check(load_embeddings(path), X.astype(np.float16), None)
    save_file({"a": tensor.bfloat16(), "y": torch.zeros(50, dtype=torch.bool)}, path)
    check(load_embeddings(path), tensor.bfloat16().float().numpy(), [False] * 50)
    save_file({"embeddings": tensor.to(torch.float8_e4m3fn)}, path)
    with pytest.raises(InputError, match="has type F8_E4M3; store it as"):
        load_embeddings(f"{path}:embeddings")


def test_damaged_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    safetensors.save_file({"embeddings": X}, path)
    whole = path.read_bytes()
    for damaged, sentence in (
        (whole[:-1], "is truncated: tensor 'embeddings' ends at byte"),
        (whole[:40], "is not a .safetensors file, or it is truncated"),
        (b"", "is not a .safetensors file"),
        (pickle.dumps(X), "is not a .safetensors file"),
        (whole[:8] + b"!" + whole[9:], "its header is damaged"),
        (whole.replace(b"[50,6]", b"[50,7]"), "does not fit its shape"),
        (whole.replace(b'"shape"', b'"shade"'), "its header is damaged"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=sentence):
            load_embeddings(path)


def test_zarr(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(tmp_path / "one.zarr", data=X, chunks=(7, 3))
    check(load_embeddings(tmp_path / "one.zarr"), labels=None)
    for version in (2, 3):
        path = tmp_path / f"group{version}"
        group = zarr.open_group(path, mode="w", zarr_format=version)
        group.attrs["model"] = "vit"
        group.create_array("X", data=X.astype(np.float16), chunks=(20, 6))
        group.create_array("label", data=Y)
        group.create_group("obsm").create_array("X_pca", data=X[:, :2])
        stored = load_embeddings(path)
        check(stored, X.astype(np.float16))
        assert stored.metadata == {"model": "vit"}
        check(load_embeddings(f"{path}:obsm/X_pca"), X[:, :2])
    (tmp_path / "one.zarr" / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="is not a Zarr store, or it is damaged"):
        load_embeddings(tmp_path / "one.zarr")


def test_zarr_with_a_damaged_chunk(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(tmp_path / "x.zarr", data=X, chunks=(25, 6))
    chunk = tmp_path / "x.zarr" / "c" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(InputError, match=r"x.zarr cannot be read"):
        load_embeddings(tmp_path / "x.zarr")


def test_parquet(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 7)
    path = tmp_path / "x.parquet"
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 6)
    pq.write_table(pa.table({"id": np.arange(50), "emb": fixed, "label": Y}), path, row_group_size=13)
    check(load_embeddings(path))
    check(load_embeddings(path, labels="id"), labels=range(50))
    pq.write_table(pa.table({"emb": list(X), "class": [f"c{label}" for label in Y]}), path)
    check(load_embeddings(path), labels=[f"c{label}" for label in Y])
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "name": ["x"] * 50, "y": Y}), path)
    check(load_embeddings(path), X[:, :2])
    monkeypatch.setattr(spool, "available_memory", lambda: 0)
    assert isinstance(load_embeddings(path).embeddings, np.memmap)
    assert load_labels(f"{path}:name").tolist() == ["x"] * 50


def test_damaged_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"emb": list(X)}), path)
    whole = path.read_bytes()
    for damaged in (whole[:-9], b"", pickle.dumps(X)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is not a Parquet file, or it is truncated"):
            load_embeddings(path)
    pq.write_table(pa.table({"emb": [[1.0, 2.0], [1.0], [1.0, 2.0]]}), path)
    with pytest.raises(InputError, match="differ in length: 2 and 1 numbers"):
        load_embeddings(path)
    pq.write_table(pa.table({"emb": [[1.0, 2.0]] * 3 + [[1.0]] * 3}), path, row_group_size=3)
    with pytest.raises(InputError, match="differ in length"):
        load_embeddings(path)
    pq.write_table(pa.table({"emb": [[1.0, 2.0], None, [1.0, 2.0]]}), path)
    with pytest.raises(InputError, match="1 missing values"):
        load_embeddings(path)
    pq.write_table(pa.table({"words": ["a", "b", "c"]}), path)
    with pytest.raises(InputError, match="holds no two-dimensional array of numbers; it holds 'words'"):
        load_embeddings(path)


@pytest.fixture
def anndata_parts():
    ad = pytest.importorskip("anndata")
    pd = pytest.importorskip("pandas")
    return ad, pd.DataFrame({"label": pd.Categorical([f"c{label}" for label in Y]), "batch": Y}).rename(str)


def test_h5ad(tmp_path, anndata_parts):
    ad, obs = anndata_parts
    path = tmp_path / "x.h5ad"
    ad.AnnData(X, obs=obs, obsm={"X_pca": X[:, :3].astype(np.float64)}).write_h5ad(path)
    stored = load_embeddings(path)
    check(stored, labels=[f"c{label}" for label in Y])
    assert isinstance(stored.embeddings, np.memmap)
    check(load_embeddings(f"{path}:obsm/X_pca", labels="obs/batch"), X[:, :3].astype(np.float64))
    check(load_embeddings(f"{path}:X_pca", labels="batch"), X[:, :3].astype(np.float64))
    assert load_labels(f"{path}:obs/batch").tolist() == Y.tolist()
    ad.AnnData(X, obs=obs).write_h5ad(path, compression="gzip")
    check(load_embeddings(path), labels=[f"c{label}" for label in Y])


def test_h5ad_with_sparse_counts_or_missing_labels(tmp_path, anndata_parts):
    ad, obs = anndata_parts
    sparse = pytest.importorskip("scipy.sparse")
    path = tmp_path / "x.h5ad"
    ad.AnnData(sparse.csr_matrix(X), obs=obs).write_h5ad(path)
    with pytest.raises(InputError, match="holds no two-dimensional array of numbers"):
        load_embeddings(path)
    with pytest.raises(InputError, match=r"'X' in .* is a sparse matrix; choose a dense embedding"):
        load_embeddings(f"{path}:X")
    ad.AnnData(sparse.csr_matrix(X), obs=obs, obsm={"X_pca": X[:, :3]}).write_h5ad(path)
    check(load_embeddings(path), X[:, :3], [f"c{label}" for label in Y])
    ad.AnnData(sparse.csr_matrix(X), obs=obs, obsm={"X_pca": X[:, :3], "X_umap": X[:, :2]}).write_h5ad(path)
    with pytest.raises(InputError, match=r"several arrays that may be the embeddings .*'obsm/X_pca', 'obsm/X_umap'"):
        load_embeddings(path)
    obs.loc["4", "label"] = None
    ad.AnnData(X, obs=obs).write_h5ad(path)
    with pytest.raises(InputError, match=r"1 of the labels in .* is missing .*row 4\); write -1"):
        load_embeddings(path)


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["features"] = X.astype(">f8")
        file.create_dataset("labels", data=[b"a", b"b"] * 25)
        file.create_dataset("flags", data=Y > 0)
    stored = load_embeddings(path)
    check(stored, X.astype(">f8"), ["a", "b"] * 25)
    assert isinstance(stored.embeddings, np.memmap)
    assert load_labels(f"{path}:flags").tolist() == (Y > 0).tolist()
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["X"] = h5py.ExternalLink(str(path), "features")
    check(load_embeddings(tmp_path / "link.h5", allow_external=True), X.astype(">f8"), None)
    with h5py.File(tmp_path / "user.h5", "w", userblock_size=512) as file:
        file["X"] = X
    check(load_embeddings(tmp_path / "user.h5"), X, None)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["X"] = h5py.SoftLink("/nowhere")
    with pytest.raises(InputError, match=r"link.h5 holds no two-dimensional array"):
        load_embeddings(tmp_path / "link.h5")
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:-200], b"", pickle.dumps(X)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is not an HDF5 file, or it is truncated"):
            load_embeddings(path)


# --- which array is meant


def test_ambiguous_and_missing_names(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, X=X, features=X[:, :2], labels=Y, y=Y)
    with pytest.raises(InputError, match=r"several arrays that may be the embeddings \('X', 'features'\); choose"):
        load_embeddings(path)
    with pytest.raises(InputError, match=r"several arrays that may be the labels \('labels', 'y'\); choose"):
        load_embeddings(f"{path}:X")
    check(load_embeddings(f"{path}:X", labels="y"))
    check(load_embeddings(f"{path}:X", labels=f"{path}:labels"))
    with pytest.raises(InputError, match=r"holds no array 'Z'; it holds 'X', 'features', 'labels', 'y'"):
        load_embeddings(f"{path}:Z")
    np.savez(path, a=X, b=X)
    with pytest.raises(InputError, match=r"several arrays that may be the embeddings \('a', 'b'\)"):
        load_embeddings(path)
    with pytest.raises(InputError, match="holds no labels; it holds 'a', 'b'"):
        load_labels(path)
    np.savez(path, a=X, embeddings=X * 2)
    check(load_embeddings(path), X * 2, None)
    np.savez(path, X=X, y=Y[:7])
    with pytest.raises(InputError, match=r"There are 7 labels in .*, but 50 embeddings"):
        load_embeddings(path)


def test_text_is_refused_with_advice_that_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savetxt("x.csv", X, delimiter=",", header="names")
    with pytest.raises(InputError, match=r"unknown format for embeddings.* Convert text once: (.*)\.$") as refused:
        load_embeddings("x.csv")
    exec(str(refused.value).partition("once: ")[2].removesuffix("."), {"numpy": np})  # the sentence as it is
    assert np.array_equal(np.load("x.npy"), X.astype(float))


def test_unknown_formats(tmp_path):
    with pytest.raises(InputError, match=r"nothing.npy does not exist"):
        load_embeddings(tmp_path / "nothing.npy")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(X))
    with pytest.raises(
        InputError, match=r"unknown format for embeddings; known formats are .*\.npy, \.npz, \.safetensors"
    ):
        load_embeddings(tmp_path / "x.pkl")
    with pytest.raises(InputError, match=r"unknown format for labels; known formats are .*\.txt, \.csv, \.tsv, \.json"):
        load_labels(tmp_path / "x.pkl")
    with pytest.raises(InputError, match="neither one that save_embeddings wrote nor a Zarr store"):
        load_embeddings(tmp_path)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match=r"labels.csv does not exist"):
        load_embeddings(tmp_path / "x.npy", labels="labels.csv")
    with pytest.raises(InputError, match="holds no array 'species'"):
        load_embeddings(tmp_path / "x.npy", labels="species")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "x.h5ad").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"Reading .h5ad files needs .*pip install .*'h5py"):
        load_embeddings(tmp_path / "x.h5ad")

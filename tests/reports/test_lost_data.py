"""Data that are not there, which HDF5 and Zarr would read as zeros without a word."""

import os
import warnings

import numpy as np
import pytest
from command_line import assert_one_sentence, run

from clorg_scale.arrays import as_embeddings
from clorg_scale.errors import InputError
from clorg_scale.store import load_embeddings, load_labels

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
Y = np.arange(20) % 3


# ---- HDF5


def test_hdf5_chunks_never_written_are_counted(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("embeddings", X.shape, "f4", chunks=(5, 4))
        dataset[:10] = X[:10]
        file["labels"] = Y
        with pytest.raises(InputError, match="2 of the 4 chunks"):
            as_embeddings(dataset)
    outcome = run("rld", tmp_path / "x.h5")
    assert_one_sentence(outcome, "2 of the 4 chunks", "'embeddings'", "x.h5", "never written", "0.0")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["embeddings"][10:] = X[10:]
    assert np.array_equal(load_embeddings(tmp_path / "x.h5").embeddings, X)


@pytest.mark.parametrize("fill", [None, 7, np.nan])
def test_hdf5_datasets_of_which_nothing_was_written(tmp_path, fill):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("embeddings", X.shape, "f4", fillvalue=fill)
    with pytest.raises(InputError, match=r"The data of the dataset 'embeddings' in .* were never written"):
        load_embeddings(tmp_path / "x.h5")


def test_hdf5_text_never_written(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["embeddings"] = X
        labels = file.create_dataset("labels", (20,), h5py.string_dtype(), chunks=(5,))
        labels[:15] = ["a", "b", "c"] * 5
    with pytest.raises(InputError, match="1 of the 4 chunks"):
        load_embeddings(tmp_path / "x.h5")


def test_hdf5_labels_with_a_fill_value_of_their_own_are_warned_of(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        labels = file.create_dataset("labels", (20,), "i4", chunks=(5,), fillvalue=-1)
        labels[:10] = Y[:10]
    with pytest.warns(UserWarning, match=r"2 of the 4 chunks .* would be read as -1"):
        assert load_labels(tmp_path / "x.h5").tolist() == [*Y[:10], *[-1] * 10]


def test_compact_and_empty_datasets_are_no_loss(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(X.shape)
        h5py.h5d.create(file.id, b"embeddings", h5py.h5t.IEEE_F32LE, space, properties)
        file["embeddings"][:] = X
        file.create_dataset("spare", (0, 4), "f4", chunks=(5, 4), maxshape=(None, 4))
    assert np.array_equal(load_embeddings(tmp_path / "x.h5").embeddings, X)


def virtual(path, sources, shape=X.shape):
    """Write a virtual data set made of halves."""
    layout = h5py.VirtualLayout(shape, "f4")
    for start, (file, name) in zip((0, 10), sources, strict=False):
        layout[start : start + 10] = h5py.VirtualSource(file, name, (10, 4))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("embeddings", layout)


def test_sources_of_a_virtual_data_set_that_are_gone(tmp_path):
    for name, rows in (("a.h5", X[:10]), ("b.h5", X[10:])):
        with h5py.File(tmp_path / name, "w") as file:
            file["x"] = rows
    virtual(tmp_path / "v.h5", [("a.h5", "x"), ("b.h5", "x")])
    assert np.array_equal(load_embeddings(tmp_path / "v.h5", allow_external=True).embeddings, X)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["other"] = X
    with pytest.raises(InputError, match=r"1 of the 2 sources of the virtual dataset 'embeddings' .* are not there"):
        load_embeddings(tmp_path / "v.h5", allow_external=True)
    (tmp_path / "b.h5").unlink()
    with pytest.raises(InputError, match=r"1 of the 2 sources .* \(such as b.h5\)"):
        load_embeddings(tmp_path / "v.h5", allow_external=True)


def test_virtual_data_sets_with_gaps(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["x"] = X[:10]
        file.create_dataset("unwritten", (10, 4), "f4", chunks=(5, 4))[:5] = 1
    virtual(tmp_path / "v.h5", [(".", "x")])
    with pytest.raises(InputError, match="no source for 40 of its 80 numbers"):
        load_embeddings(f"{tmp_path}/v.h5:embeddings")
    with h5py.File(tmp_path / "v.h5", "a") as file:
        del file["embeddings"]
    virtual(tmp_path / "v.h5", [(".", "x"), (".", "unwritten")])
    with pytest.raises(InputError, match="1 of the 2 chunks of the dataset 'unwritten'"):
        load_embeddings(tmp_path / "v.h5")


@pytest.mark.parametrize("length", [None, 0, 100])
def test_external_storage_that_is_short(tmp_path, length):
    raw = tmp_path / "raw.bin"
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("embeddings", data=X, external=[(str(raw), 0, X.nbytes)])
    assert np.array_equal(load_embeddings(tmp_path / "x.h5", allow_external=True).embeddings, X)
    raw.unlink() if length is None else os.truncate(raw, length)
    with pytest.raises(InputError, match=r"raw.bin, which (is not there|holds \d+ of the 320 bytes)"):
        load_embeddings(tmp_path / "x.h5", allow_external=True)


# ---- Zarr


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("separator", [".", "/"])
def test_deleted_zarr_chunks_are_counted(tmp_path, version, separator):
    store = tmp_path / "x.zarr"
    root = zarr.open_group(store, mode="w", zarr_format=version)
    encoding = {"name": "v2" if version == 2 else "default", "separator": separator}
    root.create_array("embeddings", data=X, chunks=(5, 4), chunk_key_encoding=encoding)
    root.create_array("labels", data=Y, chunks=(5,), chunk_key_encoding=encoding)
    stored = load_embeddings(store)
    assert np.array_equal(stored.embeddings, X)
    assert stored.labels.tolist() == Y.tolist()
    inner = "" if version == 2 else f"c{separator}"
    (store / "embeddings" / f"{inner}2{separator}0").unlink()
    with pytest.raises(InputError, match=r"1 of the 4 chunks of the .*embeddings.* are not there"):
        load_embeddings(store)
    assert_one_sentence(run("knn", store), "1 of the 4 chunks", "x.zarr", "0.0")
    (store / "embeddings" / f"{inner}2{separator}0").write_bytes(b"")
    (store / "labels" / f"{inner}1").unlink()
    with pytest.warns(UserWarning, match=r"1 of the 4 chunks of the .*labels.* are not there and would be read as 0"):
        load_labels(store)


def test_zarr_chunks_of_zeros_that_were_left_out_are_read(tmp_path):
    wide = np.hstack([X, np.zeros_like(X)])
    zarr.create_array(tmp_path / "x.zarr", data=wide, chunks=(10, 4), config={"write_empty_chunks": False})
    with pytest.warns(UserWarning, match="2 of the 4 chunks"):
        assert np.array_equal(load_embeddings(tmp_path / "x.zarr").embeddings, wide)
    whole = zarr.create_array(tmp_path / "y.zarr", data=wide, chunks=(10, 4), config={"write_empty_chunks": True})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(load_embeddings(tmp_path / "y.zarr").embeddings, wide)
    assert whole.nchunks_initialized == 4
    zarr.create_array(tmp_path / "z.zarr", data=np.zeros(20, bool), chunks=(5,), config={"write_empty_chunks": False})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not load_labels(tmp_path / "z.zarr").any()


def test_zarr_shards_that_are_gone(tmp_path):
    zarr.create_array(tmp_path / "x.zarr", data=X, chunks=(5, 2), shards=(10, 4))
    assert np.array_equal(load_embeddings(tmp_path / "x.zarr").embeddings, X)
    (tmp_path / "x.zarr" / "c" / "1" / "0").unlink()
    with pytest.raises(InputError, match="1 of the 2 chunks"):
        load_embeddings(tmp_path / "x.zarr")


def test_zarr_arrays_handed_in(tmp_path):
    array = zarr.create_array(tmp_path / "x.zarr", shape=(20, 4), chunks=(5, 4), dtype="f4")
    array[:15] = X[:15]
    with pytest.raises(InputError, match="1 of the 4 chunks"):
        as_embeddings(array)
    array[15:] = X[15:]
    assert np.array_equal(as_embeddings(array), X)

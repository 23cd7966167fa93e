"""Data that are not there, which HDF5 and Zarr would read as zeros without a word."""

import json
import os
import warnings

import numpy as np
import pytest
from command_line import assert_one_sentence, run

from clorg_scale.arrays import as_array, as_embeddings
from clorg_scale.arrays.zarr_chunks import count_stored_chunks
from clorg_scale.errors import InputError
from clorg_scale.store import load_embeddings, load_labels

h5py = pytest.importorskip("h5py")
zarr = pytest.importorskip("zarr")
google_crc32c = pytest.importorskip("google_crc32c")  # which Zarr needs

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
    with pytest.raises(InputError, match=r"1 of the 2 sources of the virtual dataset 'embeddings' .* is missing"):
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
    with pytest.raises(InputError, match=r"raw.bin, which (does not exist|holds \d+ of the 320 bytes)"):
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
    with pytest.raises(InputError, match=r"1 of the 4 chunks of the .*embeddings.* is missing"):
        load_embeddings(store)
    assert_one_sentence(run("knn", store), "1 of the 4 chunks", "x.zarr", "0.0")
    (store / "embeddings" / f"{inner}2{separator}0").write_bytes(b"")
    (store / "labels" / f"{inner}1").unlink()
    with pytest.warns(UserWarning, match=r"1 of the 4 chunks of the .*labels.* is missing and would be read as 0"):
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
    shard = tmp_path / "x.zarr" / "c" / "1" / "0"
    shard.write_bytes(b"")  # read like one that is not there
    with pytest.raises(InputError, match="4 of the 8 chunks"):
        load_embeddings(tmp_path / "x.zarr")
    shard.unlink()
    with pytest.raises(InputError, match="4 of the 8 chunks"):
        load_embeddings(tmp_path / "x.zarr")


def lose_chunks(shard, index, lost, index_codecs=("bytes", "crc32c"), start=False, endian="<"):
    """Strike chunks from the index of a shard of `index` chunks, as a writer does that never wrote them."""
    checked = "crc32c" in index_codecs
    data = bytearray(shard.read_bytes())
    n_bytes = 16 * int(np.prod(index))
    at = 0 if start else len(data) - n_bytes - 4 * checked
    table = np.frombuffer(data[at : at + n_bytes], f"{endian}u8").reshape(*index, 2).copy()
    for position in lost:
        table[position] = 2**64 - 1
    data[at : at + n_bytes] = table.tobytes()
    if checked:
        data[at + n_bytes : at + n_bytes + 4] = google_crc32c.value(table.tobytes()).to_bytes(4, "little")
    shard.write_bytes(data)


def sharded(path, shape, *, chunks, shards, index_location="end", index_codecs=None, inner=None, before=()):
    """An array of ones in shards."""
    index_codecs = index_codecs or [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    inner = inner or [{"name": "bytes", "configuration": {"endian": "little"}}]
    codec = {
        "chunk_shape": list(chunks),
        "codecs": inner,
        "index_codecs": index_codecs,
        "index_location": index_location,
    }
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shards)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [*before, {"name": "sharding_indexed", "configuration": codec}],
        "attributes": {},
    }
    path.mkdir()
    (path / "zarr.json").write_text(json.dumps(metadata))
    array = zarr.open_array(path, mode="r+")
    array[...] = 1
    return array


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("checked", [True, False])
def test_chunks_missing_in_a_shard_are_counted(tmp_path, start, endian, checked):
    words = {"<": "little", ">": "big"}
    index_codecs = [{"name": "bytes", "configuration": {"endian": words[endian]}}, {"name": "crc32c"}][: 1 + checked]
    location = "start" if start else "end"
    sharded(
        tmp_path / "x.zarr", (20, 4), chunks=(5, 2), shards=(10, 4), index_location=location, index_codecs=index_codecs
    )
    names = [codec["name"] for codec in index_codecs]
    shard = tmp_path / "x.zarr" / "c" / "1" / "0"
    assert (load_embeddings(tmp_path / "x.zarr").embeddings == 1).all()
    lose_chunks(shard, (2, 2), [(1, 0)], names, start, endian)
    with pytest.warns(UserWarning, match=r"1 of the 8 chunks of the .* is missing and would be read as 0"):
        found = load_embeddings(tmp_path / "x.zarr").embeddings
    assert np.argwhere(found == 0).tolist() == [[row, column] for row in range(15, 20) for column in (0, 1)]
    lose_chunks(shard, (2, 2), [(1, 1)], names, start, endian)
    assert_one_sentence(run("knn", tmp_path / "x.zarr"), "2 of the 8 chunks", "x.zarr", "would be read as 0.0")


def test_labels_missing_in_a_shard_are_warned_of(tmp_path):
    root = zarr.open_group(tmp_path / "x.zarr", mode="w")
    root.create_array("embeddings", data=X)
    root.create_array("labels", data=Y + 1, chunks=(2,), shards=(8,))
    lose_chunks(tmp_path / "x.zarr" / "labels" / "c" / "2", (4,), [(1,), (2,)])
    with pytest.warns(UserWarning, match=r"1 of the 10 chunks of the .*labels.* would be read as 0"):
        assert load_labels(tmp_path / "x.zarr").tolist() == [*(Y + 1)[:18], 0, 0]


def test_chunks_of_a_shard_beyond_the_end_of_the_array_are_not_missing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, shape in enumerate([(13, 7), (5, 3), (20, 9), (1, 1), (16, 8)]):
            sharded(tmp_path / f"{number}.zarr", shape, chunks=(2, 2), shards=(8, 4))
            assert as_array(zarr.open_array(tmp_path / f"{number}.zarr")).shape == shape
    # Rows 8 to 13 of columns 4 to 7: 3 x 2 chunks of the 4 x 2 of the shard.
    lose_chunks(tmp_path / "0.zarr" / "c" / "1" / "1", (4, 2), [(3, 0), (3, 1), (2, 1)])
    with pytest.warns(UserWarning, match="1 of the 28 chunks"):
        as_array(zarr.open_array(tmp_path / "0.zarr"))


def test_chunks_missing_in_shards_of_shards(tmp_path):
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    index = [*codecs, {"name": "crc32c"}]
    inner = {"chunk_shape": [2, 1], "codecs": codecs, "index_codecs": index, "index_location": "start"}
    array = sharded(
        tmp_path / "x.zarr",
        (11, 3),
        chunks=(4, 2),
        shards=(8, 4),
        inner=[{"name": "sharding_indexed", "configuration": inner}],
    )
    assert count_stored_chunks(array) == (18, 18, 0, 0)
    shard = tmp_path / "x.zarr" / "c" / "1" / "0"
    whole = shard.read_bytes()
    lose_chunks(shard, (2, 2), [(0, 1)])  # rows 8 to 10, column 2: two chunks that lie in the array
    assert count_stored_chunks(array) == (18, 16, 0, 0)
    with pytest.warns(UserWarning, match="2 of the 18 chunks"):
        assert np.count_nonzero(as_embeddings(array) == 0) == 3
    # The index of the first inner shard lies at its start: strike rows 10 and 11, where 11 is beyond the end.
    shard.write_bytes(whole)
    outer = np.frombuffer(whole[-68:-4], "<u8").reshape(2, 2, 2)
    at, length = outer[0, 0].tolist()
    part = tmp_path / "part"
    part.write_bytes(whole[at : at + length])
    lose_chunks(part, (2, 2), [(1, 0), (1, 1)], start=True)
    shard.write_bytes(whole[:at] + part.read_bytes() + whole[at + length :])
    assert count_stored_chunks(array) == (18, 16, 0, 0)
    lose_chunks(shard, (2, 2), [(0, 1)])
    assert count_stored_chunks(array) == (18, 14, 1, 0)
    with pytest.raises(InputError, match="4 of the 18 chunks"):
        as_embeddings(array)


def test_chunks_missing_in_a_transposed_shard(tmp_path):
    """The shapes and the index of the shard are those of the transposed array."""
    before = [{"name": "transpose", "configuration": {"order": [1, 0]}}]
    array = sharded(tmp_path / "x.zarr", (16, 8), chunks=(2, 4), shards=(8, 8), before=before)
    assert count_stored_chunks(array) == (16, 16, 0, 0)
    lose_chunks(tmp_path / "x.zarr" / "c" / "1" / "0", (4, 2), [(column, 1) for column in range(4)])
    assert count_stored_chunks(array) == (16, 12, 1, 0)
    assert np.flatnonzero((array[:] == 0).all(axis=1)).tolist() == list(range(12, 16))
    with pytest.raises(InputError, match="4 of the 16 chunks"):
        as_embeddings(array)


def test_chunks_beyond_the_end_of_a_shard_are_missing(tmp_path):
    """A file that was cut off where its index lies at the start: Zarr reads zeros for some of the chunks."""
    array = sharded(tmp_path / "x.zarr", (20, 4), chunks=(5, 4), shards=(20, 4), index_location="start")
    shard = tmp_path / "x.zarr" / "c" / "0" / "0"
    os.truncate(shard, 68 + 2 * 80)
    assert count_stored_chunks(array) == (4, 2, 2, 0)
    with pytest.raises(InputError, match="2 of the 4 chunks"):
        as_embeddings(array)


@pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")
def test_an_index_that_cannot_be_read_is_warned_of(tmp_path):
    array = sharded(tmp_path / "x.zarr", (20, 4), chunks=(5, 2), shards=(10, 4))
    metadata = json.loads((tmp_path / "x.zarr" / "zarr.json").read_text())
    metadata["codecs"].append({"name": "gzip", "configuration": {"level": 1}})
    (tmp_path / "x.zarr" / "zarr.json").write_text(json.dumps(metadata))
    array = zarr.open_array(tmp_path / "x.zarr", mode="r+")
    array[...] = 1
    with pytest.warns(UserWarning, match="2 shards of the .* have an index in an encoding that is not known"):
        assert (as_embeddings(array) == 1).all()
    (tmp_path / "x.zarr" / "c" / "1" / "0").unlink()
    with pytest.warns(UserWarning, match="1 shard of the"), pytest.raises(InputError, match="4 of the 8 chunks"):
        as_embeddings(array)


def test_zarr_arrays_handed_in(tmp_path):
    array = zarr.create_array(tmp_path / "x.zarr", shape=(20, 4), chunks=(5, 4), dtype="f4")
    array[:15] = X[:15]
    with pytest.raises(InputError, match="1 of the 4 chunks"):
        as_embeddings(array)
    array[15:] = X[15:]
    assert np.array_equal(as_embeddings(array), X)

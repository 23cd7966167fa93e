"""Files that announce more than memory or disk hold: one sentence at once, and nothing written."""

import json
import struct
import zipfile

import numpy as np
import pytest
from command_line import assert_one_sentence, run, tree

from clorg_scale.arrays import spool
from clorg_scale.arrays.memory import in_bytes
from clorg_scale.errors import InputError
from clorg_scale.store import load_embeddings, load_labels

X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)


@pytest.fixture
def little_room(monkeypatch, tmp_path):
    """1,000 bytes of memory and of disk are free; nothing can be written."""
    monkeypatch.setattr(spool, "available_memory", lambda: 1000)
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: Usage)

    def never(*_, **__):
        raise AssertionError("a temporary file was begun")

    monkeypatch.setattr(spool.tempfile, "TemporaryFile", never)


class Usage:
    free = 1000


def write_hdf5(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("embeddings", data=X, chunks=(50, 4), compression="gzip")


def write_zarr(path):
    pytest.importorskip("zarr").create_array(path, data=X, chunks=(50, 4))


def write_npz(path):
    np.savez_compressed(path, embeddings=X)


def write_bfloat16(path):
    tensor = {"dtype": "BF16", "shape": X.shape, "data_offsets": [0, X.size * 2]}
    text = json.dumps({"embeddings": tensor}).encode()
    halves = (X.view(np.uint32) >> 16).astype(np.uint16)
    path.write_bytes(struct.pack("<Q", len(text)) + text + halves.tobytes())


def write_parquet(path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"embeddings": pa.array(list(X))}), path)


def write_columns(path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({f"x{i}": X[:, i] for i in range(4)}), path)


WRITERS = {
    "x.h5": write_hdf5,
    "x.zarr": write_zarr,
    "x.npz": write_npz,
    "x.safetensors": write_bfloat16,
    "lists.parquet": write_parquet,
    "columns.parquet": write_columns,
}


@pytest.mark.parametrize("name", WRITERS)
def test_no_room_for_what_is_gathered(tmp_path, little_room, name):
    WRITERS[name](tmp_path / name)
    with pytest.raises(InputError, match=r"would take 3.2 kB.* room for 1 kB") as refusal:
        load_embeddings(tmp_path / name)
    assert name in str(refusal.value)


def test_a_small_hdf5_file_that_announces_petabytes(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("embeddings", (10**12, 1000), "f4", chunks=(4, 1000), compression="gzip")
        dataset[:4] = 1
    assert (tmp_path / "x.h5").stat().st_size < 10_000
    before = tree(tmp_path)
    outcome = run("knn", tmp_path / "x.h5")
    assert_one_sentence(outcome, "x.h5")
    assert tree(tmp_path) == before


def test_a_small_zarr_store_that_announces_petabytes(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "x.zarr", shape=(10**12, 1000), chunks=(4, 1000), dtype="f4")
    array[:4] = 1
    assert_one_sentence(run("knn", tmp_path / "x.zarr"), "x.zarr")
    zarr.create_array(tmp_path / "y.zarr", shape=(10**7, 10**6), chunks=(10**7, 10**6), dtype="f4")
    assert_one_sentence(run("knn", tmp_path / "y.zarr"), "chunks of 40 TB", "y.zarr")


def header(shape):
    """Header of a .npy file."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


SHAPES = [(10**12, 1000), (10**300, 4), (2**62, 2**62), (-4, -200), (4, -1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_that_announce_petabytes(tmp_path, shape, compression):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", compression) as archive:
        archive.writestr("embeddings.npy", header(shape) + X.tobytes())
    assert_one_sentence(run("knn", tmp_path / "x.npz"), "x.npz")


@pytest.mark.parametrize("shape", SHAPES)
def test_headers_that_announce_petabytes(tmp_path, shape):
    (tmp_path / "x.npy").write_bytes(header(shape) + X.tobytes())
    assert_one_sentence(run("knn", tmp_path / "x.npy"), "x.npy")
    tensor = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, X.nbytes]}
    text = json.dumps({"embeddings": tensor}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + X.tobytes())
    assert_one_sentence(run("knn", tmp_path / "x.safetensors"), "x.safetensors")


def test_headers_longer_than_any(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("embeddings.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 30) + b" " * (1 << 25))
    assert_one_sentence(run("knn", tmp_path / "x.npz"), "x.npz")
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 1 << 40))
        file.truncate(1 << 41)
    assert_one_sentence(run("knn", tmp_path / "x.safetensors"), "1.1 TB")


@pytest.mark.parametrize("name", ["y.txt", "y.csv", "y.json"])
def test_text_files_larger_than_memory(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 42)  # sparse: takes no space
    with pytest.raises(InputError, match=rf"{name} has 4.4 TB of text"):
        load_labels(tmp_path / name)


def test_blocks_that_hold_less_or_more_than_announced():
    for rows, words in ((3, "end after 3 of the 5 rows"), (7, "more than the 5 rows")):
        with pytest.raises(InputError, match=words):
            spool.gather_blocks([X[:1]] * rows, (5, 4), np.float32)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (4 * 10**15, "4 PB"), (10**27, "more than 1000 YB")],
)
def test_amounts_as_text(amount, text):
    assert in_bytes(amount) == text
    assert in_bytes(10**5000) == "more than 1000 YB"


def test_long_lists_are_read_few_rows_at_a_time(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    from clorg_scale.store.readers import parquet

    write_parquet(tmp_path / "x.parquet")
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 200)
    assert np.array_equal(load_embeddings(tmp_path / "x.parquet").embeddings, X)

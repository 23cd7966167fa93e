"""Deep, endless and contradictory structures: one sentence, exit code 2, at once."""

import json
import os
import socket
import struct

import numpy as np
import pytest
from command_line import assert_one_sentence, run, run_process

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.store import load_labels

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
Y = np.arange(20) % 3

pytestmark = pytest.mark.timeout(60)

FORMATS = ["x.npy", "x.npz", "x.safetensors", "x.zarr", "x.parquet", "x.h5ad", "x.h5"]
LABELS = [*FORMATS, "y.txt", "y.csv", "y.tsv", "y.json"]


# ---- what never ends


@pytest.mark.parametrize("name", FORMATS)
def test_pipes_and_devices_are_not_read(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert_one_sentence(run("knn", tmp_path / name), name, "a named pipe")
    for device in ("/dev/zero", "/dev/random", "/dev/null"):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(device)
        assert_one_sentence(run("knn", tmp_path / name), name, "a device")


@pytest.mark.parametrize("name", LABELS)
def test_labels_from_pipes_and_devices(tmp_path, name):
    np.save(tmp_path / "points.npy", X)
    os.mkfifo(tmp_path / name)
    assert_one_sentence(run("rld", tmp_path / "points.npy", "--labels", tmp_path / name), name, "a named pipe")
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    assert_one_sentence(run("rld", tmp_path / "points.npy", "--labels", tmp_path / name), name, "a device")


def test_sockets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("x.npy")
        assert_one_sentence(run("knn", "x.npy"), "a socket")


@pytest.mark.parametrize("part", ["metadata.json", "progress.json", "embeddings.npy", "labels.npy"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_parts_of_a_store_that_are_no_files(tmp_path, part, kind):
    cs.save_embeddings(tmp_path / "s", X, Y)
    if part == "progress.json":
        (tmp_path / "s" / "metadata.json").unlink()
    (tmp_path / "s" / part).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(tmp_path / "s" / part)
    elif kind == "device":
        (tmp_path / "s" / part).symlink_to("/dev/zero")
    else:
        (tmp_path / "s" / part).mkdir()
    outcome = run("rld", tmp_path / "s", "--allow-external")
    assert_one_sentence(outcome, part)


@pytest.mark.parametrize("part", ["zarr.json", "embeddings/zarr.json", "embeddings/c/0/0"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_parts_of_a_zarr_store_that_are_no_files(tmp_path, part, kind):
    zarr = pytest.importorskip("zarr")
    store = tmp_path / "x.zarr"
    zarr.open_group(store, mode="w").create_array("embeddings", data=X, chunks=(5, 4))
    (store / part).unlink()
    if kind == "pipe":
        os.mkfifo(store / part)
    elif kind == "device":
        (store / part).symlink_to("/dev/zero")
    else:
        (store / part).mkdir()
    outcome = run("knn", store, "--allow-external")
    if (kind, part) == ("folder", "embeddings/zarr.json"):  # no array lies there then, and Zarr warns of it
        assert outcome.code == 2
    else:
        assert_one_sentence(outcome, "x.zarr")


def test_results_that_are_pipes(tmp_path):
    os.mkfifo(tmp_path / "analysis.json")
    assert_one_sentence(run("compare", tmp_path, "--out", tmp_path / "out"), "analysis.json", "a named pipe")
    os.mkfifo(tmp_path / "table.npz")
    for load in (cs.KNN.load, cs.AffinityGraph.load):
        with pytest.raises(InputError, match="a named pipe"):
            load(tmp_path / "table.npz")


@pytest.mark.parametrize("name", LABELS)
def test_folders_where_files_are_expected(tmp_path, name):
    (tmp_path / name).mkdir()
    np.save(tmp_path / "points.npy", X)
    assert_one_sentence(run("knn", tmp_path / name), name)
    assert_one_sentence(run("rld", tmp_path / "points.npy", "--labels", tmp_path / name), name)


# ---- what meets again and again


def test_hdf5_groups_in_cycles(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["deep/embeddings"], file["deep/labels"] = X, Y
        groups = {name: file.create_group(name) for name in "abcdefgh"}
        for group in groups.values():
            group["root"], group["deep"] = file["/"], file["deep"]
            for name, other in groups.items():
                group[name] = other
        file["itself"] = h5py.SoftLink("/")
    stored = cs.load_embeddings(tmp_path / "x.h5")
    assert np.array_equal(stored.embeddings, X)
    assert stored.labels.tolist() == Y.tolist()
    assert np.array_equal(cs.load_embeddings(f"{tmp_path}/x.h5:deep/embeddings").embeddings, X)


def test_hdf5_groups_below_groups(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file
        for _ in range(1500):
            group = group.create_group("g")
        group["embeddings"] = X
    assert np.array_equal(cs.load_embeddings(tmp_path / "x.h5").embeddings, X)


def test_virtual_data_sets_made_of_each_other(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, other in (("embeddings", "other"), ("other", "embeddings")):
            layout = h5py.VirtualLayout(X.shape, "f4")
            layout[:] = h5py.VirtualSource(".", other, X.shape)
            file.create_virtual_dataset(name, layout)
    assert_one_sentence(run("knn", tmp_path / "x.h5"), "refers to itself")


def test_zarr_folders_in_cycles(tmp_path):
    zarr = pytest.importorskip("zarr")
    store = tmp_path / "x.zarr"
    root = zarr.open_group(store, mode="w")
    root.create_array("embeddings", data=X, chunks=(5, 4))
    for name in "abcd":
        root.create_group(name)
        for other in "abcd":
            (store / name / f"to_{other}").symlink_to(f"../{other}")
        (store / name / "up").symlink_to("..")
    assert np.array_equal(cs.load_embeddings(store).embeddings, X)


# ---- what contradicts itself


DEEP = "[" * 100_000 + "]" * 100_000
HUGE = "9" * 300


@pytest.mark.parametrize(
    "text", [DEEP, '{"a": ' * 50_000, HUGE, f"[{HUGE}, {HUGE}, 1]", '{"y": [[1, 2]]}', "[1e999, 2]"]
)
def test_json_labels(tmp_path, text):
    (tmp_path / "y.json").write_text(text)
    np.save(tmp_path / "x.npy", X[:3])
    assert_one_sentence(run("rld", tmp_path / "x.npy", "--labels", tmp_path / "y.json"), "y.json")


RECORDS = [
    DEEP,
    '{"format": "clorg-scale embeddings 1", "files": {"embeddings": "embeddings.npy"}, "shape": SHAPE}',
    '{"format": "clorg-scale embeddings 1", "files": ["embeddings.npy"], "shape": [20, 4]}',
    '{"format": "clorg-scale embeddings 1", "files": {"embeddings": "e.npy"}, "shape": [20, 4], "metadata": 3}',
]


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("shape", [f"[{HUGE}, 4]", "20", "[-20, -4]", '["20", 4]', "[20.0, 4.0]", "[[20], 4]", "null"])
def test_records_of_a_store(tmp_path, record, shape):
    cs.save_embeddings(tmp_path / "s", X, Y)
    (tmp_path / "s" / "metadata.json").write_text(record.replace("SHAPE", shape))
    assert_one_sentence(run("rld", tmp_path / "s"), "metadata.json")


@pytest.mark.parametrize("rows", [HUGE, '"many"', "-1", "[]", "1.5"])
def test_progress_of_a_store(tmp_path, rows):
    with cs.store.EmbeddingsWriter(tmp_path / "s", 4) as writer:
        writer.append(X)
    record = json.loads((tmp_path / "s" / "progress.json").read_text())
    text = json.dumps(record | {"rows": "ROWS"}).replace('"ROWS"', rows)
    (tmp_path / "s" / "progress.json").write_text(text)
    assert_one_sentence(run("rld", tmp_path / "s"), "progress.json")


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        '{"embeddings": ' + DEEP + "}",
        '{"embeddings": {"dtype": "F32", "shape": [HUGE, 4], "data_offsets": [0, 320]}}',
        '{"embeddings": {"dtype": "F32", "shape": [20, 4], "data_offsets": [HUGE, 320]}}',
        '{"embeddings": {"dtype": "F32", "shape": [-20, -4], "data_offsets": [0, 320]}}',
        '{"embeddings": {"dtype": "F32", "shape": [1e999, 4], "data_offsets": [0, 320]}}',
        '{"embeddings": {"dtype": "F32", "shape": "204", "data_offsets": [0, 320]}}',
        '{"embeddings": {"dtype": ["F32"], "shape": [20, 4], "data_offsets": [0, 320]}}',
    ],
)
def test_headers_of_safetensors(tmp_path, text):
    body = text.replace("HUGE", HUGE).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(body)) + body + X.tobytes())
    assert_one_sentence(run("knn", tmp_path / "x.safetensors"), "x.safetensors")


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 50_000, '{"zarr_format": HUGE, "node_type": "array"}'])
@pytest.mark.parametrize("part", ["zarr.json", "embeddings/zarr.json"])
def test_metadata_of_zarr(tmp_path, text, part):
    zarr = pytest.importorskip("zarr")
    zarr.open_group(tmp_path / "x.zarr", mode="w").create_array("embeddings", data=X, chunks=(5, 4))
    (tmp_path / "x.zarr" / part).write_text(text.replace("HUGE", HUGE))
    assert_one_sentence(run("knn", tmp_path / "x.zarr"), "x.zarr")


@pytest.mark.parametrize("shape", [f"[{HUGE}, 4]", "[-20, 4]", "[20, 4.5]", '"20"', "[]"])
def test_shapes_in_the_metadata_of_zarr(tmp_path, shape):
    zarr = pytest.importorskip("zarr")
    zarr.open_group(tmp_path / "x.zarr", mode="w").create_array("embeddings", data=X, chunks=(5, 4))
    path = tmp_path / "x.zarr" / "embeddings" / "zarr.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"shape": "SHAPE"}).replace('"SHAPE"', shape))
    assert_one_sentence(run("knn", tmp_path / "x.zarr"), "x.zarr")


@pytest.mark.parametrize("code", [3, 127])
def test_codes_of_categories_out_of_range(tmp_path, code):
    h5py = pytest.importorskip("h5py")
    codes = Y.astype(np.int8)
    codes[7] = code
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        file["X"] = X
        column = file.create_group("obs/labels")
        column.attrs["encoding-type"] = "categorical"
        column["codes"], column["categories"] = codes, np.array([b"a", b"b", b"c"])
    assert_one_sentence(run("rld", tmp_path / "x.h5ad"), "x.h5ad", f"code {code}", "3 categories")


def test_codes_of_categories_that_are_no_codes(tmp_path):
    h5py = pytest.importorskip("h5py")
    for name, codes in (("floats", Y + 0.5), ("text", np.array([b"a"] * 20)), ("matrix", X)):
        with h5py.File(tmp_path / f"{name}.h5ad", "w") as file:
            file["X"] = X
            column = file.create_group("obs/labels")
            column.attrs["encoding-type"] = "categorical"
            column["codes"], column["categories"] = codes, np.array([b"a", b"b", b"c"])
        outcome = run("rld", tmp_path / f"{name}.h5ad")
        if name == "matrix":  # a column of two dimensions is none
            assert outcome.code == 2
        else:
            assert_one_sentence(outcome, f"{name}.h5ad")


def test_columns_of_categories_without_codes(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        file["X"] = X
        for name, encoding in (("labels", "categorical"), ("y", "nullable-integer")):
            file.create_group(f"obs/{name}").attrs["encoding-type"] = encoding
    assert_one_sentence(run("rld", f"{tmp_path}/x.h5ad"), "x.h5ad")
    np.save(tmp_path / "points.npy", X)
    with pytest.raises(InputError, match=r"x\.h5ad"):
        load_labels(f"{tmp_path}/x.h5ad:labels")


def test_the_process_ends_by_itself(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    assert_one_sentence(run_process("analyze", tmp_path / "x.npy", "--out", tmp_path / "out", timeout=60), "x.npy")

"""Embeddings at addresses that fsspec reads, and folders of Parquet files, on the command line."""

import json

import numpy as np
import pytest
from command_line import assert_one_sentence, run, run_process

pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Folder with the same 300 points in all formats, with labels beside those of .npy."""
    pa, pq, zarr = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet", "zarr"))
    folder, rng = tmp_path_factory.mktemp("at"), np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    X = (rng.standard_normal((3, 6))[y] + rng.standard_normal((300, 6))).astype(np.float32)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    group = zarr.open_group(folder / "X.zarr", mode="w")
    group.create_array("embeddings", data=X, chunks=(70, 6))
    group.create_array("labels", data=y)
    (folder / "X.parquet").mkdir()
    for part in range(2):
        rows = slice(150 * part, 150 * (part + 1))
        pq.write_table(
            pa.table({"embeddings": list(X[rows]), "label": y[rows]}), folder / "X.parquet" / f"{part}.parquet"
        )
    return folder


@pytest.fixture(scope="module")
def values(stored):
    return rld(stored / "X.npy", "--labels", stored / "y.npy")


def rld(*arguments, by=run):
    outcome = by("rld", *arguments, "--method", "exact", "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)["values"]


@pytest.mark.parametrize("name", ["X.zarr", "X.parquet"])
def test_labels_stored_at_an_address_are_taken(stored, values, name):
    assert rld(f"file://{stored}/{name}") == pytest.approx(values, rel=1e-12)


def test_a_folder_of_parquet_files(stored, values):
    assert rld(stored / "X.parquet") == pytest.approx(values, rel=1e-12)


def test_memory_and_labels_of_a_file(stored, values):
    import fsspec

    with fsspec.open("memory://here/X.npy", "wb") as file:
        file.write((stored / "X.npy").read_bytes())
    assert rld("memory://here/X.npy", "--labels", stored / "y.npy") == pytest.approx(values, rel=1e-12)
    assert_one_sentence(run("rld", "memory://here/X.npy"), "memory://here/X.npy holds no labels; give them with")


def test_other_commands_take_addresses(stored, tmp_path):
    address = f"file://{stored}/X.parquet"
    assert run("knn", address, "--k", "3", "--out", tmp_path / "k.npz").code == 0
    named = ("--probes", "none", "--map-points", "0")
    outcome = run("analyze", address, "--out", tmp_path / "a", *named)
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "a" / "analysis.json").read_text())["name"] == "X"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("file:///no/such/X.npy", "file:///no/such/X.npy does not exist"),
        ("file:///no/such/X.npz", "has an unknown format; at addresses .npy, .zarr, .parquet are read"),
        ("gopher://host/X.npy", "gopher://host/X.npy cannot be opened"),
        ("memory://nothing/X.zarr", "memory://nothing/X.zarr"),
        ("memory://nothing/X.parquet", "memory://nothing/X.parquet"),
    ],
)
def test_addresses_of_nothing(stored, tmp_path, address, words):
    outcome = run("rld", address, "--labels", stored / "y.npy", "--out", tmp_path / "r.json")
    assert_one_sentence(outcome, words)
    assert not (tmp_path / "r.json").exists()


def test_labels_that_do_not_fit(stored, tmp_path):
    np.save(tmp_path / "y.npy", np.arange(7))
    assert_one_sentence(run("rld", f"file://{stored}/X.npy", "--labels", tmp_path / "y.npy"), "7", "300")


@pytest.mark.slow
def test_workers_read_the_address(stored, values):
    pytest.importorskip("distributed")
    assert rld(f"file://{stored}/X.parquet", "--dask", "local", by=run_process) == pytest.approx(values, rel=1e-6)
    missing = run_process("rld", "file:///no/such/X.npy", "--labels", stored / "y.npy", "--dask", "local")
    assert_one_sentence(missing, "does not exist")

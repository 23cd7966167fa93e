"""The record of an analysis says which columns of tables it was made from."""

import json

import numpy as np
import pytest
from command_line import run

import clorg_scale as cs
from clorg_scale.analysis.summaries import TableColumns

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

N = 60
Y = np.arange(N) % 3
X = (np.random.default_rng(0).normal(size=(N, 3)) + 3 * np.eye(3)[Y]).astype(np.float32)
FRAME = pd.DataFrame(X, columns=list("abc")).assign(label=Y, name=[f"row {i}" for i in range(N)])
SETTINGS = {"probes": [], "map_points": 0, "k": 5, "chi_points": 20, "device": "cpu", "temperatures": (0.5,)}
OPTIONS = ("--probes", "none", "--map-points", 0, "--k", 5, "--temperatures", "0.5")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FRAME.to_parquet("x.parquet")
    pd.DataFrame({"row": np.arange(N), "species": Y}).to_csv("y.csv", index=False)
    return tmp_path


def test_columns_of_both_tables_are_recorded(here):
    done = run("analyze", "x.parquet", "--labels", "y.csv:species", *OPTIONS, "--out", "out")
    assert done.code == 0
    document = json.loads((here / "out" / "analysis.json").read_text())
    assert document["columns"].keys() == {"embeddings", "labels"}
    assert document["columns"]["embeddings"]["taken"][:3] == ["a", "b", "c"]
    assert "name" in document["columns"]["embeddings"]["left_out"]
    assert document["columns"]["labels"] == {"taken": ["species"], "left_out": {"row": "not chosen"}, "labels": None}
    # What was printed is what is recorded.
    assert all(repr(name) in done.err for name in document["columns"]["embeddings"]["taken"])
    assert cs.Analysis.from_json("out").columns["labels"] == TableColumns(["species"], {"row": "not chosen"})


def test_labels_of_the_same_table_and_test_points(here):
    stored = cs.load_embeddings("x.parquet")
    found = cs.analyze(stored, test_embeddings=stored, **SETTINGS | {"probes": ["knn"]}).columns
    assert found.keys() == {"embeddings", "test embeddings"}
    for table in found.values():
        assert (table.taken, table.labels) == (["a", "b", "c"], "label")
        assert list(table.left_out) == ["name"]
    own = cs.analyze(stored, Y[::-1].copy(), **SETTINGS).columns["embeddings"]
    assert own.labels is None
    assert own.left_out["label"] == "other labels were given"


def test_arrays_have_no_columns_and_metadata_of_that_name_are_the_users(here):
    assert cs.analyze(X, Y, **SETTINGS).columns == {}
    cs.save_embeddings("store", X, Y, {"columns": 3, "label_columns": {"taken": "all"}})
    assert cs.analyze(cs.load_embeddings("store"), **SETTINGS).columns == {}

"""A result is written in the format that the ending of its name says, or refused before anything is computed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_one_sentence, run, tree
from records import record

import clorg_scale as cs
from clorg_scale.datasets import compact_mixture
from clorg_scale.errors import InputError

N, K = 60, 4


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("x.npy", (rng.normal(size=(N, 5)) + 4 * np.arange(N)[:, None] // 20).astype(np.float32))
    np.save("y.npy", np.arange(N) // 20)
    return tmp_path


@pytest.mark.parametrize(("name", "separator"), [("k.csv", ","), ("k.tsv", "\t"), ("K.CSV", ",")])
def test_neighbors_as_text(here, name, separator):
    assert run("knn", "x.npy", "--k", K, "--out", name).code == 0
    table = cs.knn(np.load("x.npy"), K)
    header, *rows = csv.reader((here / name).read_text().splitlines(), delimiter=separator)
    assert header == ["point", "neighbor", "distance"]
    points, neighbors, distances = zip(*rows, strict=True)
    np.testing.assert_array_equal(np.array(points, int), np.repeat(np.arange(N), K))
    np.testing.assert_array_equal(np.array(neighbors, int).reshape(N, K), table.indices)
    np.testing.assert_array_equal(np.array(distances, np.float32).reshape(N, K), table.distances)


@pytest.mark.parametrize("name", ["k.npz", "k"])
def test_neighbors_as_arrays(here, name):
    assert run("knn", "x.npy", "--k", K, "--out", name).code == 0
    np.testing.assert_array_equal(cs.KNN.load(name).indices, cs.knn(np.load("x.npy"), K).indices)


@pytest.mark.parametrize("name", ["c.npy", "c.npz", "c.txt", "c.csv", "c.tsv", "c.json", "c.CSV"])
def test_communities_are_labels_again(here, name):
    assert run("communities", "x.npy", "--k", K, "--out", name).code == 0
    expected = cs.communities(cs.affinity_graph(cs.knn(np.load("x.npy"), K))).labels
    np.testing.assert_array_equal(cs.load_embeddings("x.npy", labels=here / name).labels, expected)
    if name.lower().endswith(("csv", "tsv", "txt")):
        lines = (here / name).read_text().splitlines()
        assert [int(line) for line in lines if line != "community"] == expected.tolist()


@pytest.mark.parametrize(("name", "separator"), [("r.csv", ","), ("r.tsv", "\t")])
def test_rld_as_text(here, name, separator):
    command = ("rld", "x.npy", "--labels", "y.npy", "--temperatures", "1,0.1")
    assert run(*command, "--out", name).code == 0
    assert run(*command, "--out", "r.json").code == 0
    everything = json.loads((here / "r.json").read_text())
    rows = list(csv.DictReader((here / name).read_text().splitlines(), delimiter=separator))
    assert [float(row["rld"]) for row in rows] == everything["values"]
    assert [float(row["temperature"]) for row in rows] == [1, 0.1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("knn", "x.npy", "--out", "k.parquet"),
        ("knn", "x.npy", "--out", "k.npy"),
        ("knn", "x.npy", "--out", "k.csv.gz"),
        ("communities", "x.npy", "--out", "c.parquet"),
        ("communities", "x.npy", "--out", "c.h5"),
        ("rld", "x.npy", "--labels", "y.npy", "--out", "r.npz"),
        ("rld", "x.npy", "--labels", "y.npy", "--out", "r.html"),
        ("analyze", "x.npy", "--labels", "y.npy", "--out", "report.html"),
        ("analyze", "x.npy", "--labels", "y.npy", "--out", "result.json"),
        ("demo", "--out", "demo.HTML"),
        ("compare", "x", "y", "--out", "compared.csv"),
        ("embed", "--out", "embeddings.npy"),
        ("train", "--out", "model.pt"),
        ("study", "temperature", "--out", "t.csv"),
    ],
)
def test_other_endings_are_refused_and_nothing_is_left(here, arguments):
    before = tree(here)
    outcome = run(*arguments)
    assert_one_sentence(outcome, arguments[-1], Path(arguments[-1]).suffix.lower())
    assert tree(here) == before


def test_folders_with_dots_and_folders_that_are_there(here):
    (here / "old.json").mkdir()
    for name in ("run-0.5", "old.json"):
        arguments = ("analyze", "x.npy", "--labels", "y.npy", "--out", name, "--probes", "none", "--map-points", "0")
        assert run(*arguments).code == 0, name
        assert (here / name / "report.html").is_file()


@pytest.mark.parametrize(
    "write",
    [
        lambda: cs.knn(np.load("x.npy"), K).save("k.csv"),
        lambda: cs.affinity_graph(cs.knn(np.load("x.npy"), K)).save("g.mtx"),
        lambda: record().to_json("a.csv"),
        lambda: record().report("a.pdf"),
        lambda: cs.compare({"a": record(), "b": record()}).report("c.json"),
        lambda: cs.save_embeddings("e.npy", np.load("x.npy")),
        lambda: compact_mixture(100, 4, output="m.csv"),
    ],
)
def test_python_refuses_too(here, write):
    before = tree(here)
    with pytest.raises(InputError, match=r"cannot be written as \.|named like a file"):
        write()
    assert tree(here) == before

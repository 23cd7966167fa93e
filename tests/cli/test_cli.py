"""The command line where all is well: what it prints, what it writes, what its help says."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from records import record

import clorg_scale as cs
from clorg_scale.datasets import load_digits
from clorg_scale.neighbors import KNN


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with 300 real images as a store, and as files."""
    folder = tmp_path_factory.mktemp("digits")
    X, y = load_digits()
    X, y = X[:300], y[:300]
    np.save(folder / "x.npy", X)
    (folder / "y.txt").write_text("\n".join(map(str, y)) + "\n")
    cs.save_embeddings(folder / "store", X, y, {"model": "pixels"})
    return folder


@pytest.fixture
def data(digits, tmp_path, monkeypatch):
    """Embeddings and labels; commands run in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    return np.load(digits / "x.npy"), np.loadtxt(digits / "y.txt", dtype=int)


def succeeds(*arguments):
    outcome = run(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def columns(text):
    """A table of two columns as a dictionary."""
    return {
        name.strip(): value.strip()
        for name, value in (line.split("  ", 1) for line in text.splitlines() if "  " in line)
    }


# ---- rld -------------------------------------------------------------------------------------------------------


def test_rld(digits, data):
    X, y = data
    alone = cs.rld(X, y, temperatures=(1.0, 0.1))
    arguments = ("rld", digits / "x.npy", "--labels", digits / "y.txt", "--temperatures", "1,0.1")
    lines = succeeds(*arguments).splitlines()
    assert lines[0] == "RLD of 300 points in 10 classes, exact method"
    assert lines[2].split() == ["T", "RLD", "stderr", "shuffled", "labels"]
    assert len({len(line) for line in lines[2:]}) == 1
    for line, t in zip(lines[3:], (0, 1), strict=True):
        temperature, value, stderr, null = map(float, line.split())
        assert temperature == alone.temperatures[t]
        assert value == pytest.approx(alone.values[t], abs=6e-7)
        assert stderr == 0
        assert null == pytest.approx(alone.null_mean[t], abs=6e-7)
    document = json.loads(succeeds(*arguments, "--json", "--out", "rld.json"))
    assert json.loads(Path("rld.json").read_text()) == document
    assert document["values"] == pytest.approx(alone.values, rel=1e-9)
    assert document["mean_distance"] == pytest.approx(alone.mean_distance, rel=1e-9)
    assert (document["method"], document["n_points"]) == ("exact", 300)
    np.testing.assert_allclose(
        [document["per_class"][str(c)] for c in alone.classes], alone.per_class.T, rtol=1e-9, atol=1e-12
    )


def test_rld_of_a_graph(digits, data):
    X, y = data
    document = json.loads(succeeds("rld", digits / "store", "--method", "graph", "--k", "8", "--json"))
    assert document["values"] == pytest.approx(cs.rld(X, y, method="graph", k=8).values, rel=1e-9)
    assert "graph method" in succeeds("rld", digits / "store", "--method", "graph", "--k", "8")


# ---- knn -------------------------------------------------------------------------------------------------------


def test_knn(digits, data):
    X, _ = data
    arguments = ("knn", digits / "x.npy", "--k", "7", "--metric", "cosine", "--out", "table.npz")
    printed = columns(succeeds(*arguments))
    table, alone = KNN.load("table.npz"), cs.knn(X, 7, metric="cosine")
    np.testing.assert_array_equal(table.indices, alone.indices)
    np.testing.assert_array_equal(table.distances, alone.distances)
    assert printed == {
        "points": "300",
        "neighbors each": "7",
        "metric": "cosine",
        "index": "flat",
        "recall": "1.0000",
        "mean distance": f"{alone.mean_distance:.6g}",
        "written to": "table.npz",
    }
    assert json.loads(succeeds(*arguments, "--json")) == {
        "n_points": 300,
        "k": 7,
        "metric": "cosine",
        "index": "flat",
        "recall": 1.0,
        "mean_distance": alone.mean_distance,
    }


def test_knn_through_an_index(digits, data):
    X, _ = data
    found = json.loads(succeeds("knn", digits / "x.npy", "--index", "hnsw", "--json", "--out", "hnsw.npz"))
    assert "HNSW" in found["index"]
    assert found["recall"] == pytest.approx(KNN.load("hnsw.npz").recall(X), abs=0.02)


# ---- communities -----------------------------------------------------------------------------------------------


def test_communities(digits, data):
    X, y = data
    graph = cs.affinity_graph(cs.knn(X, 10, seed=4), temperature=0.2)
    alone = cs.communities(graph, resolution=1.5, seed=4)
    arguments = (
        "communities",
        digits / "store",
        "--k",
        "10",
        "--temperature",
        "0.2",
        "--resolution",
        "1.5",
        "--seed",
        "4",
        "--out",
        "communities.npy",
    )
    text = succeeds(*arguments)
    printed = columns(text)
    assert printed["communities"] == str(len(alone.sizes))
    assert printed["sizes"].split()[: len(alone.sizes)][:15] == [str(size) for size in alone.sizes[:15]]
    assert printed["modularity"] == f"{alone.modularity:.4f}"
    assert printed["modularity of the classes"] == f"{cs.modularity(graph, y, resolution=1.5):.4f}"
    assert printed["written to"] == "communities.npy"
    np.testing.assert_array_equal(np.load("communities.npy"), alone.labels)
    document = json.loads(succeeds(*arguments, "--json"))
    assert document["sizes"] == alone.sizes.tolist()
    assert document["modularity"] == pytest.approx(alone.modularity, rel=1e-12)
    assert {"nmi", "ari", "class_modularity"} <= document.keys()


def test_communities_without_labels(digits, data):
    text = succeeds("communities", digits / "x.npy", "--method", "louvain")
    assert "louvain" in text
    assert "NMI" not in text
    assert "nmi" not in json.loads(succeeds("communities", digits / "x.npy", "--json"))


def test_many_communities_are_abridged(digits, data):
    text = succeeds("communities", digits / "x.npy", "--resolution", "1e6")
    assert " and 285 smaller" in text


# ---- analyze and compare ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_analyze_and_compare(digits, data):
    X, _ = data
    np.save("noisy.npy", X + np.random.default_rng(0).normal(size=X.shape).astype(np.float32) * 6)
    quick = ("--k", "10", "--probes", "knn", "--map-points", "50")
    text = succeeds("analyze", digits / "store", "--out", "clean", *quick)
    assert text.startswith("store: 300 points of 64 features, not normalized, 10 classes\n")
    assert text.endswith("Open clean/report.html in a browser; every number is in clean/analysis.json.\n")
    record = cs.Analysis.from_json("clean")
    printed = columns(text)
    assert printed["RLD, T = 0.1"] == f"{record.rld.values[3]:.4f}"
    assert printed["accuracy, knn"] == f"{record.probes[0].accuracy:.4f}"
    assert printed["communities"].endswith("GB peak")  # the stage, below the number
    noisy = ("analyze", "noisy.npy", "--labels", digits / "y.txt", "--out", "noisy", "--name", "with noise")
    assert json.loads(succeeds(*noisy, *quick, "--json"))["name"] == "with noise"

    lines = succeeds("compare", "clean", "noisy", "--out", "both").splitlines()
    assert lines[0].split() == ["store", "with", "noise"]
    assert lines[-1] == "Open both/comparison.html in a browser."
    row = next(line for line in lines if line.startswith("CHI, k = 10 "))
    assert float(row.split()[-2]) == pytest.approx(record.class_homogeneity[10], abs=6e-5)
    table = json.loads(succeeds("compare", "clean", "noisy", "--out", "both", "--json"))
    assert json.loads(Path("both/comparison.json").read_text()) == table
    assert table[0].keys() == {"quantity", "store", "with noise"}
    assert "store against with noise" in Path("both/comparison.html").read_text(encoding="utf-8")


def test_models_of_the_same_name_are_told_apart_by_their_folders(data, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        record(name="twin").to_json(tmp_path / folder / "analysis.json")
    assert succeeds("compare", "a", "b", "--out", "both").splitlines()[0].split() == ["a", "b"]


def test_a_value_that_one_model_lacks(data, tmp_path):
    for folder, temperatures in (("a", (1.0, 0.2)), ("b", (1.0, 0.1))):
        (tmp_path / folder).mkdir()
        record(name=folder, temperatures=temperatures).to_json(tmp_path / folder / "analysis.json")
    lines = succeeds("compare", "a", "b", "--out", "both").splitlines()
    assert next(line for line in lines if line.startswith("RLD, T = 0.1 ")).split()[-2] == "-"


def test_names_that_no_encoding_has(digits, data):
    """A file name of other bytes, and a class name with half a surrogate pair."""
    X, y = data
    file = os.fsdecode(b"\xff\xfe.npy")
    np.save(file, X)
    Path("names.json").write_text(json.dumps([f"class \ud800 {label}" for label in y]))
    succeeds("analyze", file, "--labels", "names.json", "--out", "out", "--probes", "none", "--k", "5")
    record = cs.Analysis.from_json("out")
    assert record.name == "\\udcff\\udcfe"
    assert record.classes[0] == "class \\ud800 0"
    assert "\\ud800" in Path("out/report.html").read_text(encoding="utf-8")


# ---- doctor, help ----------------------------------------------------------------------------------------------


def test_doctor():
    outcome = run("doctor")
    findings = json.loads(run("doctor", "--json").out)
    lines = [line for line in outcome.out.splitlines() if "->" not in line]
    assert [line.split()[1] for line in lines] == [finding["name"].split()[0] for finding in findings]
    python = next(finding for finding in findings if finding["name"] == "Python")
    assert python["what"] == ".".join(map(str, sys.version_info[:3]))
    for finding, line in zip(findings, lines, strict=True):
        assert line.split()[0] == ("ok" if finding["ok"] else "missing" if finding["optional"] else "PROBLEM")
        assert finding["ok"] or finding["remedy"]
    broken = any(not finding["ok"] and not finding["optional"] for finding in findings)
    assert (outcome.code, outcome.err) == (1 if broken else 0, "")


def test_help():
    first = run()
    assert (first.code, first.err) == (0, "")
    assert first == run("--help")
    for name in ("doctor", "demo", "analyze", "compare", "issues", "rld", "knn", "communities"):
        assert f"\n  {name} " in first.out
        text = succeeds(name, "--help")
        assert text.startswith(f"Usage: clorg-scale {name} ")
        assert "--help" in text
    # No description is cut off.
    assert "..." not in first.out.partition("Commands:")[2]


def test_version():
    assert succeeds("--version") == f"clorg-scale {cs.__version__}\n"

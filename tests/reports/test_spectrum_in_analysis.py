"""The spectrum as a stage of `analyze`, in the table of a comparison, and on the page."""

import dataclasses
import json

import numpy as np
import pytest

import clorg_scale as cs
from clorg_scale.analysis import steps
from clorg_scale.analysis.probing import AFFINITY_TEMPERATURE
from clorg_scale.errors import InputError

N_CLASSES = 4


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, N_CLASSES, 260)
    points = 1.5 * rng.standard_normal((N_CLASSES, 8))[labels] + rng.standard_normal((260, 8))
    return points.astype(np.float32), np.where(np.arange(260) % 20 == 0, -1, labels)


def analyzed(data, **settings):
    return cs.analyze(*data, temperatures=(1.0, 0.1), k=8, probes=["knn"], map_points=0, device="cpu", **settings)


@pytest.fixture(scope="module")
def analysis(data):
    return analyzed(data)


def test_stage_equals_the_function(data, analysis):
    points, labels = data
    graph = cs.affinity_graph(
        cs.knn(points, 8, device="cpu"), temperature=AFFINITY_TEMPERATURE, mean_distance=analysis.rld.mean_distance
    )
    alone = cs.spectrum(graph, 20, labels=labels)
    found = analysis.spectrum
    np.testing.assert_allclose(found.eigenvalues, alone.eigenvalues)
    np.testing.assert_allclose(found.class_share, alone.class_share)
    np.testing.assert_allclose(found.per_class, alone.per_class)
    assert (found.n_clusters, found.n_connected, found.n_isolated) == (alone.n_clusters, alone.n_connected, 0)
    assert "20 largest eigenvalues" in next(note.how for note in analysis.stages if note.stage == "spectrum")


def test_comparison_and_page(data, analysis, tmp_path):
    rng = np.random.default_rng(6)
    shuffled = analyzed((data[0], rng.permutation(data[1])))
    comparison = cs.compare({"right": analysis, "wrong": shuffled})
    rows = {row["quantity"]: row for row in comparison.table()}
    assert rows["clusters by the eigengap"]["right"] == analysis.spectrum.n_clusters
    share = rows[f"share of the classes in {N_CLASSES} eigenvectors"]
    assert share["right"] == analysis.spectrum.class_share[N_CLASSES - 1] > share["wrong"] + 0.2
    page = comparison.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"right: {analysis.spectrum.n_clusters} cluster" in page
    assert f"capture {share['wrong']:.3f} of the indicators of the {N_CLASSES} classes" in page
    assert 'data-chart="spectrum"' in page


def test_analyses_of_before_are_read_and_shown(analysis, tmp_path):
    document = json.loads(analysis.to_json(tmp_path / "analysis.json").read_text())
    del document["spectrum"]
    (tmp_path / "analysis.json").write_text(json.dumps(document))
    old = cs.Analysis.from_json(tmp_path)
    assert old == dataclasses.replace(analysis, spectrum=None)
    page = old.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'data-chart="spectrum"' not in page
    table = cs.compare({"old": old, "new": analysis}).table()
    assert next(row for row in table if row["quantity"] == "clusters by the eigengap")["old"] is None
    cs.compare({"old": old, "new": analysis}).report(tmp_path / "both.html")


def test_lists_that_do_not_fit_are_refused(analysis, tmp_path):
    document = json.loads(analysis.to_json(tmp_path / "analysis.json").read_text())
    document["spectrum"]["class_share"].pop()
    (tmp_path / "analysis.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="differ in length"):
        cs.Analysis.from_json(tmp_path)


def test_no_convergence_does_not_end_the_analysis(data, monkeypatch, tmp_path):
    def fails(*_, **__):
        raise InputError("SciPy found 3 of 20 eigenvectors of the graph. Ask for fewer eigenvectors.")

    monkeypatch.setattr(steps, "spectrum", fails)
    found = analyzed(data, output=tmp_path)
    assert found.spectrum.eigenvalues == []
    assert cs.Analysis.from_json(tmp_path) == found
    assert "found 3 of 20" in (tmp_path / "report.html").read_text(encoding="utf-8")
    table = cs.compare({"a": found, "b": found}).table()
    assert "clusters by the eigengap" not in {row["quantity"] for row in table}

"""`analyze` and `compare`: every number in the record is the number of the single stage."""

import dataclasses
import json
import re

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score, normalized_mutual_info_score
from sklearn.neighbors import NearestNeighbors

import clorg_scale as cs
from clorg_scale.analysis import Analysis, steps
from clorg_scale.datasets import load_digits
from clorg_scale.errors import InputError

QUICK = {"probes": ["linear", "knn"], "map_points": 60}


@pytest.fixture(scope="module")
def digits():
    """600 real images in random order; a few of them unlabelled."""
    X, y = load_digits()
    rows = np.random.default_rng(0).permutation(len(X))[:600]
    labels = y[rows]
    labels[::50] = -1
    return X[rows], labels


@pytest.fixture(scope="module")
def analysis(digits):
    """Of the digits, nothing written."""
    return cs.analyze(*digits, name="digits", seed=3, k=10, **QUICK)


def without_times(analysis):
    """The record as plain data, but for what differs between two runs."""
    document = analysis.to_dict()
    for stage in document["stages"]:
        del stage["seconds"], stage["peak_memory_bytes"], stage["compile_seconds"]
    for probe in document["probes"]:
        del probe["seconds"]
    return document


def test_what_was_analyzed(analysis, digits):
    _, y = digits
    assert (analysis.name, analysis.n_points, analysis.n_features) == ("digits", 600, 64)
    assert analysis.classes == [str(c) for c in range(10)]
    assert analysis.class_sizes == np.bincount(y[y >= 0]).tolist()
    assert analysis.n_unlabelled == (y < 0).sum() == 12
    assert [stage.stage for stage in analysis.stages] == [
        "Calinski-Harabasz",
        "nearest neighbors",
        "class homogeneity",
        "RLD",
        "communities",
        "spectrum",
        "probes",
        "map",
    ]
    for stage in analysis.stages:
        assert stage.seconds > 0
        assert stage.peak_memory_bytes > 1_000_000
        assert stage.how.endswith(".")
    how = {stage.stage: stage.how for stage in analysis.stages}["RLD"]
    assert "rescued rows 0). Exact is predicted to take less than a minute on this machine. 12 unlabelled" in how


def test_rld_is_that_of_rld(analysis, digits):
    alone = cs.rld(*digits, seed=3)
    record = analysis.rld
    assert record.temperatures == alone.temperatures.tolist()
    assert record.mean_distance == pytest.approx(alone.mean_distance, rel=1e-12)
    for name in ("values", "stderr", "per_class", "purity", "null_mean", "null_std"):
        # The order in which threads add tiles may differ.
        np.testing.assert_allclose(getattr(record, name), getattr(alone, name), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.sum(record.per_class, axis=1), record.values, atol=1e-12)


def test_class_homogeneity_is_that_of_brute_force(analysis, digits):
    """Scikit-learn's neighbors of all labeled points among all points."""
    X, y = digits
    labeled = np.flatnonzero(y >= 0)
    asked = X[labeled].astype(np.float64)
    neighbors = NearestNeighbors(n_neighbors=600, metric="cosine", algorithm="brute").fit(X.astype(np.float64))
    order = neighbors.kneighbors(asked, return_distance=False)
    order = np.array([row[row != point] for row, point in zip(order, labeled, strict=True)])
    for k, value in analysis.class_homogeneity.items():
        # Ties at equal distance may be cut differently: of 588 points, at k neighbors each, one pair more or less.
        assert value == pytest.approx((y[order[:, :k]] == y[labeled][:, None]).mean(), abs=1.5 / (588 * k))
    assert set(analysis.class_homogeneity_stderr.values()) == {0.0}
    assert list(analysis.class_homogeneity) == list(analysis.class_homogeneity_stderr)


def test_calinski_harabasz_is_that_of_scikit_learn(analysis, digits):
    X, y = digits
    reference = calinski_harabasz_score(X[y >= 0].astype(np.float64), y[y >= 0])
    assert analysis.calinski_harabasz == pytest.approx(reference, rel=1e-9)


def test_communities_are_those_of_communities(analysis, digits):
    X, y = digits
    table = cs.knn(X, 10, seed=3)
    graph = cs.affinity_graph(table, temperature=0.1, mean_distance=analysis.rld.mean_distance)
    alone = cs.communities(graph, seed=3)
    record = analysis.communities
    assert (record.method, record.resolution) == ("leiden", 1.0)
    assert record.sizes == alone.sizes.tolist()
    assert record.n_communities == len(alone.sizes)
    assert record.modularity == pytest.approx(alone.modularity, rel=1e-9)
    assert record.class_modularity == pytest.approx(cs.modularity(graph, y), rel=1e-9)
    known = y >= 0
    assert record.nmi == pytest.approx(normalized_mutual_info_score(y[known], alone.labels[known]), abs=1e-9)
    assert record.ari == pytest.approx(adjusted_rand_score(y[known], alone.labels[known]), abs=1e-9)
    for c in range(10):
        expected = np.bincount(alone.labels[y == c], minlength=len(alone.sizes))
        assert record.class_by_community[c] == expected.tolist()
    assert (analysis.neighbors.k, analysis.neighbors.metric, analysis.neighbors.recall) == (10, "euclidean", 1.0)


def test_probes_are_scored_on_a_stratified_fifth(analysis, digits):
    _, y = digits
    assert analysis.test_source == "held out"
    assert analysis.n_test == sum(round(0.2 * size) for size in np.bincount(y[y >= 0]))
    assert [probe.name for probe in analysis.probes] == ["linear", "knn"]
    for probe in analysis.probes:
        low, high = probe.accuracy_interval
        assert low <= probe.accuracy <= high
        # 1,797 digits are classified to about .95 by either; 3 standard errors of 117 test points are .06.
        assert probe.accuracy > 0.85
    assert analysis.probes[0].n_parameters == 650


def test_the_map_and_the_suspects(analysis, digits):
    _, y = digits
    points = analysis.point_map
    assert len(points.index) == len(points.x) == len(points.y) == 60
    assert points.index == sorted(set(points.index))
    assert points.class_code == y[points.index].tolist()
    assert points.local_density_temperature == 0.1
    for code, density in zip(points.class_code, points.local_density, strict=True):
        assert (density is None) == (code < 0)
    for suspect in analysis.suspects:
        assert suspect.label == str(y[suspect.index])
        assert suspect.suggested_label != suspect.label
    densities = [suspect.local_density for suspect in analysis.suspects]
    assert densities == sorted(densities)
    assert all(density < 0.5 for density in densities)


def test_mislabeled_points_are_suspects(digits):
    """Most of 20 wrong labels are found, with the right class suggested."""
    X, y = digits
    wrong = np.random.default_rng(5).choice(np.flatnonzero(y >= 0), 20, replace=False)
    labels = y.copy()
    labels[wrong] = (labels[wrong] + 5) % 10
    found = {suspect.index: suspect.suggested_label for suspect in cs.analyze(X, labels, k=10, probes=[]).suspects}
    # Nearest neighbors are right for 97 % of digits: fewer than 15 of 20 has a probability below 1e-4.
    assert sum(found.get(int(point)) == str(y[point]) for point in wrong) >= 15


def test_output_and_round_trip(analysis, digits, tmp_path):
    out = tmp_path / "new" / "folder"
    written = cs.analyze(*digits, name="digits", seed=3, k=10, output=out, **QUICK)
    assert without_times(written) == without_times(analysis)
    names = sorted(path.name for path in out.iterdir())
    assert [name for name in names if not name.endswith(".npz")] == ["analysis.json", "report.html"]
    assert [re.sub("-[0-9a-f]{16}.npz", "", name) for name in names if name.endswith(".npz")] == [
        "Calinski-Harabasz",
        "RLD",
        "analysis_arrays.npz",
        "class-homogeneity",
        "communities",
        "map",
        "nearest-neighbors",
        "probes",
        "spectrum",
    ]
    for path in (out, out / "analysis.json"):
        assert Analysis.from_json(path) == written
    again = written.to_json(tmp_path / "analysis.json")
    assert again.read_bytes() == (out / "analysis.json").read_bytes()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert "digits" in page
    assert f"{written.rld.values[0]:.4f}" in page


def test_the_record_of_sampled_rld_is_read_again(digits, tmp_path):
    X, y = digits
    written = cs.analyze(X, y, method="sampled", target_error=0.05, output=tmp_path, k=10, probes=[], map_points=0)
    assert written.rld.method == "sampled"
    assert min(written.rld.stderr) > 0
    assert isinstance(written.rld.details["bias_removed"], list)
    assert Analysis.from_json(tmp_path) == written
    assert "landmarks" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_spectrum_of_a_large_graph_is_left_out_on_a_cpu(digits, monkeypatch, tmp_path):
    X, y = digits
    monkeypatch.setattr(steps, "MOST_SPECTRAL_NODES", 100)
    spectrum = cs.analyze(X, y, k=10, probes=[], map_points=0, device="cpu", output=tmp_path).spectrum
    assert spectrum.eigenvalues == []
    assert spectrum.n_clusters is None
    assert spectrum.how.startswith("Left out: on a CPU the eigenvalues of a graph of more than 100 nodes")
    assert "more than 100 nodes" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_given_test_points(digits):
    X, y = digits
    train, test = slice(0, 450), slice(450, None)
    settings = {"probes": ["linear", "knn"], "k": 10, "map_points": 0}
    result = cs.analyze(X[train], y[train], test_embeddings=X[test], test_labels=y[test], **settings)
    assert (result.test_source, result.n_points) == ("given", 450)
    assert result.n_test == (y[test] >= 0).sum()
    known = y[train] >= 0
    probe = cs.probes.KNNProbe(10).fit(X[train][known], y[train][known])
    assert result.probes[1].accuracy == pytest.approx(
        (probe.predict(X[test]) == y[test])[y[test] >= 0].mean(), abs=1e-12
    )
    # All but the probes is of the training points alone.
    np.testing.assert_allclose(result.rld.values, cs.rld(X[train], y[train]).values, rtol=1e-9)
    assert result.point_map.index == []


def test_study_of_the_probes(digits, tmp_path):
    X, y = digits
    probes = ["linear", "knn", "label_propagation"]
    options = {"k": 10, "map_points": 0, "probes": probes, "output": tmp_path}
    plain = cs.analyze(X, y, **options)
    assert plain.probe_study == []
    result = cs.analyze(X, y, probe_study=True, **options)
    assert result.probes == plain.probes
    found = {(row.result.name, row.label_fraction, row.k, row.temperature): row.result for row in result.probe_study}
    assert [
        score for row, score in found.items() if row[1] == 1 and row[2] in (None, 10) and row[3] in (None, 0.1)
    ] == (result.probes)
    assert found.keys() == (
        {("linear", share, None, None) for share in (0.01, 0.1, 1)}
        | {("knn", share, 10, None) for share in (0.01, 0.1, 1)}
        | {("knn", 1, k, None) for k in (5, 50)}
        | {("label_propagation", share, 10, 0.1) for share in (0.01, 0.1, 1)}
        | {("label_propagation", 1, k, 0.1) for k in (5, 50)}
        | {("label_propagation", 1, 10, T) for T in (0.05, 0.5)}
    )
    # 118 test points: an accuracy near .9 has a standard deviation of .028.
    assert found["linear", 1, None, None].accuracy > found["linear", 0.01, None, None].accuracy + 0.1
    assert Analysis.from_json(tmp_path) == result
    assert cs.analyze(X, y, probe_study=True, **options) == result
    document = result.to_dict() | {"format": "clorg-scale analysis 1"}
    for row in document["probe_study"]:
        row["score"] = row.pop("result")  # as an earlier version called it
    (tmp_path / "renamed.json").write_text(json.dumps(document))
    assert Analysis.from_json(tmp_path / "renamed.json") == result
    del document["probe_study"]  # as a still earlier version wrote it
    (tmp_path / "before.json").write_text(json.dumps(document))
    assert Analysis.from_json(tmp_path / "before.json") == dataclasses.replace(result, probe_study=[])


def test_study_where_there_are_too_few_points(digits):
    X, y = digits
    result = cs.analyze(X[:40], y[:40], k=5, map_points=0, probes=["knn"], probe_study=True)
    assert {(row.label_fraction, row.k) for row in result.probe_study} == {(1, 5), (0.01, 5), (0.1, 5)}
    assert "too few points" in next(stage.how for stage in result.stages if stage.stage == "probes by neighbors")


def test_test_points_of_one_class(digits):
    X, y = digits
    result = cs.analyze(X[:300], y[:300], test_embeddings=X[y == 4], test_labels=y[y == 4], k=5, **QUICK)
    assert result.n_test == (y == 4).sum()
    assert result.probes[1].accuracy > 0.8


def test_names_of_classes(analysis, digits):
    """Strings give the same numbers as integers, and their names."""
    X, y = digits
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    # Sorted names number the classes otherwise, so classes are compared by name.
    named = cs.analyze(X, np.where(y < 0, "-1", names[y]), name="digits", seed=3, k=10, probes=[], map_points=0)
    assert named.classes == sorted(names)
    assert named.n_unlabelled == 12
    np.testing.assert_allclose(named.rld.values, analysis.rld.values, atol=1e-6)
    place = [named.classes.index(name) for name in names]
    np.testing.assert_allclose(np.array(named.rld.per_class)[:, place], analysis.rld.per_class, atol=1e-6)
    assert [named.class_sizes[c] for c in place] == analysis.class_sizes
    assert named.class_homogeneity == pytest.approx(analysis.class_homogeneity)


@pytest.mark.parametrize("n", [3, 4, 5, 8, 12, 20])
def test_two_classes_of_few_points(n, tmp_path):
    y = np.arange(n) % 2
    X = np.random.default_rng(n).normal(size=(n, 3)) + 8 * y[:, None]
    result = cs.analyze(X, y, k=2, output=tmp_path, probes=["linear", "knn"])
    assert result.n_points == n
    np.testing.assert_allclose(result.rld.values, cs.rld(X, y).values, rtol=1e-9)
    # Two tenths of either class; fewer than three test points score nothing.
    n_test = round(0.2 * ((n + 1) // 2)) + round(0.2 * (n // 2))
    assert result.n_test == (n_test if n_test >= 3 else 0)
    assert len(result.probes) == (2 if n_test >= 3 else 0)
    assert Analysis.from_json(tmp_path) == result
    assert (tmp_path / "report.html").exists()
    note = next(stage.how for stage in result.stages if stage.stage == "probes")
    assert note.startswith("Trained on" if n_test >= 3 else "Not trained: fewer than 3")


def test_any_memory_layout_gives_the_same_numbers(digits, tmp_path):
    X, y = digits
    X = X[:200]
    wide = np.zeros((200, 128), dtype=np.float32)
    wide[:, ::2] = X
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", X.dtype, X.shape)
    mapped[:] = X
    mapped.flush()
    views = (X, wide[:, ::2], X.astype(">f4"), np.load(tmp_path / "x.npy", mmap_mode="r"), X.astype(np.uint8))
    first, *others = (cs.analyze(view, y[:200], k=5, probes=[], map_points=0) for view in views)
    for other in others:
        np.testing.assert_allclose(other.rld.values, first.rld.values, rtol=1e-6)
        assert other.class_homogeneity == pytest.approx(first.class_homogeneity)
        assert other.calinski_harabasz == pytest.approx(first.calinski_harabasz)
        assert other.communities.sizes == first.communities.sizes


# ---- compare ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy(digits):
    """The digits with noise, analyzed without the linear probe."""
    X, y = digits
    noise = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    return cs.analyze(X + 8 * noise, y, name="noisy", seed=3, k=10, probes=["knn"], map_points=60)


def test_the_table_of_a_comparison(analysis, noisy):
    comparison = cs.compare({"clean": analysis, "noisy": noisy})
    rows = {row["quantity"]: row for row in comparison.table()}
    assert all(list(row) == ["quantity", "clean", "noisy"] for row in rows.values())
    for t, temperature in enumerate(("1", "0.5", "0.2", "0.1", "0.05")):
        row = rows[f"RLD, T = {temperature}"]
        assert (row["clean"], row["noisy"]) == (analysis.rld.values[t], noisy.rld.values[t])
    for k, value in analysis.class_homogeneity.items():
        assert rows[f"CHI, k = {k}"]["clean"] == value
    assert rows["Calinski-Harabasz"]["noisy"] == noisy.calinski_harabasz
    assert rows["modularity of communities"]["clean"] == analysis.communities.modularity
    assert rows["modularity of classes"]["clean"] == analysis.communities.class_modularity
    assert rows["communities"]["clean"] == analysis.communities.n_communities
    assert rows["NMI of communities and classes"]["noisy"] == noisy.communities.nmi
    assert rows["accuracy, knn"]["noisy"] == noisy.probes[0].accuracy
    linear = analysis.probes[0].accuracy
    assert rows["accuracy, linear"] == {"quantity": "accuracy, linear", "clean": linear, "noisy": None}
    # Noise spoils the classes by every measure.
    for quantity in ("RLD, T = 0.1", "CHI, k = 10", "Calinski-Harabasz", "modularity of classes", "accuracy, knn"):
        assert rows[quantity]["clean"] > rows[quantity]["noisy"]


def test_the_page_of_a_comparison(analysis, noisy, tmp_path):
    page = cs.compare({"clean": analysis, "noisy": noisy}).report(tmp_path / "comparison.html")
    text = page.read_text(encoding="utf-8")
    assert "clean against noisy" in text
    assert f"{noisy.calinski_harabasz:.4f}"[:5] in text


def test_what_cannot_be_compared(analysis, digits):
    X, y = digits
    with pytest.raises(InputError, match="at least two"):
        cs.compare({"alone": analysis})
    with pytest.raises(InputError, match="600 and 500 points"):
        cs.compare({"a": analysis, "b": cs.analyze(X[:500], y[:500], k=5, probes=[], map_points=0)})
    with pytest.raises(InputError, match="different classes"):
        cs.compare({"a": analysis, "b": cs.analyze(X, y + (y >= 0), k=5, probes=[], map_points=0)})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"probes": ["oracle"]}, "no probe 'oracle'"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"k": True}, "k must be a whole number"),
        ({"temperatures": 0.1}, "list of numbers"),
        ({"test_labels": [0, 1]}, "go together"),
        ({"memory_limit": "1 TB/s"}, "not an amount of memory"),
    ],
)
def test_settings_that_cannot_be_used(digits, tmp_path, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        cs.analyze(*digits, output=tmp_path / "out", **settings)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_plain_json(analysis, tmp_path):
    document = json.loads(analysis.to_json(tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert document["format"] == "clorg-scale analysis 2"
    assert document["settings"]["seed"] == 3
    assert document["versions"]["clorg-scale"] == cs.__version__

"""Class homogeneity says what it was measured on; inverted lists find the neighbors of groups far apart."""

import json
import warnings

import numpy as np
import pytest
from command_line import run

import clorg_scale as cs
from clorg_scale.neighbors.algorithms.clustering import search_precisely
from clorg_scale.neighbors.algorithms.flat_faiss import search_block

LABELS = np.arange(150) % 3
POINTS = np.random.default_rng(0).normal(size=(150, 5)) + 2.0 * np.eye(3, 5)[LABELS]


def test_a_table_of_another_metric_is_told():
    with pytest.warns(UserWarning, match="another quantity.*metric='cosine'"):
        cs.class_homogeneity(cs.knn(POINTS, 5), LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cs.class_homogeneity(cs.knn(POINTS, 5, metric="cosine"), LABELS)


def analysis(**options):
    return cs.analyze(POINTS, LABELS, k=5, probes=[], map_points=0, **options)


def test_sample_and_all_points(tmp_path):
    sampled, whole = analysis(chi_points=50, output=tmp_path), analysis(chi_points=None)
    assert sampled.class_homogeneity_points == 50
    assert whole.class_homogeneity_points == 150
    assert set(whole.class_homogeneity_stderr.values()) == {0.0}
    table = cs.knn(POINTS, 149, metric="cosine")
    assert whole.class_homogeneity == pytest.approx(cs.class_homogeneity(table, LABELS))
    k = 10
    error = sampled.class_homogeneity_stderr[k]
    assert 0 < error < 0.1
    assert abs(sampled.class_homogeneity[k] - whole.class_homogeneity[k]) < 4 * error
    note = next(stage.how for stage in sampled.stages if stage.stage == "class homogeneity")
    assert "sample of 50 of 150" in note
    assert "another metric" in note
    assert note.split(";")[0] in (tmp_path / "report.html").read_text()
    assert cs.Analysis.from_json(tmp_path) == sampled


def test_records_without_the_size_of_the_sample_are_read(tmp_path):
    analysis(output=tmp_path)
    document = json.loads((tmp_path / "analysis.json").read_text())
    del document["class_homogeneity_points"]
    (tmp_path / "analysis.json").write_text(json.dumps(document))
    assert cs.Analysis.from_json(tmp_path).class_homogeneity_points is None


def test_command_line(tmp_path):
    np.save(tmp_path / "x.npy", POINTS)
    np.save(tmp_path / "y.npy", LABELS)
    options = ("--labels", tmp_path / "y.npy", "--k", "5", "--probes", "none", "--map-points", "0", "--out", tmp_path)
    told = run("analyze", tmp_path / "x.npy", *options, "--chi-points", "50")
    assert told.code == 0
    assert "CHI on a sample of 50 points, standard errors up to" in told.out
    whole = run("analyze", tmp_path / "x.npy", *options, "--chi-points", "all", "--json")
    assert json.loads(whole.out)["class_homogeneity_points"] == 150
    for wrong in ("some", "0", "1.5"):
        refused = run("analyze", tmp_path / "x.npy", *options, "--chi-points", wrong)
        assert refused.code == 2
        assert "chi" in refused.err


def groups(n, d, n_groups, distance, dtype, seed=0):
    """Round groups of points at a distance from each other."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(n_groups, d))
    centers *= distance / np.linalg.norm(centers[0] - centers[-1])
    return (random.normal(size=(n, d)) + centers[random.integers(n_groups, size=n)]).astype(dtype)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "n_groups", "distance", "dtype"),
    [(12, 2, 1e4, np.float32), (12, 3, 1e6, np.float64), (100, 2, 1e2, np.float32)],
)
def test_inverted_lists_of_groups_far_apart(d, n_groups, distance, dtype):
    points = groups(3000, d, n_groups, distance, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = cs.knn(points, 10, index="ivf")
    assert table.measured_recall > 0.98


def test_precise_search_agrees_where_float32_suffices():
    random = np.random.default_rng(0)
    queries, points = (random.normal(size=(n, 7)).astype(np.float32) for n in (40, 90))
    for inner_product in (False, True):
        expected, found = (search(queries, points, 5, inner_product) for search in (search_block, search_precisely))
        np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
        np.testing.assert_array_equal(found[1], expected[1])

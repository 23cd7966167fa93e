"""Neighbors are searched once: RLD, graph and probes share a table, with the numbers of searches of their own."""

import numpy as np
import pytest

import clorg_scale as cs
from clorg_scale.datasets import load_digits
from clorg_scale.neighbors import search
from clorg_scale.neighbors.shared import among_training_points, first_neighbors, in_order, width_with_share
from clorg_scale.rld.compute import rld_from_table

SETTINGS = {"probes": ["knn", "label_propagation"], "map_points": 0, "k": 10, "device": "cpu", "seed": 3}


@pytest.fixture(scope="module")
def digits():
    """600 real images; a few of them unlabelled."""
    X, y = load_digits()
    rows = np.random.default_rng(0).permutation(len(X))[:600]
    labels = y[rows]
    labels[::50] = -1
    return X[rows], labels


@pytest.fixture
def searches(monkeypatch):
    """(queries, k, metric) of every search that runs."""
    seen, real = [], search.search_table

    def counted(plan, **settings):
        seen.append((len(plan.query_rows), plan.k, plan.points.metric))
        return real(plan, **settings)

    monkeypatch.setattr(search, "search_table", counted)
    monkeypatch.setitem(search.SEARCHES, "flat", counted)
    return seen


def test_an_analysis_searches_each_metric_once(digits, searches):
    cs.analyze(*digits, method="sampled", target_error=0.05, probe_study=True, **SETTINGS)
    (n_all, width, metric), (n_labeled, chi_k, of_chi), *rest = searches
    assert (n_all, metric) == (600, "euclidean")
    assert (n_labeled, chi_k, of_chi) == (588, 599, "cosine")
    assert width >= 50
    # Where only one label in ten or a hundred is shown, the k-NN probe's neighbors are few among all: not in a table.
    assert [n for n, _, _ in rest] == [119, 119]


def test_normalized_points_are_searched_once(digits, searches):
    X, y = digits
    ours = cs.analyze(X, y, normalize=True, **SETTINGS)
    assert searches == [(600, 599, "euclidean")]
    assert "from the table of the affinity graph" in next(
        stage.how for stage in ours.stages if stage.stage == "class homogeneity"
    )
    apart = cs.class_homogeneity(cs.knn(X, 599, metric="cosine"), y)
    # Ties at equal distance may be cut differently: one pair of 588 points, at k neighbors each.
    for k, value in ours.class_homogeneity.items():
        assert value == pytest.approx(apart[k], abs=1.5 / (588 * k))


def test_test_points_take_one_search_more(digits, searches):
    X, y = digits
    cs.analyze(X[:450], y[:450], test_embeddings=X[450:], test_labels=y[450:], probe_study=True, **SETTINGS)
    # The third finds test points that are among the points: exactly, so not in a table that may be approximate.
    assert [(n, metric) for n, _, metric in searches[:4]] == [
        (450, "euclidean"),
        ((y[:450] >= 0).sum(), "cosine"),
        (150, "euclidean"),
        (600, "euclidean"),
    ]
    assert [n for n, _, _ in searches[4:]] == [150, 150]


def test_sampled_rld_of_a_table_is_that_of_its_own_search(digits):
    X, y = digits
    settings = {"method": "sampled", "target_error": 0.05, "k": 10, "seed": 3, "device": "cpu"}
    for factor in (1.0, 2.0**-40):  # the second is brought to the range of float32 first
        alone = cs.rld(X * np.float32(factor), y, **settings)
        table = cs.knn(X * np.float32(factor), 25, seed=3)
        shared = rld_from_table(X * np.float32(factor), y, table, **settings)
        np.testing.assert_allclose(shared.values, alone.values, rtol=1e-9)
        np.testing.assert_allclose(shared.stderr, alone.stderr, rtol=1e-6)
        assert shared.mean_distance == pytest.approx(alone.mean_distance, rel=1e-12)
        assert shared.details["k"] == 10
    graphs = [rld_from_table(X, y, table, method="graph", k=10, seed=3) for table in (None, cs.knn(X, 25, seed=3))]
    np.testing.assert_allclose(graphs[0].values, graphs[1].values, rtol=1e-9)


def test_the_record_is_that_of_searches_apart(digits):
    """Graph, communities and probes of the shared table against each stage on its own."""
    X, y = digits
    record = cs.analyze(X, y, **SETTINGS)
    from clorg_scale.analysis.split import held_out_split
    from clorg_scale.arrays import ClassLabels
    from clorg_scale.probes.comparison import compare_probes

    codes = y.astype(np.int64)
    split = held_out_split(X, codes, fraction=0.2, seed=3)
    n, names = split.n_train, np.arange(10)
    graph = cs.affinity_graph(cs.knn(split.points, 10, seed=3), mean_distance=record.rld.mean_distance)
    sets = split.points[:n], ClassLabels(split.codes[:n], names), split.points[n:], ClassLabels(split.codes[n:], names)
    apart = compare_probes(*sets, graph, probes=SETTINGS["probes"], k=10, seed=3, device="cpu")
    assert [(probe.name, probe.accuracy) for probe in record.probes] == [(one.name, one.accuracy) for one in apart]


def points_with_ties(n, seed=0):
    """Integers in the plane: many equal distances, some duplicates."""
    return np.random.default_rng(seed).integers(0, 6, (n, 2)).astype(np.float32)


def test_a_permuted_table_is_a_table_of_the_permuted_points():
    for X in (points_with_ties(90), np.random.default_rng(1).normal(size=(90, 3))):
        order = np.random.default_rng(2).permutation(90)
        ours, theirs = in_order(cs.knn(X, 89), order), cs.knn(X[order], 89)
        np.testing.assert_array_equal(ours.indices, theirs.indices)
        np.testing.assert_array_equal(ours.distances, theirs.distances)


def test_neighbors_among_training_points_are_those_of_a_search_between():
    X = np.random.default_rng(1).normal(size=(500, 3)).astype(np.float32)
    labeled = np.random.default_rng(2).random(400) < 0.9
    table = cs.knn(X, width_with_share(5, 0.72, 500))
    found, short = among_training_points(table, labeled, 5)
    theirs = cs.neighbors.knn_between(X[400:], X[:400][labeled], 5)
    enough = np.setdiff1d(np.arange(100), short)
    assert len(enough) >= 98
    np.testing.assert_array_equal(found.indices[enough], theirs.indices[enough])
    np.testing.assert_array_equal(found.distances[enough], theirs.distances[enough])
    assert np.isinf(found.distances[short, -1]).all()
    assert among_training_points(first_neighbors(table, 5), labeled, 5) is None


def test_votes_from_a_table_whose_neighbors_do_not_suffice(digits):
    X, y = digits
    probe = cs.probes.KNNProbe(5, device="cpu").fit(X[:400], y[:400])
    for k in (5, 9, 12, 400):  # of no use; for most points; for nearly all; for all
        np.testing.assert_array_equal(probe.predict_from(cs.knn(X, k), X[400:]), probe.predict(X[400:]))
    cosine = cs.knn(X, 400, metric="cosine")
    np.testing.assert_array_equal(probe.predict_from(cosine, X[400:]), probe.predict(X[400:]))


@pytest.mark.parametrize(("k", "share", "n"), [(15, 0.8, 10**6), (50, 0.8, 10**6), (1, 0.5, 1000), (5, 0.9, 10)])
def test_width_leaves_one_point_in_a_thousand_at_most(k, share, n):
    width = width_with_share(k, share, n)
    if width == n - 1:
        return
    draws = np.random.default_rng(0).binomial(width, share, 200_000)
    # 200 expected at most; 4 standard deviations are 57.
    assert np.count_nonzero(draws < k) <= 257
    assert np.count_nonzero(np.random.default_rng(0).binomial(width - 1, share, 200_000) < k) > 150


def test_a_rare_share_is_searched_on_its_own():
    assert width_with_share(15, 0.01, 10**6) == 15
    assert width_with_share(15, 1.0, 10**6) == 15


def test_every_point_has_coordinates_and_the_page_draws_the_landmarks(digits, tmp_path):
    X, y = digits
    settings = SETTINGS | {"map_points": 60, "probes": []}
    cs.analyze(X, y, output=tmp_path, **settings)
    read = cs.Analysis.from_json(tmp_path)
    x = read.points["map_x"]
    assert x.shape == read.points["map_y"].shape == (600,)
    assert len(read.point_map.index) == 60
    np.testing.assert_allclose(x[read.point_map.index], read.point_map.x, atol=1e-3)
    assert "60 points; the 540 others are placed among these" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "map_x" not in cs.analyze(X, y, **settings | {"map_points": 0}).points

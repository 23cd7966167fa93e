"""What does not change under scaling does not, from one end of the numbers to the other; distances scale exactly."""

import warnings

import numpy as np
import pytest

import clorg_scale as cs
from clorg_scale.arrays import to_unit_range
from clorg_scale.errors import InputError
from clorg_scale.layout import lay_out
from clorg_scale.neighbors import knn_between
from clorg_scale.probes import KNNProbe, LinearProbe

TEMPERATURES = (1.0, 0.1)


@pytest.fixture(autouse=True)
def _no_warnings():
    """No arithmetic overflows on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def classes(n=240, d=6, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return random.normal(size=(n, d)) + 2.0 * np.eye(3, d)[labels], labels


POINTS, LABELS = classes()


@pytest.mark.parametrize("method", ["exact", "sampled", "graph"])
@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [(np.float64, 60), (np.float64, -1000), (np.float64, 1010), (np.float32, -80), (np.float32, 120)],
)
def test_rld_is_that_of_the_unscaled_points(method, dtype, exponent):
    points = POINTS.astype(dtype)
    scaled = np.ldexp(points, exponent)
    assert scaled.dtype == dtype
    expected, found = (cs.rld(some, LABELS, temperatures=TEMPERATURES, method=method) for some in (points, scaled))
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.per_class, expected.per_class, rtol=0, atol=1e-6)
    assert np.ldexp(found.mean_distance, -exponent) == pytest.approx(expected.mean_distance, rel=1e-6)


def test_rld_of_subnormal_numbers():
    points = (POINTS * 1e-41).astype(np.float32)
    exact = cs.rld(points.astype(np.float64) * 1e41, LABELS, temperatures=TEMPERATURES)
    np.testing.assert_allclose(cs.rld(points, LABELS, temperatures=TEMPERATURES).values, exact.values, atol=1e-6)


def test_rld_with_a_constant_feature_far_beyond_the_others():
    points = np.hstack([POINTS * 1e-200, np.full((len(POINTS), 1), 1e100)])
    expected = cs.rld(POINTS, LABELS, temperatures=TEMPERATURES).values
    np.testing.assert_allclose(cs.rld(points, LABELS, temperatures=TEMPERATURES).values, expected, atol=1e-9)


def test_ordinary_points_are_not_copied():
    assert to_unit_range(POINTS).embeddings is POINTS
    assert np.shares_memory(to_unit_range(POINTS.astype(np.float32) * 1e8).embeddings, POINTS) is False
    scaled = to_unit_range(np.ldexp(POINTS, -500))
    np.testing.assert_array_equal(np.ldexp(scaled.embeddings, scaled.exponent), np.ldexp(POINTS, -500))


def test_identical_points_are_still_refused():
    for value in (1e-40, 1.0, 1e30):
        with pytest.raises(InputError, match="identical"):
            cs.rld(np.full((10, 3), value, np.float32), np.arange(10) % 2)


@pytest.mark.parametrize("factor", [1e160, 1e-300, 1e-310, 1e300])
def test_calinski_harabasz(factor):
    rel = 1e-4 if factor < 1e-305 else 1e-12
    assert cs.calinski_harabasz(POINTS * factor, LABELS) == pytest.approx(cs.calinski_harabasz(POINTS, LABELS), rel=rel)


def test_calinski_harabasz_of_collapsed_classes():
    centers = np.random.default_rng(1).normal(size=(3, 7))[LABELS]
    for factor in (1, 0.1, 1e-160, 1e150):
        assert cs.calinski_harabasz(centers * factor, LABELS) == np.inf
    assert cs.calinski_harabasz(np.full((9, 3), 0.1), np.arange(9) % 3) == 1.0


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "inner_product"])
@pytest.mark.parametrize("exponent", [60, -165, 400, -400, -600, 1015])
def test_neighbors_and_their_distances(metric, exponent):
    expected, scaled = cs.knn(POINTS, 5, metric=metric), np.ldexp(POINTS, exponent)
    if metric == "inner_product" and abs(exponent) > 500:
        with pytest.raises(InputError, match="float64"):
            cs.knn(scaled, 5, metric=metric)
        return
    found = cs.knn(scaled, 5, metric=metric)
    np.testing.assert_array_equal(found.indices, expected.indices)
    power = {"euclidean": 1, "cosine": 0, "inner_product": 2}[metric]
    back = np.ldexp(found.distances.astype(np.float64), -power * exponent)
    np.testing.assert_allclose(back, expected.distances, rtol=2e-7)
    if metric == "euclidean":
        assert np.ldexp(found.mean_distance, -exponent) == pytest.approx(expected.mean_distance)
        graph = cs.affinity_graph(found)
        np.testing.assert_allclose(graph.weights, cs.affinity_graph(expected).weights, rtol=2e-5)


def test_neighbors_of_float32_do_not_underflow(tmp_path):
    table = cs.knn((POINTS * 1e-30).astype(np.float32), 5)
    assert (table.distances > 0).all()
    smaller = cs.knn((POINTS * 1e-41).astype(np.float32), 5)
    assert smaller.distances.dtype == np.float64
    assert (smaller.distances > 0).all()
    smaller.save(tmp_path / "table.npz")
    np.testing.assert_array_equal(cs.KNN.load(tmp_path / "table.npz").distances, smaller.distances)
    adopted = cs.KNN.from_arrays(smaller.indices, smaller.distances, metric="euclidean")
    np.testing.assert_array_equal(adopted.distances, smaller.distances)


def test_neighbors_of_far_queries():
    queries = POINTS[:9] * 1e25
    found = knn_between(queries, POINTS, 3)
    np.testing.assert_allclose(found.distances[:, 0], np.linalg.norm(queries, axis=1), rtol=1e-6)


def test_vectors_too_short_for_a_direction_are_told_truthfully():
    points = POINTS.copy()
    points[7] *= 1e-315
    with pytest.raises(InputError, match=r"1 vector shorter than .* \(row 7\)"):
        cs.knn(points, 5, metric="cosine")


def test_map_and_analysis():
    expected = lay_out(POINTS, LABELS).xy
    found = lay_out(np.ldexp(POINTS, -300), LABELS).xy
    spread = expected.std()
    assert found.std() == pytest.approx(spread, rel=0.2)
    ordinary, tiny = (
        cs.analyze(np.ldexp(POINTS, exponent), LABELS, k=5, probes=["linear", "knn"], map_points=0)
        for exponent in (0, -200)
    )
    np.testing.assert_allclose(tiny.rld.values, ordinary.rld.values, atol=1e-9)
    assert tiny.class_homogeneity == ordinary.class_homogeneity
    assert tiny.calinski_harabasz == pytest.approx(ordinary.calinski_harabasz)
    assert tiny.communities.class_modularity == pytest.approx(ordinary.communities.class_modularity, abs=1e-6)
    assert [probe.accuracy for probe in tiny.probes] == [probe.accuracy for probe in ordinary.probes]


def test_probes():
    for dtype, factor in ((np.float32, 1e-41), (np.float32, 1e36), (np.float64, 1e-310), (np.float64, 1e300)):
        for probe in (LinearProbe(max_epochs=10), KNNProbe(5, weights="distance")):
            expected = probe.fit(POINTS[:160], LABELS[:160]).score(POINTS[160:], LABELS[160:])
            points = (POINTS * factor).astype(dtype)
            found = probe.fit(points[:160], LABELS[:160]).score(points[160:], LABELS[160:])
            assert abs(found - expected) <= 1 / 80


@pytest.mark.parametrize("dead", [1e-40, 1e-45])
def test_a_dead_unit_changes_no_accuracy(dead):
    points = POINTS.astype(np.float32)
    column = np.zeros((len(points), 1), np.float32)
    column[5] = dead
    wide = np.hstack([points, column])
    probe = LinearProbe(max_epochs=10)
    expected = probe.fit(points[:160], LABELS[:160]).score(points[160:], LABELS[160:])
    assert probe.fit(wide[:160], LABELS[:160]).score(wide[160:], LABELS[160:]) == expected
    wide[200, -1] = 3  # fires on a test point
    assert probe.score(wide[160:], LABELS[160:]) == expected
    ordinary, other = (
        cs.analyze(some, LABELS, k=5, probes=["linear"], map_points=0).probes[0] for some in (points, wide * 1.0)
    )
    assert abs(ordinary.accuracy - other.accuracy) <= 0.05


def test_weights_of_the_linear_probe_are_those_of_the_embeddings():
    points = POINTS * 1e-60
    probe = LinearProbe(max_epochs=3).fit(points, LABELS)
    assert probe.coef_.dtype == np.float64
    np.testing.assert_allclose(points @ probe.coef_.T + probe.intercept_, probe.decision_function(points), atol=1e-5)

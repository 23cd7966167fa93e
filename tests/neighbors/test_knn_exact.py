"""Exact searches against brute force in float64."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import METRICS, assert_exact, clusters, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from clorg_scale.neighbors import knn, knn_between, knn_of
from clorg_scale.neighbors.engines import exact_engine
from clorg_scale.neighbors.exact import search_exact
from clorg_scale.neighbors.points import cache_float32, prepare


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "points",
    [
        clusters(401, 41),
        clusters(300, 5) + 100,  # an offset of 100 times the spread
        clusters(300, 5).astype(np.float64) * 1e12,
        clusters(300, 5).astype(np.float64) * 1e-15,
        np.repeat(clusters(40, 7), 10, axis=0),
        clusters(500, 2).round(1) + 0.05,
        clusters(600, 30, n_clusters=6, spread=1e-5),  # expanded squares cannot tell these apart
    ],
    ids=["clusters", "offset", "huge", "tiny", "duplicates", "grid", "near-duplicates"],
)
def test_flat_equals_brute_force(points, metric):
    points.setflags(write=False)
    assert_exact(knn(points, 15, metric=metric, index="flat"), points, points)


def test_equals_scikit_learn():
    points = clusters(700, 12).astype(np.float64)
    distances, indices = NearestNeighbors(n_neighbors=11, algorithm="brute").fit(points).kneighbors()
    table = knn(points, 11)
    np.testing.assert_array_equal(table.indices, indices)
    np.testing.assert_allclose(table.distances, distances, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(3, 60),
    d=st.integers(1, 4),
    metric=st.sampled_from(METRICS),
    side=st.integers(1, 3),
    data=st.data(),
)
def test_ties_come_in_the_order_of_row_numbers(seed, n, d, metric, side, data):
    """Whole-numbered points are full of ties, and their squares and products exact."""
    points = np.random.default_rng(seed).integers(-side, side + 1, size=(n, d)).astype(np.float32)
    if metric == "cosine":
        points = np.where(points < 0, -1, 1).astype(np.float32)[:, :1]  # on a line, all products are exact
    k = data.draw(st.integers(1, n - 1))
    assert_exact(knn(points, k, metric=metric), points, points, ties=True)


def test_more_duplicates_than_neighbors():
    points = np.concatenate([np.full((300, 8), 0.1), clusters(100, 8)])
    table = knn(points, 5)
    assert_exact(table, points, points, ties=True)
    assert (table.distances[:300] == 0).all()
    np.testing.assert_array_equal(table.indices[299], np.arange(5))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_hardly_more_points_than_neighbors(k):
    points = clusters(4, 3)
    assert_exact(knn(points, k), points, points)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "i2", "i4", "u1", "?"])
@pytest.mark.parametrize("layout", ["plain", "fortran", "strided", "mapped"])
def test_any_type_and_layout(dtype, layout, tmp_path):
    points = (clusters(250, 6) * 20 + 60).astype(dtype) if dtype != "?" else clusters(250, 12) > 0
    if layout == "fortran":
        points = np.asfortranarray(points)
    elif layout == "strided":
        points = np.repeat(points, 3, axis=0)[::3]
    elif layout == "mapped":
        np.save(tmp_path / "x.npy", points)
        points = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_exact(knn(points, 9), points, points)


def test_torch_tensors_and_lists():
    torch = pytest.importorskip("torch")
    points = clusters(100, 4)
    plain = knn(points, 4)
    for other in (torch.tensor(points), torch.tensor(points, requires_grad=True), points.tolist()):
        np.testing.assert_array_equal(knn(other, 4).indices, plain.indices)


@pytest.mark.parametrize("metric", METRICS)
def test_blocks_of_any_size_give_the_same(metric):
    points = clusters(250, 16)
    prepared = prepare(points, metric)[0]
    whole = knn(points, 12, metric=metric)
    rows = np.arange(250)
    for block_bytes in (60_000, 200_000):
        for source in (prepared, cache_float32(prepared, 1 << 30)):
            plan = plan_of(source, 12, blocks=block_bytes)
            chunks = search_exact(plan, rows, exact_engine(plan))
            ids = np.concatenate([ids for _, _, ids in chunks])
            np.testing.assert_array_equal(ids, whole.indices)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 40, 399])
def test_neighbors_of_a_sample(metric, k):
    points = clusters(400, 9)
    rows = np.array([399, 0, 7, 250])
    table = knn_of(points, rows, k, metric=metric)
    np.testing.assert_array_equal(table.queries, rows)
    assert table.measured_recall == 1.0
    assert_exact(table, points[rows], points)


@pytest.mark.parametrize("metric", METRICS)
def test_neighbors_of_other_points(metric):
    points, others = clusters(400, 9) + 5, clusters(31, 9, 1) + 5
    others[3] = points[17]
    table = knn_between(others, points, 400 if metric == "euclidean" else 12, metric=metric)
    assert (table.queries == -1).all()
    assert_exact(table, others, points)
    if metric != "inner_product":
        assert table.indices[3, 0] == 17
        assert table.distances[3, 0] == 0


def test_progress_leaves_stdout_alone(capsys):
    knn(clusters(200, 4), 3, progress=True)
    assert capsys.readouterr().out == ""

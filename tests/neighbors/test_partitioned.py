"""Search of overlapping partitions: the table of an exact search but for what no partition holds together."""

import numpy as np
import pytest

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.neighbors import memory
from clorg_scale.neighbors.choice import Demand, choose_index
from clorg_scale.neighbors.merging import Found, MergedTable
from clorg_scale.neighbors.partitions import Assign, Members, choose_partitions, members_of
from clorg_scale.neighbors.points import Points, prepare


def mixture(n=6_000, d=12, seed=0):
    rng = np.random.default_rng(seed)
    return (2 * rng.standard_normal((40, d))[rng.integers(0, 40, n)] + rng.standard_normal((n, d))).astype(np.float32)


@pytest.fixture
def small_partitions(monkeypatch):
    monkeypatch.setattr(memory, "PARTITION_POINTS", 1_500)
    monkeypatch.setattr(memory, "LEAST_PARTITION", 400)


def found_share(table, exact):
    """Share of the true neighbors in a table, by distance: any of equally distant ones counts."""
    return float((table.distances <= exact.distances[:, -1:] * (1 + 1e-5)).mean())


@pytest.mark.parametrize(("metric", "dtype"), [("euclidean", np.float16), ("cosine", np.float32)])
def test_the_table_is_that_of_an_exact_search(small_partitions, tmp_path, metric, dtype):
    X = mixture().astype(dtype)
    X[100:140] = X[99]  # more duplicates than neighbors
    np.save(tmp_path / "X.npy", X)
    table = cs.knn(np.load(tmp_path / "X.npy", mmap_mode="r"), 10, index="partitioned", metric=metric)
    exact = cs.knn(X, 10, index="flat", metric=metric)
    n_partitions = int(table.index.split("partitions=")[1].split(",")[0])
    assert n_partitions >= 6
    assert found_share(table, exact) >= 0.985
    assert table.measured_recall == pytest.approx(found_share(table, exact), abs=0.01)
    same = table.indices == exact.indices
    assert same.mean() > 0.97
    np.testing.assert_array_equal(table.distances[same], exact.distances[same])
    assert (np.diff(table.distances, axis=1) >= 0).all()
    assert (table.indices != np.arange(len(X))[:, None]).all()
    assert (np.diff(np.sort(table.indices, axis=1), axis=1) > 0).all()
    again = cs.knn(X, 10, index="partitioned", metric=metric)
    np.testing.assert_array_equal(again.indices, table.indices)


def test_the_recall_is_known_from_the_partitions(small_partitions):
    """Partitions this small are searched exactly: what is missed are neighbors that share no partition."""
    X = mixture()
    points, exact = prepare(X, "euclidean")[0], cs.knn(X, 10, index="flat")
    rows = np.arange(0, len(X), 7)
    partitions = choose_partitions(points, 10, 1_500, (rows, exact.indices[rows]), wanted=0.9, seed=0)
    assert 0.9 <= partitions.recall < 1
    more = choose_partitions(points, 10, 1_500, (rows, exact.indices[rows]), wanted=0.999, seed=0)
    assert more.overlap > partitions.overlap
    of_points = Assign(points, partitions.centroids, partitions.overlap)(np.arange(len(X)))
    shared = [
        bool(set(of_points[row]) & set(of_points[other])) for row in rows for other in exact.indices[row].tolist()
    ]
    assert np.mean(shared) == pytest.approx(partitions.recall, abs=1e-12)
    assert np.bincount(of_points.ravel()).max() < 2 * 1_500


def test_few_points_are_one_partition():
    X = mixture(3_000)
    table = cs.knn(X, 5, index="partitioned")
    np.testing.assert_array_equal(table.indices, cs.knn(X, 5, index="flat").indices)
    assert table.index == "partitioned(partitions=1, overlap=1)"


def test_points_that_are_all_the_same_but_few(monkeypatch):
    monkeypatch.setattr(memory, "PARTITION_POINTS", 200)
    monkeypatch.setattr(memory, "LEAST_PARTITION", 100)
    X = np.zeros((600, 3), np.float32)
    X[:50] = np.random.default_rng(0).standard_normal((50, 3))
    table = cs.knn(X, 3, index="partitioned")
    assert (table.distances[50:] == 0).all()
    assert found_share(table, cs.knn(X, 3, index="flat")) > 0.99


def test_a_poor_recall_warns(small_partitions, monkeypatch):
    """Uniform in many dimensions: there are no clusters, and neighbors are everywhere."""
    from clorg_scale.neighbors import partitions

    monkeypatch.setattr(partitions, "MOST_OVERLAP", 1)
    X = np.random.default_rng(0).random((5_000, 60), np.float32)
    with pytest.warns(UserWarning, match=r"partitioned\(.*overlap=1\) found only"):
        table = cs.knn(X, 10, index="partitioned")
    assert table.measured_recall < 0.9


def test_inner_products_are_refused():
    with pytest.raises(InputError, match="index='partitioned' searches groups of near points"):
        cs.knn(mixture(100), 5, metric="inner_product", index="partitioned")


@pytest.mark.parametrize(
    ("n", "limit", "worker_memory", "chosen"),
    [
        (10_000_000, "6GB", None, "partitioned"),
        (10_000_000, "8GB", None, "ivf"),
        (10_000_000, "40GB", None, "ivf"),
        (10_000_000, "40GB", 2_000_000_000, "partitioned"),
        (1_000_000, "8GB", None, "ivf"),
        (1_000_000, "0.5GB", None, "partitioned"),
        (10_000_000, "1.6GB", None, "flat"),
        (4_000, "1GB", None, "flat"),
    ],
)
def test_the_rule(n, limit, worker_memory, chosen):
    """10^7 x 64 in half precision within 6 GB, and on workers of 4 GB."""
    embeddings = np.broadcast_to(np.float16(0), (n, 64))
    points = Points(embeddings, "euclidean", np.zeros(64), 1.0, np.broadcast_to(0.0, n))
    name, budget = choose_index(Demand(points, 15, n, "cpu", limit, worker_memory), "auto", "cpu", None)
    assert name == chosen
    if name == "partitioned":
        room = budget.blocks + budget.spare
        most = memory.largest_partition(64, 15, 2, room=room)
        whole = memory.index_bytes("partitioned", n, 64, 15) - memory.partition_bytes(4096, 64, 15, 8)
        assert whole + memory.partition_bytes(most, 64, 15, 2) <= float(limit[:-2]) * 1e9


def test_merging_keeps_the_nearest_of_both_once():
    rng = np.random.default_rng(0)
    n, k = 60, 5
    distances = np.round(rng.random((n, n)), 1).astype(np.float32)  # many ties
    table = MergedTable(np.empty((n, k), np.int32), np.empty((n, k), np.float32))
    seen = [np.flatnonzero(rng.random(n) < 0.4) for _ in range(4)]
    for members in seen:
        own = distances[:, members]
        order = np.lexsort((np.broadcast_to(members, own.shape), own), axis=1)[:, :k]
        table.merge(Found(np.arange(n), members[order], np.take_along_axis(own, order, axis=1)))
    every = np.unique(np.concatenate(seen))
    order = np.lexsort((np.broadcast_to(every, (n, len(every))), distances[:, every]), axis=1)[:, :k]
    np.testing.assert_array_equal(table.indices, every[order])
    np.testing.assert_array_equal(table.distances, np.take_along_axis(distances[:, every], order, axis=1))


def test_pairs_whose_distance_was_rounded_differently_count_once():
    table = MergedTable(np.empty((1, 3), np.int32), np.empty((1, 3), np.float32))
    one = np.float32(1)
    table.merge(Found(np.array([0]), np.array([[4, 7, 9]]), np.array([[one, 2, 3]], np.float32)))
    table.merge(Found(np.array([0]), np.array([[4, 8, 9]]), np.array([[np.nextafter(one, 2), 2.5, 3]], np.float32)))
    assert table.indices.tolist() == [[4, 7, 8]]


def test_partitions_with_too_few_members_are_named():
    of_points = np.array([[0, 1], [0, 1], [1, 2], [0, 1]], np.int32)
    np.testing.assert_array_equal(members_of(of_points, 4, least=2), [2, 3])
    members = members_of(of_points, 3, least=1)
    assert isinstance(members, Members)
    assert [members.of(number).tolist() for number in range(3)] == [[0, 1, 3], [0, 1, 2, 3], [2]]

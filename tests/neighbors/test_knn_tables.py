"""Tables: their recall, their files, tables of other programs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from brute_force import assert_exact, clusters
from sklearn.neighbors import NearestNeighbors

from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN, knn, knn_between, knn_of


def test_recall_is_aware_of_ties():
    points = np.repeat(clusters(50, 3), 20, axis=0)
    table = knn(points, 5)
    swapped = np.array([[j for j in range(20 * (i // 20), 20 * (i // 20) + 20) if j != i][-5:] for i in range(1000)])
    assert (swapped != table.indices).any()
    other = KNN(swapped.astype(np.int32), table.distances, "euclidean", "other", 1000)
    assert other.recall(points) == 1.0
    wrong = KNN(((table.indices + 500) % 1000).astype(np.int32), table.distances, "euclidean", "wrong", 1000)
    assert wrong.recall(points) == 0.0


@pytest.mark.parametrize("sampled", [False, True])
def test_saved_and_loaded(tmp_path, sampled):
    points = clusters(80, 4)
    table = knn_of(points, [5, 7, 3], 6) if sampled else knn(points, 6, metric="cosine")
    table.save(tmp_path / "table.npz")
    again = KNN.load(tmp_path / "table.npz")
    np.testing.assert_array_equal(again.indices, table.indices)
    np.testing.assert_array_equal(again.distances, table.distances)
    assert (again.metric, again.index, again.n_points) == (table.metric, table.index, table.n_points)
    assert again.measured_recall == 1.0
    assert (again.queries is None) == (table.queries is None)
    assert again.recall(points) == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["table.npz"]


def test_files_that_are_no_tables(tmp_path):
    path = tmp_path / "table.npz"
    with pytest.raises(InputError, match="There is no k-NN table"):
        KNN.load(path)
    table = knn(clusters(80, 4), 6)
    table.save(path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-10]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a k-NN table"):
            KNN.load(path)
    np.savez(path, a=np.arange(3))
    with pytest.raises(InputError, match="not a k-NN table of clorg-scale"):
        KNN.load(path)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="not a k-NN table"):
        KNN.load(path)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("indices", lambda a: a + 70, "outside 0 .. 79"),
        ("indices", lambda a: a.astype(np.int64), "indices of int64"),
        ("indices", lambda a: a[:-1], "different shapes"),
        ("distances", lambda a: a[:, ::-1], "not ascending"),
        ("distances", lambda a: a * np.nan, "not ascending"),
        ("n_points", lambda a: a + 1, "81 points"),
        ("metric", lambda a: "far", "metric must be one of"),
    ],
)
def test_tables_that_contradict_themselves(tmp_path, name, change, sentence):
    path = tmp_path / "table.npz"
    knn(clusters(80, 4), 6).save(path)
    with np.load(path) as data:
        stored = dict(data)
    stored[name] = change(stored[name])
    np.savez(path, **stored)
    with pytest.raises(InputError, match=sentence):
        KNN.load(path)


def test_a_table_with_the_points_themselves_in_front():
    points = clusters(200, 6).astype(np.float64)
    distances, indices = NearestNeighbors(n_neighbors=8, algorithm="brute").fit(points).kneighbors(points)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = KNN.from_arrays(indices, distances, metric="euclidean")
    assert table.k == 7
    assert_exact(table, points, points)
    assert table.recall(points) == 1.0
    assert table.measured_recall is None


def test_a_dirty_table_is_cleaned_with_a_warning():
    indices = np.array([[1, 0, 2, 3], [0, 2, 2, 3], [3, 1, -1, 0], [1, 2, 0, 7]])
    distances = np.array([[2, 0, 1, 3], [1, 2, 2, 3], [1, 2, 0, np.inf], [4, 3, 2, 1]], dtype=np.float64)
    with pytest.warns(
        UserWarning,
        match="1 points listed as their own.*2 missing.*1 infinite.*1 neighbors listed twice; 2 of 4",
    ):
        table = KNN.from_arrays(indices, distances, metric="euclidean")
    np.testing.assert_array_equal(table.indices, [[2, 1], [0, 2], [3, 1], [0, 2]])
    np.testing.assert_array_equal(table.distances, [[1, 2], [1, 2], [1, 2], [2, 3]])


@pytest.mark.parametrize(
    ("indices", "distances", "options", "sentence"),
    [
        (np.zeros((3, 2), int), np.zeros((3, 1)), {}, "one shape"),
        (np.zeros((3, 2)), np.zeros((3, 2)), {}, "must be integers"),
        (np.array([[1], [1], [0]]), np.ones((3, 1)), {}, "without any valid neighbor"),
        (np.array([[1], [2], [0]]), -np.ones((3, 1)), {}, "negative distances"),
        (np.array([[1], [2], [0]]), np.ones((3, 1)), {"n_points": 9}, "3 rows, but 9 points"),
        (np.array([[1], [2], [0]]), np.ones((3, 1)), {"queries": [0, 1, 2]}, "needs n_points"),
    ],
)
def test_tables_that_are_refused(indices, distances, options, sentence):
    with pytest.raises(InputError, match=sentence):
        KNN.from_arrays(indices, distances, metric="euclidean", **options)


def test_wrong_shapes_are_refused():
    ids, far = np.zeros((5, 2), np.int32), np.zeros((5, 2), np.float32)
    for arguments in [(ids, far[:4], 5), (ids, far, 6), (ids[:, :0], far[:, :0], 5), (ids[0], far[0], 2)]:
        with pytest.raises(InputError, match="k-NN table"):
            KNN(arguments[0], arguments[1], "euclidean", "flat", arguments[2])


def test_recall_of_other_embeddings():
    table = knn(clusters(60, 4), 3)
    with pytest.raises(InputError, match="made from 60 embeddings, not from these 61"):
        table.recall(clusters(61, 4))
    with pytest.raises(InputError, match="not measured"):
        knn_between(clusters(5, 4), clusters(60, 4), 3).recall(clusters(60, 4))

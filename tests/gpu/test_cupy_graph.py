"""Affinity graphs and measures of CuPy arrays: NumPy stands in for CuPy here, on a GPU it is the real one."""

from __future__ import annotations

import numpy as np
import pytest
from gpu_data import assert_same_graph, tables
from serial_cupy import host

from clorg_scale.affinity import AffinityGraph, affinity_graph
from clorg_scale.affinity.symmetrize import row_numbers, undirected_edges
from clorg_scale.communities import class_weights, modularity
from clorg_scale.errors import InputError
from clorg_scale.measures import class_homogeneity, class_homogeneity_stderr
from clorg_scale.neighbors import KNN


@pytest.mark.parametrize("symmetrize", ["max", "mean", "mutual"])
@pytest.mark.parametrize("weighting", ["rld", "laplacian", "gaussian", "binary"])
def test_affinity_graph(cupy, weighting, symmetrize):
    table, on_device, _ = tables(cupy)
    options = {"weighting": weighting, "symmetrize": symmetrize, "temperature": 0.05}
    ours, theirs = affinity_graph(on_device, **options), affinity_graph(table, **options)
    assert type(ours.weights).__module__.startswith("cupy")
    assert_same_graph(ours, theirs)


@pytest.mark.parametrize("weighting", ["cosine", "rld", "binary"])
def test_affinity_graph_of_other_metrics(cupy, weighting):
    metric = "inner_product" if weighting == "binary" else "cosine"
    table, on_device, _ = tables(cupy, metric)
    assert_same_graph(affinity_graph(on_device, weighting=weighting), affinity_graph(table, weighting=weighting))


def test_affinity_graph_without_a_sort_of_all_edges(cupy, monkeypatch):
    """The kernels make it: sorting all pairs is what they are there to spare."""
    _, on_device, _ = tables(cupy)

    def refuse(*_, **__):
        raise AssertionError("sorted")

    for name in ("argsort", "sort", "lexsort"):
        monkeypatch.setattr(cupy, name, refuse, raising=False)
    assert affinity_graph(on_device).n_edges > 0


def test_an_int64_table_gives_the_graph_of_an_int32_table(cupy):
    table, on_device, _ = tables(cupy)
    wide = KNN(on_device.indices.astype(np.int64), on_device.distances, "euclidean", "flat", table.n_points)
    narrow = KNN(table.indices, table.distances, "euclidean", "flat", table.n_points)
    assert_same_graph(affinity_graph(wide), affinity_graph(narrow))


def test_a_neighbor_that_is_no_point_is_refused(cupy):
    """A kernel would read beyond its arrays."""
    indices = cupy.asarray(np.array([[1], [2], [3]], np.int32))
    table = KNN(indices, cupy.asarray(np.ones((3, 1), np.float32)), "euclidean", "mine", 3)
    with pytest.raises(InputError, match="neighbor 3, but there are only 3 points"):
        affinity_graph(table)
    with pytest.raises(InputError, match="neighbor 3, but there are only 3 points"):
        class_homogeneity(table, [0, 0, 1])


def test_the_caller_keeps_its_table(cupy):
    """Rows are sorted in copies."""
    table, on_device, _ = tables(cupy)
    affinity_graph(on_device, symmetrize="mean")
    np.testing.assert_array_equal(on_device.indices.get(), table.indices)
    np.testing.assert_array_equal(on_device.distances.get(), table.distances)


def test_tables_from_elsewhere_are_cleaned_alike(cupy):
    table, _, codes = tables(cupy)
    indices, distances = np.array(table.indices, np.int64), np.array(table.distances)
    indices[3, 2], indices[5, 1], distances[7, 0] = 3, indices[5, 0], np.inf
    with pytest.warns(UserWarning, match="Dropped"):
        theirs = KNN.from_arrays(indices, distances, metric="euclidean")
    with pytest.warns(UserWarning, match="Dropped"):
        ours = KNN.from_arrays(cupy.asarray(indices), cupy.asarray(distances), metric="euclidean")
    np.testing.assert_array_equal(ours.indices.get(), theirs.indices)
    assert_same_graph(affinity_graph(ours), affinity_graph(theirs))
    assert class_homogeneity(ours, codes) == class_homogeneity(theirs, codes)


def test_graph_arithmetic(cupy):
    table, on_device, codes = tables(cupy)
    ours, theirs = affinity_graph(on_device), affinity_graph(table)
    np.testing.assert_array_equal(row_numbers(ours.indptr).get(), theirs.rows())
    np.testing.assert_allclose(ours.degrees.get(), theirs.degrees, rtol=1e-6)
    assert_same_graph(ours.subgraph(codes >= 0), theirs.subgraph(codes >= 0))
    assert ours.n_components() == theirs.n_components()
    with_gaps = cupy.asarray(np.array([0, 0, 2, 2, 5, 5], np.int32))
    np.testing.assert_array_equal(row_numbers(with_gaps).get(), [1, 1, 3, 3, 3])


def test_modularity_of_labels(cupy):
    table, on_device, codes = tables(cupy)
    ours, theirs = affinity_graph(on_device), affinity_graph(table)
    for labels in (codes, cupy.asarray(codes), np.where(codes < 0, 7, codes), [f"class {c}" for c in codes]):
        plain = labels.get() if hasattr(labels, "get") else labels
        assert modularity(ours, labels) == pytest.approx(modularity(theirs, plain), abs=1e-7)
    sums, expected = (class_weights(graph, codes, 5) for graph in (ours, theirs))
    np.testing.assert_allclose(sums.within.get(), expected.within, rtol=1e-6)
    np.testing.assert_allclose(sums.degrees.get(), expected.degrees, rtol=1e-6)
    assert sums.total == pytest.approx(expected.total, rel=1e-6)
    assert modularity(theirs, cupy.asarray(codes)) == pytest.approx(modularity(theirs, codes), abs=1e-15)
    empty = AffinityGraph(cupy.zeros(4, np.int32), cupy.zeros(0, np.int32), cupy.zeros(0, np.float32))
    with pytest.raises(InputError, match="no edges"):
        modularity(empty, [0, 1, 1])


def test_class_homogeneity(cupy):
    table, on_device, codes = tables(cupy)
    for ks in (None, [1, 4, 9]):
        assert class_homogeneity(on_device, codes, ks=ks) == class_homogeneity(table, codes, ks=ks)
    rows = np.arange(0, 400, 3)
    parts = [
        KNN(t.indices[rows], t.distances[rows], "euclidean", "flat", 400, queries=q)
        for t, q in ((table, rows), (on_device, cupy.asarray(rows)))
    ]
    assert class_homogeneity(parts[1], codes) == class_homogeneity(parts[0], codes)
    assert class_homogeneity_stderr(parts[1], codes) == class_homogeneity_stderr(parts[0], codes)
    with pytest.raises(InputError, match="No point of the k-NN table has a label"):
        class_homogeneity(parts[1], np.where(np.arange(400) % 3 == 0, -1, np.arange(400) % 3))


def test_edges_of_both_kinds_hold_the_same_pairs(cupy):
    table, on_device, _ = tables(cupy)
    for rule in ("max", "mean", "mutual"):
        ours, theirs = undirected_edges(on_device, rule), undirected_edges(table, rule)
        for name in ("indptr", "indices", "distances"):
            np.testing.assert_array_equal(host(getattr(ours, name)), getattr(theirs, name), err_msg=name)
        assert (ours.in_both is None) == (theirs.in_both is None) == (rule != "mean")
        if rule == "mean":
            np.testing.assert_array_equal(host(ours.in_both), theirs.in_both)


def test_labels_of_cudf_stay_on_the_device(cupy):
    """A column is read through its CuPy array: cuDF's own refuse to be NumPy's."""
    table, on_device, codes = tables(cupy)

    class Series:
        __module__ = "cudf.core.series"
        ndim, iloc, dtype = 1, None, np.dtype(np.int64)
        values = cupy.asarray(codes)

        def isna(self):
            return np.zeros(1, bool)

        def __len__(self):
            return len(codes)

        def __array__(self, *_, **__):
            raise TypeError("Implicit conversion to a host NumPy array via __array__ is not allowed")

    graph = affinity_graph(on_device)
    assert modularity(graph, Series()) == pytest.approx(modularity(affinity_graph(table), codes), abs=1e-12)
    assert class_homogeneity(on_device, Series()) == pytest.approx(class_homogeneity(table, codes))

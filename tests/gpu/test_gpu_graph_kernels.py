"""The graph kernels in both index widths, against SciPy and the CPU's sampler."""

import numpy as np
import pytest
import scipy.sparse as sp
from clorg_scale.kernels import graph

from clorg_scale.probes import sampler

K, CLASSES = 15, 50


@pytest.fixture(params=[np.int32, np.int64], ids=["int32", "int64"])
def index(request):
    return request.param


@pytest.fixture
def table(is_stand_in):
    """Distinct neighbors of every point, some of them missing, and random weights; fewer points on the stand-in."""
    rng = np.random.default_rng(2)
    n = 2_000 if is_stand_in else 20_000
    step = n // 64
    indices = np.argpartition(rng.random((n, 64)), K, axis=1)[:, :K] * step + rng.integers(0, step, (n, K))
    indices[indices == np.arange(n)[:, None]] = -1
    return indices, rng.random((n, K)).astype(np.float32)


@pytest.fixture
def codes(table):
    return np.random.default_rng(3).integers(-1, CLASSES, len(table[0])).astype(np.int32)


@pytest.fixture
def W(table):
    """The weights as a sparse matrix, each row those of a point's neighbors."""
    indices, weights = table
    rows, listed = np.repeat(np.arange(len(indices)), K), indices.ravel() >= 0
    return sp.csr_matrix((weights.ravel()[listed], (rows[listed], indices.ravel()[listed])), shape=(len(indices),) * 2)


def symmetrize(cupy, table, index, rule="max"):
    indices, weights = table
    return graph.symmetrize(cupy.asarray(indices.astype(index)), cupy.asarray(weights), rule)


@pytest.mark.parametrize("rule", ["max", "mean", "mutual"])
def test_symmetrize(cupy, table, W, index, rule):
    rules = {"max": W.maximum(W.T), "mean": (W + W.T) * np.float32(0.5), "mutual": W.minimum(W.T)}
    expected = rules[rule].tocsr()
    expected.sort_indices()
    indptr, indices, values = (array.get() for array in symmetrize(cupy, table, index, rule))
    assert indices.dtype == index
    np.testing.assert_array_equal(indptr, expected.indptr)
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(values, expected.data)


def test_label_sums(cupy, table, W, codes, index, within):
    own, total, two_m = graph.label_sums(*symmetrize(cupy, table, index), cupy.asarray(codes), CLASSES)
    A = W.maximum(W.T).astype(np.float64).tocsr()
    labeled = np.flatnonzero(codes >= 0)
    ones = np.ones(len(labeled))
    members = sp.csr_matrix((ones, (codes[labeled], labeled)), shape=(CLASSES, len(codes)))
    error_within = abs(own.get() - (members @ A @ members.T).diagonal()).max() / two_m
    error_of_all = abs(total.get() - members @ A.sum(1).A1).max() / two_m
    within(f"label sums {np.dtype(index).name}", max(error_within, error_of_all), 1e-12)


def test_class_matches(cupy, table, codes, index):
    indices, ks = table[0], [1, 5, 15]
    owners = cupy.arange(len(indices))
    matches = graph.class_matches(cupy.asarray(indices.astype(index)), owners, cupy.asarray(codes), ks).get()
    mates = (codes[indices] == codes[:, None]) & (indices >= 0)
    expected = np.where(codes[:, None] < 0, -1, np.stack([mates[:, :k].sum(1) for k in ks], 1))
    np.testing.assert_array_equal(matches, expected)


def test_sampled_neighbors(cupy, table, index, within):
    indptr, indices, values = symmetrize(cupy, table, index)
    inclusion = graph.inclusion_scale(indptr, values, 10)
    targets = np.random.default_rng(4).permutation(len(table[0]))[: len(table[0]) // 4].astype(np.int64)
    starts, nodes, kept = graph.sample_rows(indptr, indices, values, inclusion, cupy.asarray(targets), seed=7)
    expected_nodes, expected_kept = np.empty(len(nodes), index), np.empty(len(nodes), np.float32)
    csr = sampler.Rows(indptr.get(), indices.get(), values.get())
    sample = sampler.Rows(starts.get(), expected_nodes, expected_kept)
    sampler._sample_rows(csr, inclusion[0].get(), targets, np.uint64(7), sample)
    np.testing.assert_array_equal(nodes.get(), expected_nodes)
    within(f"sampled values {np.dtype(index).name}", abs(kept.get() - expected_kept).max(), 1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("inner_product", "own"), [(False, False), (False, True), (True, False)])
def test_pair_keys(cupy, dtype, inner_product, own):
    """Factors of each point or of all, a width that no warp divides; equal points are 0 apart, absent ones infinity."""
    rng = np.random.default_rng(4)
    x, y = (rng.normal(size=(n, 67)).astype(dtype) for n in (50, 80))
    y[3] = x[7]
    a, b = (rng.random(len(some)) + 0.1 if own else np.full(1, 0.3) for some in (x, y))
    b[3 if own else 0] = a[7 if own else 0]
    rows, ids = np.array([7, 0, 49]), rng.integers(0, 80, (3, 9))
    ids[0, 4], ids[2, 8] = 3, -1
    u, v = (x * a[:, None].astype(np.float64))[rows][:, None], (y * b[:, None].astype(np.float64))[ids]
    expected = -(u * v).sum(2) if inner_product else ((u - v) ** 2).sum(2)
    expected[2, 8] = np.inf
    arrays = map(cupy.asarray, (x, y, a, b, rows, ids))
    queries, points, a, b, rows, ids = arrays
    found = graph.pair_keys(queries, points, (a, b), rows, ids, inner_product=inner_product).get()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
    assert inner_product or found[0, 4] == 0
    with pytest.raises(ValueError, match="only 80 points"):
        graph.pair_keys(queries, points, (a, b), rows, ids + 80, inner_product=inner_product)

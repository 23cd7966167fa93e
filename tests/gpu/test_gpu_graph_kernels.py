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

"""Points, tables and comparisons for the tests of GPU code."""

import sys

import numpy as np
from serial_cupy import host

from clorg_scale.neighbors import KNN, knn

TEMPERATURES = np.array([1.0, 0.5, 0.2, 0.1, 0.05])


def clustered(n, d, *, spread=1.0, seed=0):
    """Points of ten classes far from the origin, where rounding shows most, and their codes.

    Some points have no class, one pair is identical, one nearly.
    """
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 10, n)
    X = 5 + rng.normal(size=(11, d))[codes + 1] + spread * rng.normal(size=(n, d))
    X[1], X[3] = X[0], X[2] + 1e-4
    return X.astype(np.float32), codes.astype(np.int64)


def points(n=400, d=6, seed=0):
    """Points of five classes, some unlabelled, two identical; float32, as the distances of a table are made from."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 5, n)
    X = 3 * rng.normal(size=(6, d))[codes + 1] + rng.normal(size=(n, d))
    X[1] = X[0]
    return X.astype(np.float32), codes


def tables(cupy, metric="euclidean", k=9):
    """One table for NumPy and for CuPy, with the labels of its points."""
    X, codes = points()
    table = knn(X, k, metric=metric, index="flat", device="cpu")
    on_device = KNN(
        cupy.asarray(table.indices),
        cupy.asarray(table.distances),
        metric,
        table.index,
        table.n_points,
        mean_distance=table.mean_distance,
    )
    return table, on_device, codes


def assert_same_graph(ours, theirs):
    """Structure bit for bit, weights to float32 rounding, and symmetric to the bit."""
    for name in ("indptr", "indices"):
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
        np.testing.assert_array_equal(host(getattr(ours, name)), getattr(theirs, name))
    assert ours.weights.dtype == np.float32
    np.testing.assert_allclose(host(ours.weights), theirs.weights, rtol=3e-7)
    A = ours.to_scipy()
    assert (A != A.T).nnz == 0


def brute_force(queries, block, k, inner_product):
    """An engine for the search: float32 products, as a GPU's."""
    module = np if isinstance(queries, np.ndarray) else sys.modules["cupy"]
    x, y = host(queries), host(block)
    keys = -(x @ y.T) if inner_product else (x * x).sum(1)[:, None] - 2 * x @ y.T + (y * y).sum(1)
    ids = np.argpartition(keys, k - 1, axis=1)[:, :k] if k < keys.shape[1] else np.tile(np.arange(k), (len(x), 1))
    return module.asarray(np.take_along_axis(keys, ids, 1)), module.asarray(ids)

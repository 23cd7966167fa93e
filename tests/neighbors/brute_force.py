"""Neighbors by brute force in float64, and data to search."""

from __future__ import annotations

import numpy as np

from clorg_scale.neighbors import KNN
from clorg_scale.neighbors.memory import Budget
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import Points

METRICS = ("euclidean", "cosine", "inner_product")


def plan_of(points: Points, k: int, *, blocks: int = 1 << 20, **options: object) -> SearchPlan:
    """A search of all prepared points."""
    return SearchPlan(points, k, **{"device": "cpu", "budget": Budget(blocks, 1 << 30), **options})


def pairwise(queries: np.ndarray, points: np.ndarray, metric: str) -> np.ndarray:
    """(q, n) float64, differences taken before squaring."""
    x, y = queries.astype(np.float64), points.astype(np.float64)
    if metric == "inner_product":
        return -np.array([[np.dot(a, b) for b in y] for a in x]) if len(x) < 30 else -(x @ y.T)
    if metric == "cosine":
        x, y = x / np.linalg.norm(x, axis=1)[:, None], y / np.linalg.norm(y, axis=1)[:, None]
    squares = np.stack([((a - y) ** 2).sum(axis=1) for a in x])
    return squares / 2 if metric == "cosine" else np.sqrt(squares)


def assert_exact(table: KNN, queries: np.ndarray, points: np.ndarray, *, ties: bool = False) -> None:
    """The table holds k true nearest neighbors of each row with their distances.

    With `ties`, distances of the exact arithmetic are expected, so equal ones must come in the order of ids.
    """
    truth = pairwise(queries, points, table.metric)
    owners = np.arange(table.n_points) if table.queries is None else table.queries
    own = owners >= 0
    truth[np.flatnonzero(own), owners[own]] = np.inf
    order = np.argsort(truth, axis=1, kind="stable")[:, : table.k]
    expected = np.take_along_axis(truth, order, axis=1)
    scale = np.abs(expected).max()
    found = np.take_along_axis(truth, table.indices.astype(np.int64), axis=1)
    np.testing.assert_allclose(table.distances, found, rtol=2e-7, atol=1e-9 * scale)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * scale)
    if ties:
        np.testing.assert_array_equal(table.indices, order)
    assert_clean(table)


def assert_clean(table: KNN) -> None:
    owners = np.arange(table.n_points) if table.queries is None else table.queries
    assert table.indices.dtype == np.int32
    assert table.distances.dtype == np.float32
    assert not (table.indices == owners[:, None]).any()
    assert table.indices.min() >= 0
    assert table.indices.max() < table.n_points
    ranked = np.sort(table.indices, axis=1)
    assert (ranked[:, 1:] != ranked[:, :-1]).all()
    assert np.isfinite(table.distances).all()
    assert (np.diff(table.distances, axis=1) >= 0).all()


def clusters(n: int, d: int, seed: int = 0, *, n_clusters: int = 20, spread: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_clusters, d))
    return (centers[rng.integers(n_clusters, size=n)] + spread * rng.normal(size=(n, d))).astype(np.float32)

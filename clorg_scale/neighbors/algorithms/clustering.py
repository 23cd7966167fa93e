"""k-means for the lists of an inverted file."""

from __future__ import annotations

import math

import numpy as np

from clorg_scale.arrays import Array, array_module, row_slices
from clorg_scale.neighbors.exact import PairSearch

__all__ = ["are_far_apart", "cluster", "n_training_points", "search_precisely"]

ITERATIONS = 10
TRAINING_POINTS_PER_LIST = 64

FAR = 1e4
"""Largest squared length, in units of the squared distance to the nearest centroid, from which on the rounding of
squares expanded in float32 (1e-6 of the squared lengths, at sums of some length) is no longer small beside it."""

CHECKED = 2048
"""Points that are checked for it."""


def n_training_points(n: int) -> int:
    """Number of points, of n, that suffice to find the centroids."""
    return min(n, TRAINING_POINTS_PER_LIST * _n_lists(n))


def cluster(coordinates: Array, seed: int, search_block: PairSearch, *, n_points: int | None = None) -> Array:
    """Lloyd's algorithm on a sample; a list that loses all its points takes over a random point.

    Where groups of points are so far apart that float32 cannot tell the centroids within a group apart
    (`are_far_apart`), points are assigned in float64.

    Parameters
    ----------
    coordinates
        (m, p) float32 points, all or a random sample.
    seed
        Seed of the sample and the first centroids.
    search_block
        Exact search of two blocks.
    n_points
        Number of points that `coordinates` are a sample of; default m.

    Returns
    -------
    (n_lists, p) float32 centroids, about sqrt(n).
    """
    xp = array_module(coordinates)
    n = len(coordinates) if n_points is None else n_points
    rng, n_lists, size = np.random.default_rng(seed), _n_lists(n), n_training_points(n)
    sample = coordinates
    if size < len(coordinates):
        sample = coordinates[xp.asarray(np.sort(rng.choice(len(coordinates), size=size, replace=False)))]
    first = sample[xp.asarray(rng.choice(size, size=n_lists, replace=False))]
    centroids = _lloyd(sample, first.copy(), search_block, rng)
    return _lloyd(sample, first, search_precisely, rng) if are_far_apart(sample, centroids) else centroids


def are_far_apart(coordinates: Array, centroids: Array) -> bool:
    """Whether the points are so far from their mean that float32 cannot tell which centroid is nearest."""
    xp = array_module(coordinates)
    some = coordinates[:: max(1, len(coordinates) // CHECKED)]
    nearest = search_precisely(some, centroids, 1, False)[0][:, 0]
    lengths = xp.einsum("ij,ij->i", some, some, dtype=np.float64)
    return bool(lengths.max() > FAR * xp.median(nearest))


def search_precisely(queries: Array, points: Array, k: int, inner_product: bool) -> tuple[Array, Array]:  # noqa: FBT001
    """Find the k best of `points` for each of `queries` in float64 (see `neighbors.exact.PairSearch`)."""
    xp = array_module(queries)
    found = xp.empty((len(queries), k), dtype=np.float64), xp.empty((len(queries), k), dtype=np.int64)
    Y = points.astype(np.float64)
    norms = xp.einsum("ij,ij->i", Y, Y)
    for rows in row_slices(len(queries), len(Y) + Y.shape[1], itemsize=24):
        X = queries[rows].astype(np.float64)
        keys = -(X @ Y.T) if inner_product else xp.einsum("ij,ij->i", X, X)[:, None] + norms - 2 * (X @ Y.T)
        ids = xp.argpartition(keys, k - 1, axis=1)[:, :k] if k < len(Y) else xp.tile(xp.arange(k), (len(X), 1))
        best = xp.take_along_axis(keys, ids, axis=1)
        order = xp.argsort(best, axis=1)
        for into, values in zip(found, (best, ids), strict=True):
            into[rows] = xp.take_along_axis(values, order, axis=1)
    return found


def _lloyd(sample: Array, centroids: Array, search_block: PairSearch, rng: np.random.Generator) -> Array:
    """Assign points and move centroids, in place, a few times."""
    xp, n_lists, size = array_module(sample), len(centroids), len(sample)
    for _ in range(ITERATIONS):
        nearest = search_block(sample, centroids, 1, False)[1][:, 0]
        order = xp.argsort(nearest, kind="stable")
        starts = xp.searchsorted(nearest[order], xp.arange(n_lists + 1))
        for number in range(n_lists):
            members = order[int(starts[number]) : int(starts[number + 1])]
            centroids[number] = sample[members].mean(axis=0) if len(members) else sample[int(rng.integers(size))]
    return centroids


def _n_lists(n: int) -> int:
    return max(1, min(round(math.sqrt(n)), n // 39))

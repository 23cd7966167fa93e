"""k-means for the lists of an inverted file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module, on_host, row_slices
from clorg_scale.neighbors.within_rows import smallest_columns

__all__ = ["are_far_apart", "cluster", "difference_index", "n_training_points", "search_precisely"]

ITERATIONS = 10
TRAINING_POINTS_PER_LIST = 64

FAR = 1e4
"""Largest squared length, in units of the squared distance to the nearest centroid, from which on the rounding of
squares expanded in float32 (1e-6 of the squared lengths, at sums of some length) is no longer small beside it."""

CHECKED = 2048
"""Points that are checked for it."""


def n_training_points(n: int, finer: int = 1) -> int:
    """Number of points, of n, that suffice to find the centroids (`cluster`)."""
    return min(n, TRAINING_POINTS_PER_LIST * _n_lists(n, finer))


def cluster(coordinates: Array, seed: int, *, n_points: int | None = None, finer: int = 1) -> Array:
    """Run FAISS's k-means on a sample.

    Where groups of points are so far apart that float32 cannot tell the centroids within a group apart
    (`are_far_apart`), points are assigned by differences.

    Parameters
    ----------
    coordinates
        (m, p) float32 points, all or a random sample.
    seed
        Seed of the sample and the first centroids.
    n_points
        Number of points that `coordinates` are a sample of; default m.
    finer
        Factor of the number of lists.

    Returns
    -------
    (n_lists, p) float32 centroids, about sqrt(n) times `finer`.
    """
    xp = array_module(coordinates)
    n_lists = _n_lists(len(coordinates) if n_points is None else n_points, finer)
    sample = np.ascontiguousarray(on_host(coordinates), dtype=np.float32)
    centroids = _kmeans(sample, n_lists, seed, by_differences=False)
    if are_far_apart(sample, centroids):
        centroids = _kmeans(sample, n_lists, seed, by_differences=True)
    return xp.asarray(centroids)


def difference_index(d: int) -> Any:
    """An empty FAISS index that takes distances from differences, not from expanded squares: one list, scanned."""
    import faiss

    quantizer = faiss.IndexFlatL2(d)
    quantizer.add(np.zeros((1, d), dtype=np.float32))
    index = faiss.IndexIVFFlat(quantizer, d, 1)
    index.is_trained = True
    return index


def _kmeans(sample: npt.NDArray[np.float32], n_lists: int, seed: int, *, by_differences: bool) -> Array:
    import faiss

    kmeans = faiss.Kmeans(
        sample.shape[1],
        n_lists,
        niter=ITERATIONS,
        seed=seed % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=TRAINING_POINTS_PER_LIST,
    )
    if by_differences:
        kmeans.index = difference_index(sample.shape[1])
    kmeans.train(sample)
    return kmeans.centroids


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
        ids = smallest_columns(keys, k) if k < len(Y) else xp.tile(xp.arange(k), (len(X), 1))
        best = xp.take_along_axis(keys, ids, axis=1)
        order = xp.argsort(best, axis=1)
        for into, values in zip(found, (best, ids), strict=True):
            into[rows] = xp.take_along_axis(values, order, axis=1)
    return found


def _n_lists(n: int, finer: int) -> int:
    return max(1, min(round(finer * math.sqrt(n)), n // 39))

"""Partitions of points that lie near each other, small enough to be searched alone.

k-means on a sample gives the centroids; each point is a member of the partitions of its `overlap` nearest ones. Two
points can find each other where they share a partition. So the share of true neighbors that a search of all partitions
can find is known before the first one is searched: from the exact neighbors of a sample of the points. The overlap is
raised until that share suffices (as in the `all_neighbors` of cuVS, where the user sets it).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import array_module, on_host, row_slices
from clorg_scale.neighbors.algorithms.flat_faiss import search_block
from clorg_scale.neighbors.points import Points

__all__ = ["MOST_OVERLAP", "Assign", "Members", "Partitions", "choose_partitions", "members_of"]

MOST_OVERLAP = 8
"""Partitions that a point is a member of at most. Work grows with the overlap; at 8, data have no clusters to use."""

FULL = 0.6
"""Members of a partition on average, as a share of the most there may be: k-means gives unequal ones."""

SAMPLE_PER_PARTITION, SAMPLE_BYTES = 256, 128 << 20
"""Points that the centroids are found from, as far as these bytes hold them."""

ITERATIONS = 15

SPLITS = 8
"""Rounds in which partitions that are too large are divided."""

FEWEST = 4
"""Members of a partition on average, in units of k, below which its points go elsewhere."""


class Partitions(NamedTuple):
    """Division of the points.

    Attributes
    ----------
    centroids
        (p, d) float32, in the coordinates of `Points.block`.
    overlap
        Partitions that each point is a member of.
    recall
        Share of the true neighbors of a sample of the points that share a partition with them.
    """

    centroids: npt.NDArray[np.float32]
    overlap: int
    recall: float


class Members(NamedTuple):
    """Members of each partition: (p + 1,) `starts` and the ascending `rows` of one partition after another."""

    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.integer[Any]]

    def of(self, number: int) -> npt.NDArray[np.integer[Any]]:
        """Rows of the members of a partition."""
        return self.rows[self.starts[number] : self.starts[number + 1]]


@dataclass(frozen=True)
class Assign:
    """Partitions of some rows: a task.

    Attributes
    ----------
    points
        The points.
    centroids
        (p, d) float32.
    overlap
        Number of partitions of each.
    """

    points: Points
    centroids: npt.NDArray[np.float32]
    overlap: int

    def __call__(self, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """(b, overlap) numbers of the nearest centroids, the nearest first."""
        block = on_host(self.points.block(rows))
        return np.asarray(search_block(block, self.centroids, self.overlap, False)[1], dtype=np.int32)


def choose_partitions(
    points: Points,
    k: int,
    most_points: int,
    truth: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    *,
    wanted: float,
    seed: int,
) -> Partitions:
    """Divide the points so that partitions are of bounded size and neighbors share one.

    Parameters
    ----------
    points
        The points.
    k
        Neighbors that will be sought.
    most_points
        Members that a partition may have. Sizes are estimated from a sample; a few partitions can be larger, and one
        of points that are all the same always is.
    truth
        (s,) rows of a sample of the points, (s, k) rows of their true neighbors.
    wanted
        Share of the true neighbors to share a partition with their points.
    seed
        Seed of the sample and of k-means.

    Returns
    -------
    Those with the least overlap that give the share, or else those that give most of it.
    """
    best: Partitions | None = None
    for overlap in range(1, MOST_OVERLAP + 1):
        n_partitions = math.ceil(overlap * points.n / max(1.0, FULL * most_points)) if points.n > most_points else 1
        if overlap > n_partitions:
            break
        sizes = _Sizes(most_points, FEWEST * (k + 1), overlap)
        centroids = _centroids(points, n_partitions, sizes, seed)
        memberships = min(overlap, len(centroids))
        found = Partitions(centroids, memberships, _shared(Assign(points, centroids, memberships), truth))
        if best is None or found.recall > best.recall:
            best = found
        if best.recall >= wanted:
            break
    assert best is not None
    return best


def _shared(assign: Assign, truth: tuple[npt.NDArray[Any], npt.NDArray[Any]]) -> float:
    """Share of the true neighbors that share a partition with their points."""
    rows, ids = (on_host(array) for array in truth)
    some, position = np.unique(np.concatenate([rows[:, None], ids], axis=1), return_inverse=True)
    partitions = np.concatenate([assign(some[chunk]) for chunk in row_slices(len(some), assign.points.d, itemsize=12)])
    position = position.reshape(len(rows), -1)
    of_rows, of_ids = partitions[position[:, :1]], partitions[position[:, 1:]]
    return float((of_rows[:, :, :, None] == of_ids[:, :, None, :]).any(axis=(2, 3)).mean())


class _Sizes(NamedTuple):
    """Most and fewest members of a partition, and the partitions of each point."""

    most: int
    fewest: int
    overlap: int

    def of(self, sample: npt.NDArray[np.float32], centroids: npt.NDArray[np.float32], share: float) -> Any:
        """(s,) nearest centroids, (p,) estimated members, of a sample that is 1 / `share` of the points."""
        nearest = search_block(sample, centroids, min(self.overlap, len(centroids)), False)[1]
        return nearest[:, 0], share * np.bincount(nearest.ravel(), minlength=len(centroids))


def _centroids(points: Points, n_partitions: int, sizes: _Sizes, seed: int) -> npt.NDArray[np.float32]:
    """Centroids of a sample; clusters that are too large are divided, and those too small for a search left out."""
    rng = np.random.default_rng(seed)
    size = min(points.n, SAMPLE_PER_PARTITION * n_partitions, max(n_partitions, SAMPLE_BYTES // (4 * points.d)))
    rows = np.sort(rng.choice(points.n, size=size, replace=False))
    sample = on_host(points.block(array_module(points.embeddings).asarray(rows)))
    share = points.n / size
    centroids = _k_means(sample, n_partitions, seed)
    for _ in range(SPLITS):
        nearest, counts = sizes.of(sample, centroids, share)
        own = {number: np.flatnonzero(nearest == number) for number in np.flatnonzero(counts > sizes.most)}
        divided = {number: _k_means(sample[some], 2, seed) for number, some in own.items() if len(some) >= 2}
        if not divided:
            break
        centroids = np.concatenate([np.delete(centroids, list(divided), axis=0), *divided.values()])
    _, counts = sizes.of(sample, centroids, share)
    kept = counts >= sizes.fewest
    return np.ascontiguousarray(centroids[kept] if kept.any() else centroids[[int(counts.argmax())]])


def _k_means(sample: npt.NDArray[np.float32], n: int, seed: int) -> npt.NDArray[np.float32]:
    """(n, d) centroids, or fewer if the sample has fewer points."""
    import faiss

    n = min(n, len(sample))
    settings = {"niter": ITERATIONS, "seed": seed % 2**31, "min_points_per_centroid": 1}
    clusters = faiss.Kmeans(sample.shape[1], n, max_points_per_centroid=len(sample), **settings)
    clusters.train(sample)
    return np.asarray(clusters.centroids, dtype=np.float32).reshape(n, -1)


def members_of(partitions: npt.NDArray[np.int32], n_partitions: int, *, least: int) -> Members | npt.NDArray[np.int64]:
    """Members of each partition, or the numbers of those that have too few to be searched.

    Parameters
    ----------
    partitions
        (n, overlap) partitions of each point.
    n_partitions
        Their number.
    least
        Members that each needs.
    """
    flat = partitions.ravel()
    counts = np.bincount(flat, minlength=n_partitions)
    few = np.flatnonzero(counts < least)
    if len(few):
        return few
    narrow = flat.astype(np.int16) if n_partitions < 2**15 else flat  # NumPy sorts 16-bit numbers in linear time
    rows = np.argsort(narrow, kind="stable")
    rows //= partitions.shape[1]
    dtype = np.int32 if len(partitions) < 2**31 else np.int64
    return Members(np.concatenate([[0], np.cumsum(counts)]), rows.astype(dtype))

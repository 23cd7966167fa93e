"""k-means for the lists of an inverted file."""

from __future__ import annotations

import math

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.neighbors.exact import PairSearch

__all__ = ["cluster", "n_training_points"]

ITERATIONS = 10
TRAINING_POINTS_PER_LIST = 64


def n_training_points(n: int) -> int:
    """How many of n points suffice to find the centroids."""
    return min(n, TRAINING_POINTS_PER_LIST * _n_lists(n))


def cluster(coordinates: Array, seed: int, search_block: PairSearch, *, n_points: int | None = None) -> Array:
    """Lloyd's algorithm on a sample; a list that loses all its points takes over a random point.

    Parameters
    ----------
    coordinates
        (m, p) float32 points, all or a random sample.
    seed
        Of the sample and the first centroids.
    search_block
        The engine.
    n_points
        Points of which `coordinates` are a sample; default m.

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
    centroids = sample[xp.asarray(rng.choice(size, size=n_lists, replace=False))]
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

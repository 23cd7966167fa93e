"""Look-alikes: the most similar points of different classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import on_host
from clorg_scale.neighbors import KNN

__all__ = ["nearest_strangers"]

FIRST = 20
"""Entries of the table that are looked at for each pair wanted, at first."""


def nearest_strangers(
    table: KNN, codes: npt.NDArray[np.int64], n_pairs: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pairs of points of different classes with the smallest distance, each point in one pair at most.

    Pairs are taken from the k-NN table, nearest first, and skipped where a point of theirs is in a pair already: a
    single odd point would fill the list otherwise.

    Parameters
    ----------
    table
        k-NN table of all points.
    codes
        (n,) class codes; points without a class (-1) are in no pair.
    n_pairs
        Pairs at most.

    Returns
    -------
    pairs
        (p, 2) points i < j, nearest pair first.
    distances
        (p,) theirs.
    """
    indices, distances = on_host(table.indices), on_host(table.distances)
    strange = codes[indices] != codes[:, None]
    strange &= codes[indices] >= 0
    strange &= (codes >= 0)[:, None]
    apart = np.where(strange, distances, np.inf)
    total = int(np.count_nonzero(strange))
    n_nearest = FIRST * n_pairs
    while True:  # most often the first look at the nearest entries suffices
        n_nearest = min(n_nearest, total)
        limit = np.partition(apart, n_nearest - 1, axis=None)[n_nearest - 1] if n_nearest else -np.inf
        rows, columns = np.nonzero((apart <= limit) & strange)
        ends = np.sort(np.column_stack([rows, indices[rows, columns].astype(np.int64)]), axis=1)
        between = apart[rows, columns].astype(np.float64)
        chosen = _disjoint(ends, between, n_pairs)
        if len(chosen) == n_pairs or n_nearest == total:
            return ends[chosen].reshape(-1, 2), between[chosen]
        n_nearest *= FIRST


def _disjoint(ends: npt.NDArray[np.int64], apart: npt.NDArray[np.float64], n_pairs: int) -> list[int]:
    """Pairs, nearest first, without those of which a point is in a nearer pair."""
    taken: set[int] = set()
    chosen: list[int] = []
    for at in np.lexsort((ends[:, 1], ends[:, 0], apart)):
        if len(chosen) == n_pairs:
            break
        i, j = ends[at].tolist()
        if i not in taken and j not in taken:
            taken |= {i, j}
            chosen.append(int(at))
    return chosen

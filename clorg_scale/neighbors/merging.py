"""A table of neighbors that grows as partitions of the points are searched, in memory or in a temporary file."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.arrays.mapped import compilable_view
from clorg_scale.numerics.compiler import njit

__all__ = ["Found", "MergedTable"]

TIE = 1e-5
"""Relative difference up to which two distances of one pair may have been computed on different machines."""


class Found(NamedTuple):
    """Neighbors of some points: (b,) rows of the table, (b, k) numbers and ascending distances."""

    rows: npt.NDArray[Any]
    ids: npt.NDArray[Any]
    distances: npt.NDArray[Any]


class MergedTable:
    """The k nearest of all that was found for each point.

    Parameters
    ----------
    indices, distances
        (n, k) of the final types, whose contents are replaced.
    """

    def __init__(self, indices: npt.NDArray[Any], distances: npt.NDArray[Any]) -> None:
        self.indices, self.distances = indices, distances
        self.indices[:], self.distances[:] = -1, np.inf

    def merge(self, found: Found) -> None:
        """Merge what was found; a pair that was found before counts once, rows do not repeat."""
        ids = np.ascontiguousarray(found.ids, dtype=self.indices.dtype)
        distances = np.ascontiguousarray(found.distances, dtype=self.distances.dtype)
        rows = np.asarray(found.rows, dtype=np.int64)
        _merge(rows, compilable_view(ids), compilable_view(distances), self.indices, self.distances)


@njit(parallel=True, cache=True)
def _merge(rows: Any, ids: Any, distances: Any, indices: Any, table: Any) -> None:
    k = indices.shape[1]
    for i in prange(len(rows)):
        row = rows[i]
        old_ids, old = indices[row].copy(), table[row].copy()
        a, b, size = 0, 0, 0
        while size < k and (a < k or b < ids.shape[1]):
            # The nearer of two heads; of equally near ones the smaller number.
            first = b >= ids.shape[1]
            if not first and a < k:
                first = old[a] < distances[i, b] or (old[a] == distances[i, b] and old_ids[a] <= ids[i, b])
            if first:
                number, distance = old_ids[a], old[a]
                a += 1
            else:
                number, distance = ids[i, b], distances[i, b]
                b += 1
            if number < 0:
                continue
            repeated, back = False, size - 1
            while back >= 0 and abs(table[row, back] - distance) <= TIE * abs(distance):
                repeated = repeated or indices[row, back] == number
                back -= 1
            if not repeated:
                indices[row, size], table[row, size] = number, distance
                size += 1
        while size < k:
            indices[row, size], table[row, size] = -1, np.inf
            size += 1

"""The near field of sampled RLD: pairs of near neighbors, which are summed exactly.

Made where the k-NN table is; its sums are those in main memory (on a device: `rld.sampled.torch_near_field`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.affinity.edges import edges_of
from clorg_scale.arrays import array_module, on_host
from clorg_scale.neighbors import KNN
from clorg_scale.numerics.compiler import njit

__all__ = ["NearField", "NearRows"]

TIE = 2.0**-11
"""Share of a distance, twice what rounding in float32 tiles is at most, 2 eps / `rld.exact.tiles_numba.NEAR`: of the
points as far as the farthest neighbor, such as its duplicates, none counts as missed."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NearField:
    """The pairs of which either end lists the other among its nearest neighbors, as a symmetric CSR matrix.

    The points are numbered in an order of their own (`rld.sampled.tile_order`). Only the symmetric closure will do:
    lists of one direction, if some neighbors are missing in them, leave a bias.

    Attributes
    ----------
    order
        (n,) int64 row of the embeddings of each point.
    indptr, indices
        (n + 1,), (e,) int64; of the library and integers of a k-NN table on a GPU.
    distances
        (e,) float64; float32 on a GPU.
    reach
        (n,) float32 distance within which the point lists every neighbor: that to the farthest one, less `TIE`.
    """

    order: Integers
    indptr: Integers
    indices: Integers
    distances: Floats
    reach: npt.NDArray[np.float32]

    @classmethod
    def of(cls, table: KNN, order: Integers) -> NearField:
        """Symmetric closure of a k-NN table, its points taken in the given order."""
        edges = edges_of(_reordered(table, order), "max")
        xp = array_module(table.indices)
        reach = table.distances[:, -1][xp.asarray(order)] * np.float32(1 - TIE)
        near_field = cls(order, edges.indptr, edges.indices, edges.distances, reach)
        return near_field.on_host() if xp is np else near_field

    def on_host(self) -> NearField:
        """The same in main memory, as the sums here want it."""
        indptr, indices = (on_host(array).astype(np.int64, copy=False) for array in (self.indptr, self.indices))
        distances = on_host(self.distances).astype(np.float64, copy=False)
        return NearField(self.order, indptr, indices, distances, on_host(self.reach))

    @cached_property
    def nearest(self) -> Floats:
        """(n,) float64 distance to the nearest neighbor of each point, in main memory."""
        # Every point lists at least one neighbor, so no row is empty.
        nearest: Floats = np.minimum.reduceat(self.distances, self.indptr[:-1])
        return nearest

    def log_sums(self, rates: Floats) -> Floats:
        """(t, n) log2 of the sum of 2^(rate d) over the near pairs of each point, rates below 0."""
        return np.stack([_log_sums(self.indptr, self.distances, self.nearest, rate) for rate in rates])

    def affinities(
        self, rates: Floats, row_logs: Floats, column_logs: Floats, codes: Integers
    ) -> tuple[Floats, Floats, Floats]:
        """Sums of a = 2^(2 rate d - l_i - l_j) over each point's near pairs.

        Returns
        -------
        (t, n) of a, (t, n) of a over the pairs of one class, (t,) of a^2 over all pairs.
        """
        total, within = np.empty_like(row_logs), np.empty_like(row_logs)
        of_squares = np.empty(len(rates))
        for t, rate in enumerate(rates):
            of_squares[t] = _affinities(
                self.indptr, self.indices, self.distances, codes, 2 * rate, row_logs[t], column_logs[t], total[t],
                within[t],
            ).sum()  # fmt: skip
        return total, within, of_squares

    def rows(self, start: int, stop: int) -> NearRows:
        """What is near to some consecutive points."""
        first, last = self.indptr[start], self.indptr[stop]
        return NearRows(
            start, self.order[start:stop], self.indptr[start : stop + 1] - first, self.indices[first:last],
            self.reach[start:stop], len(self.order),
        )  # fmt: skip


@dataclass(frozen=True)
class NearRows:
    """Some consecutive points of a near field.

    Attributes
    ----------
    start
        The first of the points.
    rows
        (p,) their rows of the embeddings.
    indptr, indices, reach
        As of the near field, of these points alone.
    n_points
        Points in all.
    """

    start: int
    rows: Integers
    indptr: Integers
    indices: Integers
    reach: npt.NDArray[np.float32]
    n_points: int

    def among(self, tile: int, landmarks: Integers) -> tuple[Integers, Integers]:
        """Which of its tile's landmarks each of the points has in its near field, or is itself.

        Parameters
        ----------
        tile
            Points a tile.
        landmarks
            (b, m) the landmarks of the tiles, as points; -1 where there is none.

        Returns
        -------
        (p + 1,), (s,) as in a CSR matrix.
        """
        starts, columns = _among(self.indptr, self.indices, self.start, self.n_points, tile, landmarks)
        return starts, columns


def _reordered(table: KNN, order: Integers) -> KNN:
    """The table with its points numbered by their places in an order."""
    xp = array_module(table.indices)
    order = xp.asarray(order)
    places = xp.full(len(order) + 1, -1, dtype=table.indices.dtype)  # the last: of a neighbor that is absent, -1
    places[order] = xp.arange(len(order), dtype=places.dtype)
    return replace(table, indices=places[table.indices[order]], distances=table.distances[order])


@njit(nogil=True, parallel=True, cache=True)
def _log_sums(indptr: Any, distances: Any, nearest: Any, rate: Any) -> Any:
    result = np.empty(len(nearest))
    for i in prange(len(nearest)):
        total = 0.0
        for entry in range(indptr[i], indptr[i + 1]):
            total += np.exp2(rate * (distances[entry] - nearest[i]))
        result[i] = np.log2(total) + rate * nearest[i]
    return result


@njit(nogil=True, parallel=True, cache=True)
def _affinities(
    indptr: Any, indices: Any, distances: Any, codes: Any, rate: Any, row_logs: Any, column_logs: Any,
    total: Any, within: Any,
) -> Any:  # fmt: skip
    of_squares = np.empty(len(row_logs))
    for i in prange(len(row_logs)):
        total[i], within[i], of_squares[i] = 0.0, 0.0, 0.0
        for entry in range(indptr[i], indptr[i + 1]):
            j = indices[entry]
            value = np.exp2(rate * distances[entry] - row_logs[i] - column_logs[j])
            total[i] += value
            of_squares[i] += value * value
            if codes[j] == codes[i]:
                within[i] += value
    return of_squares


@njit(nogil=True, cache=True)
def _among(indptr: Any, indices: Any, first: Any, n_points: Any, tile: Any, landmarks: Any) -> Any:
    position = np.full(n_points, -1, np.int32)
    n = len(indptr) - 1
    starts, size = np.zeros(n + 1, np.int64), 0
    columns = np.empty(len(indices) + n, np.int64)
    for b in range(len(landmarks)):
        for s in range(landmarks.shape[1]):
            if landmarks[b, s] >= 0:
                position[landmarks[b, s]] = s
        for i in range(b * tile, min(n, (b + 1) * tile)):
            if position[first + i] >= 0:
                columns[size] = position[first + i]
                size += 1
            for entry in range(indptr[i], indptr[i + 1]):
                if position[indices[entry]] >= 0:
                    columns[size] = position[indices[entry]]
                    size += 1
            starts[i + 1] = size
        for s in range(landmarks.shape[1]):
            if landmarks[b, s] >= 0:
                position[landmarks[b, s]] = -1
    return starts, columns[:size]

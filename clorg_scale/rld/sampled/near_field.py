"""The near field of sampled RLD: pairs of near neighbors, which are summed exactly.

Made in the array library of the k-NN table; its sums are computed in main memory (on a device:
`rld.sampled.near_field_torch`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity.symmetrize import undirected_edges
from clorg_scale.arrays import array_module, on_host
from clorg_scale.neighbors import KNN
from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.threads import Rows, over_rows
from clorg_scale.rld.sampled.tile_order import ROWS
from clorg_scale.rld.types import Floats, Integers

__all__ = ["NearField", "NearRows"]

TIE = 2.0**-11
"""Share of a distance, twice the largest rounding error in float32 tiles, 2 eps / `rld.points.NEAR`: points
as far as the farthest neighbor, such as its duplicates, do not count as missed."""


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
        edges = undirected_edges(_reordered(table, order), "max")
        xp = array_module(table.indices)
        reach = table.distances[:, -1][xp.asarray(order)] * np.float32(1 - TIE)
        near_field = cls(order, edges.indptr, edges.indices, edges.distances, reach)
        return near_field.on_host() if xp is np else near_field

    def on_host(self) -> NearField:
        """The same in main memory, in the types of the compiled sums."""
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
        sums = np.empty((len(rates), len(self.order)))
        for rate, into in zip(rates, sums, strict=True):
            over_rows(_log_sums, *self._size, self.indptr, (self.distances, self.nearest), rate, into)
        return sums

    def affinities(
        self, rates: Floats, row_logs: Floats, column_logs: Floats, codes: Integers
    ) -> tuple[Floats, Floats, Floats]:
        """Sums of a = 2^(2 rate d - l_i - l_j) over each point's near pairs.

        Returns
        -------
        (t, n) of a, (t, n) of a over the pairs of one class, (t,) of a^2 over all pairs.
        """
        pairs = _Pairs(self.indptr, self.indices, self.distances, codes)
        sums = np.empty((3, *row_logs.shape))
        for t, rate in enumerate(rates):
            over_rows(_affinities, *self._size, pairs, 2 * rate, (row_logs[t], column_logs[t]), sums[:, t])
        total, within, of_squares = sums
        return total, within, of_squares.sum(axis=1)

    @property
    def _size(self) -> tuple[int, int]:
        """Number of points, and of near pairs of one, on average."""
        return len(self.order), len(self.indices) // len(self.order)

    def rows(self, start: int, stop: int) -> NearRows:
        """Near pairs of some consecutive points."""
        first, last = self.indptr[start], self.indptr[stop]
        return NearRows(
            start=start,
            rows=self.order[start:stop],
            indptr=self.indptr[start : stop + 1] - first,
            indices=self.indices[first:last],
            reach=self.reach[start:stop],
            n_points=len(self.order),
        )


@dataclass(frozen=True)
class NearRows:
    """Some consecutive points of a near field, from number `start` of `n_points` on.

    `rows`: (p,) their rows of the embeddings; `indptr`, `indices`, `reach`: as of the near field, of these alone.
    """

    start: int
    rows: Integers
    indptr: Integers
    indices: Integers
    reach: npt.NDArray[np.float32]
    n_points: int

    def among(self, landmarks: Integers) -> tuple[Integers, Integers]:
        """CSR pattern of the landmarks of its tile that a point has in its near field, or is itself.

        `landmarks`: (b, m) those of the tiles, as points; -1 where there is none. Returns (p + 1,), (s,).
        """
        starts, columns = _among(self.indptr, self.indices, (self.start, self.n_points), landmarks)
        return starts, columns


class _Pairs(NamedTuple):
    """All near pairs, and (n,) class codes."""

    indptr: Any
    indices: Any
    distances: Any
    codes: Any


def _reordered(table: KNN, order: Integers) -> KNN:
    """The table with its points numbered by their positions in an order."""
    xp = array_module(table.indices)
    order = xp.asarray(order)
    positions = xp.full(len(order) + 1, -1, dtype=table.indices.dtype)  # the last for an absent neighbor, -1
    positions[order] = xp.arange(len(order), dtype=positions.dtype)
    return replace(table, indices=positions[table.indices[order]], distances=table.distances[order])


@njit(nogil=True, cache=True)
def _log_sums(rows: Rows, indptr: Any, lengths: tuple[Any, Any], rate: Any, result: Any) -> None:
    distances, nearest = lengths
    for i in range(rows[0], rows[1]):
        total = 0.0
        for entry in range(indptr[i], indptr[i + 1]):
            total += np.exp2(rate * (distances[entry] - nearest[i]))
        result[i] = np.log2(total) + rate * nearest[i]


@njit(nogil=True, cache=True)
def _affinities(rows: Rows, pairs: _Pairs, rate: Any, logs: tuple[Any, Any], sums: Any) -> None:
    """Sums (3, n) over the near pairs of each point: of a, of a within its class, of a^2."""
    (indptr, indices, distances, codes), (row_logs, column_logs) = pairs, logs
    for i in range(rows[0], rows[1]):
        total, within, of_squares = 0.0, 0.0, 0.0
        for entry in range(indptr[i], indptr[i + 1]):
            j = indices[entry]
            value = np.exp2(rate * distances[entry] - row_logs[i] - column_logs[j])
            total += value
            of_squares += value * value
            if codes[j] == codes[i]:
                within += value
        sums[0, i], sums[1, i], sums[2, i] = total, within, of_squares


@njit(nogil=True, cache=True)
def _among(indptr: Any, indices: Any, points: tuple[int, int], landmarks: Any) -> Any:
    """`NearRows.among`, `points`: the number of the first point and that of all points."""
    first, n_points = points
    position = np.full(n_points, -1, np.int32)
    n = len(indptr) - 1
    starts, size = np.zeros(n + 1, np.int64), 0
    columns = np.empty(len(indices) + n, np.int64)
    for b in range(len(landmarks)):
        for s in range(landmarks.shape[1]):
            if landmarks[b, s] >= 0:
                position[landmarks[b, s]] = s
        for i in range(b * ROWS, min(n, (b + 1) * ROWS)):
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

"""The near field of sampled RLD: pairs of near neighbours, which are summed exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from clorg_scale.affinity.edges import edges_of
from clorg_scale.neighbors import KNN

__all__ = ["NearField"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NearField:
    """The pairs of which either end lists the other among its nearest neighbours, as a symmetric CSR matrix.

    Only the symmetric closure will do: lists of one direction, if some neighbours are missing in them, leave a bias.

    Attributes
    ----------
    indptr, indices
        (n + 1,), (e,) int64.
    distances
        (e,) float64.
    nearest
        (n,) float64 distance to the nearest of them.
    """

    indptr: Integers
    indices: Integers
    distances: Floats
    nearest: Floats

    @classmethod
    def of(cls, table: KNN) -> NearField:
        """Symmetric closure of a k-NN table."""
        edges = edges_of(table, "max")
        distances = edges.distances.astype(np.float64)
        # Every point lists at least one neighbour, so no row is empty.
        nearest = np.minimum.reduceat(distances, edges.indptr[:-1])
        return cls(edges.indptr.astype(np.int64), edges.indices.astype(np.int64), distances, nearest)

    def log_sums(self, rates: Floats) -> Floats:
        """(t, n) log2 of the sum of 2^(rate d) over the near pairs of each point, rates below 0."""
        return np.stack([_log_sums(self.indptr, self.distances, self.nearest, rate) for rate in rates])

    def affinities(self, rates: Floats, logs: Floats, codes: Integers) -> tuple[Floats, Floats, Floats]:
        """(t, n) sums of a = 2^(2 rate d - l_i - l_j) over each point's near pairs, those of its class, and of a^2."""
        sums = [
            _affinities(self.indptr, self.indices, self.distances, codes, 2 * rate, log)
            for rate, log in zip(rates, logs, strict=True)
        ]
        total, within, of_squares = (np.stack(part) for part in zip(*sums, strict=True))
        return total, within, of_squares

    def among(self, rows: Integers, position: Integers) -> tuple[Integers, Integers]:
        """Which landmarks each of some points has in its near field, or is itself.

        Parameters
        ----------
        rows
            (b,) the points.
        position
            (n,) number of each point among the landmarks, -1 where it is none.

        Returns
        -------
        (b + 1,), (s,) as in a CSR matrix.
        """
        starts, columns = _among(self.indptr, self.indices, position, rows)
        return starts, columns


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
def _affinities(indptr: Any, indices: Any, distances: Any, codes: Any, rate: Any, logs: Any) -> Any:
    total, within, of_squares = np.zeros(len(logs)), np.zeros(len(logs)), np.zeros(len(logs))
    for i in prange(len(logs)):
        for entry in range(indptr[i], indptr[i + 1]):
            j = indices[entry]
            value = np.exp2(rate * distances[entry] - logs[i] - logs[j])
            total[i] += value
            of_squares[i] += value * value
            if codes[j] == codes[i]:
                within[i] += value
    return total, within, of_squares


@njit(nogil=True, cache=True)
def _among(indptr: Any, indices: Any, position: Any, rows: Any) -> Any:
    starts, n_most = np.zeros(len(rows) + 1, np.int64), 0
    for i in rows:
        n_most += 1 + indptr[i + 1] - indptr[i]
    columns, size = np.empty(n_most, np.int64), 0
    for b, i in enumerate(rows):
        if position[i] >= 0:
            columns[size] = position[i]
            size += 1
        for entry in range(indptr[i], indptr[i + 1]):
            if position[indices[entry]] >= 0:
                columns[size] = position[indices[entry]]
                size += 1
        starts[b + 1] = size
    return starts, columns[:size]

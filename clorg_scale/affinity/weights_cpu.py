"""Weights of the edges in main memory: compiled, on threads, in one pass over the distances each.

The same formulas as in `construction`, in float64 with a vectorized exponential (relative error 4e-16).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity.symmetrize import Edges
from clorg_scale.numerics.compiler import callee, njit
from clorg_scale.numerics.exp2 import exp2
from clorg_scale.numerics.threads import over_rows

__all__ = ["exponential_weights", "log_row_sums_cpu"]

LOG2_E = np.float64(math.log2(math.e))

MOST = np.finfo(np.float64).max

ROWS = 256
"""Rows at once: their exponents stay in the cache."""


class _Sparse(NamedTuple):
    """First entries of rows, columns and distances."""

    indptr: Any
    indices: Any
    distances: Any


def log_row_sums_cpu(edges: Edges, scale: float) -> npt.NDArray[np.float64]:
    """(n,) float64 log of the sum of exp(-distance / scale) over the edges of each node; -inf for one without edges."""
    result = np.empty(edges.n_nodes)
    matrix = _Sparse(edges.indptr, edges.indices, edges.distances)
    over_rows(_log_sums, edges.n_nodes, _width(edges), matrix, _rate(edges.unit, scale), result)
    return result


def exponential_weights(
    edges: Edges, scale: float, *, squared: bool = False, log_r: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float32]:
    """(e,) float32 weights exp(-d / scale), or n^2 times its square over r_i r_j, or exp(-(d / scale)^2 / 2).

    They take the place of the distances, which saves an array of the size of the graph.

    Parameters
    ----------
    edges
        All edges.
    scale
        mu T.
    squared
        For the last of them.
    log_r
        (n,) result of `log_row_sums_cpu` at that scale, for the second.
    """
    weights: npt.NDArray[np.float32] = edges.distances
    matrix = _Sparse(edges.indptr, edges.indices, edges.distances)
    rate = _rate(edges.unit, scale)
    shape = edges.n_nodes, _width(edges)
    if squared:
        over_rows(_gaussian, *shape, matrix, rate, weights)
    elif log_r is None:
        over_rows(_weights, *shape, matrix, rate, (1.0, np.zeros(edges.n_nodes)), weights)
    else:
        over_rows(_weights, *shape, matrix, 2 * rate, (float(edges.n_nodes) ** 2, log_r), weights)
    return weights


def _rate(unit: float, scale: float) -> float:
    """Factor of distances; finite, so that 0 times it is 0."""
    return float(min(unit / scale, MOST / 4))


def _width(edges: Edges) -> int:
    return len(edges.indices) // max(1, edges.n_nodes)


@njit(cache=True, nogil=True)
def _log_sums(rows: Any, matrix: _Sparse, rate: float, into: Any) -> None:
    """The largest term is taken out of each sum first, so that no scale is too small."""
    indptr, _, distances = matrix
    for first in range(np.int64(rows[0]), np.int64(rows[1]), ROWS):
        last: Any = min(first + ROWS, np.int64(rows[1]))
        start = indptr[first]
        terms = np.empty(indptr[last] - start)
        for row in range(first, last):
            nearest = _nearest(distances[indptr[row] : indptr[row + 1]])
            into[row] = nearest
            for entry in range(indptr[row], indptr[row + 1]):
                terms[entry - start] = rate * (nearest - np.float64(distances[entry])) * LOG2_E
        _powers(terms)
        for row in range(first, last):
            total = 0.0
            for entry in range(indptr[row], indptr[row + 1]):
                total += terms[entry - start]
            into[row] = math.log(total) - rate * into[row] if indptr[row + 1] > indptr[row] else -np.inf


@njit(cache=True, nogil=True)
def _weights(rows: Any, matrix: _Sparse, rate: float, scaling: tuple[float, Any], into: Any) -> None:
    """Factor times exp(-rate d - log r_i - log r_j)."""
    indptr, indices, distances = matrix
    factor, log_r = scaling
    for first in range(np.int64(rows[0]), np.int64(rows[1]), ROWS):
        last: Any = min(first + ROWS, np.int64(rows[1]))
        start = indptr[first]
        terms = np.empty(indptr[last] - start)
        for row in range(first, last):
            own = log_r[row]
            for entry in range(indptr[row], indptr[row + 1]):
                # One sum, whichever end comes first: the matrix is symmetric to the last bit.
                logs = own + log_r[indices[entry]]
                terms[entry - start] = (-rate * np.float64(distances[entry]) - logs) * LOG2_E
        _powers(terms)
        for entry in range(len(terms)):
            into[start + entry] = factor * terms[entry]


@njit(cache=True, nogil=True)
def _gaussian(rows: Any, matrix: _Sparse, rate: float, into: Any) -> None:
    """exp(-(rate d)^2 / 2)."""
    indptr, _, distances = matrix
    for first in range(np.int64(rows[0]), np.int64(rows[1]), ROWS):
        start, stop = indptr[first], indptr[min(first + ROWS, np.int64(rows[1]))]
        terms = np.empty(stop - start)
        for entry in range(start, stop):
            x = rate * np.float64(distances[entry])
            terms[entry - start] = -(x * x) / 2 * LOG2_E
        _powers(terms)
        for entry in range(len(terms)):
            into[start + entry] = terms[entry]


@callee
def _nearest(distances: Any) -> Any:
    nearest = np.inf
    for distance in distances:
        nearest = min(nearest, np.float64(distance))
    return nearest


@callee
def _powers(terms: Any) -> None:
    """2^t of each t; 0 where it is not a normal number, as below 1e-308."""
    for entry in range(len(terms)):
        power = exp2(min(terms[entry], 0.0))
        terms[entry] = power if terms[entry] > -1022.0 else 0.0

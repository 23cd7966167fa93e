"""Near-duplicates: sets of points that are closer to each other than points of this data set usually are.

The rule is cleanlab's: two points are near-duplicates if their distance is below a share of the median distance of a
point to its nearest neighbor. Sets are the connected components of these pairs, so that a chain of near-duplicates is
one set. Pairs come from the k-NN table; more than k copies of one point still hang together, as all of them list the
same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import on_host
from clorg_scale.neighbors import KNN
from clorg_scale.results.stored import beside

__all__ = ["CLOSE", "Duplicates", "find_duplicates", "nearest_distances"]

CLOSE = 0.13
"""Share of the median nearest-neighbor distance below which two points are near-duplicates; cleanlab's."""


@dataclass(frozen=True)
class Duplicates:
    """Near-duplicates among points, and between them and test points."""

    set_of: npt.NDArray[np.int64] = field(metadata=beside())
    """(n + m,) set of each point, then of each test point, largest sets first; -1 where it is in none."""
    nearest: npt.NDArray[np.float64] = field(metadata=beside())
    """(n + m,) distance to the nearest point; of a test point, to the nearest of the points."""
    leaks: npt.NDArray[np.int64] = field(metadata=beside())
    """(p, 2) test point and point that are near-duplicates, both counted from 0."""
    leak_distances: npt.NDArray[np.float64] = field(metadata=beside())
    """(p,) distances of these pairs."""
    limit: float
    """Distance up to which two points are near-duplicates; 0 where most points have an exact copy."""


def nearest_distances(table: KNN) -> npt.NDArray[np.float64]:
    """(q,) distance of each row of a table to its nearest neighbor."""
    return np.asarray(on_host(table.distances[:, 0]), dtype=np.float64)


def find_duplicates(table: KNN, between: KNN | None = None, *, close: float = CLOSE) -> Duplicates:
    """Find sets of near-duplicates.

    Parameters
    ----------
    table
        k-NN table of all n points.
    between
        Table of m test points among the points (`knn_between`); None without a test set.
    close
        Share of the median nearest-neighbor distance.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = table.n_points
    nearest = nearest_distances(table)
    limit = close * float(np.median(nearest))
    first, second, _ = _close_pairs(table, limit)
    m, leaks, apart = 0, np.empty((0, 2), np.int64), np.empty(0)
    if between is not None:
        m = len(between.indices)
        tested, found, apart = _close_pairs(between, limit)
        leaks = np.column_stack([tested, found])
        first, second = np.concatenate([first, tested + n]), np.concatenate([second, found])
        nearest = np.concatenate([nearest, nearest_distances(between)])
    pairs = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n + m, n + m))
    _, component = connected_components(pairs, directed=False)
    return Duplicates(_largest_first(component), nearest, leaks, apart, limit)


def _close_pairs(table: KNN, limit: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[Any]]:
    """Rows and neighbors at most so far apart, and their distances."""
    distances = on_host(table.distances)
    rows, columns = np.nonzero(distances <= limit)
    return rows, on_host(table.indices)[rows, columns].astype(np.int64), distances[rows, columns].astype(np.float64)


def _largest_first(component: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Number components of two or more points by size, equal ones by their first point; -1 for the others."""
    sizes = np.bincount(component)
    _, first = np.unique(component, return_index=True)
    order = np.lexsort((first, -sizes))
    order = order[sizes[order] > 1]
    number = np.full(len(sizes), -1, dtype=np.int64)
    number[order] = np.arange(len(order))
    found: npt.NDArray[np.int64] = number[component]
    return found

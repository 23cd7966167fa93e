"""One table for several uses: fewer neighbors, the same points in another order, some of the points only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module, on_host, row_slices
from clorg_scale.neighbors.result import KNN

__all__ = ["among_training_points", "cosine_rows", "first_neighbors", "in_order", "prepared", "width_with_share"]

FEW = 1e-3
"""Share of the points, at most, that a table of `width_with_share` is expected to leave with too few neighbors."""

WIDEST, FEWEST = 4, 32
"""Most neighbors searched for each one wanted, but for tables as narrow as this; beyond that a search of its own costs
less."""


def first_neighbors(table: KNN, k: int) -> KNN:
    """The k nearest of a table that has at least as many; a new one, also where it has no more."""
    xp = array_module(table.indices)
    indices, distances = (xp.ascontiguousarray(array[:, :k]) for array in (table.indices, table.distances))
    return replace(table, indices=indices, distances=distances)


def cosine_rows(table: KNN, rows: npt.NDArray[np.int64]) -> KNN:
    """Some rows (q,) of a Euclidean table of points of length 1, as a cosine table: 1 - cos = |u - v|^2 / 2."""
    xp = array_module(table.indices)
    which = xp.asarray(rows)
    distances = table.distances[which].astype(np.float64) ** 2 / 2
    return KNN(table.indices[which], distances.astype(np.float32), "cosine", table.index, table.n_points, which)


def prepared(table: KNN, k: int, *, exponent: int, device: str) -> KNN:
    """The k nearest of a table, all it has if fewer, of points multiplied by 2^exponent, on a device.

    A table that was read from a file is in main memory; `device` is ``"cpu"`` or ``"cuda"``.
    """
    table = first_neighbors(table, min(k, table.k))
    indices, distances, mean = table.indices, table.distances, table.mean_distance
    if exponent != 0:
        distances = array_module(distances).ldexp(distances.astype(np.float64), exponent).astype(np.float32)
        mean = None if mean is None else float(np.ldexp(mean, exponent))
    if device == "cpu":
        indices, distances = on_host(indices), on_host(distances)
    elif array_module(indices) is np:
        import cupy

        indices, distances = cupy.asarray(indices), cupy.asarray(distances)
    return replace(table, indices=indices, distances=distances, mean_distance=mean)


def in_order(table: KNN, order: npt.NDArray[np.int64]) -> KNN:
    """The table of all points taken in another order: its row i is that of point `order[i]` (n,).

    Ties are by the new row numbers.
    """
    xp = array_module(table.indices)
    order = xp.asarray(order)
    position = xp.empty(len(order), dtype=table.indices.dtype)
    position[order] = xp.arange(len(order), dtype=position.dtype)
    indices, distances = xp.empty_like(table.indices), table.distances[order]
    for rows in row_slices(len(order), table.k, itemsize=24):
        some = position[table.indices[order[rows]]]
        tied = xp.flatnonzero((distances[rows][:, 1:] == distances[rows][:, :-1]).any(axis=1))
        if tied.size:
            some[tied] = _by_distance_and_number(some[tied], distances[rows][tied])
        indices[rows] = some
    return replace(table, indices=indices, distances=distances)


def _by_distance_and_number(ids: Array, distances: Array) -> Array:
    """Neighbors (b, k) sorted by distance, equal ones by number."""
    xp = array_module(ids)
    by_number = xp.argsort(ids, axis=1, kind="stable")
    order = xp.argsort(xp.take_along_axis(distances, by_number, axis=1), axis=1, kind="stable")
    return xp.take_along_axis(xp.take_along_axis(ids, by_number, axis=1), order, axis=1)


def width_with_share(k: int, share: float, n_points: int) -> int:
    """Neighbors to search so that k of them are of a random share of the points, but for a `FEW` of the points.

    k itself where the share is so small that it would take more than `WIDEST` k neighbors and `FEWEST`.
    """
    from scipy.special import bdtr

    most = max(WIDEST * k, FEWEST)
    for width in range(k, min(most, n_points - 1) + 1):
        if bdtr(k - 1, width, share) <= FEW:
            return width
    return k if n_points - 1 > most else n_points - 1


def among_training_points(
    table: KNN, labeled: npt.NDArray[np.bool_], k: int
) -> tuple[KNN, npt.NDArray[np.int64]] | None:
    """The k nearest labeled training points of each test point, taken from a table over both.

    Parameters
    ----------
    table
        Neighbors of t training points followed by m test points, among all of them.
    labeled
        (t,) training points that count.
    k
        Neighbors of each test point.

    Returns
    -------
    The table of the test points among the training points that count, numbered without the others, and the test
    points that have fewer than k of these among their neighbors: their rows hold whatever there is, then the first
    training point at infinity. None if these are more than a fiftieth of all.
    """
    n_train = len(labeled)
    number = np.full(table.n_points, -1, dtype=table.indices.dtype)
    number[:n_train][labeled] = np.arange(np.count_nonzero(labeled))
    m = table.n_points - n_train
    indices = np.zeros((m, k), dtype=table.indices.dtype)
    distances = np.full((m, k), np.inf, dtype=table.distances.dtype)
    short: list[npt.NDArray[np.int64]] = []
    for rows in row_slices(m, table.k, itemsize=32):
        source = slice(n_train + rows.start, n_train + rows.stop)
        ids, some = number[on_host(table.indices[source])], on_host(table.distances[source])
        order = np.argsort(ids < 0, axis=1, kind="stable")[:, :k]
        ids, some = np.take_along_axis(ids, order, axis=1), np.take_along_axis(some, order, axis=1)
        found, width = ids >= 0, ids.shape[1]
        indices[rows, :width] = np.where(found, ids, 0)
        distances[rows, :width] = np.where(found, some, np.inf)
        short.append(rows.start + np.flatnonzero(found.sum(axis=1) < k))
    too_few = np.concatenate(short)
    if len(too_few) > m / 50:
        return None
    queries = np.full(m, -1, dtype=np.int64)
    counted = int(np.count_nonzero(labeled))
    return KNN(indices, distances, table.metric, table.index, counted, queries, table.measured_recall), too_few

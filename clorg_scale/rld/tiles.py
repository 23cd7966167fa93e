r"""One tile of distances becomes kernel sums: the innermost loops of RLD on the CPU.

A tile is the product G = X_I X_J^T of two blocks of points. Row by row it turns into distances and, for all
temperatures at once, into the sums of the two passes (`clorg_scale.rld.exact` has the mathematics):

    pass 1   S_i = sum_j d_ij,   R_i = sum_j e_ij,   D_i = sum_j d_ij e_ij        e_ij = 2^(c d_ij)
    pass 2   k_i = sum_j a_ij, split by same class or not                         a_ij = 2^(2 c d_ij - l_i - l_j)

Both are symmetric in i and j, so each tile above the diagonal gives the sums of its rows *and* of its columns.
A row of distances (2 kB) stays in the first-level cache while the temperatures pass over it. Sums within a tile
are in the tile's precision, across tiles in float64. Every tile writes its sums to a place of its own, added up
afterwards in a fixed order: the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from clorg_scale.rld.exp2 import exp2

__all__ = ["TILE", "affinity_sums", "kernel_sums", "tile_pairs"]

Floats = npt.NDArray[Any]
"""float32 or float64; a tile and all that goes with it have one precision."""

Integers = npt.NDArray[np.int64]

TILE = 512
"""Points a side: a float32 tile (1 MB) fits the second-level cache beside the blocks that make it."""

NEAR = 1e-3
"""Pairs with d^2 below this share of |x_i|^2 + |x_j|^2 have lost digits to cancellation and are recomputed."""


def tile_pairs(n_rows: int, n_columns: int, *, diagonal: bool) -> npt.NDArray[np.int64]:
    """Positions (tile row, tile column) of all tiles of two panels; only the upper half of a panel with itself."""
    rows, columns = -(-n_rows // TILE), -(-n_columns // TILE)
    pairs = [(i, j) for i in range(rows) for j in range(i if diagonal else 0, columns)]
    return np.array(pairs, dtype=np.int64)


@njit(fastmath=True, nogil=True, cache=True)
def _distances(
    G: Floats, i: int, first: int, x: Floats, Y: Floats, x_norm: Any, y_norms: Floats, near: Any, d: Floats
) -> None:
    """Distances of row i of a tile to columns first..m, into d."""
    zero = x_norm - x_norm
    margin = y_norms[0] + x_norm
    for j in range(first, len(d)):
        total = x_norm + y_norms[j]
        square = total - (G[i, j] + G[i, j])
        margin = min(margin, square - near * total)
        d[j] = np.sqrt(max(square, zero))
    if margin < zero:
        _recompute_near(first, x, Y, x_norm, y_norms, near, d)


@njit(fastmath=True, nogil=True, cache=True)
def _recompute_near(first: int, x: Floats, Y: Floats, x_norm: Any, y_norms: Floats, near: Any, d: Floats) -> None:
    """Replace the distances that are small against the norms by those of the coordinates' differences."""
    for j in range(first, len(d)):
        if d[j] * d[j] < near * (x_norm + y_norms[j]):
            square = x_norm - x_norm
            for f in range(len(x)):
                difference = x[f] - Y[j, f]
                square += difference * difference
            d[j] = np.sqrt(square)


@njit(fastmath=True, nogil=True, cache=True)
def _kernel_row(
    d: Floats, first: int, e: Floats, rates: Floats, squared: Integers, floor: Any, row: Floats, column: Floats
) -> None:
    """Pass 1 of one row into row (1 + 2t) and column (1 + 2t, m) sums: S, then R and D of each temperature."""
    zero = floor - floor
    n_temperatures = len(rates)
    total, into = zero, column[0]
    for j in range(first, len(d)):
        total += d[j]
        into[j] += d[j]
    row[0] = total
    for t in range(n_temperatures):
        sum_e, sum_de = zero, zero
        e_t, into_e, into_de = e[t], column[1 + t], column[1 + n_temperatures + t]
        if squared[t] < 0:
            rate = rates[t]
            for j in range(first, len(d)):
                value = exp2(rate * d[j])
                weighted = value * d[j]
                e_t[j] = value
                sum_e += value
                sum_de += weighted
                into_e[j] += value
                into_de[j] += weighted
        else:
            root = e[squared[t]]
            for j in range(first, len(d)):
                value = max(root[j], floor)
                value *= value
                weighted = value * d[j]
                e_t[j] = value
                sum_e += value
                sum_de += weighted
                into_e[j] += value
                into_de[j] += weighted
        row[1 + t] = sum_e
        row[1 + n_temperatures + t] = sum_de


@njit(nogil=True, parallel=True, cache=True)
def kernel_sums(
    X: Floats,
    Y: Floats,
    x_norms: Floats,
    y_norms: Floats,
    pairs: Integers,
    diagonal: bool,
    rates: Floats,
    squared: Integers,
    near: Any,
    floor: Any,
    n_workers: int,
) -> tuple[Floats, Floats]:
    """Pass 1 over the tiles of two panels of points.

    Parameters
    ----------
    X, Y
        (p, d) and (q, d) panels; the same array where `diagonal`.
    x_norms, y_norms
        (p,), (q,) squared norms of their rows.
    pairs
        `tile_pairs` of the panels.
    diagonal
        Whether both panels are the same points: then only pairs i < j are taken.
    rates
        (t,) c = -log2(e) / (mu T).
    squared
        (t,) position of the temperature whose exponentials are squared to get this one's, or -1.
    near
        See `NEAR`.
    floor
        Square root of the smallest result of `exp2`.
    n_workers
        Threads.

    Returns
    -------
    (pairs, 1 + 2t, TILE) float64 sums over the rows and over the columns of each tile: S, then R_t, then D_t.
    """
    n_sums = 1 + 2 * len(rates)
    over_rows = np.zeros((len(pairs), n_sums, TILE))
    over_columns = np.zeros((len(pairs), n_sums, TILE))
    for worker in prange(n_workers):
        d = np.empty(TILE, X.dtype)
        e = np.empty((len(rates), TILE), X.dtype)
        row = np.empty(n_sums, X.dtype)
        column = np.empty((n_sums, TILE), X.dtype)
        buffer = np.empty(TILE * TILE, X.dtype)
        for p in range(worker, len(pairs), n_workers):
            rows = slice(pairs[p, 0] * TILE, min(len(X), (pairs[p, 0] + 1) * TILE))
            columns = slice(pairs[p, 1] * TILE, min(len(Y), (pairs[p, 1] + 1) * TILE))
            block, other, norms = X[rows], Y[columns], y_norms[columns]
            m = len(other)
            G = buffer[: len(block) * m].reshape(len(block), m)
            np.dot(block, other.T, G)
            column[:] = 0
            on_diagonal = diagonal and pairs[p, 0] == pairs[p, 1]
            for i in range(len(block)):
                first = i + 1 if on_diagonal else 0
                if first < m:
                    _distances(G, i, first, block[i], other, x_norms[rows.start + i], norms, near, d[:m])
                    _kernel_row(d[:m], first, e, rates, squared, floor, row, column)
                    over_rows[p, :, i] = row
            over_columns[p] = column
    return over_rows, over_columns


@njit(fastmath=True, nogil=True, cache=True)
def _affinity_stretch(
    d: Floats, start: int, stop: int, rate: Any, l_row: Any, l_columns: Floats, into: Floats
) -> Any:
    """Pass 2 of one row and one temperature over columns start..stop; returns the row's sum."""
    total = l_row - l_row
    for j in range(start, stop):
        value = exp2(rate * d[j] - l_row - l_columns[j])
        total += value
        into[j] += value
    return total


@njit(nogil=True, parallel=True, cache=True)
def affinity_sums(
    X: Floats,
    Y: Floats,
    x_norms: Floats,
    y_norms: Floats,
    pairs: Integers,
    diagonal: bool,
    rates: Floats,
    x_logs: Floats,
    y_logs: Floats,
    same_start: Integers,
    same_stop: Integers,
    near: Any,
    n_workers: int,
) -> tuple[Floats, Floats]:
    """Pass 2 over the tiles of two panels of points sorted by class.

    Parameters
    ----------
    X, Y, x_norms, y_norms, pairs, diagonal, near, n_workers
        As in `kernel_sums`.
    rates
        (t,) 2 c.
    x_logs, y_logs
        (t, p), (t, q) l = log2 r.
    same_start, same_stop
        (p,) the columns of Y that have the class of each row of X; empty where none has.

    Returns
    -------
    (pairs, 2t, TILE) float64 sums over the rows and over the columns of each tile: a with points of other
    classes at each temperature, then with points of the same class.
    """
    n_temperatures = len(rates)
    over_rows = np.zeros((len(pairs), 2 * n_temperatures, TILE))
    over_columns = np.zeros((len(pairs), 2 * n_temperatures, TILE))
    for worker in prange(n_workers):
        d = np.empty(TILE, X.dtype)
        logs = np.empty((n_temperatures, TILE), X.dtype)
        column = np.empty((2 * n_temperatures, TILE), X.dtype)
        buffer = np.empty(TILE * TILE, X.dtype)
        for p in range(worker, len(pairs), n_workers):
            rows = slice(pairs[p, 0] * TILE, min(len(X), (pairs[p, 0] + 1) * TILE))
            columns = slice(pairs[p, 1] * TILE, min(len(Y), (pairs[p, 1] + 1) * TILE))
            block, other, norms = X[rows], Y[columns], y_norms[columns]
            m = len(other)
            G = buffer[: len(block) * m].reshape(len(block), m)
            np.dot(block, other.T, G)
            column[:] = 0
            logs[:, :m] = y_logs[:, columns]
            on_diagonal = diagonal and pairs[p, 0] == pairs[p, 1]
            for i in range(len(block)):
                first = i + 1 if on_diagonal else 0
                if first >= m:
                    continue
                _distances(G, i, first, block[i], other, x_norms[rows.start + i], norms, near, d[:m])
                start = min(max(same_start[rows.start + i] - columns.start, first), m)
                stop = max(min(same_stop[rows.start + i] - columns.start, m), start)
                for t in range(n_temperatures):
                    l_row, between, within = x_logs[t, rows.start + i], column[t], column[n_temperatures + t]
                    over_rows[p, t, i] = _affinity_stretch(d, first, start, rates[t], l_row, logs[t], between)
                    over_rows[p, t, i] += _affinity_stretch(d, stop, m, rates[t], l_row, logs[t], between)
                    over_rows[p, n_temperatures + t, i] = _affinity_stretch(
                        d, start, stop, rates[t], l_row, logs[t], within
                    )
            over_columns[p] = column
    return over_rows, over_columns

r"""One tile of distances becomes kernel sums: the innermost loops of RLD on the CPU.

A tile is the product G = X_I X_J^T of two blocks of points. Row by row it turns into distances and, for all
temperatures at once, into the sums of the two passes (`clorg_scale.rld.exact.passes` has the mathematics):

    pass 1   S_i = sum_j d_ij,   R_i = sum_j e_ij,   D_i = sum_j d_ij e_ij        e_ij = 2^(c d_ij)
    pass 2   k_i = sum_j a_ij, split by same class or not                         a_ij = 2^(2 c d_ij - l_i - l_j)

Where one temperature is half another one, its e is the square of the other's, and its a the square of the other's a
times f_i f_j, f = r'^2 / r with r' the other's sums: one exponential serves them all.
Both are symmetric in i and j, so each tile above the diagonal gives the sums of its rows *and* of its columns.
A row of distances (2 kB) stays in the first-level cache while the temperatures pass over it. Sums within a tile
are in the tile's precision, across tiles in float64. Every tile writes its sums to a place of its own, added up
afterward in a fixed order: the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.exp2 import exp2
from clorg_scale.numerics.simd import aligned_empty, use_wide_vectors

__all__ = ["TILE", "add_tiles", "affinity_sums", "kernel_sums", "row_distances", "squares", "tile_pairs"]

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


def squares(temperatures: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """For each temperature, an earlier one that is twice as large (its exponentials squared are this one's), or -1."""
    squared = np.full(len(temperatures), -1, dtype=np.int64)
    for t, temperature in enumerate(temperatures):
        for earlier in range(t):
            if abs(temperatures[earlier] / temperature - 2) < 1e-14:
                squared[t] = earlier
    return squared


@njit(nogil=True, parallel=True, cache=True)
def add_tiles(sums: Floats, tiles: Integers, start: int, stop: int, into: Floats) -> None:
    """Add the (b, s, TILE) sums of tiles to (s, n), tile after tile in a fixed order.

    Parameters
    ----------
    sums, tiles
        Sums, and the place of each tile in a panel.
    start, stop
        First point of the panel and the one after its last.
    into
        (s, n) float64.
    """
    for s in prange(sums.shape[1]):
        for b in range(len(tiles)):
            first = start + tiles[b] * TILE
            for i in range(min(TILE, stop - first)):
                into[s, first + i] += sums[b, s, i]


# The loops below count from 0 and add an unsigned offset: with a signed one Numba must allow for negative indices,
# and LLVM no longer vectorizes. Whole arrays and offsets are handed over, for a slice a row costs as much as the row.


@njit(fastmath=True, nogil=True, cache=True)
def row_distances(
    G: Floats,
    i: int,
    first: int,
    X: Floats,
    Y: Floats,
    x_norms: Floats,
    y_norms: Floats,
    near: Any,
    d: Floats,
) -> None:
    """Distances of row i of a tile to its columns from `first` on, into d."""
    use_wide_vectors()
    offset, n_near, x_norm = np.uintp(first), 0, x_norms[i]
    zero = x_norm - x_norm
    for step in range(len(Y) - first):
        j = offset + np.uintp(step)
        total = x_norm + y_norms[j]
        square = total - (G[i, j] + G[i, j])
        n_near += square < near * total
        d[j] = np.sqrt(max(square, zero))
    if n_near:
        _recompute_near(i, first, X, Y, x_norm, y_norms, near, d)


@njit(fastmath=True, nogil=True, cache=True)
def _recompute_near(
    i: int, first: int, X: Floats, Y: Floats, x_norm: Any, y_norms: Floats, near: Any, d: Floats
) -> None:
    """Replace the distances that are small against the norms by those of the coordinates' differences."""
    for j in range(first, len(Y)):
        if d[j] * d[j] < near * (x_norm + y_norms[j]):
            square = x_norm - x_norm
            for f in range(X.shape[1]):
                difference = X[i, f] - Y[j, f]
                square += difference * difference
            d[j] = np.sqrt(square)


@njit(fastmath=True, nogil=True, cache=True)
def _kernel_tile(
    G: Floats,
    on_diagonal: bool,
    X: Floats,
    Y: Floats,
    x_norms: Floats,
    y_norms: Floats,
    rates: Floats,
    squared: Integers,
    near: Any,
    floor: Any,
    d: Floats,
    e: Floats,
    row: Floats,
    column: Floats,
) -> None:
    """Pass 1 of one tile into row and column (1 + 2t, TILE) sums: S, then R and D of each temperature."""
    use_wide_vectors()
    n_temperatures, m = len(rates), len(Y)
    for i in range(len(X)):
        first = i + 1 if on_diagonal else 0
        if first >= m:
            break
        row_distances(G, i, first, X, Y, x_norms, y_norms, near, d)
        row[0, i] = _add(d, first, m, column)
        for t in range(n_temperatures):
            if squared[t] < 0:
                sum_e, sum_de = _exponentials(d, first, m, rates[t], t, e, column)
            else:
                sum_e, sum_de = _squares(d, first, m, squared[t], floor, t, e, column)
            row[1 + t, i] = sum_e
            row[1 + n_temperatures + t, i] = sum_de


@njit(fastmath=True, nogil=True, cache=True)
def _add(d: Floats, first: int, m: int, column: Floats) -> Any:
    """Add distances to the columns' first sum; returns the row's."""
    use_wide_vectors()
    offset, total = np.uintp(first), d[0] - d[0]
    for step in range(m - first):
        j = offset + np.uintp(step)
        total += d[j]
        column[0, j] += d[j]
    return total


@njit(fastmath=True, nogil=True, cache=True)
def _exponentials(d: Floats, first: int, m: int, rate: Any, t: int, e: Floats, column: Floats) -> tuple[Any, Any]:
    """e_t = 2^(rate d); e_t and d e_t are added to the columns' sums; returns the row's."""
    use_wide_vectors()
    offset, sum_e, sum_de = np.uintp(first), rate - rate, rate - rate
    of_e, of_de = 1 + t, 1 + len(e) + t
    for step in range(m - first):
        j = offset + np.uintp(step)
        value = exp2(rate * d[j])
        weighted = value * d[j]
        e[t, j] = value
        sum_e += value
        sum_de += weighted
        column[of_e, j] += value
        column[of_de, j] += weighted
    return sum_e, sum_de


@njit(fastmath=True, nogil=True, cache=True)
def _squares(
    d: Floats, first: int, m: int, root: int, floor: Any, t: int, e: Floats, column: Floats
) -> tuple[Any, Any]:
    """Like `_exponentials`, with e_t the square of another temperature's."""
    use_wide_vectors()
    offset, sum_e, sum_de = np.uintp(first), floor - floor, floor - floor
    of_e, of_de = 1 + t, 1 + len(e) + t
    for step in range(m - first):
        j = offset + np.uintp(step)
        value = max(e[root, j], floor)
        value *= value
        weighted = value * d[j]
        e[t, j] = value
        sum_e += value
        sum_de += weighted
        column[of_e, j] += value
        column[of_de, j] += weighted
    return sum_e, sum_de


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
        lines = aligned_empty(2, TILE, X)
        d, norms = lines[0], lines[1]
        e = aligned_empty(len(rates), TILE, X)
        column = aligned_empty(n_sums, TILE, X)
        buffer = aligned_empty(1, TILE * TILE, X)[0]
        for p in range(worker, len(pairs), n_workers):
            rows = slice(pairs[p, 0] * TILE, min(len(X), (pairs[p, 0] + 1) * TILE))
            columns = slice(pairs[p, 1] * TILE, min(len(Y), (pairs[p, 1] + 1) * TILE))
            block, other = X[rows], Y[columns]
            m = len(other)
            norms[:m] = y_norms[columns]
            G = buffer[: len(block) * m].reshape(len(block), m)
            np.dot(block, other.T, G)
            column[:] = 0
            on_diagonal = diagonal and pairs[p, 0] == pairs[p, 1]
            _kernel_tile(
                G,
                on_diagonal,
                block,
                other,
                x_norms[rows],
                norms[:m],
                rates,
                squared,
                near,
                floor,
                d,
                e,
                over_rows[p],
                column,
            )
            over_columns[p] = column
    return over_rows, over_columns


@njit(fastmath=True, nogil=True, cache=True)
def _affinities(
    d: Floats,
    start: int,
    stop: int,
    rate: Any,
    l_row: Any,
    l_columns: Floats,
    t: int,
    into: int,
    a: Floats,
    column: Floats,
) -> tuple[Any, Any]:
    """Pass 2 of one row and temperature over the columns start..stop; returns the row's sum, and that of squares."""
    use_wide_vectors()
    offset, total = np.uintp(start), l_row - l_row
    of_squares = total
    for step in range(stop - start):
        j = offset + np.uintp(step)
        value = exp2(rate * d[j] - l_row - l_columns[t, j])
        a[t, j] = value
        total += value
        of_squares += value * value
        column[into, j] += value
    return total, of_squares


@njit(fastmath=True, nogil=True, cache=True)
def _squared_affinities(
    start: int,
    stop: int,
    root: int,
    floor: Any,
    f_row: Any,
    f_columns: Floats,
    t: int,
    into: int,
    a: Floats,
    column: Floats,
) -> tuple[Any, Any]:
    """Like `_affinities`, from the squares of another temperature's."""
    use_wide_vectors()
    offset, total = np.uintp(start), floor - floor
    of_squares = total
    for step in range(stop - start):
        j = offset + np.uintp(step)
        value = max(a[root, j], floor)
        value *= value * (f_row * f_columns[t, j])
        a[t, j] = value
        total += value
        of_squares += value * value
        column[into, j] += value
    return total, of_squares


@njit(fastmath=True, nogil=True, cache=True)
def _affinity_tile(
    G: Floats,
    on_diagonal: bool,
    X: Floats,
    Y: Floats,
    x_norms: Floats,
    y_norms: Floats,
    rates: Floats,
    squared: Integers,
    x_logs: Floats,
    y_logs: Floats,
    same_start: Integers,
    same_stop: Integers,
    near: Any,
    floor: Any,
    d: Floats,
    a: Floats,
    row: Floats,
    column: Floats,
) -> None:
    """Pass 2 of one tile into row (3t, TILE) and column (2t, TILE) sums: other classes, the same class, squares.

    Points are sorted by class, so the columns of a row's class are one stretch: three runs, no comparison of classes.
    """
    use_wide_vectors()
    n_temperatures, m = len(rates), len(Y)
    for i in range(len(X)):
        first = i + 1 if on_diagonal else 0
        if first >= m:
            break
        row_distances(G, i, first, X, Y, x_norms, y_norms, near, d)
        start = min(max(same_start[i], first), m)
        stop = max(min(same_stop[i], m), start)
        for begin, end, into in ((first, start, 0), (start, stop, n_temperatures), (stop, m, 0)):
            if begin == end:
                continue
            for t in range(n_temperatures):
                x_log = x_logs[t, i]
                if squared[t] < 0:
                    sums = _affinities(d, begin, end, rates[t], x_log, y_logs, t, into + t, a, column)
                else:
                    sums = _squared_affinities(begin, end, squared[t], floor, x_log, y_logs, t, into + t, a, column)
                row[into + t, i] += sums[0]
                row[2 * n_temperatures + t, i] += sums[1]


@njit(nogil=True, parallel=True, cache=True)
def affinity_sums(
    X: Floats,
    Y: Floats,
    x_norms: Floats,
    y_norms: Floats,
    pairs: Integers,
    diagonal: bool,
    rates: Floats,
    squared: Integers,
    x_logs: Floats,
    y_logs: Floats,
    same_start: Integers,
    same_stop: Integers,
    near: Any,
    floor: Any,
    n_workers: int,
) -> tuple[Floats, Floats]:
    """Pass 2 over the tiles of two panels of points sorted by class.

    Parameters
    ----------
    X, Y, x_norms, y_norms, pairs, diagonal, squared, near, floor, n_workers
        As in `kernel_sums`.
    rates
        (t,) 2 c.
    x_logs, y_logs
        (t, p), (t, q) l = log2 r; where the temperature is a squared one, f instead.
    same_start, same_stop
        (p,) the columns of Y that have the class of each row of X; empty where none has.

    Returns
    -------
    (pairs, 3t, TILE) float64 sums over the rows and over the columns of each tile: a with points of other
    classes at each temperature, then with points of the same class, then, over rows only, the squares of a.
    """
    n_temperatures = len(rates)
    over_rows = np.zeros((len(pairs), 3 * n_temperatures, TILE))
    over_columns = np.zeros((len(pairs), 3 * n_temperatures, TILE))
    for worker in prange(n_workers):
        lines = aligned_empty(2, TILE, X)
        d, norms = lines[0], lines[1]
        a = aligned_empty(n_temperatures, TILE, X)
        logs = aligned_empty(n_temperatures, TILE, X)
        column = aligned_empty(2 * n_temperatures, TILE, X)
        buffer = aligned_empty(1, TILE * TILE, X)[0]
        for p in range(worker, len(pairs), n_workers):
            rows = slice(pairs[p, 0] * TILE, min(len(X), (pairs[p, 0] + 1) * TILE))
            columns = slice(pairs[p, 1] * TILE, min(len(Y), (pairs[p, 1] + 1) * TILE))
            block, other = X[rows], Y[columns]
            m = len(other)
            norms[:m] = y_norms[columns]
            G = buffer[: len(block) * m].reshape(len(block), m)
            np.dot(block, other.T, G)
            column[:] = 0
            logs[:, :m] = y_logs[:, columns]
            on_diagonal = diagonal and pairs[p, 0] == pairs[p, 1]
            _affinity_tile(
                G,
                on_diagonal,
                block,
                other,
                x_norms[rows],
                norms[:m],
                rates,
                squared,
                x_logs[:, rows],
                logs,
                same_start[rows] - columns.start,
                same_stop[rows] - columns.start,
                near,
                floor,
                d,
                a,
                over_rows[p],
                column,
            )
            over_columns[p, : 2 * n_temperatures] = column
    return over_rows, over_columns

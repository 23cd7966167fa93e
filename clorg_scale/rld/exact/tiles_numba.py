r"""One tile of distances becomes kernel sums: the innermost loops of RLD on the CPU.

A tile is the product G = X_I X_J^T of two blocks of points. Row by row it turns into distances and, for all
temperatures at once, into the sums of the two passes (`clorg_scale.rld.exact.passes` has the mathematics):

    pass 1   S_i = sum_j d_ij,   R_i = sum_j e_ij,   D_i = sum_j d_ij e_ij        e_ij = 2^(c d_ij)
    pass 2   k_i = sum_j a_ij, split by same class or not                         a_ij = 2^(2 c d_ij - l_i - l_j)

Where one temperature is half another one, its e is the square of the other's, and its a the square of the other's a
times f_i f_j, f = r'^2 / r with r' the other's sums: one exponential serves them all.
Both are symmetric in i and j, so each tile above the diagonal gives the sums of its rows *and* of its columns.
A row of distances (2 kB) stays in the first-level cache while the temperatures pass over it. Sums within a tile
are in the tile's precision, across tiles in float64. Every tile writes its sums to memory of its own, added up
afterward in a fixed order: the result does not depend on the number of threads.

Only the functions that Python calls are cached on disk: a callee that came from there would not be inlined into a
caller compiled anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.numerics.compiler import callee, njit
from clorg_scale.numerics.exp2 import exp2
from clorg_scale.numerics.row_distances import Tile, row_distances
from clorg_scale.numerics.simd import aligned_empty, use_wide_vectors
from clorg_scale.numerics.threads import Rows, on_threads, over_rows, shares_of

__all__ = [
    "TILE",
    "ClassSpans",
    "Exponents",
    "Logs",
    "PanelPair",
    "add_tiles",
    "affinity_sums",
    "kernel_sums",
    "tile_pairs",
]

Floats = npt.NDArray[Any]
"""float32 or float64; a tile and all that goes with it have one precision."""

Integers = npt.NDArray[np.int64]

TILE = 512
"""Points a side: a float32 tile (1 MB) fits the second-level cache beside the blocks that make it."""


class PanelPair(NamedTuple):
    """Two panels of points and the tiles they are cut into.

    `X`, `Y`: (p, d) and (q, d) points, the same array on the diagonal; `x_norms`, `y_norms`: squared norms of their
    rows; `tiles`: `tile_pairs` of the panels; `diagonal`: both panels are the same points, only pairs i < j are taken.
    """

    X: Floats
    Y: Floats
    x_norms: Floats
    y_norms: Floats
    tiles: Integers
    diagonal: bool


class Exponents(NamedTuple):
    """Exponentials of a pass.

    `rates`: (t,) c = -log2(e) / (mu T), twice that in pass 2; `square_of`: see `clorg_scale.rld.temperatures`; `near`:
    see `clorg_scale.rld.points.NEAR`; `floor`: square root of the smallest result of `exp2`.
    """

    rates: Floats
    square_of: Integers
    near: Any
    floor: Any


class Logs(NamedTuple):
    """(t, p) and (t, q) l = log2 r of rows and columns; f instead where the temperature's e are squares."""

    rows: Floats
    columns: Floats


class ClassSpans(NamedTuple):
    """(p,) first column of the class of each row, and the one after its last; empty where there is none."""

    start: Integers
    stop: Integers


_Share = tuple[int, int]
"""Number of a share of the work, number of all."""


class _Lines(NamedTuple):
    """Lines of a tile: distances of a row, (t, TILE) its exponentials, (s, TILE) sums over columns."""

    d: Floats
    e: Floats
    column: Floats


class _WorkSpace(NamedTuple):
    """Memory of a thread: lines, (TILE,) norms of columns, (TILE^2,) products."""

    lines: _Lines
    norms: Floats
    products: Floats


def tile_pairs(n_rows: int, n_columns: int, *, diagonal: bool) -> Integers:
    """Positions (tile row, tile column) of all tiles of two panels; only the upper half of a panel with itself."""
    rows, columns = -(-n_rows // TILE), -(-n_columns // TILE)
    pairs = [(i, j) for i in range(rows) for j in range(i if diagonal else 0, columns)]
    return np.array(pairs, dtype=np.int64)


def add_tiles(sums: Floats, tiles: Integers, into: Floats) -> None:
    """Add the (b, s, TILE) sums of tiles at their positions to (s, n) float64, tile after tile in a fixed order."""
    over_rows(_add_tiles, len(into), len(tiles) * TILE, sums, tiles, into)


@njit(nogil=True, cache=True)
def _add_tiles(rows: Rows, sums: Floats, tiles: Integers, into: Floats) -> None:
    n = into.shape[1]
    for s in range(rows[0], rows[1]):
        for b in range(len(tiles)):
            first = tiles[b] * TILE
            for i in range(min(TILE, n - first)):
                into[s, first + i] += sums[b, s, i]


# The loops count from 0 and add unsigned offsets: see `clorg_scale.numerics.row_distances`.


@callee(fastmath=True)
def _kernel_tile(tile: Tile, on_diagonal: bool, exponents: Exponents, lines: _Lines, row: Floats) -> None:
    """Pass 1 of one tile into row and column (1 + 2t, TILE) sums: S, then R and D of each temperature."""
    use_wide_vectors()
    rates, square_of, near, floor = exponents
    d, _, column = lines
    n_temperatures, m = len(rates), len(tile.Y)
    for i in range(len(tile.X)):
        first = i + 1 if on_diagonal else 0
        if first >= m:
            break
        row_distances(tile, i, first, near, d)
        row[0, i] = _add(d, first, m, column)
        for t in range(n_temperatures):
            if square_of[t] < 0:
                sum_e, sum_de = _exponentials(lines, first, m, rates[t], t)
            else:
                sum_e, sum_de = _squares(lines, (first, m), square_of[t], floor, t)
            row[1 + t, i] = sum_e
            row[1 + n_temperatures + t, i] = sum_de


@callee(fastmath=True)
def _add(d: Floats, first: int, m: int, column: Floats) -> Any:
    """Add distances to the columns' first sum; returns the row's."""
    use_wide_vectors()
    offset, total = np.uintp(first), column[0, 0] - column[0, 0]
    for step in range(m - first):
        j = offset + np.uintp(step)
        total += d[j]
        column[0, j] += d[j]
    return total


@callee(fastmath=True)
def _exponentials(lines: _Lines, first: int, m: int, rate: Any, t: int) -> tuple[Any, Any]:
    """e_t = 2^(rate d); e_t and d e_t are added to the columns' sums; returns the row's."""
    use_wide_vectors()
    d, e, column = lines
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


@callee(fastmath=True)
def _squares(lines: _Lines, span: tuple[int, int], root: int, floor: Any, t: int) -> tuple[Any, Any]:
    """Like `_exponentials` over a span of columns, with e_t the square of another temperature's."""
    use_wide_vectors()
    d, e, column = lines
    first, m = span
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


def _work_space(dtype: np.dtype[Any], n_temperatures: int, n_sums: int) -> _WorkSpace:
    """Uninitialized memory of a thread."""
    d, norms = aligned_empty(2, TILE, dtype)
    lines = _Lines(d, aligned_empty(n_temperatures, TILE, dtype), aligned_empty(n_sums, TILE, dtype))
    return _WorkSpace(lines, norms, aligned_empty(1, TILE * TILE, dtype)[0])


@callee
def _copy(lines: Floats, into: Floats) -> None:
    """Copy (s, TILE) sums; assignment of slices would bring messages about shapes, seconds of compilation."""
    for s in range(len(lines)):
        for j in range(TILE):
            into[s, j] = lines[s, j]


@callee
def _multiply(pair: PanelPair, number: int, space: _WorkSpace) -> tuple[Tile, slice, slice]:
    """One of the tiles of two panels, its sums over columns set to 0; its rows and columns."""
    X, Y, x_norms, y_norms, tiles, _ = pair
    rows = slice(tiles[number, 0] * TILE, min(len(X), (tiles[number, 0] + 1) * TILE))
    columns = slice(tiles[number, 1] * TILE, min(len(Y), (tiles[number, 1] + 1) * TILE))
    block, other = X[rows], Y[columns]
    m = len(other)
    for j in range(m):
        space.norms[j] = y_norms[columns.start + j]
    G = space.products[: len(block) * m].reshape(len(block), m)
    np.dot(block, other.T, G)
    space.lines.column.fill(0)
    return Tile(G, block, other, x_norms[rows], space.norms[:m]), rows, columns


def kernel_sums(pair: PanelPair, exponents: Exponents) -> tuple[Floats, Floats]:
    """Pass 1 over the tiles of two panels of points.

    Returns
    -------
    (tiles, 1 + 2t, TILE) float64 sums over the rows and over the columns of each tile: S, then R_t, then D_t.
    """
    n_temperatures = len(exponents.rates)
    n_sums, n_shares = 1 + 2 * n_temperatures, shares_of(len(pair.tiles))
    sums = np.zeros((2, len(pair.tiles), n_sums, TILE))

    def work(share: int) -> None:
        space = _work_space(pair.X.dtype, n_temperatures, n_sums)
        _kernel_sums(pair, exponents, (share, n_shares), space, sums)

    on_threads(work, n_shares, products=True)
    return sums[0], sums[1]


@njit(nogil=True, cache=True)
def _kernel_sums(pair: PanelPair, exponents: Exponents, share: _Share, space: _WorkSpace, sums: Floats) -> None:
    """A thread's share of the tiles; sums (2, tiles, ...) over rows and columns."""
    for p in range(share[0], len(pair.tiles), share[1]):
        tile, _, _ = _multiply(pair, p, space)
        on_diagonal = pair.diagonal and pair.tiles[p, 0] == pair.tiles[p, 1]
        _kernel_tile(tile, on_diagonal, exponents, space.lines, sums[0, p])
        _copy(space.lines.column, sums[1, p])


@callee(fastmath=True)
def _affinities(
    lines: _Lines, span: tuple[int, int], rate: Any, logs: tuple[Any, Floats], at: tuple[int, int]
) -> tuple[Any, Any]:
    """Pass 2 of one row and temperature over a span of columns; returns the row's sum, and that of squares.

    `logs`: l of the row, (t, TILE) of the columns; `at`: the temperature, the sum over columns that is added to.
    """
    use_wide_vectors()
    d, a, column = lines
    (start, stop), (l_row, l_columns), (t, into) = span, logs, at
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


@callee(fastmath=True)
def _squared_affinities(
    lines: _Lines, span: tuple[int, int], square: tuple[int, Any], factors: tuple[Any, Floats], at: tuple[int, int]
) -> tuple[Any, Any]:
    """Like `_affinities`, from the squares of another temperature's: its position, the least of its values."""
    use_wide_vectors()
    _, a, column = lines
    (start, stop), (root, floor), (f_row, f_columns), (t, into) = span, square, factors, at
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


@callee(fastmath=True)
def _affinity_tile(
    tile: Tile, exponents: Exponents, logs: Logs, spans: ClassSpans, work: tuple[bool, _Lines, Floats]
) -> None:
    """Pass 2 of one tile into row (3t, TILE) and column (2t, TILE) sums: other classes, the same class, squares.

    Points are sorted by class, so the columns of a row's class are one stretch: three loops, no comparison of classes.
    `work`: whether the tile is on the diagonal, its lines, the row sums.
    """
    use_wide_vectors()
    rates, square_of, near, floor = exponents
    x_logs, y_logs = logs
    on_diagonal, lines, row = work
    d = lines.d
    n_temperatures, m = len(rates), len(tile.Y)
    for i in range(len(tile.X)):
        first = i + 1 if on_diagonal else 0
        if first >= m:
            break
        row_distances(tile, i, first, near, d)
        start = min(max(spans.start[i], first), m)
        stop = max(min(spans.stop[i], m), start)
        for begin, end, into in ((first, start, 0), (start, stop, n_temperatures), (stop, m, 0)):
            if begin == end:
                continue
            for t in range(n_temperatures):
                of_pair, span, at = (x_logs[t, i], y_logs), (begin, end), (t, into + t)
                if square_of[t] < 0:
                    sums = _affinities(lines, span, rates[t], of_pair, at)
                else:
                    sums = _squared_affinities(lines, span, (square_of[t], floor), of_pair, at)
                row[into + t, i] += sums[0]
                row[2 * n_temperatures + t, i] += sums[1]


def affinity_sums(pair: PanelPair, exponents: Exponents, logs: Logs, spans: ClassSpans) -> tuple[Floats, Floats]:
    """Pass 2 over the tiles of two panels of points sorted by class; parameters as in `kernel_sums`.

    Returns
    -------
    (tiles, 3t, TILE) float64 sums over the rows and over the columns of each tile: a with points of other
    classes at each temperature, then with points of the same class, then, over rows only, the squares of a.
    """
    n_temperatures, dtype = len(exponents.rates), pair.X.dtype
    n_shares = shares_of(len(pair.tiles))
    sums = np.zeros((2, len(pair.tiles), 3 * n_temperatures, TILE))

    def work(share: int) -> None:
        space = _work_space(dtype, n_temperatures, 2 * n_temperatures)
        column_logs = aligned_empty(n_temperatures, TILE, dtype)
        _affinity_sums(pair, exponents, (logs, spans), (share, n_shares), (space, column_logs, sums))

    on_threads(work, n_shares, products=True)
    return sums[0], sums[1]


@njit(nogil=True, cache=True)
def _affinity_sums(
    pair: PanelPair,
    exponents: Exponents,
    points: tuple[Logs, ClassSpans],
    share: _Share,
    memory: tuple[_WorkSpace, Floats, Floats],
) -> None:
    """A thread's share of the tiles; memory: its own, (t, TILE) for logs of columns, sums as in `_kernel_sums`."""
    (logs, spans), (space, column_logs, sums) = points, memory
    for p in range(share[0], len(pair.tiles), share[1]):
        tile, rows, columns = _multiply(pair, p, space)
        for t in range(len(column_logs)):
            for j in range(len(tile.Y)):
                column_logs[t, j] = logs.columns[t, columns.start + j]
        on_diagonal = pair.diagonal and pair.tiles[p, 0] == pair.tiles[p, 1]
        here = ClassSpans(spans.start[rows] - columns.start, spans.stop[rows] - columns.start)
        work = (on_diagonal, space.lines, sums[0, p])
        _affinity_tile(tile, exponents, Logs(logs.rows[:, rows], column_logs), here, work)
        _copy(space.lines.column, sums[1, p])

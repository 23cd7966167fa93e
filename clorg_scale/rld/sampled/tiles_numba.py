r"""Tiles of all points against landmarks: the innermost loops of sampled RLD on the CPU.

Distances and exponentials are those of `clorg_scale.rld.exact.tiles_numba`, but only rows are summed over:

    pass 1   R_ig = sum over the landmarks s of group g of v_s e_is                e_is = 2^(c d_is - b_i)
    pass 2   k_ig = sum of v_s a_is, and of that what goes to i's class            a_is = 2^(2 c d_is - l_i - l_s)

with v the weights, and b_i such that no row underflows. Every tile of points has landmarks of its own, gathered from
the pool. Both passes skip the pairs that are known exactly. As the groups take turns, each of 16 lanes of a vector
sums one group: a tile's 512 columns are folded in halves down to 16, without a horizontal sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.exp2 import exp2
from clorg_scale.numerics.simd import aligned_empty, use_wide_vectors
from clorg_scale.rld.exact.tiles_numba import TILE, Tile, row_distances
from clorg_scale.rld.sampled.landmarks import GROUPS
from clorg_scale.rld.sampled.tile_order import ROWS

__all__ = ["landmark_affinities", "landmark_sums"]

Floats = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]

AWAY = 1e15
AWAY32 = np.float32(AWAY)
"""Distance given to pairs that are skipped; their exponentials are the smallest there are."""

HALF = TILE // 2


@njit(nogil=True, cache=True)
def _skip(d: Floats, columns: Integers, start: int, stop: int, first: int, m: int, reach: Any, reaches: Floats) -> None:
    """Move the listed landmarks away, and those within reach; d holds those from `first` on."""
    use_wide_vectors()
    away = reach - reach + AWAY32
    for step in range(m):
        j = np.uintp(step)
        d[j] = away if d[j] < max(reach, reaches[j]) else d[j]
    for entry in range(start, stop):
        j = columns[entry] - first
        if 0 <= j < m:
            d[j] = AWAY


@njit(fastmath=True, nogil=True, cache=True)
def _exponentials(d: Floats, m: int, rate: Any, shift: Any, e: Floats, t: int) -> None:
    """e_t = 2^(rate d - shift)."""
    use_wide_vectors()
    for step in range(m):
        j = np.uintp(step)
        e[t, j] = exp2(rate * d[j] - shift)


@njit(fastmath=True, nogil=True, cache=True)
def _squares(m: int, root: int, factor: Any, floor: Any, e: Floats, t: int) -> None:
    """e_t = factor times the square of another temperature's."""
    use_wide_vectors()
    for step in range(m):
        j = np.uintp(step)
        value = max(e[root, j], floor)
        e[t, j] = factor * value * value


@njit(fastmath=True, nogil=True, cache=True)
def _add_groups(e: Floats, t: int, weights: Floats, first: int, halves: Floats, sums: Floats) -> None:
    """Add v e of the tile that begins at landmark `first` to the (16,) sums of the groups.

    Beyond the last landmark v is 0 and e finite.
    """
    use_wide_vectors()
    there = np.uintp(first)
    for step in range(HALF):
        j = np.uintp(step)
        other = j + np.uintp(HALF)
        halves[j] = weights[there + j] * e[t, j] + weights[there + other] * e[t, other]
    for step in range(HALF // 2):
        j = np.uintp(step)
        halves[j] += halves[j + np.uintp(HALF // 2)]
    for step in range(HALF // 4):
        j = np.uintp(step)
        halves[j] += halves[j + np.uintp(HALF // 4)]
    for step in range(HALF // 8):
        j = np.uintp(step)
        halves[j] += halves[j + np.uintp(HALF // 8)]
    for step in range(GROUPS):
        j = np.uintp(step)
        sums[j] += halves[j] + halves[j + np.uintp(GROUPS)]


@njit(fastmath=True, nogil=True, cache=True)
def _weighted(e: Floats, t: int, weights: Floats, first: int) -> Any:
    """Sum of v e over the tile that begins at landmark `first`."""
    use_wide_vectors()
    there, total = np.uintp(first), weights[0] - weights[0]
    for step in range(TILE):
        j = np.uintp(step)
        total += weights[there + j] * e[t, j]
    return total


@njit(nogil=True, cache=True)
def _gather(
    L: Floats, l_norms: Floats, l_reach: Floats, columns: Integers, other: Floats, norms: Floats, reaches: Floats
) -> None:
    """Coordinates, norms and reaches of landmarks of the pool; where there is none, all points are within reach."""
    for s in range(len(columns)):
        other[s] = L[max(columns[s], 0)]
        norms[s] = l_norms[max(columns[s], 0)]
        reaches[s] = l_reach[columns[s]] if columns[s] >= 0 else AWAY


@njit(nogil=True, parallel=True, cache=True)
def landmark_sums(
    X: Floats,
    L: Floats,
    x_norms: Floats,
    l_norms: Floats,
    x_reach: Floats,
    l_reach: Floats,
    rates: Floats,
    squared: Integers,
    shifts: Floats,
    gain: Any,
    columns: Integers,
    weights: Floats,
    skip_starts: Integers,
    skip_columns: Integers,
    near: Any,
    floor: Any,
) -> Floats:
    """Pass 1 of a block of points.

    Parameters
    ----------
    X, L, x_norms, l_norms
        (p, d) points, (l, d) pool of landmarks, and their squared norms.
    x_reach, l_reach
        (p,), (l,) distance of the farthest neighbor that each has in the near field: pairs nearer than that of either
        end are neighbors that were missed, too few to tell their number from a sample of them, and are left out.
    rates, squared
        (t,) c, and the temperature whose squares are taken, or -1 (as in `rld.exact.tiles_numba.kernel_sums`).
    shifts
        (t, p) b.
    gain
        What a square is multiplied with to have its own b: 2^(2 b' - b).
    columns, weights
        (b, m), (b, 2, m) as `rld.sampled.landmarks.LandmarkSets`; with zeros behind, to a whole number of tiles, in
        the dtype of X.
    skip_starts, skip_columns
        (p + 1,), (s,) which of its tile's landmarks to leave out for each point, as in a CSR matrix.
    near, floor
        As in `clorg_scale.rld.exact.tiles_numba.kernel_sums`.

    Returns
    -------
    (p, t, 17) float64 R of the groups and of the landmarks never left out.
    """
    n_temperatures, n_landmarks = len(rates), columns.shape[1]
    sums = np.zeros((len(X), n_temperatures, GROUPS + 1))
    for block in prange(len(columns)):
        rows = slice(block * ROWS, min(len(X), (block + 1) * ROWS))
        here, lines = X[rows], aligned_empty(3, TILE, X)
        d, norms, reaches = lines[0], lines[1], lines[2]
        e, buffer = aligned_empty(n_temperatures, TILE, X), aligned_empty(1, ROWS * TILE, X)[0]
        e[:] = 0
        halves = aligned_empty(1, HALF, X)[0]
        others = aligned_empty(TILE, L.shape[1], X)
        for first in range(0, n_landmarks, TILE):
            m = min(TILE, n_landmarks - first)
            whole = weights[block, 1, first : first + m].any()
            other = others[:m]
            _gather(L, l_norms, l_reach, columns[block, first : first + m], other, norms, reaches)
            G = buffer[: len(here) * m].reshape(len(here), m)
            np.dot(here, other.T, G)
            tile = Tile(G, here, other, x_norms[rows], norms[:m])
            for i in range(len(here)):
                row = rows.start + i
                row_distances(tile, i, 0, near, d)
                _skip(d, skip_columns, skip_starts[row], skip_starts[row + 1], first, m, x_reach[row], reaches)
                for t in range(n_temperatures):
                    if squared[t] < 0:
                        _exponentials(d, m, rates[t], shifts[t, row], e, t)
                    else:
                        _squares(m, squared[t], gain, floor, e, t)
                    _add_groups(e, t, weights[block, 0], first, halves, sums[row, t])
                    if whole:
                        sums[row, t, GROUPS] += _weighted(e, t, weights[block, 1], first)
    return sums


@njit(fastmath=True, nogil=True, cache=True)
def _affinities(d: Floats, m: int, rate: Any, l_row: Any, logs: Floats, first: int, a: Floats, t: int) -> None:
    """a_t = 2^(rate d - l_i - l_s)."""
    use_wide_vectors()
    there = np.uintp(first)
    for step in range(m):
        j = np.uintp(step)
        a[t, j] = exp2(rate * d[j] - l_row - logs[t, there + j])


@njit(fastmath=True, nogil=True, cache=True)
def _squared_affinities(
    m: int, root: int, factor: Any, factors: Floats, first: int, floor: Any, a: Floats, t: int
) -> None:
    """a_t from the squares of another temperature's."""
    use_wide_vectors()
    there = np.uintp(first)
    for step in range(m):
        j = np.uintp(step)
        value = max(a[root, j], floor)
        a[t, j] = value * value * (factor * factors[t, there + j])


@njit(fastmath=True, nogil=True, cache=True)
def _of_class(weights: Floats, classes: npt.NDArray[np.int32], own: Any, first: int, chosen: Floats) -> None:
    """V of one class in the tile that begins at landmark `first`, 0 elsewhere."""
    use_wide_vectors()
    there = np.uintp(first)
    for step in range(TILE):
        j = np.uintp(step)
        chosen[j] = weights[there + j] if classes[there + j] == own else weights[there + j] * 0


@njit(fastmath=True, nogil=True, cache=True)
def _weighted_squares(a: Floats, t: int, weights: Floats, first: int, floor: Any) -> Any:
    """Sum of v a^2 over the tile that begins at landmark `first`, a at least `floor` (as in `_squares`)."""
    use_wide_vectors()
    there, total = np.uintp(first), weights[0] - weights[0]
    for step in range(TILE):
        j = np.uintp(step)
        value = max(a[t, j], floor)
        total += weights[there + j] * value * value
    return total


@njit(nogil=True, cache=True)
def _of_landmarks(
    l_logs: Floats, l_classes: npt.NDArray[np.int32], columns: Integers, width: int
) -> tuple[Floats, npt.NDArray[np.int32]]:
    """(t, w) logarithms and (w,) classes of a tile's landmarks, w >= m."""
    logs, classes = np.zeros((len(l_logs), width), l_logs.dtype), np.full(width, -2, np.int32)
    for s in range(len(columns)):
        if columns[s] >= 0:
            logs[:, s] = l_logs[:, columns[s]]
            classes[s] = l_classes[columns[s]]
    return logs, classes


@njit(nogil=True, parallel=True, cache=True)
def landmark_affinities(
    X: Floats,
    L: Floats,
    x_norms: Floats,
    l_norms: Floats,
    x_reach: Floats,
    l_reach: Floats,
    rates: Floats,
    squared: Integers,
    x_logs: Floats,
    l_logs: Floats,
    columns: Integers,
    weights: Floats,
    x_classes: npt.NDArray[np.int32],
    l_classes: npt.NDArray[np.int32],
    skip_starts: Integers,
    skip_columns: Integers,
    near: Any,
    floor: Any,
) -> tuple[Floats, Floats]:
    """Pass 2 of a block of points.

    Parameters
    ----------
    X, L, x_norms, l_norms, x_reach, l_reach, squared, columns, weights, skip_starts, skip_columns, near, floor
        As in `landmark_sums`.
    rates
        (t,) 2 c.
    x_logs, l_logs
        (t, p), (t, l) l = log2 r; where the temperature is a squared one, the factors of its squares.
    x_classes, l_classes
        (p,), (l,) int32 class codes.

    Returns
    -------
    (2, p, t, 17) float64 sums of v a over all landmarks and over those of the point's class, and (t,) the sum of v a^2.
    """
    n_temperatures, n_landmarks = len(rates), columns.shape[1]
    sums = np.zeros((2, len(X), n_temperatures, GROUPS + 1))
    of_squares = np.zeros((len(columns), n_temperatures))
    for block in prange(len(columns)):
        rows = slice(block * ROWS, min(len(X), (block + 1) * ROWS))
        here, lines = X[rows], aligned_empty(3, TILE, X)
        d, norms, reaches = lines[0], lines[1], lines[2]
        a, buffer = aligned_empty(n_temperatures, TILE, X), aligned_empty(1, ROWS * TILE, X)[0]
        a[:] = 0
        halves, own = aligned_empty(1, HALF, X)[0], aligned_empty(2, TILE, X)
        others = aligned_empty(TILE, L.shape[1], X)
        logs, classes = _of_landmarks(l_logs, l_classes, columns[block], weights.shape[2])
        for first in range(0, n_landmarks, TILE):
            m = min(TILE, n_landmarks - first)
            whole = weights[block, 1, first : first + m].any()
            other = others[:m]
            _gather(L, l_norms, l_reach, columns[block, first : first + m], other, norms, reaches)
            G = buffer[: len(here) * m].reshape(len(here), m)
            np.dot(here, other.T, G)
            tile = Tile(G, here, other, x_norms[rows], norms[:m])
            for i in range(len(here)):
                row = rows.start + i
                row_distances(tile, i, 0, near, d)
                _skip(d, skip_columns, skip_starts[row], skip_starts[row + 1], first, m, x_reach[row], reaches)
                _of_class(weights[block, 0], classes, x_classes[row], first, own[0])
                if whole:
                    _of_class(weights[block, 1], classes, x_classes[row], first, own[1])
                for t in range(n_temperatures):
                    x_log = x_logs[t, row]
                    if squared[t] < 0:
                        _affinities(d, m, rates[t], x_log, logs, first, a, t)
                    else:
                        _squared_affinities(m, squared[t], x_log, logs, first, floor, a, t)
                    _add_groups(a, t, weights[block, 0], first, halves, sums[0, row, t])
                    _add_groups(a, t, own[0], 0, halves, sums[1, row, t])
                    of_squares[block, t] += _weighted_squares(a, t, weights[block, 0], first, floor)
                    if whole:
                        sums[0, row, t, GROUPS] += _weighted(a, t, weights[block, 1], first)
                        sums[1, row, t, GROUPS] += _weighted(a, t, own[1], 0)
                        of_squares[block, t] += _weighted_squares(a, t, weights[block, 1], first, floor)
    return sums, of_squares.sum(axis=0)

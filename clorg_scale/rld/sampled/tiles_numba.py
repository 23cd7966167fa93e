r"""Tiles of all points against landmarks: the innermost loops of sampled RLD on the CPU.

Exponentials are those of `clorg_scale.rld.exact.tiles_numba`, but only rows are summed over:

    pass 1   R_ig = sum over the landmarks s of group g of v_s e_is                e_is = 2^(c d_is - b_i)
    pass 2   k_ig = sum of v_s a_is, and of that what goes to i's class            a_is = 2^(2 c d_is - l_i - l_s)

with v the weights, and b_i such that no row underflows. Every tile of points has landmarks of its own, gathered from
the pool, at most 512 at a time (a chunk). Both passes skip the pairs that are summed exactly. As the groups take turns,
each of 16 lanes of a vector sums one group: a chunk's 512 columns are folded in halves, without a horizontal sum
(`chunk_terms`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.numerics.compiler import callee, njit
from clorg_scale.numerics.row_distances import Tile, row_distances
from clorg_scale.numerics.simd import aligned_empty, use_wide_vectors
from clorg_scale.numerics.threads import on_threads, shares_of
from clorg_scale.rld.exact.tiles_numba import TILE
from clorg_scale.rld.sampled.chunk_terms import (
    add_groups,
    affinities,
    exponentials,
    of_class,
    squared_affinities,
    squares,
    weighted_squares,
    weighted_sum,
)
from clorg_scale.rld.sampled.landmarks import GROUPS
from clorg_scale.rld.sampled.tile_order import ROWS

__all__ = ["LogsAndClasses", "Scales", "TileArguments", "landmark_affinities", "landmark_sums"]

Floats = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]

FAR = 1e15
FAR32 = np.float32(FAR)
"""Distance given to pairs that are skipped; their exponentials are the smallest that `exp2` gives."""

# The tuples are defined beside the loops: Numba compiles anew where this file changes, not where another one does.


class TileArguments(NamedTuple):
    """Input of both passes: a block of points, and the pool that landmarks are drawn from.

    `X`, `x_norms`, `x_reach`: (p, d) coordinates of the points, (p,) their squared norms, and (p,) distance of the
    farthest neighbor that each has in the near field. Pairs nearer than the reach of either end are neighbors that were
    missed, too few to tell their number from a sample of them, and are left out. `L`, `l_norms`, `l_reach`: the same of
    the pool.

    `columns`, `weights`: (b, m), (b, 2, m) as `rld.sampled.landmarks.LandmarkSets` has them, the weights padded with
    zeros to whole chunks, in the dtype of the points. `skip_starts`, `skip_columns`: (p + 1,), (s,) landmarks of its
    tile to leave out for each point, as in a CSR matrix. `near`, `floor`: as in
    `clorg_scale.rld.exact.tiles_numba.kernel_sums`.
    """

    # Flat: a parallel loop takes tuples of arrays, but not tuples of such tuples.
    X: Any
    x_norms: Any
    x_reach: Any
    L: Any
    l_norms: Any
    l_reach: Any
    columns: Any
    weights: Any
    skip_starts: Any
    skip_columns: Any
    near: Any
    floor: Any


class Scales(NamedTuple):
    """Temperatures as the loops take them.

    `rates`: (t,) c in pass 1, 2 c in pass 2; `square_of`: (t,) temperature whose terms squared are this one's, or -1.
    """

    rates: Any
    square_of: Any


class LogsAndClasses(NamedTuple):
    """Logarithms of r and classes of some points.

    `logs`: (t, p) l = log2 r; the factors of the squares where another temperature's are taken. `classes`: (p,) int32.
    """

    logs: Any
    classes: Any


_Share = tuple[int, int]
"""Number of a share of the work, number of all."""


class _Points(NamedTuple):
    """(p, d) coordinates, (p,) squared norms and (p,) reach."""

    X: Any
    norms: Any
    reach: Any


class _Scratch(NamedTuple):
    """Memory of a thread: chunk of landmarks, (ROWS TILE,) products, (TILE,) distances, (t, TILE) terms, their sums."""

    landmarks: _Points
    products: Any
    distances: Any
    terms: Any
    halves: Any


class _Chunk(NamedTuple):
    """Up to `TILE` landmarks of a tile from number `first` on, against the points of the tile.

    `products`: (ROWS, m) of their coordinates; `distances`: (m,) space for those of a row; `weights`, `kept`: (TILE,)
    of the landmarks in groups, and of those that are never left out, if `any_kept`.
    """

    first: Any
    points: _Points
    landmarks: _Points
    products: Any
    distances: Any
    weights: Any
    kept: Any
    any_kept: Any


def _scratch(X: Floats, n_temperatures: int) -> _Scratch:
    """Uninitialized memory, but for the terms: beyond the last landmark they have to be finite."""
    lines = aligned_empty(3, TILE, X.dtype)
    landmarks = _Points(aligned_empty(TILE, X.shape[1], X.dtype), lines[1], lines[2])
    products, terms = aligned_empty(1, ROWS * TILE, X.dtype)[0], aligned_empty(n_temperatures, TILE, X.dtype)
    terms[:] = 0
    return _Scratch(landmarks, products, lines[0], terms, aligned_empty(1, TILE // 2, X.dtype)[0])


@callee
def _chunk(tiles: TileArguments, block: int, first: int, scratch: _Scratch) -> _Chunk:
    """Landmarks `first` to `first + TILE` of a tile, gathered from the pool, and their products with its points."""
    rows = slice(block * ROWS, min(len(tiles.X), (block + 1) * ROWS))
    points = _Points(tiles.X[rows], tiles.x_norms[rows], tiles.x_reach[rows])
    columns = tiles.columns[block, first : first + TILE]
    m = len(columns)
    landmarks = _Points(scratch.landmarks.X[:m], scratch.landmarks.norms[:m], scratch.landmarks.reach[:m])
    _gather(tiles, columns, landmarks)
    products = scratch.products[: len(points.X) * m].reshape(len(points.X), m)
    np.dot(points.X, landmarks.X.T, products)
    weights, kept = tiles.weights[block, 0, first : first + TILE], tiles.weights[block, 1, first : first + TILE]
    return _Chunk(first, points, landmarks, products, scratch.distances[:m], weights, kept, kept.any())


@callee
def _gather(tiles: TileArguments, columns: Integers, landmarks: _Points) -> None:
    """Copy landmarks from the pool; where there is none, all points are within reach."""
    for s in range(len(columns)):
        row = max(columns[s], 0)
        for f in range(tiles.L.shape[1]):
            landmarks.X[s, f] = tiles.L[row, f]
        landmarks.norms[s] = tiles.l_norms[max(columns[s], 0)]
        landmarks.reach[s] = tiles.l_reach[columns[s]] if columns[s] >= 0 else FAR


@callee(forceinline=True)
def _distances(tiles: TileArguments, chunk: _Chunk, row: int, i: int) -> None:
    """Distances of point i of the tile, row of the block, to the chunk's landmarks, `FAR` where a pair is skipped."""
    points, landmarks, d = chunk.points, chunk.landmarks, chunk.distances
    tile = Tile(chunk.products, points.X, landmarks.X, points.norms, landmarks.norms)
    row_distances(tile, i, 0, tiles.near, d)
    _skip_within_reach(d, points.reach[i], landmarks.reach)
    for entry in range(tiles.skip_starts[row], tiles.skip_starts[row + 1]):
        j = tiles.skip_columns[entry] - chunk.first
        if 0 <= j < len(d):
            d[j] = FAR


@callee
def _skip_within_reach(d: Floats, reach: Any, reaches: Floats) -> None:
    """Move landmarks nearer than the reach of either end away."""
    use_wide_vectors()
    far = reach - reach + FAR32
    for step in range(len(d)):
        j = np.uintp(step)
        d[j] = far if d[j] < max(reach, reaches[j]) else d[j]


def landmark_sums(tiles: TileArguments, scales: Scales, shifts: Floats, gain: Any) -> Floats:
    """(p, t, 17) float64 R of a block of points, by groups and of the landmarks never left out: pass 1.

    `shifts`: (t, p) b; `gain`: what a square is multiplied with to have its own b, 2^(2 b' - b).
    """
    n_temperatures, n_shares = len(scales.rates), shares_of(len(tiles.columns))
    sums = np.zeros((len(tiles.X), n_temperatures, GROUPS + 1))

    def work(share: int) -> None:
        memory = _scratch(tiles.X, n_temperatures), sums
        _landmark_sums(tiles, scales, (shifts, gain), (share, n_shares), memory)

    on_threads(work, n_shares, products=True)
    return sums


@njit(nogil=True, cache=True)
def _landmark_sums(
    tiles: TileArguments, scales: Scales, shifted: tuple[Floats, Any], share: _Share, memory: tuple[_Scratch, Floats]
) -> None:
    """A thread's share of the tiles; shifted: `shifts`, `gain`; memory: its own, and the sums."""
    n_temperatures, (shifts, gain), (scratch, sums) = len(scales.rates), shifted, memory
    e, halves = scratch.terms, scratch.halves
    for block in range(share[0], len(tiles.columns), share[1]):
        for first in range(0, tiles.columns.shape[1], TILE):
            chunk = _chunk(tiles, block, first, scratch)
            d = chunk.distances
            for i in range(len(chunk.points.X)):
                row = block * ROWS + i
                _distances(tiles, chunk, row, i)
                for t in range(n_temperatures):
                    root = scales.square_of[t]
                    if root < 0:
                        exponentials(d, (t, scales.rates[t], shifts[t, row]), e)
                    else:
                        squares((t, root, len(d), gain, tiles.floor), e)
                    add_groups(e, t, chunk.weights, halves, sums[row, t])
                    if chunk.any_kept:
                        sums[row, t, GROUPS] += weighted_sum(e, t, chunk.kept)


@callee
def _gather_logs(pool: LogsAndClasses, columns: Integers, landmarks: LogsAndClasses) -> None:
    """Copy logarithms and classes of a chunk's landmarks from the pool, for all of (t, TILE), (TILE,)."""
    landmarks.logs.fill(0)
    landmarks.classes.fill(-2)
    for s in range(len(columns)):
        if columns[s] >= 0:
            for t in range(len(pool.logs)):
                landmarks.logs[t, s] = pool.logs[t, columns[s]]
            landmarks.classes[s] = pool.classes[columns[s]]


def landmark_affinities(
    tiles: TileArguments, scales: Scales, points: LogsAndClasses, pool: LogsAndClasses
) -> tuple[Floats, Floats]:
    """(2, p, t, 17) float64 sums of v a over all landmarks and those of the point's class, (t,) of v a^2: pass 2."""
    n_temperatures, n_shares, dtype = len(scales.rates), shares_of(len(tiles.columns)), tiles.X.dtype
    sums = np.zeros((2, len(tiles.X), n_temperatures, GROUPS + 1))
    points = points._replace(logs=np.ascontiguousarray(points.logs))  # of other strides the loop is compiled again
    of_squares = np.zeros((len(tiles.columns), n_temperatures))

    def work(share: int) -> None:
        landmarks = LogsAndClasses(aligned_empty(n_temperatures, TILE, dtype), np.empty(TILE, np.int32))
        memory = _AffinityMemory(_scratch(tiles.X, n_temperatures), aligned_empty(2, TILE, dtype), landmarks)
        _landmark_affinities((tiles, scales), (points, pool), (share, n_shares), memory, (sums, of_squares))

    on_threads(work, n_shares, products=True)
    return sums, of_squares.sum(axis=0)


class _AffinityMemory(NamedTuple):
    """Memory of a thread: scratch, (2, TILE) weights of one class, (t, TILE) logarithms, (TILE,) classes of a chunk."""

    scratch: _Scratch
    own: Any
    landmarks: LogsAndClasses


@njit(nogil=True, cache=True)
def _landmark_affinities(
    arguments: tuple[TileArguments, Scales],
    logs_and_classes: tuple[LogsAndClasses, LogsAndClasses],
    share: _Share,
    memory: _AffinityMemory,
    into: tuple[Floats, Floats],
) -> None:
    """A thread's share of the tiles; into: sums, and (b, t) of squares by tiles."""
    (tiles, scales), (points, pool), (sums, of_squares) = arguments, logs_and_classes, into
    n_temperatures, floor = len(scales.rates), tiles.floor
    scratch, own, (logs, classes) = memory
    a, halves = scratch.terms, scratch.halves
    for block in range(share[0], len(tiles.columns), share[1]):
        for first in range(0, tiles.columns.shape[1], TILE):
            chunk = _chunk(tiles, block, first, scratch)
            _gather_logs(pool, tiles.columns[block, first : first + TILE], LogsAndClasses(logs, classes))
            d = chunk.distances
            for i in range(len(chunk.points.X)):
                row = block * ROWS + i
                _distances(tiles, chunk, row, i)
                of_class(chunk.weights, classes, points.classes[row], own[0])
                if chunk.any_kept:
                    of_class(chunk.kept, classes, points.classes[row], own[1])
                for t in range(n_temperatures):
                    root, x_log = scales.square_of[t], points.logs[t, row]
                    if root < 0:
                        affinities(d, (t, scales.rates[t], x_log), logs, a)
                    else:
                        squared_affinities((t, root, len(d), x_log, floor), logs, a)
                    add_groups(a, t, chunk.weights, halves, sums[0, row, t])
                    add_groups(a, t, own[0], halves, sums[1, row, t])
                    of_squares[block, t] += weighted_squares(a, t, chunk.weights, floor)
                    if chunk.any_kept:
                        sums[0, row, t, GROUPS] += weighted_sum(a, t, chunk.kept)
                        sums[1, row, t, GROUPS] += weighted_sum(a, t, own[1])
                        of_squares[block, t] += weighted_squares(a, t, chunk.kept, floor)

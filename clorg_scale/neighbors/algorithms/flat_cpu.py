"""Exact search on the CPU: matrix products of tiles, and a threshold for each query that lets few of them pass.

Few candidates are left to FAISS, block by block: in its heaps they cost less than in lists that are cut.

A query keeps a list of candidates with room for about twice as many as are wanted (c). A point enters it if its key is
below the query's threshold; a full list is cut to the c smallest keys, the largest of which is the new threshold. Of n
points in random order some c (1 + ln(n / c)) enter, so that the products, 2 n d FLOP a query, are most of the work for
large k as well.

The keys of a query are |y|^2 - 2 x.y, which order the points as squared distances do, or -2 x.y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array
from clorg_scale.neighbors.algorithms import flat_faiss
from clorg_scale.neighbors.exact import Blocks, BlockSearch
from clorg_scale.numerics.compiler import callee, njit
from clorg_scale.numerics.threads import Rows, on_threads, over_rows, shares_of

__all__ = ["ThresholdSearch", "engine"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

FEW = 32
"""Candidates of a query that FAISS keeps at less cost (8,000 points of 128 features, 24 candidates: 0.46 s to 0.55)."""

TILE_QUERIES, TILE_POINTS = 256, 512
"""Most queries and points of a tile of products, 512 KiB, which stay in the cache of a core."""

LEAST_QUERIES = 16
"""Queries of a tile where there are too few for all threads; fewer would leave the products to memory."""

LANES = 16
"""Keys that are compared at once."""

LEAST_ROOM = 64
"""Room in a list beyond the candidates wanted: the less there is, the sooner a threshold, and the more often a cut."""

FARTHEST = np.float32(3e38)
"""Key beyond all others."""


def engine() -> BlockSearch:
    """The exact search of the CPU."""
    return ThresholdSearch("flat", flat_faiss.search_block)


@dataclass(frozen=True)
class ThresholdSearch(BlockSearch):
    """Search with thresholds that last from block to block; pairs of two blocks, and few candidates, are FAISS's."""

    def search(self, queries: Array, blocks: Blocks, c: int, inner_product: bool) -> tuple[Array, Array]:  # noqa: FBT001
        """(b, c) keys and row numbers of the best candidates in all blocks, in any order."""
        if c <= FEW:
            return super().search(queries, blocks, c, inner_product)
        lists = _empty_lists(len(queries), c)
        height = min(TILE_QUERIES, max(LEAST_QUERIES, -(-len(queries) // numba.get_num_threads())))
        for first, block in blocks:
            norms = np.zeros(len(block), np.float32)
            if not inner_product:
                over_rows(_squared_lengths, *block.shape, block, norms)
            _scan(queries, height, _Block(first, block, norms), lists)
        lengths = np.zeros(len(queries), np.float32)
        if not inner_product:
            over_rows(_squared_lengths, *queries.shape, queries, lengths)
        over_rows(_cut_all, *lists.keys.shape, lists)
        keys, ids = lists.keys[:, :c], np.ascontiguousarray(lists.ids[:, :c])
        return (keys / 2 if inner_product else keys + lengths[:, None]), ids


class _Lists(NamedTuple):
    """Candidates of every query.

    Attributes
    ----------
    keys, ids
        (q, room) of the candidates.
    sizes
        (q,) number of candidates.
    thresholds
        (q,) key below which a point enters.
    wanted
        Length c that a full list is cut to.
    """

    keys: Floats
    ids: Integers
    sizes: Integers
    thresholds: Floats
    wanted: int


class _Block(NamedTuple):
    """Row number of the first point of a block, its points (m, d), and their keys at the origin (m,)."""

    first: int
    points: Floats
    norms: Floats


def _empty_lists(q: int, c: int) -> _Lists:
    room = c + max(c, LEAST_ROOM)
    keys, ids = np.empty((q, room), np.float32), np.empty((q, room), np.int64)
    return _Lists(keys, ids, np.zeros(q, np.int64), np.full(q, FARTHEST, np.float32), c)


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _squared_lengths(rows: Rows, points: Floats, lengths: Floats) -> None:
    for i in range(rows[0], rows[1]):
        total = 0.0
        for f in range(points.shape[1]):
            total += np.float64(points[i, f]) * np.float64(points[i, f])
        lengths[i] = total


def _scan(queries: Floats, height: int, block: _Block, lists: _Lists) -> None:
    """Enter the points of a block into the lists of the queries, `height` queries at a time."""
    n_shares = shares_of(-(-len(queries) // height))
    tiles = (height, n_shares)
    on_threads(lambda share: _scan_tiles(share, tiles, queries, block, lists), n_shares, products=True)


@njit(nogil=True, cache=True)
def _scan_tiles(share: int, tiles: tuple[int, int], queries: Floats, block: _Block, lists: _Lists) -> None:
    """A thread's share of the tiles; tiles: their height, the number of shares."""
    height, n_shares = tiles
    buffer, line = np.empty(height * TILE_POINTS, np.float32), np.empty(TILE_POINTS + LANES, np.float32)
    for tile in range(share, -(-len(queries) // height), n_shares):
        rows = slice(tile * height, min((tile + 1) * height, len(queries)))
        some = queries[rows]
        for first in range(0, len(block.points), TILE_POINTS):
            stop = min(first + TILE_POINTS, len(block.points))
            products = buffer[: len(some) * (stop - first)].reshape(len(some), stop - first)
            np.dot(some, block.points[first:stop].T, products)
            for i in range(len(some)):
                _keys(products[i], block.norms[first:stop], line)
                _enter(line[: stop - first + LANES], block.first + first, rows.start + i, lists)


@callee(fastmath=True)
def _keys(products: Floats, norms: Floats, line: Floats) -> None:
    """Keys of a query into line, the farthest key behind them up to whole vectors."""
    m = len(products)
    for step in range(m):
        j = np.uintp(step)
        line[j] = norms[j] - (products[j] + products[j])
    for step in range(m, m + LANES):
        line[step] = FARTHEST


@callee(fastmath=True)
def _least(line: Floats, start: int) -> Any:
    """Smallest of sixteen keys."""
    first, least = np.uintp(start), FARTHEST
    for step in range(LANES):
        least = min(least, line[first + np.uintp(step)])
    return least


@callee
def _enter(line: Floats, first_id: int, row: int, lists: _Lists) -> None:
    """Enter what is below the threshold of a query."""
    m, keys, ids = len(line) - LANES, lists.keys[row], lists.ids[row]
    size, threshold = lists.sizes[row], lists.thresholds[row]
    for start in range(0, m, LANES):
        if _least(line, start) >= threshold:
            continue
        if size + LANES > len(keys):
            threshold, size = _cut(keys, ids, size, lists.wanted), lists.wanted
        for j in range(start, start + LANES):  # without a branch, which could not be predicted
            keys[size], ids[size] = line[j], first_id + j
            size += line[j] < threshold
    lists.sizes[row], lists.thresholds[row] = size, threshold


@callee
def _cut(keys: Floats, ids: Integers, size: int, c: int) -> Any:
    """Move the c smallest keys to the front of a list; return the largest of them."""
    last = np.partition(keys[:size], c - 1)[c - 1]
    room = c
    for j in range(size):
        room -= keys[j] < last
    kept = 0
    for j in range(size):
        equal = keys[j] == last
        if keys[j] < last or (equal and room > 0):
            room -= equal
            keys[kept], ids[kept] = keys[j], ids[j]
            kept += 1
    return last


@njit(nogil=True, cache=True)
def _cut_all(rows: Rows, lists: _Lists) -> None:
    """Move the wanted keys of every list to its front."""
    for i in range(rows[0], rows[1]):
        if lists.sizes[i] > lists.wanted:
            _cut(lists.keys[i], lists.ids[i], lists.sizes[i], lists.wanted)

"""Exact search by streaming blocks of points past blocks of queries, on any engine.

Distances first come from matrix products (squared norms expanded), whose rounding can swap neighbors that
are nearly equally far. So a few candidates more than k are kept and measured exactly (`neighbors.pairs`), and
a row counts as settled when no point outside its candidates can belong to the k nearest even if all
rounding errors conspired. The few rows that are not settled (many near-duplicates) are searched again: all
points within reach of the k-th distance are measured exactly.

Work 2 q n d FLOP; memory: one block of queries, one block of points, and the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from clorg_scale.arrays import Array, array_module, row_slices
from clorg_scale.neighbors.pairs import pair_keys
from clorg_scale.neighbors.points import Points
from clorg_scale.neighbors.ranking import rank_candidates, sort_rows

__all__ = ["BlockSearch", "PairSearch", "merge_candidates", "search_exact"]

PairSearch = Callable[[Array, Array, int, bool], tuple[Array, Array]]
"""(queries (b, d), points (m, d), k, inner_product) -> keys (b, k) float32, ids (b, k) int64: the k smallest
squared distances, or minus the inner products, in any order; k <= m."""

ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Error of a squared distance expanded in float32, relative to the squared lengths it is expanded into. Four
units of rounding cover the cast of the coordinates and the blocked sums of BLAS at thousands of features."""


@dataclass(frozen=True)
class BlockSearch:
    """An engine, and how far it can be trusted.

    Attributes
    ----------
    name
        Of the library.
    find
        The k best pairs of two blocks.
    rounding
        Error of a squared distance relative to the squared lengths of both points.
    margin
        Candidates more than k, at least.
    stage
        Brings blocks to where `find` wants them, ahead of their turn.
    """

    name: str
    find: PairSearch
    rounding: float = ROUNDING
    margin: int = 8
    stage: Callable[[Iterable[Array]], Iterator[Array]] = iter

    def n_candidates(self, n: int, k: int) -> int:
        """k, the query itself, and a margin against rounding."""
        return min(n, k + 1 + max(self.margin, k // 16))


def search_exact(
    queries: Points,
    points: Points,
    rows: Array,
    k: int,
    *,
    exclude: Array | None,
    engine: BlockSearch,
    block_bytes: int,
) -> Iterator[tuple[slice, Array, Array]]:
    """Find the k nearest points of some queries, a block of queries at a time.

    Parameters
    ----------
    rows
        (q,) rows of `queries`.
    exclude
        (q,) point that each query must not find (itself), or None.
    engine
        Finds the best pairs of two blocks.
    block_bytes
        Memory that the blocks may take.

    Yields
    ------
    part, keys, ids
        Positions in `rows`; (b, k) float64 and int64, ascending, ties by row number.
    """
    xp = array_module(points.embeddings)
    per_query = 20 * points.d + 48 * engine.n_candidates(points.n, k)
    for part in row_slices(len(rows), per_query, itemsize=1, block_bytes=block_bytes // 4):
        left_out = None if exclude is None else exclude[part]
        keys, ids, settled = _search_rows(queries, points, rows[part], k, left_out, engine, block_bytes // 4)
        unsettled = xp.flatnonzero(~settled)
        if unsettled.size:
            keys[unsettled], ids[unsettled] = _search_within_reach(
                queries, points, rows[part][unsettled], keys[unsettled], ids[unsettled],
                None if left_out is None else left_out[unsettled], block_bytes // 2,
            )  # fmt: skip
        yield part, keys, ids


def _search_rows(
    queries: Points,
    points: Points,
    rows: Array,
    k: int,
    exclude: Array | None,
    engine: BlockSearch,
    block_bytes: int,
) -> tuple[Array, Array, Array]:
    """(b, k) keys and ids, and whether each row is settled."""
    xp = array_module(points.embeddings)
    c = engine.n_candidates(points.n, k)
    (query,) = engine.stage([queries.block(rows)])
    best_keys, best_ids = None, None
    parts = list(row_slices(points.n, _bytes_per_point(points, len(rows)), itemsize=1, block_bytes=block_bytes))
    for part, block in zip(parts, engine.stage(map(points.block, parts)), strict=True):
        keys, ids = engine.find(query, block, min(c, len(block)), points.inner_product)
        best_keys, best_ids = merge_candidates(best_keys, best_ids, keys, ids + part.start, c)
    assert best_keys is not None
    farthest = best_keys.max(axis=1).astype(np.float64)
    keys, ids = rank_candidates(queries, points, rows, best_ids, exclude=exclude)
    keys, ids = keys[:, :k], ids[:, :k]
    settled = keys[:, -1] <= farthest - _key_error(queries, points, rows, keys[:, -1], engine.rounding)
    return keys, ids, settled | xp.asarray(c == points.n)


def _bytes_per_point(points: Points, n_queries: int) -> int:
    """Memory of one point of a block: its coordinates in float64 and float32, and a column of scores."""
    return 20 * points.d + 4 * min(n_queries, 4096)


def merge_candidates(
    keys: Array | None, ids: Array | None, more_keys: Array, more_ids: Array, c: int
) -> tuple[Array, Array]:
    """Keep the c smallest of two sets of candidates per row."""
    if keys is None:
        return more_keys, more_ids
    xp = array_module(keys)
    keys = xp.concatenate([keys, more_keys], axis=1)
    ids = xp.concatenate([ids, more_ids], axis=1)
    if keys.shape[1] <= c:
        return keys, ids
    kept = xp.argpartition(keys, c - 1, axis=1)[:, :c]
    return xp.take_along_axis(keys, kept, axis=1), xp.take_along_axis(ids, kept, axis=1)


def _key_error(queries: Points, points: Points, rows: Array, keys: Array, rounding: float) -> Array:
    """Bound of the rounding error of a key near `keys`, for any point that has such a key."""
    xp = array_module(points.embeddings)
    lengths = queries.key_lengths(rows)
    if points.inner_product:
        return rounding * lengths * points.lengths.max()
    reach = lengths + xp.sqrt(xp.maximum(keys, 0))  # the longest a point at that distance can be
    return rounding * (lengths**2 + reach**2)


def _search_within_reach(
    queries: Points,
    points: Points,
    rows: Array,
    keys: Array,
    ids: Array,
    exclude: Array | None,
    block_bytes: int,
) -> tuple[Array, Array]:
    """Search unsettled rows again: every point that may be as near as the k-th is measured.

    `keys` and `ids` are the (b, k) best found so far; the k-th key bounds the true one from above.
    """
    k = keys.shape[1]
    step = max(1, min(len(rows), 1024))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        best_keys, best_ids = keys[part], ids[part]
        left_out = None if exclude is None else exclude[part]
        query = queries.block(rows[part])
        for columns in row_slices(
            points.n, _bytes_per_point(points, 3 * len(query)), itemsize=1, block_bytes=block_bytes
        ):
            bound = best_keys[:, -1]
            bound = bound + 2 * _key_error(queries, points, rows[part], bound, ROUNDING)
            near = _approximate_keys(query, points.block(columns), points.inner_product) <= bound[:, None]
            best_keys, best_ids = _measure_near(
                queries, points, rows[part], near, columns.start, best_keys, best_ids, left_out, k
            )
        keys[part], ids[part] = best_keys, best_ids
    return keys, ids


def _approximate_keys(query: Array, block: Array, inner_product: bool) -> Array:  # noqa: FBT001
    xp = array_module(query)
    keys = query @ block.T
    if inner_product:
        return -keys
    keys *= -2
    keys += xp.einsum("ij,ij->i", query, query)[:, None]
    keys += xp.einsum("ij,ij->i", block, block)[None, :]
    return keys


def _measure_near(
    queries: Points,
    points: Points,
    rows: Array,
    near: Array,
    first: int,
    best_keys: Array,
    best_ids: Array,
    exclude: Array | None,
    k: int,
) -> tuple[Array, Array]:
    """Merge the points marked in `near` (b, m) into the (b, k) best; column j is point first + j."""
    xp = array_module(near)
    counts = near.sum(axis=1)
    while int(counts.max()):
        # Up to 4 k marked points of every row at a time, so that rows full of duplicates stay within memory.
        width = min(int(counts.max()), 4 * k + 64)
        order = xp.cumsum(near, axis=1)
        taken = near & (order <= width)
        i, j = xp.nonzero(taken)
        some = xp.full((len(rows), width), -1, dtype=np.int64)
        some[i, order[i, j] - 1] = first + j
        near &= ~taken
        counts = near.sum(axis=1)
        known = (some[:, :, None] == best_ids[:, None, :]).any(axis=2) if width * k < 4096 else None
        if known is None:
            known = xp.stack([xp.isin(a, b) for a, b in zip(some, best_ids, strict=True)])
        wrong = known if exclude is None else known | (some == exclude[:, None])
        some = xp.where(wrong, -1, some)
        keys = xp.concatenate([best_keys, pair_keys(queries, points, rows, some)], axis=1)
        ids = xp.concatenate([best_ids, some], axis=1)
        by_id = xp.argsort(ids, axis=1, kind="stable")
        keys, ids = sort_rows(xp.take_along_axis(keys, by_id, axis=1), xp.take_along_axis(ids, by_id, axis=1))
        best_keys, best_ids = keys[:, :k], ids[:, :k]
    return best_keys, best_ids

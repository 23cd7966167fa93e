"""Exact search by streaming blocks of points past blocks of queries, on any engine.

Distances first come from matrix products (squared norms expanded), whose rounding can swap neighbors that
are nearly equally far. So a few candidates more than k are kept and measured exactly (`neighbors.pairs`), and
a row counts as settled when no point outside its candidates can belong to the k nearest under the worst
rounding errors. The few rows that are not settled (many near-duplicates) are searched again: all
points within reach of the k-th distance are measured exactly.

Work 2 q n d FLOP; memory: one block of queries, one block of points, and the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from clorg_scale.arrays import Array, array_module, row_slices
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.ranking import rank_candidates
from clorg_scale.neighbors.within_reach import ROUNDING, bytes_per_point, key_error, search_within_reach
from clorg_scale.neighbors.within_rows import smallest_columns
from clorg_scale.progress import Advance

__all__ = ["BlockSearch", "Blocks", "PairSearch", "merge_candidates", "search_exact"]

PairSearch = Callable[[Array, Array, int, bool], tuple[Array, Array]]
"""(queries (b, d), points (m, d), k, inner_product) -> keys (b, k) float32, ids (b, k) int64: the k smallest
squared distances, or minus the inner products, in any order; k <= m."""

Blocks = Iterable[tuple[int, Array]]
"""Row number of the first point of a block, and its points (m, d) float32."""

BYTES_PER_CANDIDATE = 64
"""Memory of one candidate of a query at most, while candidates are checked, measured and sorted."""


@dataclass(frozen=True)
class BlockSearch:
    """An engine and the accuracy of its keys.

    Attributes
    ----------
    name
        Name of the engine in results.
    find
        The k best pairs of two blocks.
    rounding
        Error of a squared distance relative to the squared lengths of both points.
    margin
        Least number of candidates beyond k.
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

    def search(self, queries: Array, blocks: Blocks, c: int, inner_product: bool) -> tuple[Array, Array]:  # noqa: FBT001
        """(b, c) keys and row numbers of the best candidates in all blocks, in any order."""
        keys, ids = None, None
        for first, block in blocks:
            more_keys, more_ids = self.find(queries, block, min(c, len(block)), inner_product)
            keys, ids = merge_candidates(keys, ids, more_keys, more_ids + first, c)
        assert keys is not None
        return keys, ids


def search_exact(
    plan: SearchPlan, rows: Array, engine: BlockSearch, advance: Advance = lambda done: None
) -> Iterator[tuple[slice, Array, Array]]:
    """Find the nearest points of some queries, a block of queries at a time.

    Parameters
    ----------
    plan
        The search.
    rows
        (q,) rows of the queries.
    engine
        Finds the best pairs of two blocks.
    advance
        Called with the queries done, in fractions as blocks of points are passed.

    Yields
    ------
    chunk, keys, ids
        Positions in `rows`; (b, k) float64 and int64, ascending, ties by row number.
    """
    xp = array_module(plan.points.embeddings)
    per_query = 20 * plan.points.d + BYTES_PER_CANDIDATE * engine.n_candidates(plan.points.n, plan.k)
    for chunk in row_slices(len(rows), per_query, itemsize=1, block_bytes=plan.budget.blocks // 4):
        keys, ids, settled = _search_rows(plan, rows[chunk], engine, advance)
        unsettled = xp.flatnonzero(~settled)
        if unsettled.size:
            keys[unsettled], ids[unsettled] = search_within_reach(
                plan, rows[chunk][unsettled], keys[unsettled], ids[unsettled]
            )
        yield chunk, keys, ids


def _search_rows(plan: SearchPlan, rows: Array, engine: BlockSearch, advance: Advance) -> tuple[Array, Array, Array]:
    """(b, k) keys and ids, and (b,) whether each row is settled."""
    points = plan.points
    xp = array_module(points.embeddings)
    c = engine.n_candidates(points.n, plan.k)
    (query,) = engine.stage([plan.queries.block(rows)])
    per_point = bytes_per_point(points.d, len(rows))
    columns = list(row_slices(points.n, per_point, itemsize=1, block_bytes=plan.budget.blocks // 4))
    blocks = zip((block.start for block in columns), engine.stage(map(points.block, columns)), strict=True)
    passed = _reported(blocks, len(rows) / points.n, advance)
    keys, ids = engine.search(query, passed, c, points.inner_product)
    farthest = keys.max(axis=1).astype(np.float64)
    keys, ids = rank_candidates(plan, rows, ids)
    keys, ids = keys[:, : plan.k], ids[:, : plan.k]
    settled = keys[:, -1] <= farthest - key_error(plan, rows, keys[:, -1], engine.rounding)
    return keys, ids, settled | xp.asarray(c == points.n)


def _reported(blocks: Blocks, each: float, advance: Advance) -> Blocks:
    """Pass blocks on, reporting `each` for every point of them when it has been searched."""
    for first, block in blocks:
        yield first, block
        advance(each * len(block))


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
    kept = smallest_columns(keys, c)
    return xp.take_along_axis(keys, kept, axis=1), xp.take_along_axis(ids, kept, axis=1)

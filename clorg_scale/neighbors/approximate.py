"""Searching an approximate index: tune it on a sample, then check, measure and complete what it proposes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clorg_scale.arrays import Array, array_module, on_host, row_slices
from clorg_scale.neighbors.algorithms.candidates import Candidates
from clorg_scale.neighbors.exact import BlockSearch, search_exact
from clorg_scale.neighbors.points import Points
from clorg_scale.neighbors.ranking import rank_candidates
from clorg_scale.neighbors.recall import Truth, recall_of
from clorg_scale.progress import Advance

__all__ = ["search_candidates", "tune"]

MARGIN = 4
"""Candidates asked for beyond k: the point itself, and some against float32 rounding."""


def tune(index: Candidates, points: Points, truth: Truth, k: int, target_recall: float) -> float:
    """Raise the effort of the index until the recall on the sample reaches the target; return the recall."""
    while True:
        keys, _ = _ranked(index, points, truth.rows, k, lambda done: None)
        recall = recall_of(keys, truth.bounds)
        if recall >= target_recall or not index.try_harder():
            return recall


def search_candidates(
    index: Candidates,
    points: Points,
    k: int,
    *,
    engine: BlockSearch,
    block_bytes: int,
    advance: Advance,
) -> Iterator[tuple[Array, Array, Array]]:
    """Find about the k nearest neighbours of every point, a block of points at a time, in the order of the index.

    Rows that lose candidates to checks until fewer than k are left are searched exactly.

    Yields
    ------
    rows, keys, ids
        (b,) points; (b, k) float64 and int64, ascending, ties by row number.
    """
    xp = array_module(points.embeddings)
    order = xp.arange(points.n) if index.order is None else index.order
    for part in row_slices(points.n, 64 * (k + MARGIN) + 512, itemsize=1, block_bytes=block_bytes):
        rows = order[part]
        keys, ids = _ranked(index, points, rows, k, advance)
        short = xp.flatnonzero(ids[:, -1] < 0)
        if short.size:
            for some, exact_keys, exact_ids in search_exact(
                points, points, rows[short], k,
                exclude=rows[short], engine=engine, block_bytes=block_bytes,
            ):  # fmt: skip
                keys[short[some]], ids[short[some]] = exact_keys, exact_ids
        yield rows, keys, ids


def _ranked(index: Candidates, points: Points, rows: Array, k: int, advance: Advance) -> tuple[Array, Array]:
    """(b, k) keys and ids of the checked candidates; infinity and -1 where there are fewer than k."""
    xp = array_module(points.embeddings)
    proposed = index.candidates(rows, min(points.n, k + MARGIN), advance)
    if xp is np:
        proposed = on_host(proposed)
    keys, ids = rank_candidates(points, points, rows, proposed, exclude=rows)
    if ids.shape[1] < k:
        more = ((0, 0), (0, k - ids.shape[1]))
        keys, ids = xp.pad(keys, more, constant_values=np.inf), xp.pad(ids, more, constant_values=-1)
    return keys[:, :k], ids[:, :k]

"""Second search of rows whose neighbors rounding leaves undecided: every candidate is measured exactly."""

from __future__ import annotations

import numpy as np

from clorg_scale.arrays import Array, array_module, row_slices
from clorg_scale.neighbors.pairs import pair_keys
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.ranking import sort_rows

__all__ = ["ROUNDING", "bytes_per_point", "key_error", "search_within_reach"]

ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Error of a squared distance expanded in float32, relative to the squared lengths it is expanded into. Four
units of rounding cover the cast of the coordinates and the blocked sums of BLAS at thousands of features."""


def bytes_per_point(d: int, n_queries: int) -> int:
    """Memory of one point of a block: its coordinates in float64 and float32, and a column of scores."""
    return 20 * d + 4 * min(n_queries, 4096)


def key_error(plan: SearchPlan, rows: Array, keys: Array, rounding: float) -> Array:
    """Bound of the rounding error of a key near `keys`, for any point that has such a key."""
    xp = array_module(plan.points.embeddings)
    lengths = plan.queries.key_lengths(rows)
    if plan.points.inner_product:
        return rounding * lengths * plan.points.lengths.max()
    reach = lengths + xp.sqrt(xp.maximum(keys, 0))  # the longest a point at that distance can be
    return rounding * (lengths**2 + reach**2)


def search_within_reach(plan: SearchPlan, rows: Array, keys: Array, ids: Array) -> tuple[Array, Array]:
    """Search unsettled rows again: every point that may be as near as the k-th is measured.

    `keys` and `ids` are the (b, k) best found so far; the k-th key bounds the true one from above.
    """
    points = plan.points
    step = max(1, min(len(rows), 1024))
    for start in range(0, len(rows), step):
        chunk = slice(start, start + step)
        best = keys[chunk], ids[chunk]
        query = plan.queries.block(rows[chunk])
        per_point = bytes_per_point(points.d, 3 * len(query))
        for columns in row_slices(points.n, per_point, itemsize=1, block_bytes=plan.budget.blocks // 2):
            bound = best[0][:, -1]
            bound = bound + 2 * key_error(plan, rows[chunk], bound, ROUNDING)
            near = _approximate_keys(query, points.block(columns), points.inner_product) <= bound[:, None]
            best = _measure_near(plan, rows[chunk], near, columns.start, best)
        keys[chunk], ids[chunk] = best
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
    plan: SearchPlan, rows: Array, near: Array, first: int, best: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Merge the points marked in `near` (b, m) into the (b, k) best keys and ids; column j is point first + j."""
    xp = array_module(near)
    counts = near.sum(axis=1)
    while int(counts.max()):
        # Up to 4 k marked points of every row at a time, so that rows full of duplicates stay within memory.
        width = min(int(counts.max()), 4 * plan.k + 64)
        order = xp.cumsum(near, axis=1)
        taken = near & (order <= width)
        i, j = xp.nonzero(taken)
        some = xp.full((len(rows), width), -1, dtype=np.int64)
        some[i, order[i, j] - 1] = first + j
        near &= ~taken
        counts = near.sum(axis=1)
        if width * plan.k < 4096:
            wrong = (some[:, :, None] == best[1][:, None, :]).any(axis=2)
        else:
            wrong = xp.stack([xp.isin(a, b) for a, b in zip(some, best[1], strict=True)])
        if plan.others is None:
            wrong |= some == rows[:, None]
        some = xp.where(wrong, -1, some)
        keys = xp.concatenate([best[0], pair_keys(plan, rows, some)], axis=1)
        ids = xp.concatenate([best[1], some], axis=1)
        by_id = xp.argsort(ids, axis=1, kind="stable")
        keys, ids = sort_rows(xp.take_along_axis(keys, by_id, axis=1), xp.take_along_axis(ids, by_id, axis=1))
        best = keys[:, : plan.k], ids[:, : plan.k]
    return best

"""Candidates checked, measured and sorted."""

from __future__ import annotations

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.neighbors.pairs import pair_keys
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.within_rows import sorted_columns

__all__ = ["rank_candidates", "sort_rows"]


def rank_candidates(plan: SearchPlan, rows: Array, ids: Array) -> tuple[Array, Array]:
    """Remove what is no neighbor, measure the rest exactly, and sort.

    Indexes pad short answers with -1, repeat neighbors, and do not always return a point as its own nearest
    neighbor, so everything is checked by row number and nothing by position.

    Parameters
    ----------
    plan
        The search.
    rows
        (b,) rows of the queries; where these are points, none is its own neighbor.
    ids
        (b, c) candidates; numbers outside 0 .. n - 1 stand for none.

    Returns
    -------
    keys, ids
        (b, c) ascending by key, ties by row number; infinity and -1 at the end of rows that lost candidates.
    """
    xp = array_module(plan.points.embeddings)
    ids = xp.asarray(ids, dtype=np.int64)
    ids = xp.sort(ids, axis=1) if xp is np else xp.take_along_axis(ids, sorted_columns(ids), axis=1)
    wrong = (ids < 0) | (ids >= plan.points.n)
    wrong[:, 1:] |= ids[:, 1:] == ids[:, :-1]
    if plan.others is None:
        wrong |= ids == xp.asarray(rows)[:, None]
    ids = xp.where(wrong, -1, ids)
    return sort_rows(pair_keys(plan, rows, ids), ids)


def sort_rows(keys: Array, ids: Array) -> tuple[Array, Array]:
    """Sort every row by key; equal keys keep their order, so rows sorted by id give ties by id."""
    xp = array_module(keys)
    order = sorted_columns(keys)
    return xp.take_along_axis(keys, order, axis=1), xp.take_along_axis(ids, order, axis=1)

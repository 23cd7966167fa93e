"""From the candidates that an index hands over to a clean row of neighbors."""

from __future__ import annotations

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.neighbors.pairs import pair_keys
from clorg_scale.neighbors.points import Points

__all__ = ["rank_candidates", "sort_rows"]


def rank_candidates(
    queries: Points, points: Points, rows: Array, ids: Array, *, exclude: Array | None
) -> tuple[Array, Array]:
    """Remove what is no neighbor, measure the rest exactly, and sort.

    Indexes pad short answers with -1, repeat neighbors, and do not always return a point as its own nearest
    neighbor, so everything is checked by row number and nothing by position.

    Parameters
    ----------
    rows
        (b,) rows of `queries`.
    ids
        (b, c) candidates; numbers outside 0 .. n - 1 stand for none.
    exclude
        (b,) the point that must not be among the row's neighbors (the query itself), or None.

    Returns
    -------
    keys, ids
        (b, c) ascending by key, ties by row number; infinity and -1 at the end of rows that lost candidates.
    """
    xp = array_module(points.embeddings)
    ids = xp.sort(xp.asarray(ids, dtype=np.int64), axis=1)
    wrong = (ids < 0) | (ids >= points.n)
    wrong[:, 1:] |= ids[:, 1:] == ids[:, :-1]
    if exclude is not None:
        wrong |= ids == xp.asarray(exclude)[:, None]
    ids = xp.where(wrong, -1, ids)
    keys = pair_keys(queries, points, rows, ids)
    return sort_rows(keys, ids)


def sort_rows(keys: Array, ids: Array) -> tuple[Array, Array]:
    """Sort every row by key; equal keys keep their order, so rows sorted by id give ties by id."""
    xp = array_module(keys)
    order = xp.argsort(keys, axis=1, kind="stable")
    return xp.take_along_axis(keys, order, axis=1), xp.take_along_axis(ids, order, axis=1)

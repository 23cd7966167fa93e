"""Cleaning a k-NN table that another program made."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.counted import counted
from clorg_scale.errors import InputError
from clorg_scale.neighbors.metric import Metric, distance_dtype, id_dtype
from clorg_scale.neighbors.ranking import sort_rows
from clorg_scale.whole import whole_number

__all__ = ["CleanTable", "clean_table"]


class CleanTable(NamedTuple):
    """Fields of a `KNN`."""

    indices: Array
    distances: Array
    n_points: int
    queries: Array | None


def clean_table(indices: Any, distances: Any, metric: Metric, n_points: int | None, queries: Any) -> CleanTable:
    """Check and clean a table (see `KNN.from_arrays`)."""
    ids, keys = _converted(indices, np.int64), _converted(distances, np.float64)
    xp = array_module(ids, keys)
    ids, keys = xp.asarray(ids), xp.asarray(keys)
    if ids.ndim != 2 or ids.shape != keys.shape or 0 in ids.shape:
        raise InputError(
            f"A k-NN table needs indices and distances of one shape (points, k), "
            f"not {tuple(ids.shape)} and {tuple(keys.shape)}."
        )
    if queries is not None and n_points is None:
        raise InputError("A k-NN table of a sample needs n_points, the number of points that were searched.")
    n = len(ids) if n_points is None else whole_number("n_points", n_points, 1)
    owners = xp.arange(n) if queries is None else xp.asarray(_converted(queries, np.int64))
    if owners.shape != (len(ids),):
        raise InputError(f"The k-NN table has {counted(len(ids), 'row')}, but {len(owners)} points need one each.")
    if metric != "inner_product" and bool((keys < -1e-5).any()):
        raise InputError(f"The k-NN table holds negative distances, which {metric} distances cannot be.")
    ids, keys, dropped = _without_invalid(ids, keys, owners, n)
    if metric != "inner_product":
        keys = xp.maximum(keys, 0)
    k = int((ids >= 0).sum(axis=1).min())
    if k == 0:
        raise InputError("The k-NN table has rows without any valid neighbor; search again with a larger k.")
    _warn_of_dropped(dropped, len(ids), ids.shape[1], k)
    keys = keys[:, :k]
    return CleanTable(
        xp.ascontiguousarray(ids[:, :k].astype(id_dtype(n))),
        xp.ascontiguousarray(keys.astype(distance_dtype(float(xp.abs(keys).max())))),
        n,
        None if queries is None else owners,
    )


def _converted(data: Any, dtype: Any) -> Array:
    """Any array as one of NumPy or CuPy of this type."""
    if array_module(data) is np:
        if hasattr(data, "__cuda_array_interface__"):
            import cupy

            data = cupy.asarray(data)
        else:
            data = np.asarray(data)
    if data.dtype == object or data.dtype.kind not in "fiu":
        raise InputError(f"A k-NN table needs numbers, not {data.dtype}.")
    if dtype is np.int64 and data.dtype.kind == "f":
        raise InputError("The indices of a k-NN table must be integers, not floats.")
    return data.astype(dtype)


def _without_invalid(ids: Array, keys: Array, owners: Array, n: int) -> tuple[Array, Array, dict[str, int]]:
    """Rows sorted by key, ties by id, with -1 at their ends, and how many entries were dropped for each reason."""
    xp = array_module(ids)
    missing = (ids < 0) | (ids >= n)
    infinite = ~xp.isfinite(keys) & ~missing
    own = (ids == owners[:, None]) & ~missing & ~infinite
    wrong = missing | infinite | own
    keys, ids = sort_rows(xp.where(wrong, np.inf, keys), xp.where(wrong, -1, ids))
    order = xp.argsort(ids, axis=1, kind="stable")  # of two entries of one neighbor the nearer comes first
    ids, keys = xp.take_along_axis(ids, order, axis=1), xp.take_along_axis(keys, order, axis=1)
    twice = xp.zeros(ids.shape, dtype=bool)
    twice[:, 1:] = (ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] >= 0)
    keys, ids = sort_rows(xp.where(twice, np.inf, keys), xp.where(twice, -1, ids))
    dropped = {
        "points listed as their own neighbors": own,
        "missing neighbors (-1 or out of range)": missing,
        "infinite or NaN distances": infinite,
        "neighbors listed twice": twice,
    }
    return ids, keys, {reason: int(marks.sum()) for reason, marks in dropped.items()}


def _warn_of_dropped(dropped: dict[str, int], n_rows: int, width: int, k: int) -> None:
    """Warn of what was dropped, unless it is just every point's own entry."""
    reasons = {reason: count for reason, count in dropped.items() if count}
    if not reasons or (list(reasons.values()) == [n_rows] and k == width - 1):
        return
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    warnings.warn(f"Dropped from the k-NN table: {listed}; {k} of {width} columns remain.", stacklevel=4)

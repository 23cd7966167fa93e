"""Exact distances of given pairs, from the embeddings as they were handed in.

GEMM searches expand |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, which loses every digit when x and y nearly coincide;
differences taken coordinate by coordinate in float64 lose none, and give equal rows equal distances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.arrays import Array, array_module
from clorg_scale.neighbors.points import Points
from clorg_scale.numerics.compiler import njit

__all__ = ["mean_pair_distance", "pair_keys"]

PAIR_BYTES = {"cpu": 64 << 20, "cuda": 256 << 20}
"""Bytes of gathered coordinates at a time on a GPU, and where the compiled loop cannot read the embeddings' dtype."""


RANDOM_POINTS, RANDOM_PARTNERS = 8192, 8
"""Random pairs for the mean distance: 65,536, a standard error of about 0.2 %."""


def pair_keys(queries: Points, points: Points, rows: Array, ids: Array) -> Array:
    """Search keys (see `Points.distances`) of the pairs (rows[i], ids[i, j]).

    Parameters
    ----------
    rows
        (b,) rows of `queries`.
    ids
        (b, k) rows of `points`; -1 gives infinity.

    Returns
    -------
    (b, k) float64: squared distance, or minus the inner product, of the prepared vectors.
    """
    xp = array_module(points.embeddings)
    if xp is np and _compiled_loop_reads(queries.embeddings) and _compiled_loop_reads(points.embeddings):
        query_factors, factors = _factors(queries, rows), _factors(points, None)
        loop = _inner_product_keys if points.inner_product else _squared_distance_keys
        return loop(
            np.asarray(queries.embeddings), np.asarray(points.embeddings),
            np.asarray(rows, dtype=np.int64), np.asarray(ids, dtype=np.int64), query_factors, factors,
        )  # fmt: skip
    keys = xp.empty(ids.shape, dtype=np.float64)
    step = max(1, PAIR_BYTES["cpu" if xp is np else "cuda"] // (8 * points.d * ids.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        keys[part] = _gathered_keys(queries, points, rows[part], ids[part])
    return keys


def mean_pair_distance(points: Points, seed: int) -> float | None:
    """Mean distance of random pairs of points, of all pairs where these are no more; None for inner products."""
    if points.inner_product:
        return None
    xp = array_module(points.embeddings)
    rng = np.random.default_rng(seed)
    if points.n * (points.n - 1) <= RANDOM_POINTS * RANDOM_PARTNERS:
        rows, shifts = np.arange(points.n), np.arange(1, points.n)
    else:
        rows = rng.permutation(points.n)[:RANDOM_POINTS]
        shifts = rng.integers(1, points.n, (len(rows), RANDOM_PARTNERS))
    partners = (rows[:, None] + shifts) % points.n
    keys = pair_keys(points, points, xp.asarray(rows), xp.asarray(partners))
    distances = points.distances(keys)
    # In float64 their sum may exceed its range.
    unit = float(distances.max()) if distances.dtype == np.float64 else 1.0
    return unit * float((distances / unit).mean(dtype=np.float64)) if unit > 0 else 0.0


def _compiled_loop_reads(embeddings: Array) -> bool:
    return embeddings.dtype.isnative and embeddings.dtype.str[1:] in ("f4", "f8", "i4", "i8", "u1", "i1")


def _factors(points: Points, rows: Array | None) -> npt.NDArray[np.float64]:
    """Give what each raw vector is multiplied with; one shared number except for the cosine."""
    if points.metric == "cosine":
        lengths: npt.NDArray[np.float64] = points.lengths if rows is None else points.lengths[rows]
        return 1.0 / lengths
    return np.full(1, points.scale)


# Reassociation lets the sum use vector registers. Contraction into fused multiply-adds must stay off: it
# rounds a * x and b * y differently, and equal rows would get a distance.
@njit(parallel=True, cache=True, fastmath={"reassoc"})
def _squared_distance_keys(queries: Any, points: Any, rows: Any, ids: Any, query_factors: Any, factors: Any) -> Any:
    keys = np.empty(ids.shape, dtype=np.float64)
    for i in prange(len(rows)):
        query = queries[rows[i]]
        a = query_factors[i % len(query_factors)]
        for j in range(ids.shape[1]):
            if ids[i, j] < 0:
                keys[i, j] = np.inf
                continue
            point = points[ids[i, j]]
            b = factors[ids[i, j] % len(factors)]
            total = 0.0
            for f in range(len(query)):
                difference = a * np.float64(query[f]) - b * np.float64(point[f])
                total += difference * difference
            keys[i, j] = total
    return keys


@njit(parallel=True, cache=True, fastmath={"reassoc"})
def _inner_product_keys(queries: Any, points: Any, rows: Any, ids: Any, query_factors: Any, factors: Any) -> Any:
    keys = np.empty(ids.shape, dtype=np.float64)
    for i in prange(len(rows)):
        query = queries[rows[i]]
        factor = -query_factors[0] * factors[0]
        for j in range(ids.shape[1]):
            if ids[i, j] < 0:
                keys[i, j] = np.inf
                continue
            point = points[ids[i, j]]
            total = 0.0
            for f in range(len(query)):
                total += np.float64(query[f]) * np.float64(point[f])
            keys[i, j] = factor * total
    return keys


def _gathered_keys(queries: Points, points: Points, rows: Array, ids: Array) -> Array:
    """Do the same in array operations: for CuPy, and for dtypes that the compiled loops do not read.

    In place, so that one copy of the gathered points in float64 is all that there is of them.
    """
    xp = array_module(points.embeddings)
    found = xp.where(ids < 0, 0, ids)
    x = queries.embeddings[rows].astype(np.float64)
    y = points.embeddings[found.reshape(-1)].astype(np.float64).reshape(*ids.shape, points.d)
    if points.inner_product:
        x *= queries.scale
        y *= points.scale
        y *= x[:, None, :]
        return xp.where(ids < 0, np.inf, -y.sum(axis=2))
    if points.metric == "cosine":
        x /= queries.lengths[rows][:, None]
        y /= points.lengths[found][:, :, None]
    elif queries.scale != 1 or points.scale != 1:
        x *= queries.scale
        y *= points.scale
    y -= x[:, None, :]
    y *= y
    return xp.where(ids < 0, np.inf, y.sum(axis=2))

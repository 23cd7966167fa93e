"""Exact distances of given pairs, from the embeddings as the user gave them.

GEMM searches expand |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, which loses every digit when x and y nearly coincide;
differences taken coordinate by coordinate in float64 lose none, and give equal rows equal distances.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.arrays import Array, array_module
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import Points
from clorg_scale.numerics.compiled import centered_rows, has_compiled_path
from clorg_scale.numerics.compiler import njit

__all__ = ["mean_pair_distance", "pair_keys"]

PAIR_BYTES = {"cpu": 64 << 20, "cuda": 256 << 20}
"""Most bytes of gathered coordinates on a GPU, and where the compiled loop cannot read the embeddings' dtype."""


RANDOM_POINTS, RANDOM_PARTNERS = 8192, 8
"""Random pairs for the mean distance: 65,536, a standard error of about 0.2 %."""


def pair_keys(plan: SearchPlan, rows: Array, ids: Array) -> Array:
    """Search keys (see `Points.distances`) of the pairs (rows[i], ids[i, j]).

    Parameters
    ----------
    plan
        The search.
    rows
        (b,) rows of the queries.
    ids
        (b, k) rows of the points; -1 gives infinity.

    Returns
    -------
    (b, k) float64: squared distance, or minus the inner product, of the prepared vectors.
    """
    queries, points = plan.queries, plan.points
    xp = array_module(points.embeddings)
    keys = xp.empty(ids.shape, dtype=np.float64)
    if xp is np and _compiled_loop_reads(queries.embeddings) and _compiled_loop_reads(points.embeddings):
        vectors = _Vectors(np.asarray(queries.embeddings), np.asarray(points.embeddings))
        factors = _Vectors(_factors(queries, rows), _factors(points, None))
        loop = _inner_product_keys if points.inner_product else _squared_distance_keys
        loop(vectors, factors, np.asarray(rows, dtype=np.int64), np.asarray(ids, dtype=np.int64), keys)
        return keys
    halves = queries.embeddings.dtype == points.embeddings.dtype == np.float16
    gathered = _keys_of_halves if xp is np and halves and _is_aligned(plan) else _gathered_keys
    most = min(PAIR_BYTES["cpu" if xp is np else "cuda"], plan.budget.blocks // 4)
    step = max(1, most // (12 * points.d * ids.shape[1]))
    for start in range(0, len(rows), step):
        chunk = slice(start, start + step)
        keys[chunk] = gathered(plan, rows[chunk], ids[chunk])
    return keys


def mean_pair_distance(plan: SearchPlan) -> float | None:
    """Mean distance of random pairs of points, of all pairs where these are no more; None for inner products."""
    n, points = plan.points.n, plan.points
    if points.inner_product:
        return None
    xp = array_module(points.embeddings)
    rng = np.random.default_rng(plan.seed)
    if n * (n - 1) <= RANDOM_POINTS * RANDOM_PARTNERS:
        rows, shifts = np.arange(n), np.arange(1, n)
    else:
        rows = rng.permutation(n)[:RANDOM_POINTS]
        shifts = rng.integers(1, n, (len(rows), RANDOM_PARTNERS))
    partners = (rows[:, None] + shifts) % n
    distances = points.distances(pair_keys(plan, xp.asarray(rows), xp.asarray(partners)))
    # In float64 their sum may exceed its range.
    unit = float(distances.max()) if distances.dtype == np.float64 else 1.0
    return unit * float((distances / unit).mean(dtype=np.float64)) if unit > 0 else 0.0


class _Vectors(NamedTuple):
    """The same of the queries and of the points."""

    queries: Any
    points: Any


def _compiled_loop_reads(embeddings: Array) -> bool:
    return embeddings.dtype.isnative and embeddings.dtype.str[1:] in ("f4", "f8", "i4", "i8", "u1", "i1")


def _is_aligned(plan: SearchPlan) -> bool:
    return has_compiled_path(plan.queries.embeddings) and has_compiled_path(plan.points.embeddings)


def _keys_of_halves(plan: SearchPlan, rows: Array, ids: Array) -> Array:
    """Search keys of half-precision embeddings, which float32 holds exactly: gathered, then measured as others."""
    queries, points = plan.queries, plan.points
    which, origin = np.maximum(ids, 0).reshape(-1).astype(np.int64), np.zeros(points.d)
    x, y = np.empty((len(rows), points.d), np.float32), np.empty((len(which), points.d), np.float32)
    centered_rows(queries.embeddings, np.asarray(rows, dtype=np.int64), origin, x)
    centered_rows(points.embeddings, which, origin, y)
    positions = np.where(ids < 0, -1, np.arange(len(which)).reshape(ids.shape))
    factors = _Vectors(_factors(queries, rows), _factors(points, which))
    keys = np.empty(ids.shape, dtype=np.float64)
    loop = _inner_product_keys if points.inner_product else _squared_distance_keys
    loop(_Vectors(x, y), factors, np.arange(len(rows)), positions, keys)
    return keys


def _factors(points: Points, rows: Array | None) -> npt.NDArray[np.float64]:
    """Factors of the raw vectors; one shared number except for the cosine."""
    if points.metric == "cosine":
        lengths: npt.NDArray[np.float64] = points.lengths if rows is None else points.lengths[rows]
        return 1.0 / lengths
    return np.full(1, points.scale)


# Reassociation lets the sum use vector registers. Contraction into fused multiply-adds must stay off: it
# rounds a * x and b * y differently, and equal rows would get a distance.
@njit(parallel=True, cache=True, fastmath={"reassoc"})
def _squared_distance_keys(vectors: Any, factors: Any, rows: Any, ids: Any, keys: Any) -> None:
    for i in prange(len(rows)):
        query = vectors.queries[rows[i]]
        a = factors.queries[i % len(factors.queries)]
        for j in range(ids.shape[1]):
            if ids[i, j] < 0:
                keys[i, j] = np.inf
                continue
            point = vectors.points[ids[i, j]]
            b = factors.points[ids[i, j] % len(factors.points)]
            total = 0.0
            for f in range(len(query)):
                difference = a * np.float64(query[f]) - b * np.float64(point[f])
                total += difference * difference
            keys[i, j] = total


@njit(parallel=True, cache=True, fastmath={"reassoc"})
def _inner_product_keys(vectors: Any, factors: Any, rows: Any, ids: Any, keys: Any) -> None:
    for i in prange(len(rows)):
        query = vectors.queries[rows[i]]
        factor = -factors.queries[0] * factors.points[0]
        for j in range(ids.shape[1]):
            if ids[i, j] < 0:
                keys[i, j] = np.inf
                continue
            point = vectors.points[ids[i, j]]
            total = 0.0
            for f in range(len(query)):
                total += np.float64(query[f]) * np.float64(point[f])
            keys[i, j] = factor * total


def _gathered_keys(plan: SearchPlan, rows: Array, ids: Array) -> Array:
    """Search keys in array operations: for CuPy, and for dtypes that the compiled loops do not read.

    In place, so that there is only one float64 copy of the gathered points.
    """
    queries, points = plan.queries, plan.points
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

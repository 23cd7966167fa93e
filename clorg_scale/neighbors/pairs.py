"""Exact distances of given pairs, from the embeddings as the user gave them.

GEMM searches expand |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, which loses every digit when x and y nearly coincide;
differences taken coordinate by coordinate in float64 lose none, and give equal rows equal distances.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import Points
from clorg_scale.numerics.compiled import half_value, has_compiled_path
from clorg_scale.numerics.compiler import njit
from clorg_scale.numerics.threads import Rows, over_rows

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
    if xp is not np and _kernel_reads(queries.embeddings, points.embeddings):
        from clorg_scale.kernels import graph

        factors = _factors(queries, None), _factors(points, None)
        return graph.pair_keys(
            queries.embeddings, points.embeddings, factors, rows, ids, inner_product=points.inner_product
        )
    if xp is not np or not _compiled_loops_read(queries.embeddings, points.embeddings):
        return _gathered_keys(plan, rows, ids)
    keys = np.empty(ids.shape)
    loop = _loop(points.inner_product, points.embeddings.dtype == np.float16)
    vectors = _Vectors(_numbers(queries.embeddings), _numbers(points.embeddings))
    factors = _Vectors(_factors(queries, rows), _factors(points, None))
    pairs = np.asarray(rows, dtype=np.int64), np.asarray(ids, dtype=np.int64)
    over_rows(loop, len(rows), ids.shape[1] * points.d, vectors, factors, pairs, keys)
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


def _kernel_reads(queries: Array, points: Array) -> bool:
    """Whether the GPU's kernel reads these: contiguous, of one type of floats."""
    if queries.dtype != points.dtype or points.dtype not in (np.float16, np.float32, np.float64):
        return False
    return bool(queries.flags.c_contiguous and points.flags.c_contiguous)


def _compiled_loops_read(queries: Array, points: Array) -> bool:
    """Whether a loop is compiled for these: both of half precision, or neither."""
    if (queries.dtype == np.float16) != (points.dtype == np.float16):
        return False
    return has_compiled_path(queries) and has_compiled_path(points)


def _numbers(embeddings: Array) -> Array:
    """Array as the compiled loops read it: half-precision numbers as their bits."""
    return embeddings.view(np.uint16) if embeddings.dtype == np.float16 else np.asarray(embeddings)


def _loop(inner_product: bool, halves: bool) -> Any:  # noqa: FBT001
    """The compiled loop over a range of the rows: (numbers, vectors, factors, (rows, ids), keys)."""
    if halves:
        return _inner_product_keys_of_halves if inner_product else _squared_distance_keys_of_halves
    return _inner_product_keys if inner_product else _squared_distance_keys


def _factors(points: Points, rows: Array | None) -> Array:
    """Factors of the raw vectors, in the library of their lengths; one shared number except for the cosine."""
    if points.metric == "cosine":
        return 1.0 / (points.lengths if rows is None else points.lengths[rows])
    return array_module(points.lengths).full(1, points.scale, dtype=np.float64)


# Reassociation lets the sum use vector registers. Contraction into fused multiply-adds must stay off: it
# rounds a * x and b * y differently, and equal rows would get a distance.
@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _squared_distance_keys(numbers: Rows, vectors: Any, factors: Any, pairs: tuple[Any, Any], keys: Any) -> None:
    rows, ids = pairs
    for i in range(numbers[0], numbers[1]):
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


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _inner_product_keys(numbers: Rows, vectors: Any, factors: Any, pairs: tuple[Any, Any], keys: Any) -> None:
    rows, ids = pairs
    for i in range(numbers[0], numbers[1]):
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


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _squared_distance_keys_of_halves(
    numbers: Rows, vectors: Any, factors: Any, pairs: tuple[Any, Any], keys: Any
) -> None:
    rows, ids = pairs
    query = np.empty(vectors.queries.shape[1])
    for i in range(numbers[0], numbers[1]):
        bits = vectors.queries[rows[i]]
        a = factors.queries[i % len(factors.queries)]
        for f in range(len(bits)):
            query[f] = a * half_value(bits[f])
        for j in range(ids.shape[1]):
            if ids[i, j] < 0:
                keys[i, j] = np.inf
                continue
            point = vectors.points[ids[i, j]]
            b = factors.points[ids[i, j] % len(factors.points)]
            total = 0.0
            for f in range(len(query)):
                difference = query[f] - b * half_value(point[f])
                total += difference * difference
            keys[i, j] = total


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _inner_product_keys_of_halves(numbers: Rows, vectors: Any, factors: Any, pairs: tuple[Any, Any], keys: Any) -> None:
    rows, ids = pairs
    query, factor = np.empty(vectors.queries.shape[1]), -factors.queries[0] * factors.points[0]
    for i in range(numbers[0], numbers[1]):
        bits = vectors.queries[rows[i]]
        for f in range(len(bits)):
            query[f] = half_value(bits[f])
        for j in range(ids.shape[1]):
            if ids[i, j] < 0:
                keys[i, j] = np.inf
                continue
            point = vectors.points[ids[i, j]]
            total = 0.0
            for f in range(len(query)):
                total += query[f] * half_value(point[f])
            keys[i, j] = factor * total


def _gathered_keys(plan: SearchPlan, rows: Array, ids: Array) -> Array:
    """Search keys in array operations: for dtypes that neither the compiled loops nor the kernel reads."""
    xp = array_module(plan.points.embeddings)
    keys = xp.empty(ids.shape, dtype=np.float64)
    most = min(PAIR_BYTES["cpu" if xp is np else "cuda"], plan.budget.blocks // 4)
    step = max(1, most // (12 * plan.points.d * ids.shape[1]))
    for start in range(0, len(rows), step):
        chunk = slice(start, start + step)
        keys[chunk] = _keys_of_chunk(plan, rows[chunk], ids[chunk])
    return keys


def _keys_of_chunk(plan: SearchPlan, rows: Array, ids: Array) -> Array:
    """Search keys of the pairs of a few rows, in place, so that there is one float64 copy of the gathered points."""
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

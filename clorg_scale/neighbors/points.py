"""Embeddings prepared for one metric, read block by block in the precision of the search.

A search compares either squared Euclidean distances or inner products. Cosine distance is half the squared
Euclidean distance of normalized vectors, 1 - cos = |u - v|^2 / 2, so it is searched as the former: that keeps
the digits of vectors that are nearly parallel, which 1 - u.v loses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, array_module, column_means, row_block, row_slices
from clorg_scale.arrays.mapped import location_or_array
from clorg_scale.counted import counted, numbered
from clorg_scale.errors import InputError
from clorg_scale.neighbors.metric import Metric, distance_dtype
from clorg_scale.numerics.compiled import divided_rows, has_compiled_path, row_lengths

__all__ = ["Points", "cache_float32", "prepare"]

SHORTEST = 2.0**-1020
"""Shorter vectors have lost digits in float64, and their direction with them."""

SMALLEST_FOR_PRODUCTS = 1e-140
"""Shorter vectors have inner products of which float64 does not hold all digits."""

FARTHEST_QUERY = 1e15
"""Length of a query, where the longest of the points is 1, whose square is in the range of float32."""


@dataclass(frozen=True)
class Points:
    """Embeddings of any dtype, never copied whole.

    Attributes
    ----------
    embeddings
        (n, d) as the user gave them.
    metric
        Metric of the search.
    mean
        (d,) float64, subtracted before the cast to float32 (Euclidean only), else None.
    scale
        Power of two that brings the longest vector near length 1, so that squares stay within float32.
    lengths
        (n,) float64 Euclidean lengths: of x - mean times `scale` (Euclidean), of x (cosine), of x times
        `scale` (inner product).
    cached
        (n, d) float32 that `block` reads instead of converting again, or None (see `cache_float32`).
    distance_dtype
        Type of the distances: float32, or float64 where float32 does not hold them.
    """

    embeddings: Array
    metric: Metric
    mean: Array | None
    scale: float
    lengths: Array
    cached: Array | None = None
    distance_dtype: type[np.floating[Any]] = np.float32

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "embeddings": location_or_array(self.embeddings)}

    @property
    def n(self) -> int:
        """Number of points."""
        return int(self.embeddings.shape[0])

    @property
    def d(self) -> int:
        """Number of features."""
        return int(self.embeddings.shape[1])

    @property
    def inner_product(self) -> bool:
        """Whether the search key is minus the inner product rather than the squared distance."""
        return self.metric == "inner_product"

    def block(self, rows: slice | Array) -> Array:
        """(b, d) float32: centered (Euclidean) or normalized (cosine), scaled; in the embeddings' library."""
        if self.cached is not None:
            return self.cached[rows]
        xp = array_module(self.embeddings)
        if self.metric == "euclidean" and self.scale == 1.0:
            return row_block(self.embeddings, rows, mean=self.mean)
        if self.metric == "cosine" and xp is np and has_compiled_path(self.embeddings):
            which = np.arange(self.n)[rows] if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
            unit = np.empty((len(which), self.d), dtype=np.float32)
            divided_rows(self.embeddings, which, self.lengths[rows], unit)
            return unit
        block = row_block(self.embeddings, rows, dtype=np.float64, mean=self.mean)
        # Not in place: the block may be a view of the user's array.
        block = block / self.lengths[rows, None] if self.metric == "cosine" else block * self.scale
        return xp.ascontiguousarray(block, dtype=np.float32)

    def key_lengths(self, rows: slice | Array) -> Array:
        """(b,) float64 lengths of the vectors that `block` gives."""
        lengths = self.lengths[rows]
        return array_module(lengths).ones_like(lengths) if self.metric == "cosine" else lengths

    def distances(self, keys: Array) -> Array:
        """Search keys (squared distance or minus inner product of prepared vectors) as distances."""
        xp = array_module(keys)
        if self.metric == "euclidean":
            keys = xp.sqrt(keys) / self.scale
        elif self.metric == "cosine":
            keys = keys / 2
        else:
            keys = keys / self.scale / self.scale
        return keys.astype(self.distance_dtype)


def prepare(embeddings: Array, metric: Metric, queries: Array | None = None) -> tuple[Points, Points | None]:
    """Read the embeddings through twice, for means and finiteness, then for lengths; other vectors as well.

    Returns
    -------
    The embeddings and the queries, None without any, of one scale, so that the two can be compared.

    Raises
    ------
    InputError
        If values are NaN or infinite, a vector is zero under cosine, distances leave the range of float64, or the
        numbers of features differ.
    """
    given = {"embeddings": embeddings} if queries is None else {"embeddings": embeddings, "queries": queries}
    if queries is not None and queries.shape[1] != embeddings.shape[1]:
        raise InputError(
            f"The queries have {queries.shape[1]} features, but the embeddings have {embeddings.shape[1]}; "
            "both must come from one model."
        )
    mean = column_means(embeddings)
    if queries is not None:
        column_means(queries, name="queries")  # names the rows that are not finite
    mean = mean if metric == "euclidean" else None
    lengths = {name: _lengths(given[name], mean) for name in given}
    if metric == "cosine":
        for name in given:
            _refuse_short_vectors(lengths[name], name)
        scale, dtype = 1.0, np.float32
    else:
        scale, dtype = _scale_and_dtype({name: float(lengths[name].max()) for name in given}, metric)
    points, *others = (Points(given[name], metric, mean, scale, lengths[name] * scale, None, dtype) for name in given)
    return points, others[0] if others else None


def cache_float32(points: Points, n_bytes: int) -> Points:
    """Points that keep what `block` gives in memory, if that takes no more than `n_bytes`.

    Worth it where blocks are read several times, as every conversion goes through float64.
    """
    if 4 * points.n * points.d > n_bytes:
        return points
    cached = array_module(points.embeddings).empty((points.n, points.d), dtype=np.float32)
    for rows in row_slices(points.n, points.d, itemsize=20):
        cached[rows] = points.block(rows)
    return replace(points, cached=cached)


def _scale_and_dtype(longest: dict[str, float], metric: Metric) -> tuple[float, type[np.floating[Any]]]:
    """Scale of vectors up to these lengths, and the type of distances between them; the first are those searched."""
    first, farthest = next(iter(longest.values())), max(longest.values())
    scale = 1.0 if 1e-3 < first < 1e6 or first == 0 else _power_of_two(first)
    scale = _power_of_two(farthest) if farthest * scale > FARTHEST_QUERY else scale
    return scale, np.result_type(
        *(distance_dtype(_largest_distance(longest[name], metric, name)) for name in longest)
    ).type


def _power_of_two(longest: float) -> float:
    """Factor that brings this length near 1, exactly; float64 holds it, and the length's digits times it."""
    return float(2.0 ** -np.clip(np.round(np.log2(longest)), -1020, 1020))


def _largest_distance(longest: float, metric: Metric, name: str) -> float:
    """Size of the largest distances, or inner products, in the user's units.

    Raises
    ------
    InputError
        If float64 does not hold them.
    """
    most = float(np.finfo(np.float64).max) / 4
    if longest > (math.sqrt(most) if metric == "inner_product" else most):
        raise InputError(
            f"The {name} hold values so large (up to length {longest:.1e}) that {metric} distances exceed "
            "float64; divide them by a constant."
        )
    if metric == "inner_product" and 0 < longest < SMALLEST_FOR_PRODUCTS:
        raise InputError(
            f"The {name} hold values so small (up to length {longest:.1e}) that float64 does not hold their inner "
            "products; multiply them by a constant."
        )
    return longest**2 if metric == "inner_product" else longest


def _lengths(embeddings: Array, mean: Array | None) -> Array:
    """(n,) float64 Euclidean lengths of the embeddings, less the mean if there is one."""
    xp = array_module(embeddings)
    if xp is np and has_compiled_path(embeddings):
        return row_lengths(embeddings, np.zeros(embeddings.shape[1]) if mean is None else mean)
    lengths = xp.empty(embeddings.shape[0], dtype=np.float64)
    for rows in row_slices(*embeddings.shape, itemsize=32):  # a block and three of its size in float64
        block = row_block(embeddings, rows, dtype=np.float64, mean=mean)
        # The largest value is taken out before squaring, so that no square leaves the range of float64.
        largest = xp.abs(block).max(axis=1)
        unit = xp.where(largest > 0, largest, 1.0)
        block = block / unit[:, None]  # not in place: the block may be a view of the user's array
        lengths[rows] = unit * xp.sqrt(xp.einsum("ij,ij->i", block, block))
    return lengths


def _refuse_short_vectors(lengths: Array, name: str) -> None:
    """Refuse vectors that have no direction, or one without all its digits."""
    xp = array_module(lengths)
    if (rows := xp.flatnonzero(lengths == 0)).size:
        raise InputError(
            f"The {name} hold {counted(int(rows.size), 'zero vector')} ({_listed(rows)}), without a direction for the "
            "cosine; remove such rows or use metric='euclidean'."
        )
    if (rows := xp.flatnonzero(lengths < SHORTEST)).size:
        raise InputError(
            f"The {name} hold {counted(int(rows.size), 'vector')} shorter than {SHORTEST:.1e} ({_listed(rows)}), "
            "whose direction is inaccurate in float64; multiply all embeddings by a common factor, or remove such rows."
        )


def _listed(rows: Array) -> str:
    return numbered("row", rows[:5].tolist(), int(rows.size))

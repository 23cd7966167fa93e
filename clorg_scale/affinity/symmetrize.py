"""The undirected edges of a k-NN table, as a symmetric CSR matrix of distances; NumPy or CuPy alike.

Neighbor lists are made symmetric in time linear in their length: `symmetrize_cpu`, on a GPU `kernels/symmetrize.cu`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from clorg_scale.affinity.symmetrize_cpu import check_entries, index_dtype, symmetrized
from clorg_scale.arrays import Array, array_module
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN

__all__ = ["EdgeBlock", "Edges", "Symmetrize", "row_blocks", "row_numbers", "undirected_edges"]

Symmetrize = Literal["max", "mean", "mutual"]

BLOCK_ENTRIES = 2**22
"""Entries handled at once: float64 work on them takes some 100 MB however large the graph is."""


@dataclass(frozen=True)
class Edges:
    """Pairs of neighbors, each from either end: the entries of a symmetric CSR matrix.

    Attributes
    ----------
    indptr
        (n + 1,) first entry of each row; int32 while there are fewer than 2^31 nodes and entries, int64 beyond.
    indices
        (e,) the other end of each entry, sorted within a row; the dtype of `indptr`.
    distances
        (e,) float32 in units of `unit`, the same from either end.
    in_both
        (e,) whether either end lists the other; None unless the rule is "mean".
    unit
        A power of two, by which distances that float32 does not hold are divided.
    """

    indptr: Array
    indices: Array
    distances: Array
    in_both: Array | None = None
    unit: float = 1.0

    @property
    def n_nodes(self) -> int:
        """Number of points n."""
        return len(self.indptr) - 1

    def blocks(self) -> Iterator[EdgeBlock]:
        """All edges, some whole rows at a time."""
        for rows, entries in row_blocks(self.indptr):
            bounds = self.indptr[rows.start : rows.stop + 1]
            yield EdgeBlock(rows, entries, row_numbers(bounds - bounds[0]), self)


@dataclass(frozen=True)
class EdgeBlock:
    """The edges of some consecutive rows.

    Attributes
    ----------
    rows, entries
        Rows and entries of the matrix.
    own_row
        (b,) int64 row of each entry, counted from the first row of the block.
    edges
        All edges.
    """

    rows: slice
    entries: slice
    own_row: Array
    edges: Edges

    @property
    def distances(self) -> Array:
        """(b,) float64."""
        return self.edges.distances[self.entries].astype(np.float64) * self.edges.unit

    @property
    def indices(self) -> Array:
        """(b,) the other end of each entry."""
        return self.edges.indices[self.entries]

    def row_sums(self, values: Array) -> Array:
        """(rows,) float64 sum of the values (b,) in each row."""
        xp = array_module(values)
        return xp.bincount(self.own_row, weights=values, minlength=self.rows.stop - self.rows.start)


def undirected_edges(knn: KNN, symmetrize: Symmetrize) -> Edges:
    """Make directed neighbor lists undirected.

    Parameters
    ----------
    knn
        Table of all points.
    symmetrize
        "max" and "mean" keep a pair if either point lists the other, "mutual" if both do; "mean" records which.

    Raises
    ------
    InputError
        If the table is of a sample of the points, lists neighbors that are not among them, holds distances that are not
        finite, or the rule is unknown.
    """
    if symmetrize not in ("max", "mean", "mutual"):
        raise InputError(f"symmetrize must be 'max', 'mean' or 'mutual', not {symmetrize!r}.")
    if knn.queries is not None:
        raise InputError("The k-NN table holds a sample of the points; a graph needs the neighbors of all of them.")
    xp = array_module(knn.indices)
    if xp is not np or knn.distances.dtype != np.float32:  # else the search for pairs looks at each entry itself
        check_entries(knn.n_points, int(knn.indices.max()), finite=bool(xp.isfinite(knn.distances).all()))
    table, unit = _in_float32(knn.distances)
    if xp is not np:
        return _symmetrized_on_gpu(replace(knn, distances=table), symmetrize, unit)
    found = symmetrized(knn.indices, table, mutual=symmetrize == "mutual", in_both=symmetrize == "mean")
    return Edges(found.indptr, found.indices, found.distances, found.in_both, unit)


def _in_float32(distances: Array) -> tuple[Array, float]:
    """Distances in float32, in units of a power of two where they are float64, and that unit."""
    xp = array_module(distances)
    largest = 0.0 if distances.dtype == np.float32 else float(xp.abs(distances).max())
    unit = 2.0 ** float(np.clip(np.round(np.log2(largest)), -1020, 1020)) if largest > 0 else 1.0
    return (distances if unit == 1.0 else distances / unit).astype(np.float32, copy=False), unit


def _symmetrized_on_gpu(knn: KNN, symmetrize: Symmetrize, unit: float) -> Edges:
    """The same as `symmetrized`, by the CUDA kernel."""
    from clorg_scale.kernels.graph import symmetrize as symmetrize_table

    table = knn.indices.astype(index_dtype(knn.n_points, 2 * knn.n_points * knn.k), copy=False)
    indptr, indices, distances = symmetrize_table(table, knn.distances, "mutual" if symmetrize == "mutual" else "max")
    dtype = index_dtype(knn.n_points, len(indices))
    indptr, indices = indptr.astype(dtype, copy=False), indices.astype(dtype, copy=False)
    if symmetrize != "mean":
        return Edges(indptr, indices, distances, None, unit)
    # The mean of 1 and 1 where both ends list the other, of 1 and 0 where one does; entries in the same order.
    shares = symmetrize_table(table, array_module(distances).ones_like(knn.distances), "mean")[2]
    return Edges(indptr, indices, distances, shares > 0.75, unit)


def row_blocks(indptr: Array) -> Iterator[tuple[slice, slice]]:
    """Consecutive rows of a CSR matrix and their entries, about `BLOCK_ENTRIES` of them at a time."""
    xp = array_module(indptr)
    n_rows, n_entries = len(indptr) - 1, int(indptr[-1])
    marks = xp.arange(BLOCK_ENTRIES, max(n_entries, BLOCK_ENTRIES), BLOCK_ENTRIES, dtype=np.int64)
    cuts = xp.searchsorted(indptr, marks.astype(indptr.dtype), side="right") - 1
    bounds = sorted({0, *(int(cut) for cut in cuts), n_rows})
    for start, stop in pairwise(bounds):
        yield slice(start, stop), slice(int(indptr[start]), int(indptr[stop]))


def row_numbers(indptr: Array) -> Array:
    """(entries,) int64 row of each entry of a CSR matrix."""
    xp = array_module(indptr)
    n_rows = len(indptr) - 1
    if xp is np:
        return np.repeat(np.arange(n_rows, dtype=np.int64), np.diff(indptr))
    # CuPy repeats by no array of counts before 14.1.
    return xp.searchsorted(indptr[1:], xp.arange(int(indptr[-1]), dtype=indptr.dtype), side="right")

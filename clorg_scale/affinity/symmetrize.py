"""The undirected edges of a k-NN table, as a symmetric CSR matrix of distances; NumPy or CuPy alike.

Neighbor lists are made symmetric in time linear in their length (on a GPU: `kernels/symmetrize.cu`). Transposing a CSR
matrix by counting leaves the rows of the result sorted. So the transposed table holds for each point, in order, who
lists it; transposed once more, whom it lists, in order; and a merge of the two is the symmetric matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN
from clorg_scale.numerics.compiler import njit

__all__ = ["EdgeBlock", "Edges", "Symmetrize", "row_blocks", "row_numbers", "symmetrized", "undirected_edges"]

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
    largest = int(knn.indices.max())
    if largest >= knn.n_points:
        raise InputError(f"The k-NN table lists neighbor {largest}, but there are only {knn.n_points} points.")
    if not bool(xp.isfinite(knn.distances).all()):
        raise InputError("The k-NN table holds NaN or infinite distances; clean it with KNN.from_arrays.")
    table, unit = _in_float32(knn.distances)
    if xp is np:
        found: tuple[Array, Array, Array, Array | None]
        found = symmetrized(knn.indices, table, mutual=symmetrize == "mutual")
    else:
        found = _symmetrized_on_gpu(replace(knn, distances=table), symmetrize)
    indptr, indices, distances, in_both = found
    dtype = _index_dtype(knn.n_points, len(indices))
    indptr, indices = indptr.astype(dtype, copy=False), indices.astype(dtype, copy=False)
    return Edges(indptr, indices, distances, in_both if symmetrize == "mean" else None, unit)


def _in_float32(distances: Array) -> tuple[Array, float]:
    """Distances in float32, in units of a power of two where they are float64, and that unit."""
    xp = array_module(distances)
    largest = 0.0 if distances.dtype == np.float32 else float(xp.abs(distances).max())
    unit = 2.0 ** float(np.clip(np.round(np.log2(largest)), -1020, 1020)) if largest > 0 else 1.0
    return (distances if unit == 1.0 else distances / unit).astype(np.float32, copy=False), unit


def _symmetrized_on_gpu(knn: KNN, symmetrize: Symmetrize) -> tuple[Array, Array, Array, Array | None]:
    """The same as `symmetrized`, by the CUDA kernel."""
    from clorg_scale.kernels.graph import symmetrize as symmetrize_table

    table = knn.indices.astype(_index_dtype(knn.n_points, 2 * knn.n_points * knn.k), copy=False)
    indptr, indices, distances = symmetrize_table(table, knn.distances, "mutual" if symmetrize == "mutual" else "max")
    if symmetrize != "mean":
        return indptr, indices, distances, None
    # The mean of 1 and 1 where both ends list the other, of 1 and 0 where one does; entries in the same order.
    shares = symmetrize_table(table, array_module(distances).ones_like(knn.distances), "mean")[2]
    return indptr, indices, distances, shares > 0.75


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


def _index_dtype(n_nodes: int, n_entries: int) -> type[np.signedinteger[Any]]:
    """Integers that hold node numbers and positions of entries."""
    return np.int32 if max(n_nodes, n_entries) < 2**31 else np.int64


def symmetrized(
    neighbors: npt.NDArray[np.signedinteger[Any]], distances: npt.NDArray[np.float32], *, mutual: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.signedinteger[Any]], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Symmetric matrix of a k-NN table in main memory.

    Parameters
    ----------
    neighbors
        (n, k) below n, negative where absent; the point itself, and repetitions, are left out.
    distances
        (n, k). Of a pair that both ends list at different distances (inexact searches) the larger is kept; the smaller
        if `mutual`, as on the GPU.
    mutual
        Keep only the pairs that list each other.

    Returns
    -------
    indptr (n + 1,) int64, indices (e,) sorted within rows, distances (e,), and (e,) whether both ends list the pair.
    """
    n, k = neighbors.shape
    starts = np.arange(n + 1, dtype=np.int64) * k
    table = _Rows(starts, np.ascontiguousarray(neighbors).reshape(-1), np.ascontiguousarray(distances).reshape(-1))
    listing = _transposed(table)
    return _merged(_transposed(listing), listing, mutual)  # type: ignore[no-any-return]


class _Rows(NamedTuple):
    """Sparse matrix of n rows: (n + 1,) first entry of each row, (e,) columns and values."""

    starts: Any
    columns: Any
    values: Any


@njit(cache=True, nogil=True)
def _transposed(matrix: _Rows) -> _Rows:
    """Transposed matrix without its diagonal and negative columns; its rows are sorted."""
    starts, columns, values = matrix
    n = len(starts) - 1
    new_starts = np.zeros(n + 1, np.int64)
    for row in range(n):
        for entry in range(starts[row], starts[row + 1]):
            column = columns[entry]
            if column >= 0 and column != row:
                new_starts[column + 1] += 1
    for row in range(n):
        new_starts[row + 1] += new_starts[row]
    cursors = new_starts[:-1].copy()
    new_columns = np.empty(new_starts[n], columns.dtype)
    new_values = np.empty(new_starts[n], values.dtype)
    for row in range(n):
        for entry in range(starts[row], starts[row + 1]):
            column = columns[entry]
            if column >= 0 and column != row:
                slot = cursors[column]
                new_columns[slot] = row
                new_values[slot] = values[entry]
                cursors[column] = slot + 1
    return _Rows(new_starts, new_columns, new_values)


@njit(cache=True, nogil=True)
def _merged(a_rows: _Rows, b_rows: _Rows, mutual: Any) -> Any:
    """Union, or if `mutual` intersection, of two matrices with sorted rows that are each other's transposes."""
    (starts_a, columns_a, values_a), (starts_b, columns_b, values_b) = a_rows, b_rows
    n = len(starts_a) - 1
    most = len(columns_a) if mutual else len(columns_a) + len(columns_b)
    indptr = np.zeros(n + 1, np.int64)
    # Pages that are never written take no memory.
    columns, values = np.empty(most, columns_a.dtype), np.empty(most, values_a.dtype)
    in_both = np.empty(most, np.bool_)
    size = 0
    for row in range(n):
        a, end_a = starts_a[row], starts_a[row + 1]
        b, end_b = starts_b[row], starts_b[row + 1]
        while a < end_a or b < end_b:
            if b == end_b or (a < end_a and columns_a[a] <= columns_b[b]):
                column, value = columns_a[a], values_a[a]
            else:
                column, value = columns_b[b], values_b[b]
            from_a = from_b = False
            while a < end_a and columns_a[a] == column:
                value = min(value, values_a[a]) if mutual else max(value, values_a[a])
                from_a = True
                a += 1
            while b < end_b and columns_b[b] == column:
                value = min(value, values_b[b]) if mutual else max(value, values_b[b])
                from_b = True
                b += 1
            if mutual and not (from_a and from_b):
                continue
            columns[size] = column
            values[size] = value
            in_both[size] = from_a and from_b
            size += 1
        indptr[row + 1] = size
    return indptr, columns[:size], values[:size], in_both[:size]

"""The undirected edges of a k-NN table, and symmetric CSR arrays made of them; NumPy or CuPy alike.

On the CPU each pair is there once, found by sorting all of them. On a GPU `clorg_scale.kernels.graph.symmetrise` writes
the CSR matrix without that sort, and the pairs are its entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN

__all__ = ["Edges", "Symmetrize", "edges_of", "log_row_sums", "row_numbers", "to_csr"]

Symmetrize = Literal["max", "mean", "mutual"]


@dataclass(frozen=True)
class Edges:
    """Pairs of neighbours, each once (i < j), or the entries of a symmetric CSR matrix: each from either end.

    Attributes
    ----------
    i, j
        (e,) int64, sorted by i, then j; j of a CSR matrix has the dtype of `indptr`.
    distances
        (e,) float64.
    shares
        (e,) float64, what symmetrising leaves of a weight: 1, or under "mean" 1/2 where only one of the two
        points lists the other.
    n_nodes
        Number of points n.
    indptr
        (n + 1,) first entry of each row of the CSR matrix; None where each pair is there once.
    """

    i: Array
    j: Array
    distances: Array
    shares: Array
    n_nodes: int
    indptr: Array | None = None

    def both_ways(self, values: Array) -> tuple[Array, Array]:
        """Node and value of each edge, seen from either end."""
        if self.indptr is not None:
            return self.i, values
        xp = array_module(values)
        return xp.concatenate([self.i, self.j]), xp.concatenate([values, values])


def edges_of(knn: KNN, symmetrize: Symmetrize) -> Edges:
    """Make directed neighbour lists undirected.

    Parameters
    ----------
    knn
        Table of all points.
    symmetrize
        "max" and "mean" keep a pair if either point lists the other, "mutual" if both do.

    Raises
    ------
    InputError
        If the table is of a sample of the points, or the rule is unknown; on a GPU also if it holds neighbours that
        are none of the points.
    """
    if symmetrize not in ("max", "mean", "mutual"):
        raise InputError(f"symmetrize must be 'max', 'mean' or 'mutual', not {symmetrize!r}.")
    if knn.queries is not None:
        raise InputError("The k-NN table holds a sample of the points; a graph needs the neighbours of all of them.")
    if array_module(knn.indices) is not np:
        return _edges_on_gpu(knn, symmetrize)
    xp = np
    n, k = knn.n_points, knn.k
    here, there = xp.repeat(xp.arange(n, dtype=np.int64), k), knn.indices.reshape(-1).astype(np.int64)
    listed = (there >= 0) & (there != here)
    here, there = here[listed], there[listed]
    keys = xp.minimum(here, there) * n + xp.maximum(here, there)
    order = xp.argsort(keys)
    keys, distances = keys[order], knn.distances.reshape(-1)[listed][order].astype(np.float64)
    first = xp.concatenate([xp.ones(1, dtype=bool), keys[1:] != keys[:-1]])
    starts = xp.flatnonzero(first)
    counts = xp.diff(xp.concatenate([starts, xp.full(1, len(keys), dtype=starts.dtype)]))
    keys, distances = keys[starts], distances[starts]
    if symmetrize == "mutual":
        kept = counts > 1
        keys, distances, counts = keys[kept], distances[kept], counts[kept]
    shares = xp.where(counts > 1, 1.0, 0.5) if symmetrize == "mean" else xp.ones(len(keys))
    return Edges(keys // n, keys % n, distances, shares, n)


def _edges_on_gpu(knn: KNN, symmetrize: Symmetrize) -> Edges:
    """Edges of a CuPy table by the CUDA kernel."""
    from clorg_scale.kernels.graph import symmetrise

    n, k = knn.n_points, knn.k
    table = knn.indices.astype(_index_dtype(n, 2 * n * k), copy=False)
    # A distance is the same from either end, so the smaller of two and the larger of two are that distance.
    indptr, columns, distances = symmetrise(table, knn.distances, "mutual" if symmetrize == "mutual" else "max")
    ones = array_module(distances).ones_like
    # The mean of 1 and 1 where both ends list the other, of 1 and 0 where one does; entries in the same order.
    shares = symmetrise(table, ones(knn.distances), "mean")[2] if symmetrize == "mean" else ones(distances)
    dtype = _index_dtype(n, len(columns))
    indptr, columns = indptr.astype(dtype, copy=False), columns.astype(dtype, copy=False)
    return Edges(row_numbers(indptr), columns, distances.astype(np.float64), shares.astype(np.float64), n, indptr)


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


def log_row_sums(edges: Edges, exponents: Array) -> Array:
    """(n,) log of the sum of exp(exponent) over the edges of each node; -inf for a node without edges."""
    xp = array_module(exponents)
    nodes, values = edges.both_ways(exponents)
    highest = xp.full(edges.n_nodes, -xp.inf)
    xp.maximum.at(highest, nodes, values)
    sums = xp.bincount(nodes, weights=xp.exp(values - highest[nodes]), minlength=edges.n_nodes)
    return highest + xp.log(xp.where(sums > 0, sums, 1.0))


def to_csr(edges: Edges, weights: Array) -> tuple[Array, Array, Array]:
    """Symmetric CSR arrays (indptr, indices, float32 weights) with sorted indices.

    Indices are int32 while both the number of nodes and of entries are below 2^31, int64 beyond.
    """
    if edges.indptr is not None:
        return edges.indptr, edges.j, weights.astype(np.float32)
    xp = array_module(weights)
    n = edges.n_nodes
    rows, values = edges.both_ways(weights.astype(np.float32))
    columns = xp.concatenate([edges.j, edges.i])
    order = xp.argsort(rows * n + columns)
    dtype = _index_dtype(n, len(rows))
    indptr = xp.zeros(n + 1, dtype=dtype)
    indptr[1:] = xp.cumsum(xp.bincount(rows, minlength=n))
    return indptr, columns[order].astype(dtype), values[order]

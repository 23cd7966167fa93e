"""Sums and products over the entries of a CSR matrix, some rows at a time; NumPy, memory-mapped or CuPy.

Work on all entries at once takes several times the memory of the graph, which may be mapped because it does not fit.
"""

from __future__ import annotations

import numpy as np

from clorg_scale.affinity.symmetrize import row_blocks, row_numbers
from clorg_scale.arrays import Array, array_module

__all__ = ["inverse_roots", "scaled_weights", "sums_of_rows"]


def sums_of_rows(indptr: Array, weights: Array) -> Array:
    """(n,) float64 sum of the weights (entries,) in each row."""
    xp = array_module(weights)
    sums = xp.zeros(len(indptr) - 1)
    for rows, entries in row_blocks(indptr):
        block = weights[entries].astype(np.float64)
        sums[rows] = xp.bincount(_own_rows(indptr, rows), weights=block, minlength=rows.stop - rows.start)
    return sums


def scaled_weights(indptr: Array, indices: Array, weights: Array, left: Array, right: Array) -> Array:
    """(entries,) float32 left_i w_ij right_j, computed in float64.

    Parameters
    ----------
    indptr, indices, weights
        The matrix.
    left, right
        (n,) float64 factors of the rows and of the columns.
    """
    xp = array_module(weights)
    scaled = xp.empty(len(weights), dtype=np.float32)
    for rows, entries in row_blocks(indptr):
        block = weights[entries] * left[rows][_own_rows(indptr, rows)]
        block *= right[indices[entries]]
        scaled[entries] = block
    return scaled


def inverse_roots(degrees: Array) -> Array:
    """(n,) float64 degrees to the power of -1/2; 0 where they are 0."""
    xp = array_module(degrees)
    return xp.where(degrees > 0, 1 / xp.sqrt(xp.where(degrees > 0, degrees, 1.0)), 0.0)


def _own_rows(indptr: Array, rows: slice) -> Array:
    """(b,) int64 row of each entry of some rows, counted from the first of them."""
    bounds = indptr[rows.start : rows.stop + 1]
    return row_numbers(bounds - bounds[0])

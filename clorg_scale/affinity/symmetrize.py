"""Directed neighbor lists made symmetric in time linear in their length (on a GPU: `kernels/symmetrize.cu`).

Transposing a CSR matrix by counting leaves the rows of the result sorted. So the transposed table holds for each point,
in order, who lists it; transposed once more, whom it lists, in order; and a merge of the two is the symmetric matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.numerics.compiler import njit

__all__ = ["symmetrize"]


def symmetrize(
    neighbors: npt.NDArray[np.signedinteger[Any]], distances: npt.NDArray[np.float32], *, mutual: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.signedinteger[Any]], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Make a k-NN table a symmetric matrix.

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
    ids, values = np.ascontiguousarray(neighbors).reshape(-1), np.ascontiguousarray(distances).reshape(-1)
    listing = _transposed(starts, ids, values)
    return _merged(*_transposed(*listing), *listing, mutual)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _transposed(starts, columns, values):  # type: ignore[no-untyped-def]
    """CSR arrays of the transposed matrix without its diagonal and negative columns; rows come out sorted."""
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
    return new_starts, new_columns, new_values


@njit(cache=True, nogil=True)
def _merged(starts_a, columns_a, values_a, starts_b, columns_b, values_b, mutual):  # type: ignore[no-untyped-def]
    """Union, or if `mutual` intersection, of two CSR matrices with sorted rows that are each other's transposes."""
    n = len(starts_a) - 1
    most = len(columns_a) if mutual else len(columns_a) + len(columns_b)
    indptr = np.zeros(n + 1, np.int64)
    # The pages that are never written are never there.
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

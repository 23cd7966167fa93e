"""Degree-normalized weights of a graph, without an array of its entries in float64."""

from __future__ import annotations

import numpy as np

from clorg_scale.arrays import Array, array_module

__all__ = ["degrees", "entry_slices", "scaled_weights"]

ENTRIES = 1 << 22
"""Entries scaled at a time."""


def degrees(indptr: Array, weights: Array) -> Array:
    """(n,) float64 sums of the weights of each row; 0 for an empty one."""
    xp = array_module(weights)
    n = len(indptr) - 1
    found = xp.zeros(n)
    for rows in entry_slices(indptr):
        bounds = indptr[rows.start : rows.stop + 1] - indptr[rows.start]
        part = weights[int(indptr[rows.start]) : int(indptr[rows.stop])].astype(np.float64)
        filled = xp.flatnonzero(bounds[1:] > bounds[:-1])
        if not len(filled):
            continue
        if xp is np:
            found[rows.start + filled] = np.add.reduceat(part, bounds[filled])
        else:
            numbers = xp.searchsorted(bounds[1:], xp.arange(len(part)), side="right")
            found[rows] = xp.bincount(numbers, part, minlength=rows.stop - rows.start)
    return found


def scaled_weights(
    indptr: Array, indices: Array, weights: Array, row_factors: Array | None, column_factors: Array | None
) -> Array:
    """(nnz,) float32 weights times a factor (n,) of their row and one of their column; None: no factor."""
    xp = array_module(weights)
    scaled = xp.empty(len(weights), dtype=np.float32)
    for rows in entry_slices(indptr):
        chosen = slice(int(indptr[rows.start]), int(indptr[rows.stop]))
        part = weights[chosen].astype(np.float64)
        if row_factors is not None:
            counts = indptr[rows.start + 1 : rows.stop + 1] - indptr[rows.start : rows.stop]
            if xp is np:
                part *= np.repeat(row_factors[rows], counts)
            else:
                ends = xp.cumsum(counts)
                part *= row_factors[rows][xp.searchsorted(ends, xp.arange(len(part)), side="right")]
        if column_factors is not None:
            part *= column_factors[indices[chosen]]
        scaled[chosen] = part
    return scaled


def entry_slices(indptr: Array, entries: int = ENTRIES, most_rows: int | None = None) -> list[slice]:
    """Consecutive ranges of rows, of about so many entries each, and of at most `most_rows` rows."""
    xp, n = array_module(indptr), len(indptr) - 1
    found, start = [], 0
    while start < n:
        stop = int(xp.searchsorted(indptr, int(indptr[start]) + entries, side="right")) - 1
        stop = min(max(stop, start + 1), start + (most_rows or n), n)
        found.append(slice(start, stop))
        start = stop
    return found

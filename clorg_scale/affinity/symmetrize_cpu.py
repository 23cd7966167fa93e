"""The symmetric matrix of a k-NN table in main memory: three passes over the table, on threads.

One pass counts who is listed how often, one writes for each point who lists it (the transposed table, by counting: its
rows come out sorted), and one sorts the few neighbors that each point lists and merges both. The merge writes the rows
of the result where they stay, but for the gap that each thread's rows leave before those of the next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.errors import InputError
from clorg_scale.numerics.compiler import callee, njit
from clorg_scale.numerics.threads import LEAST_NUMBERS, on_threads, shares_of

__all__ = ["Symmetrized", "check_entries", "index_dtype", "symmetrized"]

RANKED = 64
"""Neighbors up to which a list is sorted by counting the smaller ones of each: without branches, but quadratic."""

VECTOR = 8
"""Numbers that a vector register holds."""


class Symmetrized(NamedTuple):
    """A symmetric CSR matrix.

    Attributes
    ----------
    indptr
        (n + 1,) first entry of each row.
    indices
        (e,) sorted within a row.
    distances
        (e,) float32.
    in_both
        (e,) whether both ends list the pair; None unless asked for.
    """

    indptr: npt.NDArray[np.signedinteger[Any]]
    indices: npt.NDArray[np.signedinteger[Any]]
    distances: npt.NDArray[np.float32]
    in_both: npt.NDArray[np.bool_] | None


class _Table(NamedTuple):
    """(n, k) neighbors, negative where absent, and float32 distances."""

    neighbors: Any
    distances: Any


class _Listing(NamedTuple):
    """Who lists each point: (n + 1,) first entry of each point, and all entries, (column, value)."""

    starts: Any
    entries: Any


class _Merged(NamedTuple):
    """Output of the merge: sizes of rows, and columns, values and flags (empty if not asked for) of entries."""

    sizes: Any
    columns: Any
    values: Any
    in_both: Any


def index_dtype(n_nodes: int, n_entries: int) -> type[np.signedinteger[Any]]:
    """Integers that hold node numbers and positions of entries."""
    return np.int32 if max(n_nodes, n_entries) < 2**31 else np.int64


def check_entries(n: int, largest: int, *, finite: bool) -> None:
    """Refuse neighbors that are not points, and distances that are not finite."""
    if largest >= n:
        raise InputError(f"The k-NN table lists neighbor {largest}, but there are only {n} points.")
    if not finite:
        raise InputError("The k-NN table holds NaN or infinite distances; clean it with KNN.from_arrays.")


def symmetrized(
    neighbors: npt.NDArray[np.signedinteger[Any]],
    distances: npt.NDArray[np.float32],
    *,
    mutual: bool = False,
    in_both: bool = False,
) -> Symmetrized:
    """Make a k-NN table symmetric.

    Parameters
    ----------
    neighbors
        (n, k), negative where absent; the point itself, and repetitions, are left out.
    distances
        (n, k). Of a pair that both ends list at different distances (inexact searches) the larger is kept; the smaller
        if `mutual`, as on the GPU.
    mutual
        Keep only the pairs that list each other.
    in_both
        Return which pairs list each other.

    Raises
    ------
    InputError
        If a neighbor is not below n, or a distance not finite.
    """
    n, k = neighbors.shape
    position = index_dtype(n, n * k)
    table = _Table(np.ascontiguousarray(neighbors), np.ascontiguousarray(distances))
    # Counts of each share are an array of n: no more of them than the table takes itself.
    shares = min(shares_of(max(1, n * k // LEAST_NUMBERS)), max(1, k // 2))
    bounds = [n * share // shares for share in range(shares + 1)]
    counts = np.zeros((shares, n), position)
    seen: list[tuple[int, bool]] = [(-1, True)] * shares

    def count(share: int) -> None:
        most, good = _count(table, bounds[share], bounds[share + 1], counts[share])
        seen[share] = int(most), bool(good)

    on_threads(count, shares)
    check_entries(n, max(most for most, _ in seen), finite=all(good for _, good in seen))
    starts = np.empty(n + 1, position)
    _first_slots(counts, starts)  # the counts become the slots that each share writes next
    entry = np.dtype([("column", index_dtype(n, 0)), ("value", np.float32)])
    listing = _Listing(starts, np.empty(int(starts[n]), entry))
    on_threads(lambda s: _transpose(table, bounds[s], bounds[s + 1], counts[s], listing.entries), shares)
    # Where each share writes its rows; one more, for the pair after its last one that may not be kept.
    firsts = [int(starts[row]) + (0 if mutual else row * k) + share for share, row in enumerate(bounds)]
    # Pages that are never written take no memory.
    flags = np.empty(firsts[-1] if in_both else 0, np.bool_)
    merged = _Merged(
        np.zeros(n + 1, np.int64), np.empty(firsts[-1], entry["column"]), np.empty(firsts[-1], "f4"), flags
    )
    on_threads(
        lambda share: _merge(table, listing, (bounds[share], bounds[share + 1]), mutual, (firsts[share], merged)),
        shares,
    )
    indptr = np.cumsum(merged.sizes)
    for share in range(1, shares):
        first, size = int(indptr[bounds[share]]), int(indptr[bounds[share + 1]] - indptr[bounds[share]])
        _close_gap(merged, first, firsts[share], size)
    kept = slice(int(indptr[n]))
    dtype = index_dtype(n, kept.stop)
    columns = merged.columns[kept].astype(dtype, copy=False)
    both = flags[kept] if in_both else None
    return Symmetrized(indptr.astype(dtype, copy=False), columns, merged.values[kept], both)


@njit(cache=True, nogil=True)
def _count(table: _Table, start: int, stop: int, counts: Any) -> tuple[Any, bool]:
    """Counts of how often some rows list each point, the largest neighbor, and whether the distances are finite."""
    neighbors, distances = table
    largest, finite = np.int64(-1), True
    for row in range(start, stop):
        for slot in range(neighbors.shape[1]):
            column = np.int64(neighbors[row, slot])
            if column > largest:
                largest = column
            finite &= np.isfinite(distances[row, slot])
            if 0 <= column < len(counts) and column != row:
                counts[column] += 1
    return largest, finite


@njit(cache=True, nogil=True)
def _first_slots(counts: Any, starts: Any) -> None:
    """Turn counts (shares, n) into the first slot of each share at each point; a point's shares follow one another."""
    total = starts.dtype.type(0)
    for point in range(counts.shape[1]):
        starts[point] = total
        for share in range(counts.shape[0]):
            count = counts[share, point]
            counts[share, point] = total
            total += count
    starts[counts.shape[1]] = total


@njit(cache=True, nogil=True)
def _transpose(table: _Table, start: int, stop: int, slots: Any, entries: Any) -> None:
    """Write some rows of the table into the transposed one, at the next slot of each point that they list."""
    neighbors, distances = table
    for row in range(start, stop):
        for k in range(neighbors.shape[1]):
            column = neighbors[row, k]
            if column >= 0 and column != row:
                slot = slots[column]
                entries[slot].column = row
                entries[slot].value = distances[row, k]
                slots[column] = slot + 1


@njit(cache=True, nogil=True)
def _merge(table: _Table, listing: _Listing, rows: tuple[int, int], mutual: Any, into: tuple[int, _Merged]) -> None:
    """Union, or if `mutual` intersection, of what some rows list and of who lists them."""
    starts, entries = listing
    size, merged = into
    start, stop = rows
    k = table.neighbors.shape[1]
    dtype = merged.columns.dtype
    beyond = np.iinfo(dtype).max
    lists = np.empty(k + VECTOR, dtype), np.empty(k, np.float32)
    columns, values = np.empty(k + 1, dtype), np.empty(k + 1, np.float32)
    for row in range(start, stop):
        count = _sorted_list(table, row, mutual, lists, (columns, values))
        columns[count] = beyond
        first, a, b, end = size, 0, starts[row], starts[row + 1]
        while a < count or b < end:
            column_a = columns[a]
            column_b = entries[b].column if b < end else beyond
            if column_a < column_b:
                column, value = column_a, values[a]
                a += 1
            else:
                column, value = column_b, entries[b].value
                b += 1
                while b < end and entries[b].column == column:
                    value = _kept(value, entries[b].value, mutual)
                    b += 1
                if column_a == column:
                    value = _kept(value, values[a], mutual)
                    a += 1
            in_both = column_a == column_b
            if in_both or not mutual:
                merged.columns[size] = column
                merged.values[size] = value
                if len(merged.in_both):
                    merged.in_both[size] = in_both
                size += 1
        merged.sizes[row + 1] = size - first


@callee
def _kept(one: Any, other: Any, mutual: Any) -> Any:
    """Choose one of two distances of a pair."""
    return min(one, other) if mutual else max(one, other)


@callee
def _sorted_list(table: _Table, row: int, mutual: Any, unsorted: Any, into: Any) -> int:
    """Sort what a point lists by column, each once and without the point itself; return how many there are."""
    neighbors, distances = table
    listed, near = unsorted
    columns, values = into
    beyond = np.iinfo(columns.dtype).max
    k, count = neighbors.shape[1], 0
    for slot in range(k):
        column = neighbors[row, slot]
        listed[count], near[count] = column, distances[row, slot]
        count += (column >= 0) & (column != row)
    whole = (count + VECTOR - 1) // VECTOR * VECTOR  # what is left over of a vector would cost more than the vector
    listed[count:whole] = beyond
    columns[:count] = beyond
    repeated = count > RANKED
    for slot in range(0 if repeated else count):
        column, rank = listed[slot], np.int32(0)
        for other in range(whole):
            rank += np.int32(listed[other] < column)
        repeated |= columns[rank] == column
        columns[rank], values[rank] = column, near[slot]
    if not repeated:
        return count
    _sort_by_column(listed[:count], near)
    size = 0
    for slot in range(count):
        if size and columns[size - 1] == listed[slot]:
            values[size - 1] = _kept(values[size - 1], near[slot], mutual)
        else:
            columns[size], values[size] = listed[slot], near[slot]
            size += 1
    return size


@callee
def _sort_by_column(columns: Any, values: Any) -> None:
    """Shell's sort of a few hundred columns and their values: NumPy's takes seconds to compile."""
    gap, n = 1, len(columns)
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for start in range(gap, n):
            column, value, slot = columns[start], values[start], start
            while slot >= gap and columns[slot - gap] > column:
                columns[slot], values[slot] = columns[slot - gap], values[slot - gap]
                slot -= gap
            columns[slot], values[slot] = column, value
        gap //= 3


@njit(cache=True, nogil=True)
def _close_gap(merged: _Merged, first: int, source: int, size: int) -> None:
    """Move entries to the left, first to last, so that none is overwritten before it is read."""
    for entry in range(size):
        merged.columns[first + entry] = merged.columns[source + entry]
        merged.values[first + entry] = merged.values[source + entry]
    for entry in range(size if len(merged.in_both) else 0):
        merged.in_both[first + entry] = merged.in_both[source + entry]

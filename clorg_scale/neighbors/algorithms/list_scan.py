"""Queries of one neighborhood meet the lists around it: the innermost loops of the inverted file on the CPU.

The queries of a tile come from one list and look into the same lists, the union of those that each of them would
probe: one matrix product a list. Points, and the queries that meet them, are taken relative to the centroid of the
points' list: what is squared is no longer than the distances sought. A row of products becomes keys
|x|^2 + |y|^2 - 2 x.y, and sixteen keys are compared at once with the largest one kept; what passes is inserted into the
query's sorted candidates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.numerics.compiler import njit

__all__ = ["QUERIES", "Lists", "Tiles", "scan_lists"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

QUERIES = 256
"""Most queries of a tile."""

POINTS = 512
"""Most points that they meet at once."""

LANES = 16
"""Keys that are compared at once."""


class Tiles(NamedTuple):
    """Queries that look into the same lists.

    Attributes
    ----------
    queries
        (q, p) float32, those of a tile one after another; relative to the centroid of their list.
    probes
        (q, n_probe) lists to look into, the nearest first.
    firsts
        (b + 1,) first query of each tile.
    own_lists
        (b,) the list that the queries of each tile belong to.
    """

    queries: Floats
    probes: Integers
    firsts: Integers
    own_lists: Integers


class Lists(NamedTuple):
    """Points of an inverted file.

    Attributes
    ----------
    centroids
        (n_lists, p) float32.
    coordinates, norms
        (n, p), (n,) float32 the points list by list, relative to its centroid, and their squared norms.
    starts
        (n_lists + 1,) first point of each list.
    """

    centroids: Floats
    coordinates: Floats
    norms: Floats
    starts: Integers


@njit(nogil=True, parallel=True, cache=True)
def scan_lists(tiles: Tiles, lists: Lists, n_candidates: int) -> npt.NDArray[np.int32]:
    """Find the nearest points of the probed lists.

    Returns
    -------
    (q, c) int32 positions in `lists.coordinates`, -1 where the lists hold fewer than c points.
    """
    found = np.full((len(tiles.queries), n_candidates), -1, dtype=np.int32)
    for tile in prange(len(tiles.firsts) - 1):
        rows = slice(tiles.firsts[tile], tiles.firsts[tile + 1])
        some = tiles.queries[rows]
        keys = np.full((len(some), n_candidates), np.float32(np.inf), dtype=np.float32)
        moved, lengths = np.empty_like(some), np.empty(len(some), np.float32)
        buffer, line = np.empty(QUERIES * POINTS, np.float32), np.empty(POINTS + LANES, np.float32)
        for number in _union(tiles.probes[rows], len(lists.starts) - 1):
            shift = lists.centroids[tiles.own_lists[tile]] - lists.centroids[number]
            _move(some, shift, moved, lengths)
            for first in range(lists.starts[number], lists.starts[number + 1], POINTS):
                stop = min(first + POINTS, lists.starts[number + 1])
                products = buffer[: len(some) * (stop - first)].reshape(len(some), stop - first)
                np.dot(moved, lists.coordinates[first:stop].T, products)
                for i in range(len(some)):
                    _keys(products[i], lengths[i], lists.norms[first:stop], line)
                    _keep_nearest(line[: stop - first + LANES], first, keys[i], found[rows.start + i])
    return found


@njit(nogil=True)
def _union(probes: Integers, n_lists: int) -> Integers:
    """Lists that occur in (q, n_probe), the nearest ones first."""
    seen, lists, size = np.zeros(n_lists, np.bool_), np.empty(n_lists, np.int64), 0
    for rank in range(probes.shape[1]):
        for i in range(len(probes)):
            if not seen[probes[i, rank]]:
                seen[probes[i, rank]] = True
                lists[size] = probes[i, rank]
                size += 1
    return lists[:size]


@njit(fastmath={"reassoc"}, nogil=True)
def _move(queries: Floats, shift: Floats, moved: Floats, lengths: Floats) -> None:
    """Queries relative to another centroid, and their squared lengths."""
    for i in range(len(queries)):
        total = np.float32(0)
        for f in range(queries.shape[1]):
            moved[i, f] = queries[i, f] + shift[f]
            total += moved[i, f] * moved[i, f]
        lengths[i] = total


@njit(fastmath=True, nogil=True)
def _keys(products: Floats, length: Any, norms: Floats, line: Floats) -> None:
    """Keys of a query into line, the farthest key behind them up to whole vectors."""
    m = len(products)
    for step in range(m):
        j = np.uintp(step)
        line[j] = length + norms[j] - (products[j] + products[j])
    for step in range(m, m + LANES):
        line[step] = np.float32(3e38)


@njit(fastmath=True, nogil=True)
def _least(line: Floats, start: int) -> Any:
    """Smallest of sixteen keys."""
    first, least = np.uintp(start), np.float32(3e38)
    for step in range(LANES):
        least = min(least, line[first + np.uintp(step)])
    return least


@njit(nogil=True)
def _keep_nearest(line: Floats, first: int, keys: Floats, found: npt.NDArray[np.int32]) -> None:
    """Insert what is nearer than the last of the sorted candidates."""
    m, last = len(line) - LANES, len(keys) - 1
    for start in range(0, m, LANES):
        if _least(line, start) >= keys[last]:
            continue
        for j in range(start, min(start + LANES, m)):
            key = line[j]
            if key >= keys[last]:
                continue
            rank = last
            while rank > 0 and keys[rank - 1] > key:
                keys[rank], found[rank] = keys[rank - 1], found[rank - 1]
                rank -= 1
            keys[rank], found[rank] = key, first + j

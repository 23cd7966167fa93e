"""The inverted file of the CPU: lists of points on their principal axes, scanned for whole tiles of queries.

Where few principal axes hold most of the variance, candidates are sought there, at a fraction of the work, and more of
them, as their order is inexact; the caller measures them with all coordinates. Deterministic for a seed.

Points are kept relative to the centroid of their list, so that groups of points far from each other cost no digits.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from clorg_scale.arrays import row_slices
from clorg_scale.neighbors.algorithms import ivf
from clorg_scale.neighbors.algorithms.candidates import Candidates
from clorg_scale.neighbors.algorithms.clustering import are_far_apart, cluster, search_precisely
from clorg_scale.neighbors.algorithms.flat_faiss import search_block
from clorg_scale.neighbors.algorithms.list_scan import QUERIES, Lists, Tiles, scan_lists
from clorg_scale.neighbors.algorithms.projection import principal_axes
from clorg_scale.neighbors.exact import PairSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.numerics.interrupts import held_interrupts
from clorg_scale.progress import Advance

__all__ = ["ScannedLists", "build"]

Integers = npt.NDArray[np.int64]

OVERSAMPLING, MOST_CANDIDATES = 1.67, 16.0
"""Candidates on the principal axes for each one wanted, at first and at most."""

HARDER = 1.5

ROWS_AT_ONCE = 1 << 16
"""Queries whose coordinates and candidates are in memory at a time."""


def build(plan: SearchPlan, search_block: PairSearch) -> Candidates:
    """Cluster the points into about sqrt(n) lists; lists in array code for inner products, or if memory is short."""
    points = plan.points
    if points.inner_product:
        return ivf.build(plan, search_block)
    axes = principal_axes(points, plan.seed)
    # Twice: as computed, and list by list.
    if 8 * points.n * (points.d if axes is None else axes.shape[1]) > plan.budget.spare:
        return ivf.build(plan, search_block)
    coordinates = np.empty((points.n, points.d if axes is None else axes.shape[1]), dtype=np.float32)
    for rows in row_slices(points.n, points.d, itemsize=12):
        block = points.block(rows)
        coordinates[rows] = block if axes is None else block @ axes
    return ScannedLists(coordinates, OVERSAMPLING if axes is not None else 1.0, plan.seed)


class ScannedLists:
    """Inverted lists over the points; see the module.

    Parameters
    ----------
    coordinates
        (n, p) float32.
    oversampling
        Candidates for each one asked for.
    seed
        Seed of the clustering.
    """

    def __init__(self, coordinates: npt.NDArray[np.float32], oversampling: float, seed: int) -> None:
        n = len(coordinates)
        self.centroids = cluster(coordinates, seed, search_block)
        self.n_lists = len(self.centroids)
        self.n_probe, self.oversampling = min(self.n_lists, 5), oversampling
        self.projected = oversampling > 1
        self.search_lists = search_precisely if are_far_apart(coordinates, self.centroids) else search_block
        lists = self._nearest_lists(coordinates, 1)[:, 0]
        self.order = np.argsort(lists, kind="stable")
        self.lists = lists[self.order]
        self.starts = np.searchsorted(self.lists, np.arange(self.n_lists + 1))
        self.coordinates = coordinates[self.order]
        self.coordinates -= self.centroids[self.lists]
        self.norms = np.einsum("ij,ij->i", self.coordinates, self.coordinates)
        self.position = np.empty(n, dtype=np.int64)
        self.position[self.order] = np.arange(n)

    @property
    def description(self) -> str:
        """The index with its present parameters."""
        axes = f", axes={self.coordinates.shape[1]}, candidates={self.oversampling:.3g}k" if self.projected else ""
        return f"ivf(lists={self.n_lists}, probes={self.n_probe}{axes})"

    def try_harder(self) -> bool:
        """Probe half as many lists again, up to a third of them; on principal axes, take as many more candidates."""
        more = math.ceil(self.n_probe * HARDER)
        probe_more = more <= max(8, self.n_lists / 3)
        take_more = self.projected and self.oversampling < MOST_CANDIDATES
        if probe_more:
            self.n_probe = min(more, self.n_lists)
        if take_more:
            self.oversampling *= HARDER
        return probe_more or take_more

    def candidates(self, rows: Integers, k: int, advance: Advance) -> Integers:
        """(b, c) the nearest points found around each query, -1 where there are fewer."""
        wanted = min(len(self.order), math.ceil(k * self.oversampling))
        ids = np.empty((len(rows), wanted), dtype=np.int64)
        by_position = np.argsort(self.position[rows])
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = by_position[start : start + ROWS_AT_ONCE]
            ids[some] = self._scan(self.position[rows[some]], wanted)
            advance(len(some))
        return ids

    def _scan(self, positions: Integers, wanted: int) -> Integers:
        """Candidates of queries in the order of the lists."""
        queries, own = self.coordinates[positions], self.lists[positions]
        probes = self._nearest_lists(queries + self.centroids[own], self.n_probe)
        tiles = _tiles(own)
        with threadpool_limits(limits=1, user_api="blas"), held_interrupts():
            tiles_of_queries = Tiles(queries, probes, tiles, own[tiles[:-1]])
            lists = Lists(self.centroids, self.coordinates, self.norms, self.starts)
            found = scan_lists(tiles_of_queries, lists, wanted)
        return np.where(found < 0, -1, self.order[found])

    def _nearest_lists(self, coordinates: npt.NDArray[np.float32], n: int) -> Integers:
        """(b, n) lists whose centroids are nearest."""
        return np.asarray(self.search_lists(coordinates, self.centroids, n, False)[1])


def _tiles(lists: Integers) -> Integers:
    """First query of each tile, and their number: a list's queries in equal parts of at most QUERIES."""
    starts = np.flatnonzero(np.concatenate([[True], lists[1:] != lists[:-1]]))
    ends = np.append(starts[1:], len(lists))
    tiles = [
        start + (end - start) * np.arange(n_tiles) // n_tiles
        for start, end, n_tiles in zip(starts, ends, -(-(ends - starts) // QUERIES), strict=True)
    ]
    return np.append(np.concatenate(tiles), len(lists)).astype(np.int64)

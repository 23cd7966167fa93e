"""IVF-Flat searched list by list instead of query by query.

k-means cuts the points into lists; a query looks into the `n_probe` lists whose centroids are nearest. Since
every point is a query here, the queries that look into one list are gathered and meet the list's points in
one matrix product, 5 to 8 times faster than scanning lists per query (as FAISS's `big_batch_search` does).
Each list is gathered from the embeddings only when it is searched, so they need not fit memory. Deterministic for a
seed.
"""

from __future__ import annotations

import math

import numpy as np

from clorg_scale.arrays import Array, array_module, row_slices
from clorg_scale.neighbors.algorithms.clustering import are_far_apart, cluster, n_training_points, search_precisely
from clorg_scale.neighbors.exact import PairSearch, merge_candidates
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import Points, cache_float32
from clorg_scale.progress import Advance

__all__ = ["ClusteredLists", "build"]

CHECKED = 2048
"""Points that tell whether float32 can assign them to their lists."""

VISITOR_BYTES = 64 << 20
"""Bytes of the queries that meet a list at a time, conversion through float64 included."""


def build(plan: SearchPlan, search_block: PairSearch) -> ClusteredLists:
    """Cluster the points into about sqrt(n) lists; in memory as float32 where they fit."""
    points = cache_float32(plan.points, plan.budget.spare)
    xp = array_module(points.embeddings)
    chosen = np.random.default_rng(plan.seed).choice(points.n, size=n_training_points(points.n), replace=False)
    sample = points.block(xp.asarray(np.sort(chosen)))
    centroids = cluster(sample, plan.seed, n_points=points.n)
    return ClusteredLists(points, plan.k, centroids, search_block)


class ClusteredLists:
    """Inverted lists over the points; see the module.

    Parameters
    ----------
    points
        The points that are searched.
    k
        Neighbors that will be asked for; sets the initial `n_probe`.
    centroids
        (n_lists, d) float32.
    search_block
        The engine.
    """

    order = None
    oversampling = 1.0

    def __init__(self, points: Points, k: int, centroids: Array, search_block: PairSearch) -> None:
        xp = array_module(points.embeddings)
        self.points = points
        self.centroids = centroids
        self.search_block = search_block
        self.n_lists = len(centroids)
        some = np.random.default_rng(0).choice(points.n, size=min(points.n, CHECKED), replace=False)
        self.far_apart = are_far_apart(points.block(xp.asarray(np.sort(some))), centroids)
        mean_length = points.n / self.n_lists
        self.n_probe = min(self.n_lists, max(8, math.ceil(self.n_lists / 25), math.ceil(4 * k / mean_length)))
        lists = self._nearest_lists(xp.arange(points.n), 1, inner_product=False)[:, 0]
        self.members = xp.argsort(lists, kind="stable")
        self.starts = [int(s) for s in xp.searchsorted(lists[self.members], xp.arange(self.n_lists + 1))]

    @property
    def description(self) -> str:
        """The index with its present parameters."""
        return f"ivf(lists={self.n_lists}, probes={self.n_probe})"

    def try_harder(self) -> bool:
        """Probe half as many lists again; beyond a third of them exact search is as fast."""
        more = math.ceil(self.n_probe * 1.5)
        if more > max(8, self.n_lists / 3):
            return False
        self.n_probe = more
        return True

    def candidates(self, rows: Array, k: int, advance: Advance) -> Array:
        """(b, k) the nearest points found in the probed lists, -1 where they hold fewer."""
        xp = array_module(self.points.embeddings)
        keys = xp.full((len(rows), k), np.inf, dtype=np.float32)
        ids = xp.full((len(rows), k), -1, dtype=np.int64)
        probes = self._nearest_lists(rows, self.n_probe, inner_product=self.points.inner_product)
        by_list = xp.argsort(probes.reshape(-1), kind="stable")
        ends = xp.searchsorted(probes.reshape(-1)[by_list], xp.arange(self.n_lists + 1))
        at_once = max(256, VISITOR_BYTES // (20 * self.points.d))
        for number in range(self.n_lists):
            members = self.members[self.starts[number] : self.starts[number + 1]]
            visitors = by_list[int(ends[number]) : int(ends[number + 1])] // self.n_probe
            if len(members) and len(visitors):
                # Relative to the centroid: what is squared is no longer than the distances sought.
                origin = 0 if self.points.inner_product else self.centroids[number]
                block = self.points.block(members) - origin
                for start in range(0, len(visitors), at_once):
                    some = visitors[start : start + at_once]
                    found, which = self.search_block(
                        self.points.block(rows[some]) - origin, block, min(k, len(members)), self.points.inner_product
                    )
                    keys[some], ids[some] = merge_candidates(keys[some], ids[some], found, members[which], k)
            advance(len(rows) / self.n_lists)
        return ids

    def _nearest_lists(self, rows: Array, n: int, *, inner_product: bool) -> Array:
        """(b, n) lists whose centroids are nearest to each of the points `rows`."""
        xp = array_module(rows)
        nearest = xp.empty((len(rows), n), dtype=np.int64)
        for chunk in row_slices(len(rows), 3 * self.points.d + self.n_lists):
            block = self.points.block(rows[chunk])
            search = search_precisely if self.far_apart and not inner_product else self.search_block
            nearest[chunk] = search(block, self.centroids, n, inner_product)[1]
        return nearest

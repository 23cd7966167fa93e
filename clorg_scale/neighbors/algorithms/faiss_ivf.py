"""IVF-Flat by FAISS on the CPU: many queries list by list, few one by one.

k-means cuts the points into about sqrt(n) lists; a query looks into the `n_probe` lists whose centroids are nearest.
Where many queries look into one list they meet its points in one matrix product (`faiss.contrib.big_batch_search`).
Where groups of points are so far apart that squares expanded in float32 lose the distances within them, FAISS takes
differences instead, of the centroids too. Deterministic for a seed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import row_slices
from clorg_scale.neighbors.algorithms import ivf
from clorg_scale.neighbors.algorithms.candidates import Candidates
from clorg_scale.neighbors.algorithms.clustering import are_far_apart, cluster, difference_index, n_training_points
from clorg_scale.neighbors.exact import PairSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import Points
from clorg_scale.progress import Advance

__all__ = ["FaissIVF", "build"]

Integers = npt.NDArray[np.int64]

HARDER, MOST_PROBED = 1.25, 0.4
"""Growth of the number of lists that are probed, and the most of them, as a share."""

FEWEST_VISITORS = 16
"""Queries of a list, on average, from which on they meet it together."""

ROWS_AT_ONCE, VISITORS_AT_ONCE, ROWS_BETWEEN_INTERRUPTS = 1 << 16, 1 << 13, 1 << 11


def build(plan: SearchPlan, search_block: PairSearch) -> Candidates:
    """Cluster the points and fill the lists; lists read from the embeddings when searched if memory is short."""
    points = plan.points
    if points.n * (4 * points.d + 32) > plan.budget.spare:
        return ivf.build(plan, search_block)
    return FaissIVF(points, plan.k, plan.seed, plan.budget.blocks)


class FaissIVF:
    """A filled index; see the module.

    Parameters
    ----------
    points
        The points that are searched.
    k
        Neighbors that will be asked for; sets the initial `n_probe`.
    seed
        Seed of the clustering.
    block_bytes
        Memory for the queries at hand.
    """

    def __init__(self, points: Points, k: int, seed: int, block_bytes: int) -> None:
        import faiss

        self.points = points
        self.rows_at_once = max(ROWS_BETWEEN_INTERRUPTS, min(ROWS_AT_ONCE, block_bytes // (16 * points.d)))
        chosen = np.random.default_rng(seed).choice(points.n, size=n_training_points(points.n), replace=False)
        sample = points.block(np.sort(chosen))
        centroids = cluster(sample, seed, n_points=points.n)
        self.far_apart = are_far_apart(sample, centroids)
        self.n_lists = len(centroids)
        nearest = difference_index(points.d) if self.far_apart else faiss.IndexFlatL2(points.d)
        nearest.add(centroids)
        lists = np.empty(points.n, dtype=np.int64)
        for rows in row_slices(points.n, points.d, itemsize=12):
            lists[rows] = nearest.search(points.block(rows), 1)[1][:, 0]
        self.order = np.argsort(lists, kind="stable")
        if points.inner_product:
            nearest = faiss.IndexFlatIP(points.d)
            nearest.add(centroids)
        metric = faiss.METRIC_INNER_PRODUCT if points.inner_product else faiss.METRIC_L2
        self.index = faiss.IndexIVFFlat(nearest, points.d, self.n_lists, metric)
        self.index.is_trained = True
        self._reserve(np.bincount(lists, minlength=self.n_lists))
        for rows in row_slices(points.n, points.d, itemsize=12):
            block, which = points.block(rows), np.ascontiguousarray(lists[rows])
            ids = np.arange(rows.start, rows.start + len(block))
            self.index.add_core(len(block), *(faiss.swig_ptr(part) for part in (block, ids, which)))
        self.n_probe = min(self.n_lists, max(4, math.ceil(2 * k * self.n_lists / points.n)))

    def _reserve(self, sizes: Integers) -> None:
        """Give each list its memory at once; grown, it would take up to twice as much."""
        import faiss

        inverted: Any = self.index.invlists
        lists = faiss.downcast_InvertedLists(inverted)
        for number, size in enumerate(sizes):
            lists.resize(number, int(size))
            lists.resize(number, 0)

    def __getstate__(self) -> dict[str, Any]:
        import faiss

        return {**self.__dict__, "index": faiss.serialize_index(self.index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import faiss

        self.__dict__.update(state, index=faiss.deserialize_index(state["index"]))

    @property
    def description(self) -> str:
        """The index with its present parameters."""
        return f"ivf(lists={self.n_lists}, probes={self.n_probe})"

    def try_harder(self) -> bool:
        """Probe a quarter more lists, at most a part of them, beyond which exact search is as fast."""
        most = min(self.n_lists, max(8, math.ceil(MOST_PROBED * self.n_lists)))
        if self.n_probe >= most:
            return False
        self.n_probe = min(most, math.ceil(self.n_probe * HARDER))
        return True

    def candidates(self, rows: Integers, k: int, advance: Advance) -> Integers:
        """(b, k) the nearest points found in the probed lists, -1 where they hold fewer."""
        self.index.nprobe = self.n_probe
        ids = np.empty((len(rows), k), dtype=np.int64)
        at_once = ROWS_BETWEEN_INTERRUPTS if self.far_apart else self.rows_at_once
        for chunk in row_slices(len(rows), 1, itemsize=1, block_bytes=at_once):
            queries = self.points.block(rows[chunk])
            if not self.far_apart and len(queries) * self.n_probe >= FEWEST_VISITORS * self.n_lists:
                ids[chunk] = self._by_list(queries, k, advance)
            else:
                ids[chunk] = self.index.search(queries, k)[1]
                advance(len(queries))
        return ids

    def _by_list(self, queries: npt.NDArray[np.float32], k: int, advance: Advance) -> Integers:
        """(b, k) neighbors of many queries, list by list; a product at a time, so that Ctrl-C need not wait."""
        from faiss.contrib.big_batch_search import BigBatchSearcher, BlockComputer

        searcher, computer = BigBatchSearcher(self.index, queries, k), BlockComputer(self.index)
        searcher.decode_func, searcher.by_residual = computer.decode_func, computer.by_residual
        searcher.coarse_quantization()
        searcher.reorder_assign()
        limits = searcher.bucket_lims
        for number in range(self.n_lists):
            if limits[number] < limits[number + 1]:
                visitors, vectors, ids, points = searcher.prepare_bucket(number)
                points = points.reshape(len(ids), -1)
                for start in range(0, len(visitors) if len(ids) else 0, VISITORS_AT_ONCE):
                    some = slice(start, start + VISITORS_AT_ONCE)
                    keys, which = computer.block_search(vectors[some], points, ids, min(k, len(ids)))
                    searcher.add_results_to_heap(visitors[some], keys, ids, which)
            advance(len(queries) / self.n_lists)
        searcher.rh.finalize()
        found: Integers = searcher.rh.I
        return found

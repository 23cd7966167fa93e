"""Inverted files by FAISS on the CPU: of all features (IVF-Flat) or of principal axes in four bits each (PQ fast scan).

k-means cuts the points into some sqrt(n) lists; a query looks into the `n_probe` lists whose centroids are nearest.
Where many queries look into one list they meet its points in one matrix product (`faiss.contrib.big_batch_search`).
Where few principal axes hold most of the variance, candidates are sought there, at a fraction of the work and memory,
and more of them, as their order is inexact; the caller measures them with all features. The coordinate on each axis is
one of sixteen values, so that a scan looks distances up in registers, 32 points at a time (André, Kermarrec and
Le Scouarnec, Quicker ADC, 2019): it takes a quarter of the time of one over float32 coordinates, and loses no neighbors
that three times as many candidates would not bring back.
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
from clorg_scale.neighbors.algorithms.projection import principal_axes
from clorg_scale.neighbors.exact import PairSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.progress import Advance

__all__ = ["FaissIVF", "build"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

HARDER, MOST_PROBED = 1.25, 0.4
"""Growth of the number of lists that are probed, and the most of them, as a share."""

MOST_PROBED_ON_AXES = 0.1
"""The most on principal axes: where that does not suffice, it is mostly the axes that lose neighbors."""

MOST_CANDIDATES = 8.0
"""Candidates on principal axes for each one wanted, at most."""

FINER = 2
"""Factor of the number of lists on principal axes, which are scanned by query; more would mostly lengthen k-means."""

CODE_BITS = 4
"""Bits of the coordinate on an axis."""

FEWEST_VISITORS = 16
"""Queries of a list, on average, from which on they meet it together."""

ROWS_AT_ONCE, VISITORS_AT_ONCE, ROWS_BETWEEN_INTERRUPTS = 1 << 16, 1 << 13, 1 << 11


def build(plan: SearchPlan, search_block: PairSearch) -> Candidates:
    """Cluster the points and fill the lists; lists read from the embeddings when searched if memory is short."""
    points = plan.points
    axes = principal_axes(points, plan.seed)
    if _bytes(points.n, points.d if axes is None else axes.shape[1]) > plan.budget.spare:
        return ivf.build(plan, search_block)
    return FaissIVF(plan, axes)


def _bytes(n: int, p: int) -> int:
    """Memory of n points of p float32 coordinates (of four bits it is less) and of what the index notes of them."""
    return n * (4 * p + 32)


class FaissIVF:
    """A filled index; see the module.

    Parameters
    ----------
    plan
        The search; its `k` sets the initial `n_probe`.
    axes
        (d, p) orthonormal axes on which candidates are sought; None for all features.
    """

    def __init__(self, plan: SearchPlan, axes: Floats | None) -> None:
        self.points, self.k, self.seed = plan.points, plan.k, plan.seed
        self.index: Any
        self.order: Any
        self.whole_fits = _bytes(plan.points.n, plan.points.d) <= plan.budget.spare
        self.rows_at_once = max(ROWS_BETWEEN_INTERRUPTS, min(ROWS_AT_ONCE, plan.budget.blocks // (16 * plan.points.d)))
        self._fill(axes)

    def _fill(self, axes: Floats | None) -> None:
        """Make lists of the points' coordinates on the axes."""
        import faiss

        points, self.axes = self.points, axes
        self.oversampling = 1.0 if axes is None else MOST_CANDIDATES
        finer = 1 if axes is None else FINER
        size = n_training_points(points.n, finer)
        chosen = np.random.default_rng(self.seed).choice(points.n, size=size, replace=False)
        sample = self._coordinates(np.sort(chosen))
        centroids = cluster(sample, self.seed, n_points=points.n, finer=finer)
        self.far_apart = are_far_apart(sample, centroids)
        self.n_lists, p = centroids.shape
        nearest = difference_index(p) if self.far_apart else faiss.IndexFlatL2(p)
        nearest.add(centroids)
        if axes is not None and not self.far_apart:
            self._fill_quantized(nearest, sample)
        else:
            self._fill_flat(nearest)
        self.n_probe = min(self.n_lists, max(4, math.ceil(2 * self.k * self.n_lists / points.n)))

    def _fill_quantized(self, nearest: Any, sample: Floats) -> None:
        """Make an index of four bits for each coordinate."""
        import faiss

        points, p = self.points, sample.shape[1]
        self.index = index = faiss.IndexIVFPQFastScan(nearest, p, self.n_lists, p, CODE_BITS)
        index.by_residual = False  # tables of distances are made once for a query, not for each list
        index.train(sample)
        for rows in row_slices(points.n, points.d, itemsize=12):
            block = self._coordinates(rows)
            index.add_with_ids(block, np.arange(rows.start, rows.start + len(block)))
        lists: Any = index.invlists
        sizes = [lists.list_size(number) for number in range(self.n_lists)]
        self.order = np.concatenate(
            [faiss.rev_swig_ptr(lists.get_ids(number), size) for number, size in enumerate(sizes) if size]
        )

    def _fill_flat(self, nearest: Any) -> None:
        """Make an index of float32 coordinates."""
        import faiss

        points, p = self.points, nearest.d
        lists = np.empty(points.n, dtype=np.int64)
        for rows in row_slices(points.n, points.d, itemsize=12):
            lists[rows] = nearest.search(self._coordinates(rows), 1)[1][:, 0]
        self.order = np.argsort(lists, kind="stable")
        if points.inner_product:
            centroids = nearest.reconstruct_n(0, self.n_lists)
            nearest = faiss.IndexFlatIP(p)
            nearest.add(centroids)
        metric = faiss.METRIC_INNER_PRODUCT if points.inner_product else faiss.METRIC_L2
        self.index = faiss.IndexIVFFlat(nearest, p, self.n_lists, metric)
        self.index.is_trained = True
        self._reserve(np.bincount(lists, minlength=self.n_lists))
        for rows in row_slices(points.n, points.d, itemsize=12):
            block, which = self._coordinates(rows), np.ascontiguousarray(lists[rows])
            ids = np.arange(rows.start, rows.start + len(block))
            self.index.add_core(len(block), *(faiss.swig_ptr(array) for array in (block, ids, which)))

    def _coordinates(self, rows: slice | Integers) -> Floats:
        """(b, p) float32 points on the axes."""
        block = self.points.block(rows)
        return np.ascontiguousarray(block if self.axes is None else block @ self.axes)

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
        axes = "" if self.axes is None else f", axes={self.axes.shape[1]}, candidates={self.oversampling:.3g}k"
        return f"ivf(lists={self.n_lists}, probes={self.n_probe}{axes})"

    def try_harder(self) -> bool:
        """Probe a quarter more lists, at most a part of them; where that does not suffice, do without axes."""
        share = MOST_PROBED if self.axes is None else MOST_PROBED_ON_AXES
        most = min(self.n_lists, max(8, math.ceil(share * self.n_lists)))
        if self.n_probe >= most:
            if self.axes is None or not self.whole_fits:
                return False
            self.index = self.order = None  # the lists on axes go before those of all features come
            self._fill(None)
            return True
        self.n_probe = min(most, math.ceil(self.n_probe * HARDER))
        return True

    def candidates(self, rows: Integers, k: int, advance: Advance) -> Integers:
        """(b, k) the nearest points found in the probed lists, -1 where they hold fewer."""
        self.index.nprobe = self.n_probe
        ids = np.empty((len(rows), k), dtype=np.int64)
        at_once = ROWS_BETWEEN_INTERRUPTS if self.far_apart else self.rows_at_once
        for chunk in row_slices(len(rows), 1, itemsize=1, block_bytes=at_once):
            queries = self._coordinates(rows[chunk])
            if (
                self.axes is None
                and not self.far_apart
                and len(queries) * self.n_probe >= FEWEST_VISITORS * self.n_lists
            ):
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

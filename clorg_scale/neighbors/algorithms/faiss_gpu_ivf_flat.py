"""IVF-Flat on the GPU by a GPU build of FAISS: where cuVS is not installed."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, on_default_stream
from clorg_scale.neighbors.algorithms.flat_faiss_gpu import MAX_K, device_pointer, gpu_resources
from clorg_scale.neighbors.algorithms.on_device import float32_copy, search_in_chunks
from clorg_scale.neighbors.exact import PairSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.progress import Advance

__all__ = ["FaissGpuIVFFlat", "build"]

TRAINING_POINTS_PER_LIST = 128
"""Points of a list that k-means sees; it needs no more than some dozens."""


@on_default_stream()
def build(plan: SearchPlan, search_block: PairSearch) -> FaissGpuIVFFlat:
    """Cluster the points into about 2 sqrt(n) lists and fill them; FAISS reads the points where they are."""
    faiss = importlib.import_module("faiss")
    cupy = importlib.import_module("cupy")
    points = plan.points
    n_lists = max(1, min(round(2 * math.sqrt(points.n)), points.n // 39))
    data = float32_copy(points)
    settings = faiss.GpuIndexIVFFlatConfig()
    settings.device = cupy.cuda.runtime.getDevice()
    metric = faiss.METRIC_INNER_PRODUCT if points.inner_product else faiss.METRIC_L2
    index = faiss.GpuIndexIVFFlat(gpu_resources(), points.d, n_lists, metric, settings)
    index.cp.seed = plan.seed % 2**31
    size = min(points.n, TRAINING_POINTS_PER_LIST * n_lists)
    rows = np.sort(np.random.default_rng(plan.seed).choice(points.n, size, replace=False))
    sample = cupy.ascontiguousarray(data[cupy.asarray(rows)])
    index.train_c(size, device_pointer(faiss, sample))
    index.add_c(points.n, device_pointer(faiss, data))
    return FaissGpuIVFFlat(index, data, n_lists, plan.k)


class FaissGpuIVFFlat:
    """A filled index on the device and the number of lists that a query probes."""

    order = None
    oversampling = 1.0

    def __init__(self, index: Any, data: Array, n_lists: int, k: int) -> None:
        self.index = index
        self.data = data
        self.n_lists = n_lists
        lists_for_k = math.ceil(4 * k * n_lists / len(data))
        self._set(min(n_lists, max(16, n_lists // 25, lists_for_k)))

    @property
    def description(self) -> str:
        """The index with its present parameters."""
        return f"faiss-gpu.ivf_flat(lists={self.n_lists}, probes={self.n_probes})"

    @on_default_stream()
    def candidates(self, rows: Array, k: int, advance: Advance) -> Array:
        """(b, k) row numbers that the index returns; at most 2,048, as many as FAISS selects on a GPU."""
        k = min(k, MAX_K)
        return search_in_chunks(lambda queries: self._search(queries, k), self.data, rows, k, advance)

    def try_harder(self) -> bool:
        """Probe twice as many lists."""
        if self.n_probes >= min(self.n_lists, MAX_K):  # probed lists are selected as neighbors are
            return False
        self._set(min(self.n_lists, MAX_K, 2 * self.n_probes))
        return True

    def _search(self, queries: Array, k: int) -> tuple[Array, Array]:
        faiss = importlib.import_module("faiss")
        cupy = importlib.import_module("cupy")
        queries = cupy.ascontiguousarray(queries)
        keys, ids = cupy.empty((len(queries), k), dtype="float32"), cupy.empty((len(queries), k), dtype="int64")
        pointers = [device_pointer(faiss, array) for array in (queries, keys, ids)]
        self.index.search_c(len(queries), pointers[0], k, *pointers[1:], None)
        return keys, ids

    def _set(self, n_probes: int) -> None:
        self.n_probes = n_probes
        self.index.nprobe = n_probes

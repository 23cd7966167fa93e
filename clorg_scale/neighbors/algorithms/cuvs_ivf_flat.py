"""IVF-Flat on the GPU by cuVS."""

from __future__ import annotations

import math

from clorg_scale.arrays import Array
from clorg_scale.arrays.handles import cuvs_resources
from clorg_scale.errors import require
from clorg_scale.neighbors.algorithms.on_device import float32_copy, search_in_chunks
from clorg_scale.neighbors.exact import PairSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.progress import Advance

__all__ = ["CuvsIVFFlat", "build"]


def build(plan: SearchPlan, search_block: PairSearch) -> CuvsIVFFlat:
    """Cluster the points into about 2 sqrt(n) lists (cuVS takes no seed; its k-means has a fixed one)."""
    ivf_flat = require("cuvs.neighbors.ivf_flat", extra="cuda13", purpose="IVF-Flat on the GPU")
    points = plan.points
    n_lists = max(1, min(round(2 * math.sqrt(points.n)), points.n // 39))
    metric = "inner_product" if points.inner_product else "sqeuclidean"
    data = float32_copy(points)
    parameters = ivf_flat.IndexParams(n_lists=n_lists, metric=metric)
    with cuvs_resources("IVF-Flat on the GPU") as resources:
        index = ivf_flat.build(parameters, data, resources=resources)
    return CuvsIVFFlat(index, data, n_lists, plan.k)


class CuvsIVFFlat:
    """A built index and the number of lists that a query probes."""

    order = None
    oversampling = 1.0

    def __init__(self, index: object, data: Array, n_lists: int, k: int) -> None:
        self.index = index
        self.data = data
        self.n_lists = n_lists
        lists_for_k = math.ceil(4 * k * n_lists / len(data))
        self.n_probes = min(n_lists, max(16, n_lists // 25, lists_for_k))

    @property
    def description(self) -> str:
        """The index with its present parameters."""
        return f"cuvs.ivf_flat(lists={self.n_lists}, probes={self.n_probes})"

    def candidates(self, rows: Array, k: int, advance: Advance) -> Array:
        """(b, k) row numbers that the index returns."""
        from cuvs.neighbors import ivf_flat

        parameters = ivf_flat.SearchParams(n_probes=self.n_probes)
        with cuvs_resources("IVF-Flat on the GPU") as resources:
            return search_in_chunks(
                lambda queries: ivf_flat.search(parameters, self.index, queries, k, resources=resources),
                self.data,
                rows,
                k,
                advance,
            )

    def try_harder(self) -> bool:
        """Probe twice as many lists."""
        if self.n_probes >= self.n_lists:
            return False
        self.n_probes = min(self.n_lists, 2 * self.n_probes)
        return True

"""CAGRA, the graph index of cuVS, on the GPU."""

from __future__ import annotations

from clorg_scale.arrays import Array
from clorg_scale.arrays.handles import cuvs_resources
from clorg_scale.errors import require
from clorg_scale.neighbors.algorithms.on_device import float32_copy, search_in_chunks
from clorg_scale.neighbors.exact import PairSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.progress import Advance

__all__ = ["Cagra", "build"]

MAX_ITOPK = 1024


def build(plan: SearchPlan, search_block: PairSearch) -> Cagra:
    """Build a graph of 64 neighbors a node out of one of 128 (cuVS takes no seed)."""
    cagra = require("cuvs.neighbors.cagra", extra="cuda13", purpose="CAGRA")
    metric = "inner_product" if plan.points.inner_product else "sqeuclidean"
    data = float32_copy(plan.points)
    with cuvs_resources("CAGRA") as resources:
        index = cagra.build(cagra.IndexParams(metric=metric), data, resources=resources)
    return Cagra(index, data, plan.k)


class Cagra:
    """A built graph and the length of the list that a search keeps."""

    order = None
    oversampling = 1.0

    def __init__(self, index: object, data: Array, k: int) -> None:
        self.index = index
        self.data = data
        self.itopk = _rounded(max(64, 2 * k))

    @property
    def description(self) -> str:
        """The index with its present parameters."""
        return f"cuvs.cagra(itopk={self.itopk})"

    def candidates(self, rows: Array, k: int, advance: Advance) -> Array:
        """(b, k) row numbers that the index returns (uint32; those out of range are dropped later)."""
        from cuvs.neighbors import cagra

        parameters = cagra.SearchParams(itopk_size=max(self.itopk, _rounded(k)))
        with cuvs_resources("CAGRA") as resources:
            return search_in_chunks(
                lambda queries: cagra.search(parameters, self.index, queries, k, resources=resources),
                self.data,
                rows,
                k,
                advance,
            )

    def try_harder(self) -> bool:
        """Keep a list twice as long."""
        if self.itopk >= MAX_ITOPK:
            return False
        self.itopk = min(MAX_ITOPK, 2 * self.itopk)
        return True


def _rounded(length: int) -> int:
    """Up to a multiple of 32, as the kernels want it."""
    return -(-length // 32) * 32

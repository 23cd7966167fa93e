"""NN-descent on the CPU by FAISS: neighbors of neighbors are likely neighbors (Dong et al. 2011)."""

from __future__ import annotations

import numpy as np

from clorg_scale.arrays import Array, row_slices
from clorg_scale.errors import InputError
from clorg_scale.neighbors.exact import PairSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.progress import Advance

__all__ = ["Graph", "build"]

MIN_POINTS = 200
"""Below this FAISS's graph cannot be filled."""


def build(plan: SearchPlan, search_block: PairSearch) -> Graph:
    """Refine a random graph of 1.5 k neighbors (at least 48) until it no longer changes."""
    import faiss

    points = plan.points
    if points.n < MIN_POINTS:
        raise InputError(
            f"NN-descent needs at least {MIN_POINTS} points, not {points.n}; use index='flat', which is fast for so "
            "few points."
        )
    width = min(points.n - 2, max(48, 3 * plan.k // 2))
    metric = faiss.METRIC_INNER_PRODUCT if points.inner_product else faiss.METRIC_L2
    index = faiss.IndexNNDescentFlat(points.d, width, metric)
    index.nndescent.random_seed = plan.seed % 2**31
    index.nndescent.L = width + 32
    data = np.empty((points.n, points.d), dtype=np.float32)  # FAISS builds the graph at the first call of add
    for rows in row_slices(points.n, points.d):
        data[rows] = points.block(rows)
    index.add(data)
    graph = faiss.vector_to_array(index.nndescent.final_graph).reshape(points.n, -1)
    return Graph(graph, f"nndescent(degree={width})")


class Graph:
    """A ready table of candidates: nothing is left to search, and no effort to raise."""

    order = None
    oversampling = 1.0

    def __init__(self, table: Array, description: str) -> None:
        self.table = table
        self.description = description

    def candidates(self, rows: Array, k: int, advance: Advance) -> Array:
        """(b, c) the rows of the table."""
        advance(len(rows))
        return self.table[rows]

    def try_harder(self) -> bool:
        """Refuse: a finished graph cannot be searched harder."""
        return False

"""Any FAISS index by its factory string, HNSW among them, filled block by block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, row_slices
from clorg_scale.errors import InputError
from clorg_scale.neighbors.exact import PairSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import Points
from clorg_scale.progress import Advance

__all__ = ["FaissIndex", "build", "build_hnsw"]

HNSW_LINKS = 32
HNSW_EF_CONSTRUCTION = 40
TRAINING_POINTS = 1 << 18
QUERY_BLOCK = 4096


def build_hnsw(plan: SearchPlan, search_block: PairSearch) -> FaissIndex:
    """Hierarchical navigable small world graph, 32 links a node (64 at the bottom).

    Threads insert points concurrently, so with several threads two builds can differ in a few links, and
    their tables in a few neighbors.
    """
    return build(replace(plan, index=f"HNSW{HNSW_LINKS},Flat"), search_block)


def build(plan: SearchPlan, search_block: PairSearch) -> FaissIndex:
    """Train and fill the index that the plan names by its factory string.

    Raises
    ------
    InputError
        If FAISS does not understand the string, or cannot build such an index on these points.
    """
    import faiss

    points, factory = plan.points, plan.index
    metric = faiss.METRIC_INNER_PRODUCT if points.inner_product else faiss.METRIC_L2
    try:
        index = faiss.index_factory(points.d, factory, metric)
        _seed(faiss, index, plan.seed)
        graph: Any = faiss.downcast_index(index)
        if hasattr(graph, "hnsw"):
            graph.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
        if not index.is_trained:
            sample = np.random.default_rng(plan.seed).permutation(points.n)[:TRAINING_POINTS]
            index.train(points.block(np.sort(sample)))
        for rows in row_slices(points.n, points.d):
            index.add(points.block(rows))
    except RuntimeError as error:
        # FAISS puts its function, file and line before its message.
        reason = str(error).strip().splitlines()[-1].rpartition("cpp:")[2].partition(": ")[2]
        raise InputError(
            f"FAISS cannot build the index {factory!r} on {points.n} points of {points.d} features ({reason.strip()}); "
            "the named indexes are 'auto', 'flat', 'ivf', 'hnsw', 'nndescent' and, on a GPU, 'cagra'."
        ) from error
    return FaissIndex(points, factory, index, plan.k)


def _seed(faiss: Any, index: Any, seed: int) -> None:
    """Seed the clustering of an inverted file; other indexes draw from fixed seeds of their own."""
    inverted = faiss.try_extract_index_ivf(index)
    if inverted is not None:
        inverted.cp.seed = seed % 2**31


class FaissIndex:
    """A filled FAISS index; its search effort can be raised if it is an HNSW graph or an inverted file."""

    order = None
    oversampling = 1.0

    def __init__(self, points: Points, factory: str, index: Any, k: int) -> None:
        import faiss

        self.points = points
        self.factory = factory
        self.index = index
        inverted = faiss.try_extract_index_ivf(index)
        self.effort = ""
        self.highest = 0
        self.parameters: Any = None
        if inverted is not None:
            self.effort, self.highest = "nprobe", inverted.nlist
            self._set(min(inverted.nlist, max(inverted.nprobe, 8)))
        elif hasattr(faiss.downcast_index(index), "hnsw"):
            self.effort, self.highest = "efSearch", 1024
            self._set(max(48, 2 * k))

    def __getstate__(self) -> dict[str, Any]:
        import faiss

        return {**self.__dict__, "index": faiss.serialize_index(self.index)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import faiss

        self.__dict__.update(state, index=faiss.deserialize_index(state["index"]))
        if self.effort:
            self._set(self.value)  # not all of it is part of the file

    @property
    def description(self) -> str:
        """The factory string with the present search effort."""
        return f"{self.factory}({self.effort}={self.value})" if self.effort else self.factory

    def candidates(self, rows: Array, k: int, advance: Advance) -> Array:
        """(b, c) row numbers that the index returns; a compressed one, whose ranks are inexact, returns more."""
        k = min(self.points.n, k if "Flat" in self.factory else 2 * k + 16)
        ids = np.empty((len(rows), k), dtype=np.int64)
        for start in range(0, len(rows), QUERY_BLOCK):
            chunk = rows[start : start + QUERY_BLOCK]
            ids[start : start + len(chunk)] = self.index.search(self.points.block(chunk), k)[1]
            advance(len(chunk))
        return ids

    def try_harder(self) -> bool:
        """Double nprobe or efSearch."""
        if not self.effort or self.value >= self.highest:
            return False
        self._set(min(self.highest, 2 * self.value))
        return True

    def _set(self, value: int) -> None:
        import faiss

        self.value = value
        faiss.ParameterSpace().set_index_parameter(self.index, self.effort, value)

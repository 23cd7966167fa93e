"""Exact search of blocks with FAISS on the CPU."""

from __future__ import annotations

from clorg_scale.arrays import Array

__all__ = ["search_block"]


def search_block(queries: Array, points: Array, k: int, inner_product: bool) -> tuple[Array, Array]:  # noqa: FBT001
    """Find the k best of `points` for each of `queries` (see `neighbors.exact.PairSearch`)."""
    import faiss

    if inner_product:
        similarities, ids = faiss.knn(queries, points, k, metric=faiss.METRIC_INNER_PRODUCT)
        return -similarities, ids
    return faiss.knn(queries, points, k, metric=faiss.METRIC_L2)

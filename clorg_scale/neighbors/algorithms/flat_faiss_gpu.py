"""Exact search of blocks with a GPU build of FAISS.

`faiss.knn_gpu` ends the process where there is no GPU, so callers ask `usable` first. It reads NumPy arrays
and places them on the GPU itself.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, array_module, on_host

__all__ = ["MAX_K", "search_block", "usable"]

MAX_K = 2048
"""The most neighbours that FAISS selects on a GPU."""

MAX_QUERIES = 1 << 15
"""Queries of one call; more than 65,535 have crashed."""


def usable() -> bool:
    """Whether FAISS was built for GPUs and sees one."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return False
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def search_block(queries: Array, points: Array, k: int, inner_product: bool) -> tuple[Array, Array]:  # noqa: FBT001
    """Find the k best of `points` for each of `queries` (see `neighbors.exact.PairSearch`)."""
    import faiss

    xp = array_module(queries)
    metric = faiss.METRIC_INNER_PRODUCT if inner_product else faiss.METRIC_L2
    queries, points = on_host(queries), on_host(points)
    keys = np.empty((len(queries), k), dtype=np.float32)
    ids = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), MAX_QUERIES):
        part = slice(start, start + MAX_QUERIES)
        faiss.knn_gpu(_resources(), queries[part], points, k, D=keys[part], I=ids[part], metric=metric)
    if inner_product:
        np.negative(keys, out=keys)
    return xp.asarray(keys), xp.asarray(ids)


@cache
def _resources() -> Any:
    """One set of GPU resources for the process: each reserves scratch memory."""
    return importlib.import_module("faiss").StandardGpuResources()

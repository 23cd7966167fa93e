"""Exact search of blocks with cuVS brute force on the GPU."""

from __future__ import annotations

from clorg_scale.arrays import Array, array_module
from clorg_scale.arrays.handles import cuvs_resources
from clorg_scale.errors import require

__all__ = ["search_block"]

MAX_QUERIES = 1 << 14
"""Queries of one call; its distances to a whole block are in memory at once."""


def search_block(queries: Array, points: Array, k: int, inner_product: bool) -> tuple[Array, Array]:  # noqa: FBT001
    """Find the k best of `points` for each of `queries` (see `neighbors.exact.PairSearch`)."""
    brute_force = require("cuvs.neighbors.brute_force", extra="cuda13", purpose="Brute-force search on the GPU")
    xp = array_module(queries)
    keys = xp.empty((len(queries), k), dtype="float32")
    ids = xp.empty((len(queries), k), dtype="int64")
    metric = "inner_product" if inner_product else "sqeuclidean"
    with cuvs_resources("Brute-force search on the GPU") as resources:
        index = brute_force.build(points, metric=metric, resources=resources)
        for start in range(0, len(queries), MAX_QUERIES):
            chunk = slice(start, start + MAX_QUERIES)
            out = {"neighbors": ids[chunk], "distances": keys[chunk]}
            brute_force.search(index, queries[chunk], k, **out, resources=resources)
    return (-keys if inner_product else keys), ids

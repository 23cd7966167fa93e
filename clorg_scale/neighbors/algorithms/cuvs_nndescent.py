"""NN-descent on the GPU: the all-neighbors build of cuVS, in batches of clusters for large data."""

from __future__ import annotations

import numpy as np

from clorg_scale.arrays import free_device_memory, on_host, row_slices
from clorg_scale.arrays.handles import cuvs_resources
from clorg_scale.errors import InputError, require
from clorg_scale.neighbors.algorithms.nndescent import Graph
from clorg_scale.neighbors.algorithms.on_device import float32_copy
from clorg_scale.neighbors.exact import PairSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import Points

__all__ = ["build"]

HEADROOM = 0.25
"""Share of the free memory of the GPU left alone: the build's own buffers are not documented."""


def build(plan: SearchPlan, search_block: PairSearch) -> Graph:
    """All-neighbors NN-descent with an intermediate graph of twice the degree (cuVS takes no seed)."""
    all_neighbors = require("cuvs.neighbors.all_neighbors", extra="cuda13", purpose="NN-descent on the GPU")
    nn_descent = require("cuvs.neighbors.nn_descent", extra="cuda13", purpose="NN-descent on the GPU")
    import cupy

    points = plan.points
    if points.inner_product:
        # The batched build may be wrong for negative inner products (a known fault of cuVS).
        raise InputError("NN-descent on the GPU does not search inner products; use metric='cosine' or index='cagra'.")
    degree = min(points.n - 1, max(plan.k + 1, 32))
    n_clusters = _clusters(points, degree)
    parameters = all_neighbors.AllNeighborsParams(
        algo="nn_descent",
        n_clusters=n_clusters,
        overlap_factor=2 if n_clusters > 2 else 1,
        metric="sqeuclidean",
        nn_descent_params=nn_descent.IndexParams(
            metric="sqeuclidean", graph_degree=degree, intermediate_graph_degree=min(points.n - 1, 2 * degree)
        ),
    )
    # Batched builds take host data only, unbatched ones stay on the GPU.
    data = float32_copy(points) if n_clusters == 1 else _host_copy(points)
    ids = cupy.empty((points.n, degree), dtype=np.int64)
    distances = cupy.empty((points.n, degree), dtype=np.float32)
    with cuvs_resources("NN-descent on the GPU") as resources:
        all_neighbors.build(data, degree, parameters, indices=ids, distances=distances, resources=resources)
    return Graph(ids, f"cuvs.all_neighbors(nn_descent, degree={degree}, clusters={n_clusters})")


def _clusters(points: Points, degree: int) -> int:
    """Number of clusters: 1 where data and graph fit the GPU, else enough that a cluster, twice overlapping, fits."""
    usable = free_device_memory() * (1 - HEADROOM) - points.n * degree * 12
    needed = points.n * (4 * points.d + 24 * degree)
    if usable <= 0:
        raise InputError(
            f"The k-NN table of {points.n} points with {degree} neighbors does not fit the GPU; use a smaller k."
        )
    return 1 if needed <= usable else max(4, int(np.ceil(4 * needed / usable)))


def _host_copy(points: Points) -> np.ndarray:
    data = np.empty((points.n, points.d), dtype=np.float32)
    for rows in row_slices(points.n, points.d):
        data[rows] = on_host(points.block(rows))
    return data

"""Leiden and Louvain on the GPUs of a Dask cluster with cuGraph."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.arrays import on_host
from clorg_scale.communities.leiden_pylibcugraph import MAX_LEVEL, THETA, THRESHOLD
from clorg_scale.distributed import submit
from clorg_scale.errors import require

__all__ = ["edge_blocks", "partition_on_gpu_cluster"]


def partition_on_gpu_cluster(
    graph: AffinityGraph, method: str, resolution: float, seed: int, *, client: Any
) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
    """(n,) community of each node, in main memory, and details of the search."""
    cugraph = require("cugraph", extra="rapids13", purpose="Community detection on several GPUs")
    on_cluster = require("cugraph.dask", extra="rapids13", purpose="Community detection on several GPUs")
    communicator = require("cugraph.dask.comms.comms", extra="rapids13", purpose="Community detection on several GPUs")
    frames = require("dask_cudf", extra="rapids13", purpose="Community detection on several GPUs")
    details: dict[str, Any] = {"library": f"cugraph {cugraph.__version__} on {len(client.nthreads())} GPUs"}
    with client.as_current():
        communicator.initialize(p2p=True)
        try:
            workers = sorted(client.nthreads())
            blocks = edge_blocks(graph, len(workers))
            edges = [
                submit(client, _frame, *block, workers=[worker]) for block, worker in zip(blocks, workers, strict=True)
            ]
            device_graph = cugraph.Graph(directed=False)
            device_graph.from_dask_cudf_edgelist(
                frames.from_delayed(edges), source="source", destination="destination", weight="weight"
            )
            if method == "leiden":
                result, _ = on_cluster.leiden(
                    device_graph, max_iter=MAX_LEVEL, resolution=resolution, random_state=seed, theta=THETA
                )
                details |= {"seed": seed, "repeatable": "not promised on a GPU"}
            else:
                result, _ = on_cluster.louvain(
                    device_graph, max_level=MAX_LEVEL, resolution=resolution, threshold=THRESHOLD
                )
                details |= {"threshold": THRESHOLD, "repeatable": "no: Louvain on a GPU takes no seed"}
            table = result.compute()
            vertices, clusters = table["vertex"].to_numpy(), table["partition"].to_numpy()
        finally:
            communicator.destroy()
    # Nodes without an edge are not in an edge list: each is a community of its own.
    found = np.arange(graph.n_nodes, dtype=np.int64) + graph.n_nodes
    found[vertices] = clusters
    return found, details


def edge_blocks(graph: AffinityGraph, n_blocks: int) -> list[tuple[npt.NDArray[Any], ...]]:
    """Edges from lower to higher nodes in blocks of about equal size: (e,) sources, (e,) destinations, (e,) weights.

    cuGraph adds the other direction itself; given both, it would have to match them.
    """
    indptr, indices, weights = (on_host(array) for array in (graph.indptr, graph.indices, graph.weights))
    bounds = np.searchsorted(indptr, np.linspace(0, len(indices), n_blocks + 1))
    bounds[0], bounds[-1] = 0, graph.n_nodes
    blocks: list[tuple[npt.NDArray[Any], ...]] = []
    for start, stop in pairwise(bounds):
        entries = slice(indptr[start], indptr[stop])
        sources = np.repeat(np.arange(start, stop, dtype=indices.dtype), np.diff(indptr[start : stop + 1]))
        upper = sources < indices[entries]
        blocks.append((sources[upper], indices[entries][upper], weights[entries][upper]))
    return blocks


def _frame(sources: Any, destinations: Any, weights: Any) -> Any:
    """An edge list on the GPU of a worker."""
    import cudf

    return cudf.DataFrame({"source": sources, "destination": destinations, "weight": weights})

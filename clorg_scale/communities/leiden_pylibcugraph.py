"""Leiden and Louvain on the GPU with pylibcugraph: CSR arrays in, no data frame in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.arrays import free_device_memory
from clorg_scale.arrays.gpu import OutOfDeviceMemoryError, is_out_of_memory
from clorg_scale.arrays.handles import cugraph_handle
from clorg_scale.errors import InputError, require

__all__ = ["partition_on_gpu"]

CHECK = False
"""Whether pylibcugraph validates the graph again; `AffinityGraph` is valid by construction."""

MAX_LEVEL = 100
"""Levels of coarsening, far more than any graph needs."""

THRESHOLD = 1e-7
"""Gain of modularity below which Louvain ends a level, as cuGraph's own default."""

THETA = 1.0
"""Randomness of Leiden's refinement, as cuGraph's own default."""


def partition_on_gpu(
    graph: AffinityGraph, method: str, resolution: float, seed: int
) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
    """(n,) community of each node, in main memory, and details of the search."""
    cupy = require("cupy", extra="cuda13", purpose="Community detection on the GPU")
    library = require("pylibcugraph", extra="cuda13", purpose="Community detection on the GPU")
    details: dict[str, Any] = {"library": f"pylibcugraph {library.__version__}"}
    free_device_memory()  # cuGraph allocates beside the pools of CuPy and torch, which hold what they do not use
    try:
        with cugraph_handle("Community detection on the GPU") as handle:
            # The arrays are symmetric already; CSR offsets name every vertex, isolated ones too.
            device_graph = library.SGGraph(
                handle,
                library.GraphProperties(is_symmetric=True, is_multigraph=False),
                cupy.asarray(graph.indptr),
                cupy.asarray(graph.indices),
                weight_array=cupy.asarray(graph.weights),
                store_transposed=False,
                renumber=False,
                do_expensive_check=False,
                input_array_format="CSR",
            )
            if method == "leiden":
                vertices, clusters, _ = library.leiden(handle, seed, device_graph, MAX_LEVEL, resolution, THETA, CHECK)
                details |= {"seed": seed, "repeatable": "not promised on a GPU"}
            else:
                vertices, clusters, _ = library.louvain(handle, device_graph, MAX_LEVEL, THRESHOLD, resolution, CHECK)
                details |= {"threshold": THRESHOLD, "repeatable": "no: Louvain on a GPU takes no seed"}
    except (RuntimeError, MemoryError) as error:  # whatever its C interface reports, memory that ran out among it
        kind = OutOfDeviceMemoryError if isinstance(error, MemoryError) or is_out_of_memory(error) else InputError
        raise kind(
            f"pylibcugraph found no communities ({str(error).partition(chr(10))[0]}); free device memory, or use "
            "device='cpu'."
        ) from error
    if len(vertices) != graph.n_nodes:
        raise InputError(
            f"pylibcugraph returned communities of {len(vertices)} nodes for a graph of {graph.n_nodes}; "
            "use device='cpu', and report this with the version that 'clorg-scale doctor' prints."
        )
    found = np.empty(graph.n_nodes, dtype=np.int64)
    found[vertices.get()] = clusters.get()
    return found, details

"""`communities`: Leiden or Louvain on the affinity graph, with igraph on the CPU and pylibcugraph on the GPU."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.arrays import Device, array_module, resolve_device
from clorg_scale.arrays.gpu import OutOfDeviceMemoryError
from clorg_scale.communities.modularity import class_weights
from clorg_scale.counted import counted
from clorg_scale.distributed import device_of_workers
from clorg_scale.errors import InputError
from clorg_scale.results.result import Columns, Result
from clorg_scale.results.stored import beside
from clorg_scale.whole import whole_number

__all__ = ["Communities", "communities"]

Method = Literal["leiden", "louvain"]


@dataclass(frozen=True)
class Communities(Result):
    """A partition of the nodes.

    Attributes
    ----------
    labels
        (n,) int32 community of each node, numbered by decreasing size; NumPy.
    modularity
        Of the partition at `resolution`, recomputed in float64.
    sizes
        (M,) nodes in each community.
    method, resolution
        As given.
    details
        Library, iterations, and whether the result is repeatable.
    """

    labels: npt.NDArray[np.int32] = field(metadata=beside())
    modularity: float
    sizes: npt.NDArray[np.int64]
    method: str
    resolution: float
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the community of each node, as numbers, strings and lists that JSON can hold."""
        return {
            "method": self.method,
            "resolution": self.resolution,
            "n_communities": len(self.sizes),
            "modularity": self.modularity,
            "sizes": self.sizes.tolist(),
            "details": self.details,
        }

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"communities": self._by_community, "points": lambda: {"community": self.labels}}

    def _by_community(self) -> Columns:
        return {"community": np.arange(len(self.sizes)), "size": self.sizes}

    def _line(self) -> str:
        return (
            f"{counted(len(self.sizes), 'community', plural='communities')} of {counted(len(self.labels), 'node')}, "
            f"modularity {self.modularity:.4f}; "
            f"{self.method}, resolution {self.resolution:g}"
        )


def communities(
    graph: AffinityGraph,
    *,
    method: Method = "leiden",
    resolution: float = 1.0,
    seed: int = 0,
    device: Device = "auto",
    client: Any = None,
) -> Communities:
    """Partition the graph into communities of high modularity.

    Parameters
    ----------
    graph
        The affinity graph; its weights are used.
    method
        "leiden" (Traag et al. 2019; connected communities, repeatable on the CPU for a seed) or "louvain"
        (Blondel et al. 2008). On the GPU neither is promised to repeat to the last node, and Louvain takes no seed.
    resolution
        gamma > 0: larger gives more, smaller communities.
    seed
        Seed of the order in which nodes are visited.
    device
        "auto" computes where the graph is; on the CPU where pylibcugraph is not installed.
    client
        `distributed.Client` of a Dask cluster whose workers have GPUs, which cuGraph then uses together. Without GPUs
        no library shares this work, and this process does it.

    Returns
    -------
    Communities

    Raises
    ------
    InputError
        If the graph has no edges, an option is out of range, or the requested GPU is not available.

    Warns
    -----
    UserWarning
        If a GPU result is one community a node, or worse than no partition; it is discarded for the CPU's. If the GPU
        runs out of memory and no device is named: the CPU computes.
    """
    if method not in ("leiden", "louvain"):
        raise InputError(f"method must be 'leiden' or 'louvain', not {method!r}.")
    if not (np.isfinite(resolution) and resolution > 0):
        raise InputError(f"The resolution must be a positive number, not {resolution}.")
    seed = whole_number("seed", seed, 0)
    if not len(graph.indices):
        raise InputError("The graph has no edges; there are no communities to find.")
    settings = _Settings(method, resolution, seed)
    of_gpu = _on_gpu(graph, settings, device, client)
    if of_gpu is not None:
        result = _described(graph, settings, *of_gpu)
        # All nodes in one community have modularity 1 - resolution: less is not a result of a search.
        least = min(0.0, 1 - resolution)
        if len(result.sizes) < graph.n_nodes and result.modularity > least - 1e-6:
            return result
        warnings.warn(
            f"{method} on the GPU found {len(result.sizes)} communities of {graph.n_nodes} nodes, with modularity "
            f"{result.modularity:.3g}; igraph on the CPU is used instead.",
            stacklevel=2,
        )
    from clorg_scale.communities.leiden_igraph import partition_on_cpu

    found, details = partition_on_cpu(graph, method, resolution, seed)
    return _described(graph, settings, found, details)


class _Settings(NamedTuple):
    """Arguments of the search."""

    method: str
    resolution: float
    seed: int


def _on_gpu(
    graph: AffinityGraph, settings: _Settings, device: Device, client: Any
) -> tuple[npt.NDArray[np.int64], dict[str, Any]] | None:
    """(n,) communities from one GPU, or from those of a cluster, and details; None without a GPU."""
    if client is not None and device_of_workers(client, device) == "cuda":
        from clorg_scale.communities.leiden_cugraph_dask import partition_on_gpu_cluster

        return partition_on_gpu_cluster(graph, *settings, client=client)
    if client is None and _device(graph, device) == "cuda":
        from clorg_scale.communities.leiden_pylibcugraph import partition_on_gpu

        try:
            return partition_on_gpu(graph, *settings)
        except OutOfDeviceMemoryError as error:
            if device != "auto":
                raise
            warnings.warn(f"{error} igraph on the CPU is used instead.", stacklevel=3)
    return None


def _device(graph: AffinityGraph, device: Device) -> Literal["cpu", "cuda"]:
    """Choose the device: a GPU for a graph that is on it already, or if it is named."""
    chosen = resolve_device(device)
    if device == "auto" and chosen == "cuda":
        on_gpu = array_module(graph.weights) is not np
        return "cuda" if on_gpu and _can_import("pylibcugraph") else "cpu"
    return chosen


def _can_import(module: str) -> bool:
    """Whether an optional package is installed and its libraries load."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _described(
    graph: AffinityGraph, settings: _Settings, found: npt.NDArray[np.int64], details: dict[str, Any]
) -> Communities:
    """Number the communities by size and compute their modularity."""
    _, first, codes, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort([first, -sizes])  # by size, ties by their first node
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    labels = rank[codes.reshape(-1)].astype(np.int32)
    quality = class_weights(graph, labels.astype(np.int64), len(sizes)).modularity(settings.resolution)
    sizes = sizes[order].astype(np.int64)
    return Communities(labels, quality, sizes, settings.method, settings.resolution, details)

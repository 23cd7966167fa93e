"""The choice of the index by the size of the data and the memory there is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clorg_scale.arrays import array_module
from clorg_scale.counted import counted
from clorg_scale.errors import InputError
from clorg_scale.neighbors.memory import Budget, flat_bytes, index_bytes, indexed_bytes, search_budget
from clorg_scale.neighbors.points import Points

__all__ = ["Demand", "automatic_index", "choose_index"]

FLAT_WORK = {"cpu": 3e11, "cuda": 5e14}
"""n^2 d up to which `auto` searches exactly. CPU: about 5 s on two cores, where the inverted file takes 1.5 s
and is not exact; GPU: tens of seconds on one that multiplies float32 at 40 TFLOP/s."""

FLAT_POINTS = 5000
"""Points up to which `auto` always searches exactly."""

FLAT_SHARE = 1 / 20
"""Share of all points that k may be before `auto` searches exactly, as most lists would have to be probed."""


class Demand(NamedTuple):
    """The size of a search, and the memory that it may take.

    Attributes
    ----------
    points
        The points that are searched.
    k
        Neighbors of each query.
    n_queries
        Number of queries.
    device
        Device of the search.
    limit
        Memory limit of the user.
    worker_memory
        Bytes that an index may take on each worker of a cluster; None without workers or limit.
    """

    points: Points
    k: int
    n_queries: int
    device: str
    limit: str | int | None
    worker_memory: int | None = None


def choose_index(demand: Demand, index: str, worker_device: str, what: str | None) -> tuple[str, Budget]:
    """Name of the index that searches, and its memory.

    Parameters
    ----------
    demand
        The search.
    index
        The user's choice.
    worker_device
        Device of the workers of a cluster, or of this process.
    what
        The queries, for the error message; None where the index says more.

    Raises
    ------
    InputError
        If memory does not suffice, or the workers cannot search through the index.
    """
    name = index
    if worker_device == "cuda" and demand.device == "cpu":
        if index not in ("auto", "flat", "partitioned"):
            raise InputError(f"Workers with GPUs search exactly, not with index={index!r}; use index='flat' or 'auto'.")
        name = "partitioned" if index == "partitioned" else "flat"
    elif index == "auto":
        name = automatic_index(demand.points, demand.k, worker_device)
        if name == "ivf" and _must_be_partitioned(demand):
            name = "partitioned"
        try:
            return name, _divide(demand, name, name)
        except InputError:
            name = "flat"
    if name == "partitioned" and demand.points.inner_product:
        raise InputError(
            "index='partitioned' searches groups of near points, but a large inner product need not mean near; use "
            "index='flat' or 'ivf', or metric='cosine'."
        )
    return name, _divide(demand, name, f"Searching {counted(demand.k, 'neighbor')} {what or f'with index {name!r}'}")


def automatic_index(points: Points, k: int, device: str) -> str:
    """``"flat"`` while that takes seconds, ``"ivf"`` beyond (see `clorg_scale.neighbors.knn`)."""
    small = points.n <= FLAT_POINTS or float(points.n) ** 2 * points.d <= FLAT_WORK[device]
    return "flat" if small or k > FLAT_SHARE * points.n else "ivf"


def _must_be_partitioned(demand: Demand) -> bool:
    """Whether an index over all points does not fit memory, or not that of the workers, each of which has a copy."""
    points = demand.points
    if points.inner_product or demand.device != "cpu":
        return False
    with_copy = index_bytes("ivf", points.n, points.d, demand.k) + indexed_bytes(points.n, points.d)
    if demand.worker_memory is not None and with_copy > demand.worker_memory:
        return True
    try:
        search_budget(with_copy, with_copy, demand.limit, "")
    except InputError:
        return True
    return False


def _divide(demand: Demand, index: str, what: str) -> Budget:
    """Divide the memory of the device that holds the points (see `search_budget`)."""
    points = demand.points
    least = flat_bytes(points.n, points.d, demand.n_queries, demand.k)
    needed = least if index == "flat" else index_bytes(index, points.n, points.d, demand.k)
    on_device = array_module(points.embeddings) is not np
    return search_budget(needed, least, demand.limit, what, device=demand.device, on_device=on_device)

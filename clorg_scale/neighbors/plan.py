"""The plan of a search: points, number of neighbors, device, memory, made before anything is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clorg_scale.arrays import (
    Array,
    Device,
    array_module,
    as_embeddings,
    on_host,
    resolve_device,
)
from clorg_scale.arrays.gpu import brought_to
from clorg_scale.arrays.normalize import normalize_within
from clorg_scale.distributed import Map, device_of_workers, ordered_map, room_of_workers, share_with_workers
from clorg_scale.errors import InputError
from clorg_scale.neighbors.choice import Demand, choose_index
from clorg_scale.neighbors.memory import Budget, memory_needed
from clorg_scale.neighbors.metric import Metric, check_metric
from clorg_scale.neighbors.points import Points, prepare
from clorg_scale.whole import whole_number

__all__ = ["SearchPlan", "in_library", "plan_search"]


@dataclass(frozen=True)
class SearchPlan:
    """A search: the points, how many neighbors, and the means.

    Attributes
    ----------
    points
        The points that are searched.
    k
        Neighbors of each query.
    device
        ``"cpu"`` or ``"cuda"``.
    budget
        Memory for blocks and for copies.
    index
        ``"flat"`` or the name of an approximate index.
    rows
        (q,) rows of `points` whose neighbors are sought; None for all.
    others
        Queries that are not among `points`; None where the queries are points themselves, which are then never
        their own neighbors.
    seed
        Seed of clusterings, graphs and samples.
    target_recall
        Recall that an approximate index is tuned to.
    map
        Map over the workers of a cluster; None where this process searches.
    worker_device
        Device that the workers search on.
    worker_memory
        Bytes that a search may take on each worker; None where there are no workers, or without a limit.
    memory_limit
        The user's limit on the memory beside the embeddings, which holds for each worker's GPU too.
    progress
        Whether to show a progress bar.
    """

    points: Points
    k: int
    device: str
    budget: Budget
    index: str = "flat"
    rows: Array | None = None
    others: Points | None = None
    seed: int = 0
    target_recall: float = 1.0
    map: Map | None = None
    worker_device: str = "cpu"
    worker_memory: int | None = None
    memory_limit: str | int | None = None
    progress: bool = False

    @property
    def queries(self) -> Points:
        """Points whose neighbors are sought."""
        return self.points if self.others is None else self.others

    def partition_room(self) -> int:
        """Bytes that the search of a partition may take, here or on a worker."""
        room = self.budget.blocks + self.budget.spare
        return room if self.worker_memory is None else min(room, self.worker_memory)

    @property
    def query_rows(self) -> Array:
        """(q,) rows of `queries` whose neighbors are sought."""
        xp = array_module(self.points.embeddings)
        return xp.arange(self.queries.n) if self.rows is None else xp.asarray(self.rows)


def plan_search(
    embeddings: Any,
    k: int,
    *,
    metric: Metric,
    device: Device,
    memory_limit: str | int | None,
    index: str = "flat",
    rows: Any = None,
    others: Any = None,
    seed: int = 0,
    target_recall: float = 1.0,
    client: Any = None,
    progress: bool = False,
    normalize: bool = False,
) -> SearchPlan:
    """Check what the user asked for, prepare the points and divide the memory.

    Raises
    ------
    InputError
        If the arguments contradict one another or the data, or memory does not suffice.
    """
    embeddings = as_embeddings(embeddings)
    n, d = embeddings.shape
    check_metric(metric)
    rows = None if rows is None else _check_rows(rows, n)
    k = whole_number("k", k, 1, n - (others is None), where=f" for {n} points")
    seed = whole_number("seed", seed, 0)
    if not 0 < target_recall <= 1:
        raise InputError(f"target_recall must be above 0 and at most 1, not {target_recall!r}.")
    if normalize:
        embeddings, memory_limit = normalize_within(embeddings, memory_limit, needed=memory_needed(n, d, k))
    embeddings, device_name = _on_device(embeddings, device, client)
    if others is not None:
        others = in_library(as_embeddings(others, name="queries"), array_module(embeddings))
    points, others = prepare(embeddings, metric, others)
    worker_device = device_name
    if client is not None:
        device_name = "cpu"  # of this process, which may have no GPU
    n_queries = len(rows) if rows is not None else (points if others is None else others).n
    what = None if rows is None and others is None else f"of {n_queries} points"
    worker_memory = None if client is None else room_of_workers(client)
    demand = Demand(points, k, n_queries, device_name, memory_limit, worker_memory)
    name, budget = choose_index(demand, index, worker_device, what)
    return SearchPlan(
        points,
        k,
        device_name,
        budget,
        index=name,
        rows=rows,
        others=others,
        seed=seed,
        target_recall=target_recall,
        map=ordered_map(client),
        worker_device=worker_device,
        worker_memory=worker_memory,
        memory_limit=memory_limit,
        progress=progress,
    )


def in_library(array: Array, xp: Any) -> Array:
    """`array` in the memory of an array library, NumPy or CuPy."""
    if array_module(array) is xp:
        return array
    return on_host(array) if xp is np else xp.asarray(array)


def _on_device(embeddings: Array, device: Device, client: Any) -> tuple[Array, str]:
    """Bring the embeddings to the device that searches them, if they fit there, or to the workers."""
    if client is not None:
        return share_with_workers(client, embeddings), device_of_workers(client, device)
    chosen = resolve_device(device)
    return brought_to(chosen, embeddings), chosen


def _check_rows(queries: Any, n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    rows = np.asarray(queries.get() if hasattr(queries, "get") else queries)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) == 0:
        raise InputError(
            f"The queries must be a non-empty list of row numbers, not {rows.dtype} of shape {rows.shape}."
        )
    if rows.min() < 0 or rows.max() >= n:
        raise InputError(
            f"The queries must be row numbers from 0 to {n - 1}; they go from {rows.min()} to {rows.max()}."
        )
    if len(np.unique(rows)) != len(rows):
        raise InputError("The queries repeat row numbers; give each point once.")
    return rows.astype(np.int64)

"""Search of partitions of the points, one by one or on the workers of a cluster, merged to one table.

For more points than memory holds an index of: a partition is gathered from the embeddings where they lie (a memory map,
any dtype), searched by the fastest engine for its size, and forgotten. Beside the embeddings only the table, the
numbers of the partitions, and one partition are in memory (`clorg_scale.neighbors.memory.partition_bytes`).

On a cluster a partition is a task whose input are row numbers: the worker reads the rows itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module, on_host, row_slices
from clorg_scale.arrays.mapped import location_or_array
from clorg_scale.neighbors.memory import largest_partition, partition_bytes
from clorg_scale.neighbors.merging import Found, MergedTable
from clorg_scale.neighbors.metric import Metric, id_dtype
from clorg_scale.neighbors.partitions import Assign, Members, Partitions, choose_partitions, members_of
from clorg_scale.neighbors.plan import SearchPlan, plan_search
from clorg_scale.neighbors.recall import SAMPLE, recall_of, sample_rows, warn_of_recall
from clorg_scale.neighbors.result import KNN
from clorg_scale.neighbors.tables import search_table
from clorg_scale.neighbors.tasks import ExactSearch, WorkerSearch, for_worker
from clorg_scale.progress import progress_bar

__all__ = ["PartitionSearch", "partitioned_table"]

ASSIGNED_ROWS = 1 << 17
"""Points whose partitions are found at a time; fixed, so that rounding is the same with and without a cluster."""

TRUTH_ROWS = 100
"""Points of the sample that a worker searches exactly at a time."""


@dataclass(frozen=True)
class PartitionSearch:
    """Search of one partition by the fastest engine for its size: a task.

    Attributes
    ----------
    embeddings
        (n, d) all points.
    k, metric, device, seed, target_recall
        As of the search.
    memory
        Bytes that the search of a partition may take beside its rows.
    """

    embeddings: Array
    k: int
    metric: Metric
    device: str
    seed: int
    target_recall: float
    memory: int

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "embeddings": location_or_array(self.embeddings)}

    def __call__(self, rows: npt.NDArray[np.integer[Any]]) -> Found:
        """Neighbors of the points with these ascending row numbers among themselves."""
        xp = array_module(self.embeddings)
        plan = plan_search(
            self.embeddings[xp.asarray(rows)],
            self.k,
            metric=self.metric,
            device=self.device,  # type: ignore[arg-type]
            memory_limit=self.memory,
            index="auto",
            seed=self.seed,
            target_recall=self.target_recall,
        )
        table = search_table(plan, must_reach=True)
        return Found(rows, rows[on_host(table.indices)], on_host(table.distances))


def partitioned_table(plan: SearchPlan, *, must_reach: bool) -> KNN | None:
    """Search as planned.

    Parameters
    ----------
    plan
        The search, of all points among themselves.
    must_reach
        None instead of a table if no overlap gives the target recall on a sample.

    Warns
    -----
    UserWarning
        If the measured recall is poor.
    """
    points, k = plan.points, plan.k
    most_points = largest_partition(points.d, k, points.embeddings.itemsize, room=plan.partition_room())
    rows, ids, bounds = _sample_truth(plan)
    # Half of what may be missed is left to the search within the partitions.
    wanted = (1 + plan.target_recall) / 2
    partitions = choose_partitions(points, k, most_points, (rows, ids), wanted=wanted, seed=plan.seed)
    if must_reach and partitions.recall < plan.target_recall:
        return None
    target = min(1.0, plan.target_recall / partitions.recall) if partitions.recall > 0 else 1.0
    partitions, members = _members(plan, partitions)
    table = MergedTable(
        np.empty((points.n, k), dtype=id_dtype(points.n)), np.empty((points.n, k), dtype=points.distance_dtype)
    )
    memory = partition_bytes(most_points, points.d, k, 0)
    search = PartitionSearch(points.embeddings, k, points.metric, plan.worker_device, plan.seed, target, memory)
    work = float(points.n * partitions.overlap)
    with progress_bar("nearest neighbors, partitioned", work, unit="points", enabled=plan.progress) as advance:
        for found in _mapped(plan, search, _largest_first(members)):
            table.merge(found)
            advance(len(found.rows))
    found_keys = table.distances[rows].astype(np.float64)
    recall = recall_of(found_keys, on_host(points.distances(bounds)).astype(np.float64))
    name = f"partitioned(partitions={len(partitions.centroids)}, overlap={partitions.overlap})"
    warn_of_recall(recall, name, plan.target_recall)
    return KNN(*_on_device(plan, table), points.metric, name, points.n, None, recall)


def _mapped(plan: SearchPlan, task: Any, chunks: Iterable[Any]) -> Iterable[Any]:
    """Results of a task, here or on the workers."""
    return map(task, chunks) if plan.map is None else plan.map(task, chunks)


def _sample_truth(plan: SearchPlan) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]:
    """(s,) rows of a sample, (s, k) their exact neighbors, (s,) key of the last of these."""
    rows = sample_rows(plan.points.n, SAMPLE, plan.seed)
    xp = array_module(plan.points.embeddings)
    whole = xp.asarray(rows)
    if plan.map is None:
        _, keys, ids = ExactSearch(plan)(whole)
    else:
        chunks = [whole[start : start + TRUTH_ROWS] for start in range(0, len(rows), TRUTH_ROWS)]
        found = list(plan.map(WorkerSearch(for_worker(plan)), chunks))
        keys, ids = (xp.concatenate([on_host(some[column]) for some in found]) for column in (1, 2))
    return rows, on_host(ids), keys[:, -1]


def _members(plan: SearchPlan, partitions: Partitions) -> tuple[Partitions, Members]:
    """Members of all partitions; those that have too few go to others."""
    points = plan.points
    while True:
        assign = Assign(points, partitions.centroids, partitions.overlap)
        chunks = list(row_slices(points.n, 1, itemsize=1, block_bytes=ASSIGNED_ROWS))
        of_points = np.empty((points.n, partitions.overlap), dtype=np.int32)
        for rows, some in zip(chunks, _mapped(plan, assign, chunks), strict=True):
            of_points[rows] = some
        members = members_of(of_points, len(partitions.centroids), least=max(3, plan.k + 1))
        if isinstance(members, Members):
            return partitions, members
        left = np.delete(partitions.centroids, members, axis=0)
        partitions = _around(partitions, left)


def _around(partitions: Partitions, centroids: npt.NDArray[np.float32]) -> Partitions:
    """Partitions around fewer centroids; no point is a member of more than there are."""
    return partitions._replace(centroids=centroids, overlap=min(partitions.overlap, len(centroids)))


def _largest_first(members: Members) -> Iterable[npt.NDArray[np.integer[Any]]]:
    """Members of each partition; workers that end with small ones end together."""
    sizes = np.diff(members.starts)
    return (members.of(int(number)) for number in np.argsort(-sizes, kind="stable"))


def _on_device(plan: SearchPlan, table: MergedTable) -> tuple[Array, Array]:
    """Indices and distances where the user expects them."""
    if plan.device != "cuda":
        return table.indices, table.distances
    import cupy

    return cupy.asarray(table.indices), cupy.asarray(table.distances)

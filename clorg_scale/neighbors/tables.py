"""Tables of neighbors: the plan carried out, here or on a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, array_module, row_slices
from clorg_scale.neighbors import engines
from clorg_scale.neighbors.approximate import CANDIDATE_BYTES, TunedIndex, n_candidates, tuned_index
from clorg_scale.neighbors.exact import BlockSearch, search_exact
from clorg_scale.neighbors.metric import id_dtype
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.points import cache_float32
from clorg_scale.neighbors.result import KNN
from clorg_scale.neighbors.tasks import CHUNK_ROWS, CandidateSearch, WorkerSearch, chunk_rows, for_worker
from clorg_scale.progress import Advance, progress_bar

__all__ = ["search_table"]

Chunks = Iterable[tuple[Any, Array, Array]]
"""Rows of the table, a slice or (b,) numbers, and their keys and ids (b, k)."""

MANY_QUERIES = 8192
"""Queries from which on the embeddings are read several times, so that a float32 copy of them pays."""


def search_table(plan: SearchPlan, *, must_reach: bool = False) -> KNN:
    """Search as planned; exactly, too, if `must_reach` and the index misses the target recall on a sample."""
    engine = engines.exact_engine(plan)
    tuned = None if plan.index == "flat" else tuned_index(plan, engine, must_reach=must_reach)
    rows, name, recall = plan.query_rows, engine.name, 1.0
    progress = "nearest neighbors" if tuned is None else f"nearest neighbors, {plan.index}"
    with progress_bar(progress, len(rows), unit="points", enabled=plan.progress) as advance:
        if tuned is None:
            chunks, name = _exact_chunks(plan, rows, engine, advance)
            indices, distances = _collect(plan, chunks, len(rows))
        else:
            chunks, name = _index_chunks(plan, rows, tuned, advance), tuned.candidates.description
            indices, distances = _collect(plan, tuned.observe(chunks), len(rows))
            recall = tuned.recall(plan)
    return KNN(indices, distances, plan.points.metric, name, plan.points.n, _table_queries(plan, indices), recall)


def _exact_chunks(plan: SearchPlan, rows: Array, engine: BlockSearch, advance: Advance) -> tuple[Chunks, str]:
    """The exact search, and its name."""
    if plan.map is None:
        if len(rows) >= MANY_QUERIES:
            plan = replace(plan, points=cache_float32(plan.points, plan.budget.spare))
        return search_exact(plan, rows, engine, advance), engine.name
    name = "flat" if plan.worker_device == "cpu" else "flat(GPU workers)"
    chunks = _cut(rows, chunk_rows(plan, len(rows)))
    return _reported(plan.map(WorkerSearch(for_worker(plan)), chunks), advance), name


def _index_chunks(plan: SearchPlan, rows: Array, tuned: TunedIndex, advance: Advance) -> Chunks:
    """The search through an index, in the order of the index."""
    order = rows if tuned.candidates.order is None else tuned.candidates.order
    if plan.map is not None:
        return _reported(
            plan.map(CandidateSearch(for_worker(plan), tuned.candidates), _cut(order, CHUNK_ROWS)), advance
        )
    size = max(1, plan.budget.blocks // (CANDIDATE_BYTES * n_candidates(plan, tuned.candidates) + 512))
    return map(CandidateSearch(plan, tuned.candidates, advance), _cut(order, size))


def _table_queries(plan: SearchPlan, indices: Array) -> Array | None:
    """Point that each row of the table belongs to (see `KNN.queries`)."""
    xp = array_module(indices)
    if plan.others is not None:
        return xp.full(len(indices), -1, dtype=np.int64)
    return None if plan.rows is None else xp.asarray(plan.rows)


def _cut(rows: Array, size: int) -> Iterable[Array]:
    """Chunks of at most `size` rows."""
    return (rows[chunk] for chunk in row_slices(len(rows), 1, itemsize=1, block_bytes=size))


def _reported(chunks: Chunks, advance: Advance) -> Chunks:
    """Pass the chunks of the table on, reporting progress."""
    for rows, keys, ids in chunks:
        yield rows, keys, ids
        advance(len(keys))


def _collect(plan: SearchPlan, chunks: Chunks, n_rows: int) -> tuple[Array, Array]:
    """Collect indices and distances in their final types, on the device that was asked for."""
    xp = array_module(plan.points.embeddings)
    indices = xp.empty((n_rows, plan.k), dtype=id_dtype(plan.points.n))
    distances = xp.empty((n_rows, plan.k), dtype=plan.points.distance_dtype)
    for rows, keys, ids in chunks:
        indices[rows] = ids
        distances[rows] = plan.points.distances(keys)
    if plan.device == "cuda" and xp is np:
        import cupy

        return cupy.asarray(indices), cupy.asarray(distances)
    return indices, distances

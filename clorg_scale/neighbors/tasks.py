"""Searches for the neighbors of some points, made here or by a worker of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, array_module, on_host
from clorg_scale.neighbors import engines
from clorg_scale.neighbors.algorithms.candidates import Candidates
from clorg_scale.neighbors.approximate import ranked_candidates
from clorg_scale.neighbors.exact import search_exact
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.resident import on_gpu
from clorg_scale.progress import Advance

__all__ = ["CHUNK_ROWS", "CandidateSearch", "ExactSearch", "WorkerSearch", "chunk_rows", "for_worker", "silent"]

CHUNK_ROWS = 1 << 13
"""Points whose neighbors a worker is asked for at a time."""

GPU_CHUNK_ROWS, GPU_CHUNKS = 1 << 16, 16
"""The same of a worker with a GPU, to which all points are copied for every chunk where they do not fit there; and how
many chunks there are to be at least, as long as none is smaller than another worker's."""


def chunk_rows(plan: SearchPlan, n_rows: int) -> int:
    """Points whose neighbors a worker is asked for at a time; whatever the number of workers."""
    if plan.worker_device == "cpu":
        return CHUNK_ROWS
    return min(GPU_CHUNK_ROWS, max(CHUNK_ROWS, n_rows // GPU_CHUNKS))


def for_worker(plan: SearchPlan) -> SearchPlan:
    """The plan as a worker of a cluster follows it."""
    return replace(plan, device=plan.worker_device, map=None, progress=False)


def silent(done: float) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class ExactSearch:
    """Exact search of some of the points.

    Attributes
    ----------
    plan
        The search.
    """

    plan: SearchPlan

    def __call__(self, rows: Array) -> tuple[Array, Array, Array]:
        """(b,) rows, (b, k) keys and ids of their neighbors."""
        xp = array_module(self.plan.points.embeddings)
        keys, ids = xp.empty((len(rows), self.plan.k)), xp.empty((len(rows), self.plan.k), dtype=np.int64)
        for chunk, chunk_keys, chunk_ids in search_exact(self.plan, rows, engines.exact_engine(self.plan)):
            keys[chunk], ids[chunk] = chunk_keys, chunk_ids
        return rows, keys, ids


@dataclass(frozen=True)
class WorkerSearch:
    """Exact search of some of the points by a worker of a cluster, whose GPU keeps the points from chunk to chunk.

    Attributes
    ----------
    plan
        The search, as the worker follows it.
    """

    plan: SearchPlan

    def __getstate__(self) -> dict[str, Any]:
        return {"plan": self.plan}

    @cached_property
    def _search(self) -> ExactSearch:
        return ExactSearch(on_gpu(self.plan) if self.plan.device == "cuda" else self.plan)

    def __call__(self, rows: Array) -> tuple[Array, Array, Array]:
        """(b,) rows, (b, k) keys and ids of their neighbors, in main memory."""
        xp = array_module(self._search.plan.points.embeddings)
        _, keys, ids = self._search(xp.asarray(rows))
        return rows, on_host(keys), on_host(ids)


@dataclass(frozen=True)
class CandidateSearch:
    """Search through an index; rows that lose too many candidates to the checks are searched exactly.

    Attributes
    ----------
    plan
        The search.
    index
        Proposes neighbors.
    advance
        Called with the number of points done.
    """

    plan: SearchPlan
    index: Candidates
    advance: Advance = silent

    def __call__(self, rows: Array) -> tuple[Array, Array, Array]:
        """(b,) rows, (b, k) keys and ids of their neighbors."""
        keys, ids = ranked_candidates(self.plan, self.index, rows, self.advance)
        short = array_module(keys).flatnonzero(ids[:, -1] < 0)
        if short.size:
            _, keys[short], ids[short] = ExactSearch(self.plan)(rows[short])
        return rows, keys, ids

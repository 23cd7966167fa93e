"""Recall measured against exact search, tie-aware."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, Device, array_module, as_embeddings, on_host
from clorg_scale.errors import InputError
from clorg_scale.neighbors import engines
from clorg_scale.neighbors.exact import BlockSearch, search_exact
from clorg_scale.neighbors.metric import Metric
from clorg_scale.neighbors.pairs import pair_keys
from clorg_scale.neighbors.plan import SearchPlan, in_library, plan_search
from clorg_scale.whole import whole_number

__all__ = [
    "POOR_RECALL",
    "SAMPLE",
    "Truth",
    "recall_of",
    "sample_rows",
    "sample_truth",
    "table_recall",
    "warn_of_recall",
]

SAMPLE = 500
"""Points whose exact neighbors are sought; the standard error of a recall of .99 is then at most .0045
(points independent, all k neighbors of a point lost or found together)."""

TIE = 1e-5
"""Relative difference of two distances up to which they count as equal: float32 coordinates give no more."""


POOR_RECALL, POOR_BY = 0.95, 0.02
"""Recall below which to warn, and how far the sample of the tuning may be off without a warning."""


@dataclass(frozen=True)
class Truth:
    """Exact distances to the k-th neighbor of a sample of the points.

    Attributes
    ----------
    rows
        (s,) sampled positions in the table.
    bounds
        (s,) float64 search key of the exact k-th neighbor.
    """

    rows: Array
    bounds: Array


def sample_truth(plan: SearchPlan, size: int, engine: BlockSearch) -> Truth:
    """Search a random sample of all points exactly."""
    rows = array_module(plan.points.embeddings).asarray(sample_rows(plan.points.n, size, plan.seed))
    return Truth(rows, _bounds(plan, rows, engine))


def recall_of(keys: Array, bounds: Array) -> float:
    """Share of the (s, k) neighbors with these keys that are no farther than the true k-th neighbor.

    Comparing distances instead of numbers counts any of several equally distant neighbors as found.
    """
    xp = array_module(keys)
    return float((keys <= (bounds + TIE * xp.abs(bounds))[:, None]).mean())


def warn_of_recall(recall: float, description: str, target: float) -> None:
    """Warn of a recall that is poor, unless no better one was asked for."""
    if recall < min(POOR_RECALL, target - POOR_BY):
        warnings.warn(
            f"The index {description} found only {recall:.1%} of the true neighbors on a sample; use index='auto' or "
            "'flat'.",
            stacklevel=8,
        )


def table_recall(
    embeddings: Any, indices: Array, table_points: Array, *, n_points: int, metric: Metric, sample: int, seed: int
) -> float:
    """Recall of a table of neighbors (see `KNN.recall`).

    Parameters
    ----------
    embeddings
        (n, d) that were searched.
    indices
        (q, k) neighbors.
    table_points
        (q,) point that each row belongs to; -1 where it is none of them.
    n_points
        Points that the table was made from.
    metric, sample, seed
        As for `KNN.recall`.
    """
    embeddings = as_embeddings(embeddings)
    if embeddings.shape[0] != n_points:
        raise InputError(f"The k-NN table was made from {n_points} embeddings, not from these {embeddings.shape[0]}.")
    if bool((table_points < 0).any()):
        raise InputError("The recall of neighbors of other points (knn_between) is not measured: they are exact.")
    sample, seed = whole_number("sample", sample, 1), whole_number("seed", seed, 0)
    device: Device = "cpu" if array_module(indices) is np else "cuda"
    sampled = sample_rows(len(indices), sample, seed)
    points = np.unique(on_host(table_points)[sampled])
    plan = plan_search(embeddings, indices.shape[1], metric=metric, device=device, memory_limit=None, rows=points)
    xp = array_module(plan.points.embeddings)
    rows, ids = (in_library(array[sampled], xp) for array in (table_points, indices))
    bounds = _bounds(plan, rows, engines.exact_engine(plan))
    return recall_of(pair_keys(plan, rows, xp.asarray(ids, dtype=np.int64)), bounds)


def sample_rows(n: int, size: int, seed: int) -> npt.NDArray[np.int64]:
    """Random row numbers below n, ascending."""
    return np.sort(np.random.default_rng(seed).choice(n, size=min(size, n), replace=False))


def _bounds(plan: SearchPlan, rows: Array, engine: BlockSearch) -> Array:
    """(b,) float64 search key of the exact k-th neighbor of each row."""
    bounds = array_module(plan.points.embeddings).empty(len(rows), dtype=np.float64)
    for chunk, keys, _ in search_exact(plan, rows, engine):
        bounds[chunk] = keys[:, -1]
    return bounds

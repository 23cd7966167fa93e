"""Recall measured against exact search, tie-aware."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.neighbors.exact import BlockSearch, search_exact
from clorg_scale.neighbors.points import Points

__all__ = ["SAMPLE", "Truth", "recall_of", "sample_truth"]

SAMPLE = 500
"""Points whose exact neighbors are sought; the standard error of a recall of .99 is then at most .0045
(points independent, all k neighbors of a point lost or found together)."""

TIE = 1e-5
"""Relative difference of two distances up to which they count as equal: float32 coordinates give no more."""


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


def sample_truth(
    points: Points,
    table_points: Array,
    k: int,
    *,
    size: int,
    seed: int,
    engine: BlockSearch,
    block_bytes: int,
) -> Truth:
    """Search a random sample of the points in `table_points` (q,) exactly."""
    xp = array_module(points.embeddings)
    rng = np.random.default_rng(seed)
    rows = xp.asarray(np.sort(rng.choice(len(table_points), size=min(size, len(table_points)), replace=False)))
    queries = xp.asarray(table_points)[rows]
    bounds = xp.empty(len(rows), dtype=np.float64)
    for part, keys, _ in search_exact(
        points, points, queries, k, exclude=queries, engine=engine, block_bytes=block_bytes
    ):
        bounds[part] = keys[:, -1]
    return Truth(rows, bounds)


def recall_of(keys: Array, bounds: Array) -> float:
    """Share of the (s, k) neighbors with these keys that are no farther than the true k-th neighbor.

    Comparing distances instead of numbers counts any of several equally distant neighbors as found.
    """
    xp = array_module(keys)
    return float((keys <= (bounds + TIE * xp.abs(bounds))[:, None]).mean())

"""Searching an approximate index: tune it on a sample, check and measure what it proposes."""

from __future__ import annotations

import numpy as np

from clorg_scale.arrays import Array, array_module, on_host
from clorg_scale.neighbors.algorithms.candidates import Candidates
from clorg_scale.neighbors.points import Points
from clorg_scale.neighbors.ranking import rank_candidates
from clorg_scale.neighbors.recall import Truth, recall_of
from clorg_scale.progress import Advance

__all__ = ["MARGIN", "ranked_candidates", "tune"]

MARGIN = 4
"""Candidates asked for beyond k: the point itself, and some against float32 rounding."""


def tune(index: Candidates, points: Points, truth: Truth, k: int, target_recall: float) -> float:
    """Raise the effort of the index until the recall on the sample reaches the target; return the recall."""
    while True:
        keys, _ = ranked_candidates(index, points, truth.rows, k, lambda done: None)
        recall = recall_of(keys, truth.bounds)
        if recall >= target_recall or not index.try_harder():
            return recall


def ranked_candidates(index: Candidates, points: Points, rows: Array, k: int, advance: Advance) -> tuple[Array, Array]:
    """(b, k) keys and ids of the checked candidates; infinity and -1 where there are fewer than k."""
    xp = array_module(points.embeddings)
    proposed = index.candidates(rows, min(points.n, k + MARGIN), advance)
    if xp is np:
        proposed = on_host(proposed)
    keys, ids = rank_candidates(points, points, rows, proposed, exclude=rows)
    if ids.shape[1] < k:
        more = ((0, 0), (0, k - ids.shape[1]))
        keys, ids = xp.pad(keys, more, constant_values=np.inf), xp.pad(ids, more, constant_values=-1)
    return keys[:, :k], ids[:, :k]

"""Search through an approximate index: its effort tuned on a sample, its candidates checked, its recall measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from clorg_scale.arrays import Array, array_module, on_host
from clorg_scale.neighbors import engines
from clorg_scale.neighbors.algorithms.candidates import Candidates
from clorg_scale.neighbors.exact import BlockSearch
from clorg_scale.neighbors.plan import SearchPlan
from clorg_scale.neighbors.ranking import rank_candidates
from clorg_scale.neighbors.recall import POOR_RECALL, SAMPLE, Truth, recall_of, sample_truth, warn_of_recall
from clorg_scale.progress import Advance

__all__ = ["CANDIDATE_BYTES", "TunedIndex", "n_candidates", "ranked_candidates", "tuned_index"]

MARGIN = 4
"""Candidates asked for beyond k: the point itself, and some against float32 rounding."""

OVERSAMPLING = 1.25, 1.5, 2.0, 3.0, 4.0, 6.0
"""Candidates for each one wanted, fewest first, that a sample decides among."""

CANDIDATE_BYTES = 64
"""Memory of one candidate of a point."""


class TunedIndex(NamedTuple):
    """An index, and a sample of its results.

    Attributes
    ----------
    candidates
        The index, with the effort that the target recall takes.
    truth
        Exact results of the sample.
    found
        (s, k) keys that the search has found for the sample.
    """

    candidates: Candidates
    truth: Truth
    found: Array

    def observe(self, chunks: Iterable[tuple[Any, Array, Array]]) -> Iterable[tuple[Any, Array, Array]]:
        """Pass the chunks of a table on, copying the keys of the sampled rows."""
        xp, sampled = array_module(self.found), self.truth.rows
        for rows, keys, ids in chunks:
            positions = xp.minimum(xp.searchsorted(sampled, rows), len(sampled) - 1)
            some = xp.flatnonzero(sampled[positions] == rows)
            self.found[positions[some]] = keys[some]
            yield rows, keys, ids

    def recall(self, plan: SearchPlan) -> float:
        """Recall on the sample; a poor one gets a warning."""
        recall = recall_of(self.found, self.truth.bounds)
        warn_of_recall(recall, self.candidates.description, plan.target_recall)
        return recall


def tuned_index(plan: SearchPlan, engine: BlockSearch, *, must_reach: bool) -> TunedIndex | None:
    """Build the index and raise its effort until the recall on a sample reaches the target.

    None if `must_reach` and no effort suffices.
    """
    index = engines.approximate_index(plan, engine.find)
    truth = sample_truth(plan, SAMPLE if plan.target_recall >= POOR_RECALL else SAMPLE // 2, engine)
    while True:
        proposed = _proposed(plan, index, truth.rows, lambda done: None)
        keys, _ = _ranked(plan, truth.rows, proposed)
        reached = recall_of(keys, truth.bounds) >= plan.target_recall
        if reached or not index.try_harder():
            break
    if reached:
        index.oversampling = _enough(plan, index, truth, proposed)
    found = array_module(keys).full(keys.shape, np.inf)
    return TunedIndex(index, truth, found) if reached or not must_reach else None


def _enough(plan: SearchPlan, index: Candidates, truth: Truth, proposed: Array) -> float:
    """Fewest candidates for each one wanted with which the sample has the target recall.

    Parameters
    ----------
    proposed
        (s, c) those of the sample, nearest first as the index sees it.
    """
    for oversampling in OVERSAMPLING:
        if oversampling < index.oversampling:
            keys, _ = _ranked(plan, truth.rows, proposed[:, : _wanted(plan, oversampling)])
            if recall_of(keys, truth.bounds) >= plan.target_recall:
                return oversampling
    return index.oversampling


def n_candidates(plan: SearchPlan, index: Candidates) -> int:
    """Count the candidates that the index is asked for, for each query."""
    return _wanted(plan, index.oversampling)


def _wanted(plan: SearchPlan, oversampling: float) -> int:
    return min(plan.points.n, math.ceil(plan.k * oversampling) + MARGIN)


def ranked_candidates(plan: SearchPlan, index: Candidates, rows: Array, advance: Advance) -> tuple[Array, Array]:
    """(b, k) keys and ids of the checked candidates; infinity and -1 where there are fewer than k."""
    return _ranked(plan, rows, _proposed(plan, index, rows, advance))


def _proposed(plan: SearchPlan, index: Candidates, rows: Array, advance: Advance) -> Array:
    """(b, c) candidates of the index, where the points are."""
    proposed = index.candidates(rows, n_candidates(plan, index), advance)
    return on_host(proposed) if array_module(plan.points.embeddings) is np else proposed


def _ranked(plan: SearchPlan, rows: Array, proposed: Array) -> tuple[Array, Array]:
    """(b, k) keys and ids of the best of (b, c) candidates."""
    k, xp = plan.k, array_module(plan.points.embeddings)
    keys, ids = rank_candidates(plan, rows, proposed)
    if ids.shape[1] < k:
        more = ((0, 0), (0, k - ids.shape[1]))
        keys, ids = xp.pad(keys, more, constant_values=np.inf), xp.pad(ids, more, constant_values=-1)
    return keys[:, :k], ids[:, :k]

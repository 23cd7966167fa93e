"""Search through an approximate index: its effort tuned on a sample, its candidates checked, its recall measured."""

from __future__ import annotations

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

__all__ = ["CANDIDATE_BYTES", "MARGIN", "TunedIndex", "ranked_candidates", "tuned_index"]

MARGIN = 4
"""Candidates asked for beyond k: the point itself, and some against float32 rounding."""

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
        keys, _ = ranked_candidates(plan, index, truth.rows, lambda done: None)
        reached = recall_of(keys, truth.bounds) >= plan.target_recall
        if reached or not index.try_harder():
            break
    found = array_module(keys).full(keys.shape, np.inf)
    return TunedIndex(index, truth, found) if reached or not must_reach else None


def ranked_candidates(plan: SearchPlan, index: Candidates, rows: Array, advance: Advance) -> tuple[Array, Array]:
    """(b, k) keys and ids of the checked candidates; infinity and -1 where there are fewer than k."""
    k, xp = plan.k, array_module(plan.points.embeddings)
    proposed = index.candidates(rows, min(plan.points.n, k + MARGIN), advance)
    if xp is np:
        proposed = on_host(proposed)
    keys, ids = rank_candidates(plan, rows, proposed)
    if ids.shape[1] < k:
        more = ((0, 0), (0, k - ids.shape[1]))
        keys, ids = xp.pad(keys, more, constant_values=np.inf), xp.pad(ids, more, constant_values=-1)
    return keys[:, :k], ids[:, :k]

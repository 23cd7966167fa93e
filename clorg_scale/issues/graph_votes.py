"""Votes of the neighbors on the class of each point, weighted by how far each neighbor's own label is agreed with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.arrays import ClassLabels, on_host

__all__ = ["BLOCK_NUMBERS", "LEAST_TRUST", "ROUNDS", "STEEPNESS", "GraphVotes"]

ROUNDS = 4
"""Rounds of weighting neighbors by their own agreement."""

STEEPNESS = 6.0
"""Slope of the weight of a neighbor against the margin of its label; at a margin of 1 it is .998, at -1 .002."""

LEAST_TRUST = 1e-3

BLOCK_NUMBERS = 2**22
"""Scores of points and classes that are held at once."""

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class GraphVotes:
    """Share of each point's affinity that goes to each class, a block of points at a time.

    Parameters
    ----------
    graph
        Affinity graph of n points; without loops, so that no point votes for itself.
    classes
        (n,) codes; points without a class (-1) do not vote.
    rounds
        In the first, all neighbors count as their affinity; in each other, also by the margin of their own label in the
        round before.
    n_scores
        Scores of points and classes that are held at once.
    """

    def __init__(
        self, graph: AffinityGraph, classes: ClassLabels, *, rounds: int = ROUNDS, n_scores: int = BLOCK_NUMBERS
    ) -> None:
        from scipy.sparse import csr_array

        n = graph.n_nodes
        parts = (on_host(part) for part in (graph.weights, graph.indices, graph.indptr))
        self.matrix: Any = csr_array(tuple(parts), shape=(n, n))
        self.codes, self.n_classes, self.n_scores = classes.codes, len(classes.names), n_scores
        self.labeled = np.flatnonzero(classes.codes >= 0)
        self._votes = self._weighted(np.ones(n))
        for _ in range(rounds - 1):
            self._votes = self._weighted(self._trust())

    def blocks(self, rows: Codes) -> Iterator[Codes]:
        """Row numbers, some at a time."""
        step = max(1, self.n_scores // self.n_classes)
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    def shares(self, rows: Codes) -> Floats:
        """(b, C) share of the affinity of each point that goes to each class; equal ones without any affinity."""
        found = (self.matrix[rows] @ self._votes).toarray().astype(np.float64)
        total = found.sum(axis=1, keepdims=True)
        return np.where(total > 0, found / np.where(total > 0, total, 1), 1 / self.n_classes)

    def _weighted(self, trust: Floats) -> Any:
        """(n, C) matrix with the trust of each labeled point in the column of its class."""
        from scipy.sparse import csr_array

        labeled = self.codes >= 0
        indptr = np.concatenate([[0], np.cumsum(labeled)])
        values = trust[labeled].astype(np.float32)
        return csr_array((values, self.codes[labeled], indptr), shape=(len(self.codes), self.n_classes))

    def _trust(self) -> Floats:
        """(n,) how far the neighbors of each point agree with its label."""
        trust = np.zeros(len(self.codes))
        for rows in self.blocks(self.labeled):
            shares = self.shares(rows)
            at = np.arange(len(rows)), self.codes[rows]
            own = shares[at]
            shares[at] = -1
            trust[rows] = 1 / (1 + np.exp(-STEEPNESS * (own - shares.max(axis=1))))
        return np.maximum(trust, LEAST_TRUST)

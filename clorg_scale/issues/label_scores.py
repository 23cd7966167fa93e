r"""Probability of the given label of each point, from two predictors that have not seen it.

The graph: the share g_ic of the affinity of point i that goes to points labeled c, each neighbor weighted by how far
the neighbors agree with its own label (a few rounds of this, so that wrong labels lose their say). The probe: a linear
softmax regression on the other folds of the points (`LinearProbe`). Both are put together by stacking,

    p(c | i) = softmax_c( a log(g_ic + e) + b f_ic ),   a, b >= 0 that make the given labels most probable,

a convex problem in two numbers. Then a second probe learns from the points whose label is the most probable one (a
stronger penalty, wrong labels left out), f becomes .7 of the first and .3 of it, and a and b are fitted again.

So p is a calibrated probability of the *label that is written there*: of the points and classes with p = 0.3, some
three in ten go together. It is not the probability that the label is right: where two classes look alike, right labels
have small p too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.arrays import Array, ClassLabels, Device
from clorg_scale.issues.folds import FOLDS, FoldedProbe
from clorg_scale.issues.graph_votes import BLOCK_NUMBERS, GraphVotes
from clorg_scale.issues.memory import FEWEST_ROWS, Shares
from clorg_scale.progress import progress_bar

__all__ = ["LabelScores", "score_labels"]

PENALTIES = 0.01, 0.1
"""Weight decay of the first probe and of the second: strong, so that single wrong labels do not bend them. Chosen with
the shares, on the test images of the shipped networks and on scikit-learn's digits with wrong labels planted."""

PROBE_SHARES = 0.7, 0.3
"""Shares of the two probes in the logits: the second finds swaps of similar classes better, the first other errors."""

STACKED = 20_000
"""Points that the two weights are fitted on, at most; more would not move them."""

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class LabelScores(NamedTuple):
    """Scores of n points."""

    score: npt.NDArray[np.float32]
    """(n,) probability of the given label; NaN where unlabelled, and where no other point has this label."""
    suggested: Codes
    """(n,) most probable class."""
    suggested_score: npt.NDArray[np.float32]
    """(n,) its probability."""
    is_issue: npt.NDArray[np.bool_]
    """(n,) another class is as probable as it usually is for points that have its label."""
    weights: tuple[float, float]
    """Weight of the graph and of the probe."""


def score_labels(
    points: Array,
    graph: AffinityGraph,
    classes: ClassLabels,
    *,
    seed: int = 0,
    device: Device = "auto",
    memory: Shares | None = None,
    progress: bool = False,
) -> LabelScores:
    """Score the label of every point.

    Parameters
    ----------
    points
        (n, d) as `as_embeddings` returns.
    graph
        Affinity graph of the points.
    classes
        Codes of the points, -1 where unlabelled; two or more classes.
    seed
        Seed of the folds and of samples.
    device
        Where the probe is fitted.
    memory
        Main memory of the scores and of the probe; default: without a limit.
    progress
        Show a progress bar on stderr.
    """
    with progress_bar("label issues", len(PENALTIES) * FOLDS, unit="probes", enabled=progress) as advance:
        n_scores, probe_memory = memory or (BLOCK_NUMBERS, None)
        settings: dict[str, Any] = {"seed": seed, "device": device, "memory_limit": probe_memory, "advance": advance}
        witness = _Witnesses(graph, classes, n_scores)
        witness.probes.append(FoldedProbe.fitted(points, classes, penalty=PENALTIES[0], **settings))
        doubtful = witness.doubtful(witness.stacked(seed))
        witness.probes.append(FoldedProbe.fitted(points, classes, penalty=PENALTIES[1], left_out=doubtful, **settings))
    weights = witness.stacked(seed)
    n = len(classes.codes)
    score = np.full(n, np.nan, dtype=np.float32)
    suggested, best = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.float32)
    sums = np.zeros(len(classes.names))
    for rows in witness.blocks(np.arange(n)):
        p = witness.probabilities(rows, weights)
        at = np.arange(len(rows))
        suggested[rows] = p.argmax(axis=1)
        best[rows] = p[at, suggested[rows]]
        labeled = classes.codes[rows] >= 0
        own = p[at[labeled], classes.codes[rows][labeled]]
        score[rows[labeled]] = own
        sums += np.bincount(classes.codes[rows][labeled], own, len(sums))
    # Confident learning (Northcutt, Jiang, Chuang 2021): a class is claimed by the points that are as sure of it as the
    # points with its label are on average.
    usual = sums / np.maximum(classes.counts, 1)
    is_issue = (classes.codes >= 0) & (suggested != classes.codes) & (best >= usual[suggested])
    alone = (classes.codes >= 0) & (classes.counts[classes.codes] < 2)
    score[alone], is_issue[alone] = np.nan, False
    return LabelScores(score, suggested, best, is_issue, weights)


class _Witnesses:
    """Shares of the graph and logits of the probes, a block of points at a time."""

    def __init__(self, graph: AffinityGraph, classes: ClassLabels, n_scores: int) -> None:
        self.votes = GraphVotes(graph, classes, n_scores=n_scores)
        self.codes, self.counts, self.n_classes = classes.codes, classes.counts, len(classes.names)
        self.labeled, self.blocks = self.votes.labeled, self.votes.blocks
        self.smoothing = 1 / max(2.0 * len(graph.indices) / graph.n_nodes, 2.0)
        self.probes: list[FoldedProbe] = []

    def evidence(self, rows: Codes) -> tuple[Floats, Floats]:
        """(b, C) logarithms of the shares, and logits of the probe."""
        logits = [probe.logits(rows) for probe in self.probes]
        linear = logits[0] if len(logits) == 1 else PROBE_SHARES[0] * logits[0] + PROBE_SHARES[1] * logits[1]
        return np.log(self.votes.shares(rows) + self.smoothing), linear

    def probabilities(self, rows: Codes, weights: tuple[float, float]) -> Floats:
        """(b, C) probability of each class."""
        near, linear = self.evidence(rows)
        found = weights[0] * near + weights[1] * linear
        found -= found.max(axis=1, keepdims=True)
        np.exp(found, out=found)
        found /= found.sum(axis=1, keepdims=True)
        return found

    def doubtful(self, weights: tuple[float, float]) -> npt.NDArray[np.bool_]:
        """(n,) labels that are not the most probable ones; none of a class that would be left with too few points."""
        found = np.zeros(len(self.codes), dtype=bool)
        for rows in self.blocks(self.labeled):
            found[rows] = self.probabilities(rows, weights).argmax(axis=1) != self.codes[rows]
        left = self.counts - np.bincount(self.codes[found], minlength=self.n_classes)
        found[self.labeled] &= (left >= np.minimum(self.counts, FOLDS))[self.codes[self.labeled]]
        return found

    def stacked(self, seed: int) -> tuple[float, float]:
        """Weights of graph and probe that minimize the cross-entropy of the given labels."""
        from scipy.optimize import minimize

        rows = self.labeled
        most = max(FEWEST_ROWS, min(STACKED, 2 * self.votes.n_scores // self.n_classes))
        if len(rows) > most:
            rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
        near, linear = self.evidence(rows)
        at = np.arange(len(rows)), self.codes[rows]

        def loss(weights: Floats) -> tuple[float, Floats]:
            logits = weights[0] * near + weights[1] * linear
            logits -= logits.max(axis=1, keepdims=True)
            p = np.exp(logits)
            total = p.sum(axis=1, keepdims=True)
            p /= total
            gradient = [float(((p * part).sum(axis=1) - part[at]).mean()) for part in (near, linear)]
            return float((np.log(total[:, 0]) - logits[at]).mean()), np.array(gradient)

        found = minimize(loss, np.array([0.5, 0.5]), jac=True, method="L-BFGS-B", bounds=[(0, None), (0, None)])
        return float(found.x[0]), float(found.x[1])

"""Labels spread over a graph where each node keeps the scores of few classes only.

Of the n x C scores Y <- alpha S Y + (1 - alpha) Y0 a node keeps the `KEPT` highest. What it drops is counted: with
drop_i the highest score dropped at node i, the iteration

    m_i <- alpha sum_j S_ij m_j + drop_i

bounds from above what any one class's score at i lacks, as S is nonnegative. A node whose best score exceeds its second
by more than m_i therefore has the class that all scores would give it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.numerics.compiler import njit

__all__ = ["BYTES_PER_NODE", "KEPT", "KeptScores", "certain", "empty_scores", "spread_once"]

KEPT = 16
"""Classes whose scores a node keeps. Among 15 neighbors' labels there are at most 15 classes."""

CHUNK = 4096
"""Nodes that one thread takes at a time."""

BYTES_PER_NODE = 2 * (8 * KEPT + 4)
"""Memory of one step: the scores before and after."""


class KeptScores(NamedTuple):
    """Scores of few classes of each node.

    Attributes
    ----------
    classes
        (n, KEPT) int32, by descending score; -1 where there are fewer.
    scores
        (n, KEPT) float32.
    missing
        (n,) float32, the most that any class's score at a node may lack.
    """

    classes: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    missing: npt.NDArray[np.float32]


class Edges(NamedTuple):
    """Rows of S and the class codes of the nodes whose labels are shown, for compiled code."""

    indptr: npt.NDArray[np.integer]
    indices: npt.NDArray[np.integer]
    weights: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64]


def empty_scores(n: int) -> KeptScores:
    """No scores of n nodes."""
    return KeptScores(np.full((n, KEPT), -1, np.int32), np.zeros((n, KEPT), np.float32), np.zeros(n, np.float32))


def spread_once(edges: Edges, alpha: float, n_classes: int, before: KeptScores, after: KeptScores) -> float:
    """Write the scores after one step; returns the largest change of a score that is kept before and after."""
    changes = np.zeros(-(-len(edges.codes) // CHUNK), dtype=np.float32)
    _spread(edges, np.float32(alpha), n_classes, before, after, changes)
    return float(changes.max())


def certain(kept: KeptScores) -> npt.NDArray[np.bool_]:
    """(n,) whether the best class of a node is the one that all scores would give it."""
    return np.asarray(kept.scores[:, 0] - kept.scores[:, 1] > kept.missing)


@njit(parallel=True, cache=True, nogil=True)
def _spread(edges, alpha, n_classes, before, after, changes):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, PLR0917
    n = len(edges.codes)
    for chunk in prange(len(changes)):
        sums, touched = np.zeros(n_classes, np.float32), np.empty(n_classes, np.int32)
        largest = np.float32(0)
        for node in range(chunk * CHUNK, min((chunk + 1) * CHUNK, n)):
            n_touched, missing = _collect(edges, node, before, sums, touched)
            for place in range(n_touched):
                sums[touched[place]] *= alpha
            own = edges.codes[node]
            if own >= 0:
                if sums[own] == 0:
                    touched[n_touched] = own
                    n_touched += 1
                sums[own] += np.float32(1) - alpha
            dropped = _keep_best(sums, touched[:n_touched], after.classes[node], after.scores[node])
            after.missing[node] = alpha * missing + dropped
            largest = max(largest, _change(sums, node, before, after))
            for place in range(n_touched):
                sums[touched[place]] = 0
        changes[chunk] = largest


@njit(nogil=True)
def _collect(edges, node, before, sums, touched):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Add up the neighbors' scores by class; returns the number of classes and what the neighbors lack."""
    n_touched, missing = 0, np.float32(0)
    for entry in range(edges.indptr[node], edges.indptr[node + 1]):
        neighbor, weight = edges.indices[entry], edges.weights[entry]
        missing += weight * before.missing[neighbor]
        for place in range(before.classes.shape[1]):
            number = before.classes[neighbor, place]
            if number < 0:
                break
            score = weight * before.scores[neighbor, place]
            if score > 0:
                if sums[number] == 0:
                    touched[n_touched] = number
                    n_touched += 1
                sums[number] += score
    return n_touched, missing


@njit(nogil=True)
def _keep_best(sums, touched, classes, scores):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write the highest scores, the first class of equal ones; returns the highest one left out."""
    width, n_kept, dropped = len(classes), 0, np.float32(0)
    for number in touched:
        score = sums[number]
        if n_kept == width:
            last = width - 1
            if score < scores[last] or (score == scores[last] and number > classes[last]):
                dropped = max(dropped, score)
                continue
            dropped = max(dropped, scores[last])
            n_kept -= 1
        place = n_kept
        while place > 0 and (scores[place - 1] < score or (scores[place - 1] == score and classes[place - 1] > number)):
            scores[place], classes[place] = scores[place - 1], classes[place - 1]
            place -= 1
        scores[place], classes[place] = score, number
        n_kept += 1
    scores[n_kept:] = 0
    classes[n_kept:] = -1
    return dropped


@njit(nogil=True)
def _change(sums, node, before, after):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Largest change of the scores of a node; one that enters was at most the lowest one kept before."""
    width = before.classes.shape[1]
    lowest = before.scores[node, width - 1]
    largest = np.float32(0)
    for place in range(width):
        number = after.classes[node, place]
        if number < 0:
            break
        score, earlier = after.scores[node, place], lowest
        for old in range(width):
            if before.classes[node, old] == number:
                earlier = before.scores[node, old]
                break
        largest = max(largest, abs(score - earlier))
    return largest

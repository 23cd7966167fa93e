"""Labels spread over a graph where each node keeps the scores of few classes only.

The fixed point of Y <- alpha S Y + (1 - alpha) Y0 is sought by the Chebyshev semi-iteration

    Y_new = omega (alpha S Y + (1 - alpha) Y0) + (1 - omega) Y_old,

as the eigenvalues of alpha S lie between -alpha and alpha: at alpha = .95 an error shrinks by .72 a step, not .95.
Of the n x C scores a node keeps the highest. What that and the end of the iteration leave out is bounded afterwards,
from the residual R = alpha S Y + (1 - alpha) Y0 - Y of all classes: as S is nonnegative, no class's true score at node
i lies more than

    e_i,    e = alpha S e + max over classes of R,

above the one kept (0 if it was not kept), nor more than the same of -R below. A node whose best score exceeds its
second by more than both bounds together therefore has the class that all scores would give it.

A step reads the row of each neighbor, one or two cache lines, and adds its entries up by class in a table that stays in
cache. Nodes are put in the order of their likely class first, so that most neighbors' rows are in cache, too.

References
----------
Golub, Varga, Chebyshev semi-iterative methods, successive overrelaxation iterative methods, and second order Richardson
iterative methods, Numerische Mathematik 3, 1961.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.numerics.compiler import njit

__all__ = [
    "BYTES_PER_EDGE",
    "BYTES_PER_NODE",
    "KEPT",
    "KEPT_FOR_ALPHA",
    "Chebyshev",
    "Edges",
    "KeptScores",
    "bound_errors",
    "ordered",
    "spread_once",
]

KEPT, KEPT_FOR_ALPHA = 15, 7
"""Classes whose scores a node keeps, and while alpha is chosen: rows of two cache lines, and of one. The labels of 15
neighbors are of 15 classes at most."""

CHUNK = 4096
"""Nodes that one thread takes at a time."""

BYTES_PER_NODE = 4 * (2 * (2 * KEPT + 2) + (2 * KEPT_FOR_ALPHA + 2)) + 64
"""Memory of one step: the scores before and after, those that it all started from, the nodes' order and bounds."""

BYTES_PER_EDGE = 8
"""Memory of the edges in another order."""

BOUND_STEPS, BOUND_TOLERANCE = 50, 1e-4
"""Most steps to the bounds of the errors, and change, as a share of the largest, after which there are no more."""


class KeptScores:
    """Scores of few classes of each node.

    Parameters
    ----------
    n
        Nodes.
    kept
        Classes kept of each.

    Attributes
    ----------
    rows
        (n, 2 kept + 2) float32: score and class in turns, by descending score, zeros where there are fewer; then the
        most that any class's true score may be above and below.
    """

    def __init__(self, n: int, kept: int = KEPT) -> None:
        width = 2 * kept + 2
        buffer = np.zeros(n * width + 32, dtype=np.float32)
        offset = -(buffer.ctypes.data // 4) % 32  # rows begin at cache lines
        self.kept = kept
        self.rows: npt.NDArray[np.float32] = buffer[offset : offset + n * width].reshape(n, width)

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(n, kept) scores."""
        return self.rows[:, 0 : 2 * self.kept : 2]

    @property
    def classes(self) -> npt.NDArray[np.float32]:
        """(n, kept) class codes."""
        return self.rows[:, 1 : 2 * self.kept : 2]

    @property
    def above(self) -> npt.NDArray[np.float32]:
        """(n,) most that any class's true score at a node may lie above the one kept, or above 0."""
        return self.rows[:, -2]

    @property
    def below(self) -> npt.NDArray[np.float32]:
        """(n,) most that any class's true score at a node may lie below the one kept."""
        return self.rows[:, -1]

    def best(self, otherwise: int) -> npt.NDArray[np.int64]:
        """(n,) class with the highest score; another one where no label arrives."""
        return np.where(self.rows[:, 0] > 0, self.rows[:, 1], otherwise).astype(np.int64)

    def certain(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the best class of a node is the one that all scores would give it."""
        unreached = (self.rows[:, 0] == 0) & (self.above == 0)
        return np.asarray((self.rows[:, 0] - self.rows[:, 2] > self.above + self.below) | unreached)

    def dense(self, wanted: npt.NDArray[np.int64], n_classes: int) -> npt.NDArray[np.float32]:
        """(m, C) scores of some nodes, 0 for the classes that were not kept."""
        scores, classes = self.scores[wanted], self.classes[wanted].astype(np.int64)
        nodes, positions = np.nonzero(scores > 0)
        found = np.zeros((len(wanted), n_classes), dtype=np.float32)
        found[nodes, classes[nodes, positions]] = scores[nodes, positions]
        return found

    def widened(self, kept: int) -> KeptScores:
        """The same scores with room for those of more classes."""
        wider = KeptScores(len(self.rows), kept)
        wider.rows[:, : 2 * self.kept] = self.rows[:, : 2 * self.kept]
        return wider

    def taken(self, nodes: npt.NDArray[np.int64]) -> KeptScores:
        """The scores of nodes in another order."""
        moved = KeptScores(len(nodes), self.kept)
        np.take(self.rows, nodes, axis=0, out=moved.rows, mode="clip")  # others buffer the result
        return moved


class Edges(NamedTuple):
    """Rows of S and the class codes of the nodes whose labels are shown, for compiled code."""

    indptr: npt.NDArray[np.integer]
    indices: npt.NDArray[np.integer]
    weights: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64]


class Chebyshev:
    """Weights of the steps of one iteration, and bounds on what remains of it."""

    def __init__(self, alpha: float) -> None:
        self.alpha, self._omega = alpha, 0.0
        self.rate: float = alpha / (1 + (1 - alpha**2) ** 0.5)

    def next_weight(self) -> float:
        """Omega of the next step."""
        if self._omega == 0:
            self._omega = 1.0
        elif self._omega == 1:
            self._omega = 1 / (1 - self.alpha**2 / 2)
        else:
            self._omega = 1 / (1 - self.alpha**2 * self._omega / 4)
        return float(self._omega)

    def needed(self, tolerance: float) -> int:
        """Steps after which an error is at most this share of the first one."""
        return max(1, 1 + math.ceil(math.log(tolerance / 2) / math.log(self.rate)))

    def remaining(self, change: float) -> float:
        """Bound on all later changes together, if changes shrink by `rate` a step."""
        return change * self.rate / (1 - self.rate)


def ordered(edges: Edges, order: npt.NDArray[np.int64]) -> Edges:
    """The same graph, its nodes in another order; a node's entries keep theirs, and so their sums their rounding."""
    lengths = np.diff(edges.indptr)[order]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(edges.indptr.dtype)
    positions = np.empty(len(order), dtype=edges.indices.dtype)
    positions[order] = np.arange(len(order), dtype=positions.dtype)
    indices, weights = np.empty_like(edges.indices), np.empty_like(edges.weights)
    _move_entries(edges, (order, positions, indptr), indices, weights)
    return Edges(indptr, indices, weights, edges.codes[order])


@njit(parallel=True, cache=True, nogil=True)
def _move_entries(edges, moves, indices, weights):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    # What is written stands alone: Numba drops stores to arrays within tuples as dead.
    order, positions, indptr = moves
    for node in prange(len(order)):
        offset = indptr[node] - edges.indptr[order[node]]
        for entry in range(edges.indptr[order[node]], edges.indptr[order[node] + 1]):
            indices[entry + offset] = positions[edges.indices[entry]]
            weights[entry + offset] = edges.weights[entry]


def spread_once(
    edges: Edges, alpha: float, n_classes: int, scores: tuple[KeptScores, KeptScores], omega: float = 1.0
) -> float:
    """Write the scores after one step over those of a step before; returns the largest change of a node's best score.

    The lowest scores kept never come to rest: which of nearly equal ones is dropped changes from step to step.

    Parameters
    ----------
    edges, alpha, n_classes
        The graph, the share of the neighborhood, the number of classes.
    scores
        The present ones, and those of the step before them, which are replaced by the new ones.
    omega
        Weight of the step; 1: that of the plain iteration, for which the older scores do not matter.
    """
    present, older = scores
    changes = np.zeros(-(-len(edges.codes) // CHUNK), dtype=np.float32)
    weights = np.float32(omega * alpha), np.float32(omega * (1 - alpha)), np.float32(1 - omega)
    _spread(edges, weights, n_classes, present.rows, older.rows, changes)
    return float(changes.max())


@njit(parallel=True, cache=True, nogil=True)
def _spread(edges, weights, n_classes, before, after, changes):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, PLR0917
    n = len(edges.codes)
    of_neighbors, of_label, of_older = weights
    end = before.shape[1] - 2
    for chunk in prange(len(changes)):
        sums, touched = np.zeros(n_classes, np.float32), np.empty(n_classes + 1, np.int32)
        largest = np.float32(0)
        for node in range(chunk * CHUNK, min((chunk + 1) * CHUNK, n)):
            n_touched = _collect(edges, node, of_neighbors, before, sums, touched)
            n_touched = _add_label(edges.codes[node], of_label, sums, touched, n_touched)
            if of_older != 0:
                for position in range(0, end, 2):
                    number = int(after[node, position + 1])
                    if after[node, position] > 0 and sums[number] > 0:  # else it would fall below 0
                        sums[number] += of_older * after[node, position]
            _keep_best(sums, touched[:n_touched], after[node])
            largest = max(largest, abs(after[node, 0] - before[node, 0]))
            for position in range(n_touched):
                sums[touched[position]] = 0
        changes[chunk] = largest


@njit(nogil=True)
def _collect(edges, node, factor, before, sums, touched):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, PLR0917
    """Add up the neighbors' scores by class; returns the number of classes."""
    n_touched, end = 0, before.shape[1] - 2
    for entry in range(edges.indptr[node], edges.indptr[node + 1]):
        neighbor, weight = edges.indices[entry], factor * edges.weights[entry]
        for position in range(0, end, 2):
            score = weight * before[neighbor, position]
            if score <= 0:
                break
            number = int(before[neighbor, position + 1])
            touched[n_touched] = number
            n_touched += sums[number] == 0  # no branch: which class comes cannot be foreseen
            sums[number] += score
    return n_touched


@njit(nogil=True)
def _add_label(own, share, sums, touched, n_touched):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202,
    """Add the node's own label, if it has one; returns the number of classes."""
    if own >= 0:
        touched[n_touched] = own
        n_touched += sums[own] == 0
        sums[own] += share
    return n_touched


@njit(nogil=True)
def _keep_best(sums, touched, row):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write the highest scores, the first class of equal ones."""
    end, full = 0, len(row) - 2
    for number in touched:
        score = sums[number]
        if score <= 0:
            continue
        if end == full:
            lowest = row[full - 2]
            if score < lowest or (score == lowest and number > row[full - 1]):
                continue
            end -= 2
        position = end
        while position > 0 and (
            row[position - 2] < score or (row[position - 2] == score and row[position - 1] > number)
        ):
            row[position], row[position + 1] = row[position - 2], row[position - 1]
            position -= 2
        row[position], row[position + 1] = score, number
        end += 2
    row[end:full] = 0


def bound_errors(
    edges: Edges, alpha: float, n_classes: int, scores: KeptScores, roots: npt.NDArray[np.floating]
) -> None:
    """Write `above` and `below` of the scores, from their residuals.

    Parameters
    ----------
    edges, alpha, n_classes
        As of `spread_once`.
    scores
        What the iteration ended with.
    roots
        (n,) roots v of the degrees, 1 where they are 0. As S v = v, nothing that is at most c v makes more than
        c v / (1 - alpha): so is bounded what the solution for e still lacks.
    """
    from scipy.sparse import csr_matrix

    n = len(edges.codes)
    residuals = np.zeros((n, 2), dtype=np.float32)
    _largest_residuals(edges, (np.float32(alpha), np.float32(1 - alpha)), n_classes, scores.rows, residuals)
    S = csr_matrix((edges.weights, edges.indices, edges.indptr), shape=(n, n))
    steps = Chebyshev(alpha)
    older, errors = np.zeros_like(residuals), residuals.copy()
    steps.next_weight()  # the first step, from 0
    for _ in range(BOUND_STEPS):
        omega = np.float32(steps.next_weight())
        older *= 1 - omega
        older += omega * (np.float32(alpha) * (S @ errors) + residuals)
        older, errors = errors, older
        if np.abs(errors - older).max(initial=0) <= BOUND_TOLERANCE * errors.max(initial=0):
            break
    lacking = np.maximum(np.float32(alpha) * (S @ errors) + residuals - errors, 0)
    errors += roots[:, None] * ((lacking / roots[:, None]).max(axis=0, initial=0) / (1 - alpha))
    scores.rows[:, -2:] = errors


@njit(parallel=True, cache=True, nogil=True)
def _largest_residuals(edges, weights, n_classes, rows, residuals):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Largest residual above and below 0 of each node's scores, over all classes."""
    n, end = len(edges.codes), rows.shape[1] - 2
    for chunk in prange(-(-n // CHUNK)):
        sums, touched = np.zeros(n_classes, np.float32), np.empty(n_classes + 1, np.int32)
        for node in range(chunk * CHUNK, min((chunk + 1) * CHUNK, n)):
            n_touched = _collect(edges, node, weights[0], rows, sums, touched)
            n_touched = _add_label(edges.codes[node], weights[1], sums, touched, n_touched)
            for position in range(0, end, 2):
                if rows[node, position] > 0:
                    number = int(rows[node, position + 1])
                    sums[number] -= rows[node, position]
                    residuals[node, 0] = max(residuals[node, 0], sums[number])
                    residuals[node, 1] = max(residuals[node, 1], -sums[number])
                    sums[number] = 0
            for position in range(n_touched):
                residuals[node, 0] = max(residuals[node, 0], sums[touched[position]])
                sums[touched[position]] = 0

"""Labels spread over a graph where each node keeps the scores of few classes only.

Of the n x C scores Y <- alpha S Y + (1 - alpha) Y0 a node keeps the `KEPT` highest. What it drops is counted: with
drop_i the highest score dropped at node i, the iteration

    m_i <- alpha sum_j S_ij m_j + drop_i

bounds from above what any one class's score at i lacks, as S is nonnegative. A node whose best score exceeds its second
by more than m_i therefore has the class that all scores would give it.

A step reads the row of each neighbor, 128 bytes at a random place, and adds its entries up by class in a table that
stays in cache: it is bound by the latency of memory, whatever the number of classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.numerics.compiler import njit

__all__ = ["BYTES_PER_NODE", "KEPT", "Edges", "KeptScores", "spread_once"]

KEPT = 15
"""Classes whose scores a node keeps. Among 15 neighbors' labels there are at most 15 classes."""

WIDTH, MISSING = 32, 2 * KEPT
"""Numbers in the row of a node, two cache lines, and where `missing` stands among them."""

CHUNK = 4096
"""Nodes that one thread takes at a time."""

BYTES_PER_NODE = 2 * 4 * WIDTH
"""Memory of one step: the scores before and after."""


class KeptScores:
    """Scores of few classes of each node.

    Attributes
    ----------
    rows
        (n, 32) float32: score and class in turns, by descending score, zeros where there are fewer; then the most that
        any class's score may lack.
    """

    def __init__(self, n: int) -> None:
        buffer = np.zeros(n * WIDTH + WIDTH, dtype=np.float32)
        offset = -(buffer.ctypes.data // 4) % WIDTH  # rows begin at cache lines
        self.rows: npt.NDArray[np.float32] = buffer[offset : offset + n * WIDTH].reshape(n, WIDTH)

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """(n, KEPT) scores."""
        return self.rows[:, 0 : 2 * KEPT : 2]

    @property
    def classes(self) -> npt.NDArray[np.float32]:
        """(n, KEPT) class codes."""
        return self.rows[:, 1 : 2 * KEPT : 2]

    @property
    def missing(self) -> npt.NDArray[np.float32]:
        """(n,) most that any class's score at a node may lack."""
        return self.rows[:, MISSING]

    def best(self, otherwise: int) -> npt.NDArray[np.int64]:
        """(n,) class with the highest score; another one where no label arrives."""
        return np.where(self.rows[:, 0] > 0, self.rows[:, 1], otherwise).astype(np.int64)

    def certain(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the best class of a node is the one that all scores would give it."""
        unreached = (self.rows[:, 0] == 0) & (self.missing == 0)
        return np.asarray((self.rows[:, 0] - self.rows[:, 2] > self.missing) | unreached)

    def dense(self, wanted: npt.NDArray[np.int64], n_classes: int) -> npt.NDArray[np.float32]:
        """(m, C) scores of some nodes, 0 for the classes that were not kept."""
        scores, classes = self.scores[wanted], self.classes[wanted].astype(np.int64)
        nodes, places = np.nonzero(scores > 0)
        found = np.zeros((len(wanted), n_classes), dtype=np.float32)
        found[nodes, classes[nodes, places]] = scores[nodes, places]
        return found


class Edges(NamedTuple):
    """Rows of S and the class codes of the nodes whose labels are shown, for compiled code."""

    indptr: npt.NDArray[np.integer]
    indices: npt.NDArray[np.integer]
    weights: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64]


def spread_once(edges: Edges, alpha: float, n_classes: int, before: KeptScores, after: KeptScores) -> float:
    """Write the scores after one step; returns the largest change of a score."""
    changes = np.zeros(-(-len(edges.codes) // CHUNK), dtype=np.float32)
    _spread(edges, np.float32(alpha), n_classes, before.rows, after.rows, changes)
    return float(changes.max())


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
            dropped = _keep_best(sums, touched[:n_touched], after[node])
            after[node, MISSING] = alpha * missing + dropped
            largest = max(largest, _change(sums, before[node], after[node]))
            for place in range(n_touched):
                sums[touched[place]] = 0
        changes[chunk] = largest


@njit(nogil=True)
def _collect(edges, node, before, sums, touched):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Add up the neighbors' scores by class; returns the number of classes and what the neighbors lack."""
    n_touched, missing = 0, np.float32(0)
    for entry in range(edges.indptr[node], edges.indptr[node + 1]):
        neighbor, weight = edges.indices[entry], edges.weights[entry]
        missing += weight * before[neighbor, MISSING]
        for place in range(0, MISSING, 2):
            score = weight * before[neighbor, place]
            if score <= 0:
                break
            number = int(before[neighbor, place + 1])
            if sums[number] == 0:
                touched[n_touched] = number
                n_touched += 1
            sums[number] += score
    return n_touched, missing


@njit(nogil=True)
def _keep_best(sums, touched, row):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write the highest scores, the first class of equal ones; returns the highest one left out."""
    end, dropped = 0, np.float32(0)
    for number in touched:
        score = sums[number]
        if end == MISSING:
            lowest = row[MISSING - 2]
            if score < lowest or (score == lowest and number > row[MISSING - 1]):
                dropped = max(dropped, score)
                continue
            dropped = max(dropped, lowest)
            end -= 2
        place = end
        while place > 0 and (row[place - 2] < score or (row[place - 2] == score and row[place - 1] > number)):
            row[place], row[place + 1] = row[place - 2], row[place - 1]
            place -= 2
        row[place], row[place + 1] = score, number
        end += 2
    row[end:MISSING] = 0
    return dropped


@njit(nogil=True)
def _change(sums, before, after):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Largest change of the scores of a node; one that enters was at most the lowest one kept before.

    Leaves 0 in `sums` for the classes kept before.
    """
    largest, lowest = np.float32(0), before[MISSING - 2]
    for place in range(0, MISSING, 2):
        if before[place] == 0:
            break
        number = int(before[place + 1])
        largest = max(largest, abs(sums[number] - before[place]))
        sums[number] = -1  # was kept before
    for place in range(0, MISSING, 2):
        if after[place] == 0:
            break
        if sums[int(after[place + 1])] > 0:
            largest = max(largest, after[place] - lowest)
    for place in range(0, MISSING, 2):
        if before[place] == 0:
            break
        sums[int(before[place + 1])] = 0
    return largest

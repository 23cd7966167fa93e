"""Label propagation with the scores of few classes a node: its alpha, its iteration, its bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from clorg_scale.probes.splits import stratified_hold_out
from clorg_scale.probes.truncated import (
    KEPT,
    KEPT_FOR_ALPHA,
    Chebyshev,
    Edges,
    KeptScores,
    bound_errors,
    ordered,
    spread_once,
)
from clorg_scale.progress import Advance

__all__ = ["FewScores"]

SETTLED = 1e-3
"""Alpha is chosen by iterations that end once two steps in turn change the accuracy on held-out nodes by less."""


class FewScores:
    """Spreads labels over a graph in main memory.

    Parameters
    ----------
    edges
        Rows of S, and the class codes of the labeled nodes, -1 for the others.
    n_classes
        Number of classes.
    tolerance, most
        The iteration ends once no node's best score has more to come than this share of the highest, and after so many
        steps at the latest.
    steps_shown
        Progress of the steps with one alpha, from it and their number.
    """

    def __init__(
        self,
        edges: Edges,
        n_classes: int,
        tolerance: float,
        most: int,
        steps_shown: Callable[[float, int], AbstractContextManager[Advance]],
    ) -> None:
        self._n_classes, self._tolerance, self._most, self._steps_shown = n_classes, tolerance, most, steps_shown
        self._order = self._by_likely_class(edges)
        self._edges = ordered(edges, self._order)

    def _by_likely_class(self, edges: Edges) -> npt.NDArray[np.int64]:
        """Order of the nodes in which most neighbors are near each other."""
        n = len(edges.codes)
        present, older = KeptScores(n, 1), KeptScores(n, 1)
        for _ in range(2):  # labels reach the neighbors, then the neighbors' neighbors
            spread_once(edges, 0.5, self._n_classes, (present, older))
            present, older = older, present
        return np.argsort(present.best(otherwise=self._n_classes), kind="stable")

    def fit(self, alphas: Sequence[float], roots: npt.NDArray[np.float64], seed: int) -> tuple[KeptScores, float, int]:
        """The scores, with their bounds; the alpha taken; the number of steps made with it.

        Parameters
        ----------
        alphas
            The one to take, or those to choose from, in ascending order.
        roots
            (n,) roots of the degrees, 1 where they are 0.
        seed
            Seed of the nodes held out for the choice.
        """
        alpha, start = (alphas[0], None) if len(alphas) == 1 else self._choose(alphas, seed)
        kept, n_steps = self._spread(self._edges, alpha, KEPT, start)
        del start
        bound_errors(self._edges, alpha, self._n_classes, kept, roots[self._order])
        positions = np.empty_like(self._order)
        positions[self._order] = np.arange(len(positions))
        return kept.taken(positions), alpha, n_steps

    def _choose(self, alphas: Sequence[float], seed: int) -> tuple[float, KeptScores | None]:
        """Choose the alpha that best predicts a tenth of the labeled nodes.

        From the third of them on larger ones are tried as long as they do better, and smaller ones if none did.
        Returns it, and scores from which the labels of all labeled nodes can go on.
        """
        codes = self._edges.codes
        shown_nodes, held_out = stratified_hold_out(codes, 0.1, np.random.default_rng(seed))
        if len(held_out) == 0:
            return alphas[len(alphas) // 2], None
        shown = np.full_like(codes, -1)
        shown[shown_nodes] = codes[shown_nodes]
        edges = self._edges._replace(codes=shown)
        best, most, scores = alphas[0], -1, None
        first = min(2, len(alphas) - 1)
        for direction in (alphas[first:], alphas[:first][::-1]):
            for alpha in direction:
                # The solution for one alpha is near that for the next.
                watch = _Accuracy(held_out, codes[held_out])
                scores, _ = self._spread(edges, alpha, KEPT_FOR_ALPHA, scores, watch)
                if watch.correct[-1] <= most:
                    break
                best, most = alpha, watch.correct[-1]
            if best != alphas[first]:
                break
        return best, scores

    def _spread(
        self, edges: Edges, alpha: float, kept: int, start: KeptScores | None, watch: _Accuracy | None = None
    ) -> tuple[KeptScores, int]:
        """Iterate to the fixed point, or until the accuracy watched settles; returns the number of steps too."""
        n, done, steps = len(edges.codes), 0, Chebyshev(alpha)
        # More steps would not come nearer: what is left then comes from the scores that are dropped.
        most = min(int(self._most), steps.needed(self._tolerance))
        scores = KeptScores(n, kept) if start is None else start if start.kept == kept else start.widened(kept)
        spare = KeptScores(n, kept)
        with self._steps_shown(alpha, most) as advance:
            while done < most:
                done += 1
                change = spread_once(edges, alpha, self._n_classes, (scores, spare), steps.next_weight())
                scores, spare = spare, scores
                advance(1)
                if watch is not None:
                    if watch.settled(scores):
                        break
                elif steps.remaining(change) <= self._tolerance * float(scores.rows[:, 0].max()):
                    break
        return scores, done


class _Accuracy:
    """Numbers of nodes with the right class, step after step.

    Parameters
    ----------
    nodes, truth
        (m,) numbers of the nodes, and their class codes.
    """

    def __init__(self, nodes: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> None:
        self._nodes, self._truth = nodes, truth
        self.correct: list[int] = []

    def settled(self, scores: KeptScores) -> bool:
        """Take a step in; returns whether it and the one before changed little."""
        rows = scores.rows[self._nodes, :2]
        self.correct.append(int(np.count_nonzero((rows[:, 1] == self._truth) & (rows[:, 0] > 0))))
        changes = np.abs(np.diff(self.correct[-3:]))
        return len(changes) == 2 and bool(changes.max() <= SETTLED * len(self._nodes))

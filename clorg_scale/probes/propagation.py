"""Label propagation: labels spread along the edges of the graph, with nothing to train."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity.scaling import inverse_roots, scaled_weights, sums_of_rows
from clorg_scale.arrays import UNLABELLED, Array, ClassLabels, array_module, on_host, row_slices
from clorg_scale.arrays.memory import in_bytes
from clorg_scale.errors import InputError
from clorg_scale.probes.memory import memory_allowed
from clorg_scale.probes.parameters import Parameters, check_fitted
from clorg_scale.probes.settings import check_number, check_whole
from clorg_scale.probes.splits import stratified_hold_out
from clorg_scale.probes.transductive import masked_accuracy, node_numbers, read_graph, training_codes
from clorg_scale.progress import Advance, progress_bar

if TYPE_CHECKING:
    from clorg_scale.probes.truncated import KeptScores

__all__ = ["ALPHAS", "LabelPropagationProbe", "chosen_scores", "memory_needed"]

ALPHAS = (0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95)
"""Candidates of `alpha="auto"`."""

SCORE_BYTES = 128 << 20
"""Size of the scores (n, classes) of one block of classes; labels are spread for one block after the other."""

LARGE_SCORES, MANY_CLASSES = 16 << 20, 30
"""Scores (n, classes), in bytes, and number of classes above which a node keeps few scores by default."""

BLOCK_ARRAYS = 4
"""Arrays of the size of a block of scores that exist at once."""


class LabelPropagationProbe(Parameters):
    """Learning with local and global consistency (Zhou et al. 2004).

    With S = D^-1/2 A D^-1/2 and Y0 the one-hot labels of the training nodes (zero elsewhere), iterates

        Y <- alpha S Y + (1 - alpha) Y0,    which converges to (1 - alpha) (I - alpha S)^-1 Y0.

    Chosen over the clamped iteration of Zhu and Ghahramani (2002) because a training node's own label may be
    outvoted by its neighborhood, so single wrong labels do little harm, and because it converges at the
    known rate alpha, also on parts of the graph that hold no training node.

    Parameters
    ----------
    alpha
        Share of the neighborhood, 0 < alpha < 1; nearer 1, labels travel farther, which pays where few
        nodes are labeled. ``"auto"`` takes the one of `ALPHAS` that best predicts a stratified tenth of the
        training nodes from the others.
    tolerance
        Iteration stops when no entry of Y, or of a block of its columns where it is large, changes by more than this
        share of its largest entry; with ``scores="best"`` no node's best score.
    max_iterations
        Iteration stops here at the latest.
    scores
        ``"all"``: the scores of every node for every class, some classes at a time. ``"best"``: each node keeps its 15
        highest scores in each iteration, so that an iteration costs the same however many classes there are
        (`clorg_scale.probes.truncated`); `certain_share_` says for how many nodes neither this nor the end of the
        iteration can change the class.
        ``"auto"`` keeps all where they take less than 16 MB, of few classes, or on a GPU.
    seed
        Seed of the choice of that tenth.
    memory_limit
        Bytes that may be taken beside the graph, or text such as ``"4GB"``; default: what is free.
    progress
        Show a progress bar.
    unlabelled
        The label of nodes without a class; None: every label, -1 too, is a class.

    Attributes
    ----------
    classes_
        (C,) class labels.
    alpha_
        The alpha taken.
    n_iterations_
        Iterations made with it; the most of any block of classes.
    scores_
        ``"all"`` or ``"best"``, whichever was taken.
    certain_share_
        Share of the nodes whose class is proven to be that of all scores, whatever scores were dropped; 1 with
        ``scores="all"``.
    memory_needed_
        Bytes of main memory (with a graph on a GPU: of its memory) that it was predicted to take.

    References
    ----------
    Zhou, Bousquet, Lal, Weston, Schölkopf, Learning with local and global consistency, NIPS 2003.
    """

    n_parameters = 0

    def __init__(
        self,
        *,
        alpha: float | Literal["auto"] = "auto",
        tolerance: float = 1e-4,
        max_iterations: int = 200,
        scores: Literal["auto", "all", "best"] = "auto",
        seed: int = 0,
        memory_limit: str | int | None = None,
        progress: bool = False,
        unlabelled: int | str | None = UNLABELLED,
    ) -> None:
        self.alpha = alpha
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.scores = scores
        self.seed = seed
        self.memory_limit = memory_limit
        self.progress = progress
        self.unlabelled = unlabelled

    def fit(self, graph: Any, labels: Any, train_mask: Any) -> LabelPropagationProbe:
        """Spread the labels of the training nodes over the graph.

        Parameters
        ----------
        graph
            `AffinityGraph` or SciPy sparse matrix over all n nodes, symmetric, weights at least 0.
        labels
            (n,) class labels; only those of training nodes are used.
        train_mask
            (n,) booleans, True for training nodes.

        Raises
        ------
        InputError
            If graph, labels and mask do not fit together, there is no training node, a class has none, or a setting is
            out of range.
        """
        if self.alpha != "auto" and not (isinstance(self.alpha, (int, float)) and 0 < self.alpha < 1):
            raise InputError(f"alpha must lie between 0 and 1 or be 'auto', not {self.alpha!r}.")
        check_number("tolerance", self.tolerance, "positive", lambda tolerance: tolerance > 0)
        check_whole("max_iterations", self.max_iterations, least=1)
        check_whole("seed", self.seed, least=0)
        if self.scores not in ("auto", "all", "best"):
            raise InputError(f"scores must be 'auto', 'all' or 'best', not {self.scores!r}.")
        indptr, indices, weights = read_graph(graph)
        labels = training_codes(labels, train_mask, len(indptr) - 1, self.unlabelled)
        xp = array_module(weights)
        self.scores_ = self._chosen_scores(labels, xp)
        self.memory_needed_ = self._check_memory(len(weights), labels, xp)
        self.classes_, self.certain_share_ = labels.names, 1.0
        self._prior = labels.counts / labels.counts.sum()
        self._labels, self._scores = labels, None
        self._kept: KeptScores | None = None
        inverse = inverse_roots(sums_of_rows(indptr, weights))
        adjacency = _normalized_adjacency(indptr, indices, weights, inverse)
        if self.scores_ == "best":
            self._fit_best(adjacency, labels, 1 / np.where(inverse > 0, inverse, 1))
            return self
        self.alpha_ = self._best_alpha(adjacency, labels, xp) if self.alpha == "auto" else float(self.alpha)
        self._adjacency = adjacency
        winners = _Winners(len(labels.codes), xp)
        self.n_iterations_ = 0
        for first, scores, iterations in self._blocks(adjacency, labels, self.alpha_, xp):
            winners.add(first, scores)
            self.n_iterations_ = max(self.n_iterations_, iterations)
            if scores.shape[1] == len(labels.names):  # small enough to keep
                self._scores = scores
        self._best = np.where(on_host(winners.scores) > 0, on_host(winners.classes), np.argmax(self._prior))
        return self

    def _chosen_scores(self, labels: ClassLabels, xp: ModuleType) -> Literal["all", "best"]:
        if self.scores == "best" and xp is not np:
            raise InputError("scores='best' needs a graph in main memory; pass it as NumPy arrays.")
        if self.scores != "auto":
            return self.scores
        return chosen_scores(len(labels.codes), len(labels.names)) if xp is np else "all"

    def _check_memory(self, nnz: int, labels: ClassLabels, xp: ModuleType) -> int:
        """Check that the memory suffices; returns what is needed."""
        n = len(labels.codes)
        needed = memory_needed(n, nnz, len(labels.names), self.scores_)
        if xp is np:
            memory_allowed(self.memory_limit).check(f"Label propagation over {n} nodes", needed)
        return needed

    def _fit_best(self, adjacency: Any, labels: ClassLabels, roots: npt.NDArray[np.float64]) -> None:
        """Spread the labels with the scores of few classes a node; `roots` (n,) of the degrees, 1 where they are 0."""
        from clorg_scale.probes.few_scores import FewScores
        from clorg_scale.probes.truncated import Edges

        edges = Edges(adjacency.indptr, adjacency.indices, adjacency.data, labels.codes)
        spreading = FewScores(edges, len(labels.names), self.tolerance, self.max_iterations, self._steps_shown)
        alphas = ALPHAS if self.alpha == "auto" else (float(self.alpha),)
        self._kept, self.alpha_, self.n_iterations_ = spreading.fit(alphas, roots, int(self.seed))
        self._best = self._kept.best(otherwise=int(np.argmax(self._prior)))
        self.certain_share_ = float(np.mean(self._kept.certain()))

    def _steps_shown(self, alpha: float, most: int) -> AbstractContextManager[Advance]:
        return progress_bar(self._title(alpha), most, unit="iterations", enabled=self.progress)

    def _title(self, alpha: float) -> str:
        return f"label propagation ({in_bytes(self.memory_needed_)}), alpha {alpha}"

    def _best_alpha(self, adjacency: Any, labels: ClassLabels, xp: ModuleType) -> float:
        """Choose the alpha that best predicts a tenth of the training nodes; or the middle one."""
        rng = np.random.default_rng(int(self.seed))
        kept, held_out = stratified_hold_out(labels.codes, 0.1, rng)
        if len(held_out) == 0:
            return ALPHAS[len(ALPHAS) // 2]
        codes = np.full_like(labels.codes, -1)
        codes[kept] = labels.codes[kept]
        shown = ClassLabels(codes, labels.names)
        rows, truth = xp.asarray(held_out), labels.codes[held_out]
        correct = []
        for alpha in ALPHAS:
            winners = _Winners(len(held_out), xp)
            for first, scores, _ in self._blocks(adjacency, shown, alpha, xp):
                winners.add(first, scores[rows])
            correct.append(int((on_host(winners.classes) == truth).sum()))
        return ALPHAS[int(np.argmax(correct))]

    def _blocks(
        self, adjacency: Any, labels: ClassLabels, alpha: float, xp: ModuleType
    ) -> Iterator[tuple[int, Array, int]]:
        """First class, scores (n, b) and iterations of each block of classes."""
        n, n_classes = len(labels.codes), len(labels.names)
        width = min(n_classes, max(1, SCORE_BYTES // (4 * n)))
        firsts = range(0, n_classes, width)
        total = self.max_iterations * len(firsts)
        with self._steps_shown(alpha, total) as advance:
            for first in firsts:
                last = min(first + width, n_classes)
                rows = np.flatnonzero((labels.codes >= first) & (labels.codes < last))
                source = xp.asarray(rows), xp.asarray(labels.codes[rows] - first)
                scores, iterations = self._iterate(adjacency, source, last - first, alpha, advance)
                yield first, scores, iterations
                if len(firsts) > 1:
                    advance(self.max_iterations - iterations)

    def _iterate(
        self, adjacency: Any, source: tuple[Array, Array], width: int, alpha: float, advance: Advance
    ) -> tuple[Array, int]:
        """Iterate to the fixed point from the labels `source` (nodes, columns); returns it and the number of steps."""
        xp = array_module(source[0])
        y = xp.zeros((adjacency.shape[0], width), dtype=np.float32)
        y[source] = np.float32(1) * np.float32(1 - alpha)
        iteration = 0
        while iteration < int(self.max_iterations):
            iteration += 1
            previous, y = y, adjacency @ y
            y *= np.float32(alpha)
            y[source] += np.float32(1 - alpha)
            advance(1)
            # The change shrinks by alpha a step, so what is left to come is change alpha / (1 - alpha).
            remaining = _largest_change(previous, y, xp) * alpha / (1 - alpha)
            if remaining <= self.tolerance * float(y.max()):
                break
        return y, iteration

    def predict(self) -> npt.NDArray[Any]:
        """(n,) class of each node; the commonest training class where no label arrives."""
        check_fitted(self, "classes_")
        return np.asarray(self.classes_[self._best])

    def predict_proba(self, nodes: Any = None) -> npt.NDArray[np.float32]:
        """(m, C) float32, Y with rows scaled to sum 1; the share of training labels where none arrives.

        Parameters
        ----------
        nodes
            (m,) node numbers; None takes all nodes. Where the scores of all nodes and classes are too large to keep,
            they are computed again for the nodes asked for.
        """
        check_fitted(self, "classes_")
        n = len(self._best)
        wanted = np.arange(n) if nodes is None else node_numbers(nodes, n)
        scores = self._all_scores(wanted) if self._kept is None else self._kept.dense(wanted, len(self.classes_))
        xp = array_module(scores)
        total = scores.sum(axis=1, keepdims=True)
        reached = total > 0
        scores = xp.where(reached, scores / xp.where(reached, total, 1), xp.asarray(self._prior.astype(np.float32)))
        return on_host(scores)

    def _all_scores(self, wanted: npt.NDArray[np.int64]) -> Array:
        """(m, C) scores of some nodes, computed again where those of all nodes are too large to keep."""
        xp = array_module(self._adjacency.data)
        rows = xp.asarray(wanted)
        if self._scores is not None:
            return self._scores[rows]
        scores = xp.empty((len(rows), len(self.classes_)), dtype=np.float32)
        for first, block, _ in self._blocks(self._adjacency, self._labels, self.alpha_, xp):
            scores[:, first : first + block.shape[1]] = block[rows]
        return scores

    def score(self, labels: Any, mask: Any) -> float:
        """Accuracy over the nodes of a mask, those without a label left out."""
        return masked_accuracy(self.predict(), labels, mask, self.unlabelled)


def chosen_scores(n: int, n_classes: int) -> Literal["all", "best"]:
    """Choice of ``scores="auto"`` for a number of nodes in main memory."""
    return "best" if 4 * n * n_classes > LARGE_SCORES and n_classes > MANY_CLASSES else "all"


def memory_needed(n: int, nnz: int, n_classes: int, scores: Literal["all", "best"] = "all") -> int:
    """Bytes needed beside the graph; with all scores, the blocks of classes bound what is in memory at once."""
    from clorg_scale.probes.truncated import BYTES_PER_EDGE, BYTES_PER_NODE

    blocks = BLOCK_ARRAYS * min(4 * n * n_classes, max(SCORE_BYTES, 4 * n))
    return 4 * nnz + 40 * n + (n * BYTES_PER_NODE + nnz * BYTES_PER_EDGE if scores == "best" else blocks)


def _normalized_adjacency(indptr: Array, indices: Array, weights: Array, inverse: Array) -> Any:
    """S = D^-1/2 A D^-1/2 as a CSR matrix of float32, from D^-1/2 (n,); rows of isolated nodes are empty."""
    sparse = importlib.import_module("scipy.sparse" if array_module(weights) is np else "cupyx.scipy.sparse")
    n = len(indptr) - 1
    return sparse.csr_matrix(
        (scaled_weights(indptr, indices, weights, inverse, inverse), indices, indptr), shape=(n, n)
    )


class _Winners:
    """The class with the highest score of each row, the first of equal ones, over blocks of classes.

    Parameters
    ----------
    n
        Rows.
    xp
        Module of the scores.
    """

    def __init__(self, n: int, xp: ModuleType) -> None:
        self.xp = xp
        self.classes, self.scores = xp.zeros(n, dtype=np.int64), xp.full(n, -np.inf, dtype=np.float32)

    def add(self, first: int, scores: Array) -> None:
        """Take in the scores (n, b) of the classes from `first` on."""
        best = scores.argmax(axis=1)
        highest = scores[self.xp.arange(len(scores)), best]
        better = highest > self.scores
        self.classes[better] = best[better] + first
        self.scores[better] = highest[better]


def _largest_change(before: Array, after: Array, xp: ModuleType) -> float:
    """Largest absolute difference, without another array of their size."""
    return max(float(xp.abs(after[rows] - before[rows]).max()) for rows in row_slices(*after.shape))

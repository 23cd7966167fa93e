"""Label propagation: labels spread along the edges of the graph, with nothing to train."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from clorg_scale.affinity.symmetrize import row_numbers
from clorg_scale.arrays import UNLABELLED, Array, ClassLabels, array_module, on_host
from clorg_scale.errors import InputError
from clorg_scale.probes.settings import check_number, check_whole
from clorg_scale.probes.splits import stratified_hold_out
from clorg_scale.probes.transductive import masked_accuracy, read_graph, training_codes
from clorg_scale.progress import progress_bar

__all__ = ["ALPHAS", "LabelPropagationProbe"]

ALPHAS = (0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95)
"""What `alpha="auto"` chooses from."""


class LabelPropagationProbe(BaseEstimator):  # type: ignore[misc]
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
        Iteration stops when no entry of Y changes by more than this share of its largest entry.
    max_iterations
        Iteration stops here at the latest.
    seed
        Of the choice of that tenth.
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
        Iterations made with it.

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
        seed: int = 0,
        progress: bool = False,
        unlabelled: int | str | None = UNLABELLED,
    ) -> None:
        self.alpha = alpha
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.seed = seed
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
        indptr, indices, weights = read_graph(graph)
        labels = training_codes(labels, train_mask, len(indptr) - 1, self.unlabelled)
        self.classes_ = labels.classes
        xp = array_module(weights)
        adjacency = _normalized_adjacency(indptr, indices, weights, xp)
        self.alpha_ = self._best_alpha(adjacency, labels, xp) if self.alpha == "auto" else float(self.alpha)
        y0 = _one_hot(labels.codes, len(labels.classes), xp)
        self._scores, self.n_iterations_ = self._iterate(adjacency, y0, self.alpha_, xp)
        self._prior = labels.counts / labels.counts.sum()
        return self

    def _best_alpha(self, adjacency: Any, labels: ClassLabels, xp: ModuleType) -> float:
        """Choose the alpha that best predicts a tenth of the training nodes; or the middle one."""
        rng = np.random.default_rng(int(self.seed))
        kept, held_out = stratified_hold_out(labels.codes, 0.1, rng)
        if len(held_out) == 0:
            return ALPHAS[len(ALPHAS) // 2]
        shown = np.full_like(labels.codes, -1)
        shown[kept] = labels.codes[kept]
        y0 = _one_hot(shown, len(labels.classes), xp)
        rows, truth = xp.asarray(held_out), xp.asarray(labels.codes[held_out])
        correct = [
            int((self._iterate(adjacency, y0, alpha, xp)[0][rows].argmax(axis=1) == truth).sum()) for alpha in ALPHAS
        ]
        return ALPHAS[int(np.argmax(correct))]

    def _iterate(self, adjacency: Any, y0: Array, alpha: float, xp: ModuleType) -> tuple[Array, int]:
        """Iterate to the fixed point; returns it and the number of steps."""
        y0 = y0 * np.float32(1 - alpha)
        y, iteration = y0, 0
        with progress_bar(
            f"label propagation, alpha {alpha}",
            self.max_iterations,
            unit="iterations",
            enabled=self.progress,
        ) as advance:
            while iteration < int(self.max_iterations):
                iteration += 1
                previous, y = y, adjacency @ y
                y *= np.float32(alpha)
                y += y0
                advance(1)
                # The change shrinks by alpha a step, so what is left to come is change alpha / (1 - alpha).
                remaining = float(xp.abs(y - previous).max()) * alpha / (1 - alpha)
                if remaining <= self.tolerance * float(y.max()):
                    break
        return y, iteration

    def predict(self) -> npt.NDArray[Any]:
        """(n,) class of each node; the commonest training class where no label arrives."""
        best = self.predict_proba().argmax(axis=1)
        return np.asarray(self.classes_[best])

    def predict_proba(self) -> npt.NDArray[np.float32]:
        """(n, C) float32, Y with rows scaled to sum 1; the share of training labels where none arrives."""
        check_is_fitted(self, "classes_")
        xp = array_module(self._scores)
        total = self._scores.sum(axis=1, keepdims=True)
        reached = total > 0
        shares = xp.where(reached, self._scores / xp.where(reached, total, 1), xp.asarray(self._prior))
        return on_host(shares.astype(np.float32))

    def score(self, labels: Any, mask: Any) -> float:
        """Accuracy over the nodes of a mask, those without a label left out."""
        return masked_accuracy(self.predict(), labels, mask, self.unlabelled)


def _normalized_adjacency(indptr: Array, indices: Array, weights: Array, xp: ModuleType) -> Any:
    """S = D^-1/2 A D^-1/2 as a CSR matrix of float32; rows of isolated nodes are empty."""
    sparse = importlib.import_module("scipy.sparse" if xp is np else "cupyx.scipy.sparse")
    n = len(indptr) - 1
    adjacency = sparse.csr_matrix((weights, indices, indptr), shape=(n, n))
    degrees = adjacency @ xp.ones(n)
    root = xp.where(degrees > 0, 1 / xp.sqrt(xp.where(degrees > 0, degrees, 1)), 0)
    values = (weights * root[row_numbers(indptr)] * root[indices]).astype(np.float32)
    return sparse.csr_matrix((values, indices, indptr), shape=(n, n))


def _one_hot(codes: npt.NDArray[np.int64], n_classes: int, xp: ModuleType) -> Array:
    """(n, C) float32; zero rows for code -1."""
    y = xp.zeros((len(codes), n_classes), dtype=np.float32)
    rows = np.flatnonzero(codes >= 0)
    y[xp.asarray(rows), xp.asarray(codes[rows])] = 1
    return y

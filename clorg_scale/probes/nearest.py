"""k-NN probe: the vote of the nearest training points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from clorg_scale.arrays import UNLABELLED, Array, Device, array_module, column_means, on_host, row_slices
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN, knn_between
from clorg_scale.neighbors.result import Metric, check_metric
from clorg_scale.neighbors.shared import among_training_points
from clorg_scale.probes.estimator import (
    like_points,
    points_to_fit,
    points_to_predict,
    share_correct,
    training_labels,
)
from clorg_scale.whole import whole_number

__all__ = ["KNNProbe", "most_voted"]

VOTERS = 15
"""Neighbors that vote by default, where there are as many training points."""

MOST_PAIRWISE = 32
"""Most neighbors that are compared with each other; the classes of more are sorted, in main memory."""


class KNNProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Vote of the k nearest training points, found by exact search.

    Parameters
    ----------
    k
        Neighbors that vote; None takes 15, or all labeled training points where they are fewer.
    metric
        ``"euclidean"``, ``"cosine"`` or ``"inner_product"``.
    weights
        ``"uniform"``: every neighbor has one vote. ``"distance"``: a neighbor at distance d has 1/d votes;
        where neighbors lie at distance 0, only they vote.
    memory_limit, device, progress
        As for `clorg_scale.knn`.
    unlabelled
        The label of points without a class; None: every label, -1 too, is a class. Labels -1 and 1 alone are two
        classes, as in scikit-learn.

    Attributes
    ----------
    classes_
        (C,) class labels. A tied vote goes to the class that comes first here.
    k_
        Neighbors that vote.
    n_features_in_, feature_names_in_
        Number of features; (d,) their names, where X was a frame with columns of numbers.
    """

    n_parameters = 0

    def __init__(
        self,
        k: int | None = None,
        *,
        metric: Metric = "euclidean",
        weights: Literal["uniform", "distance"] = "uniform",
        memory_limit: str | int | None = None,
        device: Device = "auto",
        progress: bool = False,
        unlabelled: int | str | None = UNLABELLED,
    ) -> None:
        self.k = k
        self.metric = metric
        self.weights = weights
        self.memory_limit = memory_limit
        self.device = device
        self.progress = progress
        self.unlabelled = unlabelled

    def fit(self, X: Any, y: Any) -> KNNProbe:
        """Keep the training embeddings X (n, d), without a copy, and their labels y (n,).

        Points without a label are left out (their rows are then copied away from the others).

        Raises
        ------
        InputError
            If embeddings or labels cannot be used, k is not below n, or a setting is unknown.
        """
        check_metric(self.metric)
        if self.weights not in ("uniform", "distance"):
            raise InputError(f"weights must be 'uniform' or 'distance', not {self.weights!r}.")
        if self.weights == "distance" and self.metric == "inner_product":
            raise InputError("An inner product is not a distance; use weights='uniform' with it.")
        X = points_to_fit(self, X)
        labels = training_labels(self, y, X.shape[0], unlabelled=self.unlabelled)
        column_means(X)
        labeled = labels.codes >= 0
        n_labeled = int(np.count_nonzero(labeled))
        if self.k is None:
            self.k_ = min(VOTERS, n_labeled)
        else:
            self.k_ = whole_number("k", self.k, 1, n_labeled, where=", the labeled training points")
        self.classes_ = labels.names
        self._X = X if n_labeled == len(labeled) else X[np.flatnonzero(labeled)]
        self._codes = labels.codes[labeled]
        self._labeled = labeled
        return self

    def predict(self, X: Any) -> Array:
        """Class with the most votes for each row of X (m, d); on a GPU for X there, unless classes are strings."""
        check_is_fitted(self, "classes_")
        X = points_to_predict(self, X)
        return like_points(self._predicted(X), X)

    def predict_from(self, table: KNN, X: Any) -> npt.NDArray[Any]:
        """Predict as `predict` does, with neighbors from a table; on the host.

        Parameters
        ----------
        table
            Neighbors of all rows of the training embeddings followed by those of X, among all of them. Points with
            fewer than k labeled training points among these are searched; where there are many of them, or the table
            is of another metric, all are.
        X
            (m, d).
        """
        check_is_fitted(self, "classes_")
        X = points_to_predict(self, X)
        found = among_training_points(table, self._labeled, self.k_) if table.metric == self.metric else None
        if found is None:
            return self._predicted(X)
        neighbors, short = found
        if len(short):
            again, n = self._neighbors(X[short])
            neighbors.indices[short] = on_host(again.indices)[:n]
            neighbors.distances[short] = on_host(again.distances)[:n]
        return self._elected(neighbors)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on X (m, d) with labels y (m,) of any library."""
        check_is_fitted(self, "classes_")
        return share_correct(self._predicted(points_to_predict(self, X)), y, sample_weight)

    def predict_proba(self, X: Any) -> Array:
        """(m, C) float32, share of the votes for each class in the order of `classes_`; where X is."""
        check_is_fitted(self, "classes_")
        X = points_to_predict(self, X)
        neighbors, n = self._neighbors(X)
        xp, n_classes = array_module(neighbors.indices), len(self.classes_)
        shares = xp.zeros((neighbors.indices.shape[0], n_classes), dtype=np.float32)
        for rows, codes, votes in self._voters(neighbors):
            found = votes_of_classes(codes, votes) / votes.sum(axis=1, keepdims=True)
            # Neighbors of one class write the same number.
            shares[xp.arange(rows.start, rows.stop)[:, None], codes] = found.astype(np.float32)
        return like_points(on_host(shares)[:n] if array_module(X) is np else shares[:n], X)

    def _predicted(self, X: Array) -> npt.NDArray[Any]:
        neighbors, n = self._neighbors(X)
        return self._elected(neighbors)[:n]

    def _neighbors(self, X: Array) -> tuple[KNN, int]:
        """Nearest training points of X, and the number of rows that count."""
        X, n = _at_least_three(X)
        neighbors = knn_between(
            X,
            self._X,
            self.k_,
            metric=self.metric,
            device=self.device,
            memory_limit=self.memory_limit,
            progress=self.progress,
        )
        return neighbors, n

    def _elected(self, neighbors: KNN) -> npt.NDArray[Any]:
        """Class with the most votes for each row of a table."""
        xp = array_module(neighbors.indices)
        best = xp.empty(neighbors.indices.shape[0], dtype=np.int64)
        for rows, codes, votes in self._voters(neighbors):
            best[rows] = most_voted(codes, votes)
        return np.asarray(self.classes_[on_host(best)])

    def _voters(self, neighbors: KNN) -> Iterator[tuple[slice, Array, Array]]:
        """Class codes and votes (b, k) of the neighbors of some rows at a time, where the table is."""
        of_points = array_module(neighbors.indices).asarray(self._codes)
        for rows in row_slices(neighbors.indices.shape[0], self.k_, itemsize=40):
            yield rows, of_points[neighbors.indices[rows]], self._votes(neighbors.distances[rows])

    def _votes(self, distances: Array) -> Array:
        """Votes of each neighbor from its distance, float64."""
        xp = array_module(distances)
        if self.weights == "uniform":
            return xp.ones(distances.shape)
        coincident = distances <= 0
        # In units of the nearest neighbor's distance, whose inverse may exceed what numbers hold; only shares count.
        nearest = distances.min(axis=1, keepdims=True).astype(np.float64)
        votes = nearest / xp.where(coincident, 1, distances)
        return xp.where(coincident.any(axis=1, keepdims=True), coincident.astype(np.float64), votes)


def most_voted(codes: Array, votes: Array) -> Array:
    """(b,) class with the largest share of the votes (b, k), the first of equal ones; where the codes are."""
    # As shares of float32, as `predict_proba` has them, so that both agree on what is tied.
    shares = (votes_of_classes(codes, votes) / votes.sum(axis=1, keepdims=True)).astype(np.float32)
    first = array_module(codes).where(shares == shares.max(axis=1, keepdims=True), codes, np.iinfo(np.int64).max)
    return first.min(axis=1)


def votes_of_classes(codes: Array, votes: Array) -> Array:
    """(b, k) float64 sum of the votes (b, k) for the class of each neighbor, added in the order of the neighbors.

    The same bits at each neighbor of a class, on any device: a GPU's `bincount` adds in an order of its own.
    """
    xp, (n, k) = array_module(codes), codes.shape
    if k <= MOST_PAIRWISE:
        counts = xp.zeros((n, k))
        for j in range(k):
            counts += xp.where(codes == codes[:, j : j + 1], votes[:, j : j + 1], 0)
        return counts
    codes, votes = on_host(codes), on_host(votes)
    order = np.argsort(codes, axis=1, kind="stable")
    in_order, votes = np.take_along_axis(codes, order, axis=1), np.take_along_axis(votes, order, axis=1)
    begins = np.ones((n, k), dtype=bool)
    begins[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    groups = np.cumsum(begins.ravel()) - 1
    found = np.empty((n, k))
    np.put_along_axis(found, order, np.bincount(groups, votes.ravel())[groups].reshape(n, k), axis=1)
    return xp.asarray(found)


def _at_least_three(X: Array) -> tuple[Array, int]:
    """Repeat one or two points to the three that a search starts from; and the number of points."""
    n = len(X)
    return (array_module(X).concatenate([X] * 3), n) if 0 < n < 3 else (X, n)

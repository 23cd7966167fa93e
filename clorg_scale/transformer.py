"""A transformer of scikit-learn over this package's k-NN search: points in, sparse graph of neighbors out."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from clorg_scale.arrays import Device, array_module, column_means
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN, knn, knn_between
from clorg_scale.neighbors.result import Metric, check_metric
from clorg_scale.neighbors.sparse import check_mode
from clorg_scale.probes.estimator import points_to_fit, points_to_predict
from clorg_scale.whole import whole_number

__all__ = ["KNeighborsTransformer"]


class KNeighborsTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Sparse graph of the nearest neighbors, as `sklearn.neighbors.KNeighborsTransformer` makes it.

    `fit_transform` finds the neighbors among the training points with any index of `clorg_scale.knn`, approximate ones
    too; its `measured_recall_` says how many were found. `transform` finds those of other points exactly. The graph
    serves estimators with ``metric="precomputed"`` (or ``affinity="precomputed_nearest_neighbors"``) in a pipeline.

    Parameters
    ----------
    mode
        ``"distance"``: n_neighbors + 1 distances a row, as scikit-learn counts: each training point is its own nearest
        neighbor, at distance 0. ``"connectivity"``: n_neighbors ones a row, the point itself included.
    n_neighbors
        Neighbors of each point.
    metric, index, memory_limit, device, seed
        As for `clorg_scale.knn`.

    Attributes
    ----------
    n_samples_fit_
        Training points, the columns of the graph.
    n_features_in_, feature_names_in_
        Number of features; (d,) their names, where X was a frame with columns of numbers.
    measured_recall_, index_
        Of the search in `fit_transform`.
    """

    def __init__(
        self,
        *,
        mode: Literal["distance", "connectivity"] = "distance",
        n_neighbors: int = 5,
        metric: Metric = "euclidean",
        index: str = "auto",
        memory_limit: str | int | None = None,
        device: Device = "auto",
        seed: int = 0,
    ) -> None:
        self.mode = mode
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.index = index
        self.memory_limit = memory_limit
        self.device = device
        self.seed = seed

    def fit(self, X: Any, y: Any = None) -> KNeighborsTransformer:
        """Keep the training points X (n, d), without a copy.

        Raises
        ------
        InputError
            If they cannot be used, or a setting is out of range.
        """
        check_metric(self.metric)
        check_mode(self.mode, self.metric)
        whole_number("n_neighbors", self.n_neighbors, 1)
        X = points_to_fit(self, X)
        column_means(X)  # checks that all values are finite
        self._X = X
        self.n_samples_fit_ = int(X.shape[0])
        self._n_features_out = self.n_samples_fit_
        return self

    def transform(self, X: Any) -> Any:
        """(m, n) `scipy.sparse.csr_matrix`, float64: the nearest training points of X (m, d), nearest first in a row.

        Raises
        ------
        InputError
            If X does not fit the training points, or there are fewer of them than neighbors.
        """
        check_is_fitted(self, "n_samples_fit_")
        X = points_to_predict(self, X)
        column_means(X)
        m, width = len(X), self._width()
        if m < 3:  # a search starts from three points
            X = array_module(X).concatenate([X] * 3)
        table = knn_between(X, self._X, width, metric=self.metric, device=self.device, memory_limit=self.memory_limit)
        return self._graph(table, include_self=False)[:m]

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """(n, n) `scipy.sparse.csr_matrix`, float64: the neighbors among the training points, each its own first one.

        Raises
        ------
        InputError
            As `fit`, or if there are not more points than neighbors.
        """
        self.fit(X)
        width = self._width()
        if width == 1:  # the point itself
            from scipy.sparse import identity

            return identity(self.n_samples_fit_, format="csr")
        table = knn(
            self._X,
            width - 1,
            metric=self.metric,
            index=self.index,
            memory_limit=self.memory_limit,
            device=self.device,
            seed=self.seed,
        )
        self.measured_recall_, self.index_ = table.measured_recall, table.index
        return self._graph(table, include_self=True)

    def _width(self) -> int:
        """Entries of a row."""
        width = int(self.n_neighbors) + (self.mode == "distance")
        if width > self.n_samples_fit_:
            raise InputError(
                f"n_neighbors={self.n_neighbors} needs {width} training points (each counts among its own neighbors), "
                f"and there are {self.n_samples_fit_}."
            )
        return width

    def _graph(self, table: KNN, *, include_self: bool) -> Any:
        from scipy.sparse import csr_matrix

        return csr_matrix(table.to_scipy(self.mode, include_self=include_self), dtype=np.float64)

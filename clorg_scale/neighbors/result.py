"""The table that every k-NN search returns and every later stage reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clorg_scale.arrays import Array, array_module, on_host
from clorg_scale.counted import counted
from clorg_scale.errors import InputError
from clorg_scale.neighbors.metric import Metric, check_metric
from clorg_scale.results.result import Columns, Result
from clorg_scale.results.stored import beside

__all__ = ["KNN", "Metric", "check_metric"]


@dataclass(frozen=True)
class KNN(Result):
    """The k nearest neighbors of every point, or of a sample of the points.

    Attributes
    ----------
    indices
        (q, k) neighbors of each query as row numbers of the embeddings, nearest first, ties by row number;
        int32 while n < 2^31, int64 beyond. A point is never its own neighbor.
    distances
        (q, k) float32, or float64 where float32 does not hold them; ascending: the Euclidean distance (not squared);
        1 - cos for ``"cosine"``; minus the inner product for ``"inner_product"``.
    metric
        ``"euclidean"``, ``"cosine"`` or ``"inner_product"``.
    index
        Index that found them, with its parameters.
    n_points
        Number of embeddings n that were searched.
    queries
        None where row i of the table is point i (q = n); otherwise (q,) int64, the point each row belongs to,
        -1 where it is none of the embeddings (test points against train points).
    measured_recall
        Share of true neighbors among those returned: 1.0 for an exact search, else measured against exact
        search on a sample; None where it was not measured.
    mean_distance
        Mean distance of random pairs of points (0.2 % standard error), the scale that the temperatures of an
        affinity graph refer to; None for a table from another program, or without a scale (inner products).
    """

    indices: Array = field(metadata=beside())
    distances: Array = field(metadata=beside())
    metric: Metric
    index: str
    n_points: int
    queries: Array | None = field(default=None, metadata=beside())
    measured_recall: float | None = None
    mean_distance: float | None = None

    def __post_init__(self) -> None:
        check_metric(self.metric)
        shape = tuple(self.indices.shape)
        if len(shape) != 2 or shape != tuple(self.distances.shape):
            raise InputError(
                f"A k-NN table needs indices and distances of one shape (points, k), "
                f"not {shape} and {tuple(self.distances.shape)}."
            )
        rows = self.n_points if self.queries is None else len(self.queries)
        if shape[0] != rows:
            raise InputError(f"The k-NN table has {counted(shape[0], 'row')}, but {rows} points need one each.")
        if shape[1] < 1:
            raise InputError("The k-NN table has no column; k must be at least 1.")

    @property
    def k(self) -> int:
        """Neighbors per point."""
        return int(self.indices.shape[1])

    def query_points(self) -> Array:
        """(q,) int64, the point that each row of the table belongs to; -1 where it is none of them."""
        if self.queries is not None:
            return self.queries
        return array_module(self.indices).arange(self.n_points, dtype=np.int64)

    def recall(self, embeddings: Any, sample: int = 1000, *, seed: int = 0) -> float:
        """Measure the share of true neighbors in the table against exact search.

        Parameters
        ----------
        embeddings
            (n, d) that the table was made from.
        sample
            Rows of the table that are checked, drawn at random.
        seed
            Seed of the sample.

        Returns
        -------
        Recall at k, by distances, so that any of several equally distant neighbors counts as found.

        Raises
        ------
        InputError
            If the embeddings are not those of the table, or its rows are not among them.
        """
        from clorg_scale.neighbors.recall import table_recall

        return table_recall(
            embeddings,
            self.indices,
            self.query_points(),
            n_points=self.n_points,
            metric=self.metric,
            sample=sample,
            seed=seed,
        )

    def to_scipy(
        self, mode: Literal["distance", "connectivity"] = "distance", *, include_self: bool | None = None
    ) -> Any:
        """(q, n) `scipy.sparse.csr_array`, float64, as scikit-learn's estimators take it with ``metric="precomputed"``.

        The matrix is a copy, with distances of 0 (duplicates) stored. Each row holds equally many entries, nearest
        first, so that ``matrix.indices.reshape(q, -1)`` and ``matrix.data.reshape(q, -1)`` are the table itself, with
        each point before its neighbors (umap-learn's ``precomputed_knn``). Pairs beyond the k nearest are not in it:
        an estimator with a radius (DBSCAN) sees neighborhoods cut off at k.

        Parameters
        ----------
        mode
            "distance" for the distances, "connectivity" for ones.
        include_self
            Store each point as its own nearest neighbor, at distance 0. Default: for distances among all points, where
            scikit-learn expects it and would otherwise drop the nearest one; not for connectivities, nor for a table
            of other points.

        Raises
        ------
        InputError
            For an unknown mode, "distance" of inner products, which are none, or `include_self` for a table whose
            rows are not among the points.
        """
        from clorg_scale.neighbors.sparse import check_mode, table_matrix

        check_mode(mode, self.metric)
        if include_self is None:
            include_self = mode == "distance" and self.queries is None
        points = self.query_points() if include_self else None
        return table_matrix(self.indices, self.distances if mode == "distance" else None, points, self.n_points)

    def to_dict(self) -> dict[str, Any]:
        """Everything except the table itself, as numbers and strings that JSON can hold."""
        return {
            "n_points": self.n_points,
            "k": self.k,
            "metric": self.metric,
            "index": self.index,
            "recall": self.measured_recall,
            "mean_distance": self.mean_distance,
        }

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"neighbors": self._pairs}

    def _pairs(self) -> Columns:
        points, ranks = on_host(self.query_points()), np.arange(1, self.k + 1)
        return {
            "point": np.repeat(points, self.k),
            "rank": np.tile(ranks, len(points)),
            "neighbor": on_host(self.indices).ravel(),
            "distance": on_host(self.distances).ravel(),
        }

    def _line(self) -> str:
        recall = "" if self.measured_recall is None else f", recall {self.measured_recall:.4g}"
        listed = f"{counted(self.k, 'neighbor')} of {counted(len(self.indices), 'point')}"
        return f"{listed}, {self.metric}, index {self.index!r}{recall}"

    def _shown(self) -> Columns:
        return {"": list(self.to_dict()), "value": list(self.to_dict().values())}

    def save(self, path: str | Path) -> None:
        """Write the table as one .npz file, whole or not at all."""
        from clorg_scale.neighbors.storage import write_fields

        write_fields({field.name: getattr(self, field.name) for field in fields(self)}, path)

    @classmethod
    def load(cls, path: str | Path) -> KNN:
        """Read and check a table that `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, truncated, foreign, or its contents contradict each other.
        """
        from clorg_scale.neighbors.storage import read_fields

        return cls(**read_fields(path))

    @classmethod
    def from_arrays(
        cls,
        indices: Any,
        distances: Any,
        *,
        metric: Metric,
        n_points: int | None = None,
        queries: Any = None,
    ) -> KNN:
        """Make a table from the output of any other k-NN search.

        Points that are their own neighbors, neighbors listed twice, missing ones (-1, out of range) and
        infinite or NaN distances are removed, rows sorted, and the table cut to the fewest neighbors
        that any row keeps. A warning says what was dropped.

        Parameters
        ----------
        indices
            (q, k) neighbors of each row; CuPy arrays stay on the GPU.
        distances
            (q, k) as in `KNN.distances` (Euclidean distances, not their squares).
        metric
            Metric of the distances.
        n_points
            Number of points searched; default: the number of rows.
        queries
            (q,) point that each row belongs to, if row i is not point i.

        Raises
        ------
        InputError
            If shapes do not fit, or some row keeps no neighbor.

        Warns
        -----
        UserWarning
            If anything but one self-neighbor per row was dropped.
        """
        from clorg_scale.neighbors.adoption import clean_table

        check_metric(metric)
        table = clean_table(indices, distances, metric, n_points, queries)
        return cls(table.indices, table.distances, metric, "from arrays", table.n_points, table.queries)

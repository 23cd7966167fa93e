"""The table that every k-NN search gives, and every later stage reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.errors import InputError

__all__ = ["KNN", "Metric", "check_metric", "id_dtype"]

Metric = Literal["euclidean", "cosine", "inner_product"]


@dataclass(frozen=True)
class KNN:
    """The k nearest neighbours of every point, or of a sample of the points.

    Attributes
    ----------
    indices
        (q, k) neighbours of each query as row numbers of the embeddings, nearest first, ties by row number;
        int32 while n < 2^31, int64 beyond. A point is never its own neighbour.
    distances
        (q, k) float32, ascending: the Euclidean distance (not squared); 1 - cos for ``"cosine"``; minus the
        inner product for ``"inner_product"``.
    metric
        ``"euclidean"``, ``"cosine"`` or ``"inner_product"``.
    index
        What found them, with its parameters.
    n_points
        Number of embeddings n that the neighbours were sought among.
    queries
        None where row i of the table is point i (q = n); otherwise (q,) int64, the point each row belongs to,
        -1 where it is none of the embeddings (test points against train points).
    measured_recall
        Share of true neighbours among those returned: 1.0 for an exact search, else measured against exact
        search on a sample; None where nobody measured it.
    """

    indices: Array
    distances: Array
    metric: Metric
    index: str
    n_points: int
    queries: Array | None = None
    measured_recall: float | None = None

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
            raise InputError(f"The k-NN table has {shape[0]} rows, but {rows} points are to have one each.")
        if shape[1] < 1:
            raise InputError("The k-NN table has no column; k must be at least 1.")

    @property
    def k(self) -> int:
        """Neighbours per point."""
        return int(self.indices.shape[1])

    def query_points(self) -> Array:
        """(q,) int64, the point that each row of the table belongs to; -1 where it is none of the embeddings."""
        if self.queries is not None:
            return self.queries
        return array_module(self.indices).arange(self.n_points, dtype=np.int64)


def check_metric(metric: str) -> None:
    """Refuse a metric that is not one of the three."""
    if metric not in get_args(Metric):
        raise InputError(f"metric must be one of {', '.join(map(repr, get_args(Metric)))}, not {metric!r}.")


def id_dtype(n_points: int) -> type[np.signedinteger[Any]]:
    """Integer type that holds row numbers: int32 while n < 2^31, int64 beyond."""
    return np.int32 if n_points < 2**31 else np.int64

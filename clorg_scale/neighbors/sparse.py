"""A k-NN table as a sparse matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clorg_scale.arrays import on_host
from clorg_scale.errors import InputError

if TYPE_CHECKING:
    from clorg_scale.neighbors.result import KNN

__all__ = ["table_matrix"]

MODES = ("distance", "connectivity")


def table_matrix(knn: KNN, mode: str, *, include_self: bool | None) -> Any:
    """See `KNN.to_scipy`."""
    from scipy.sparse import csr_array

    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(map(repr, MODES))}, not {mode!r}.")
    if mode == "distance" and knn.metric == "inner_product":
        raise InputError("Inner products are not distances; use mode='connectivity', or a table of another metric.")
    if include_self is None:
        include_self = mode == "distance" and knn.queries is None
    columns, values = on_host(knn.indices), on_host(knn.distances).astype(np.float64)
    if mode == "connectivity":
        values = np.ones(columns.shape)
    if include_self:
        points = on_host(knn.query_points())
        if (points < 0).any():
            raise InputError("include_self needs a table whose rows are among its points, not of test points.")
        columns = np.column_stack([points, columns])
        values = np.column_stack([np.full(len(points), float(mode == "connectivity")), values])
    n_rows, width = columns.shape
    dtype = np.int32 if max(n_rows * width, knn.n_points) < 2**31 else np.int64
    indptr = np.arange(0, n_rows * width + 1, width, dtype=dtype)
    return csr_array(
        (values.reshape(-1), columns.astype(dtype).reshape(-1), indptr), shape=(n_rows, knn.n_points)
    )  # fmt: skip

"""A k-NN table as a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from clorg_scale.arrays import Array, on_host
from clorg_scale.errors import InputError

__all__ = ["check_mode", "table_matrix"]

MODES = ("distance", "connectivity")


def check_mode(mode: str, metric: str) -> None:
    """Refuse an unknown mode, and distances where the metric gives none."""
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(map(repr, MODES))}, not {mode!r}.")
    if mode == "distance" and metric == "inner_product":
        raise InputError("Inner products are not distances; use mode='connectivity', or a table of another metric.")


def table_matrix(indices: Array, distances: Array | None, points: Array | None, n_points: int) -> Any:
    """A table as a matrix (see `KNN.to_scipy`).

    Parameters
    ----------
    indices
        (q, k) neighbors.
    distances
        (q, k) values to store; None stores ones.
    points
        (q,) points to store as their own nearest neighbors; None stores none.
    n_points
        Columns of the matrix.
    """
    from scipy.sparse import csr_array

    columns = on_host(indices)
    values = np.ones(columns.shape) if distances is None else on_host(distances).astype(np.float64)
    if points is not None:
        points = on_host(points)
        if (points < 0).any():
            raise InputError("include_self needs a table whose rows are among its points, not of test points.")
        columns = np.column_stack([points, columns])
        values = np.column_stack([np.full(len(points), float(distances is None)), values])
    n_rows, width = columns.shape
    dtype = np.int32 if max(n_rows * width, n_points) < 2**31 else np.int64
    indptr = np.arange(0, n_rows * width + 1, width, dtype=dtype)
    entries = values.reshape(-1), columns.astype(dtype).reshape(-1), indptr
    return csr_array(entries, shape=(n_rows, n_points))

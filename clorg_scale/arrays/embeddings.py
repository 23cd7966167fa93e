"""Embeddings of any array library, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from clorg_scale.arrays.adoption import as_array
from clorg_scale.arrays.blocks import row_slices
from clorg_scale.arrays.device import Array, array_module
from clorg_scale.arrays.frames import holds_vectors, stack_vectors
from clorg_scale.counted import numbered
from clorg_scale.errors import InputError

__all__ = ["ColumnRange", "as_embeddings", "column_means", "column_range"]

_LISTED = 5
"""Bad rows that an error sentence names."""


def as_embeddings(embeddings: Any, *, name: str = "embeddings") -> Array:
    """Take embeddings of any array library as a 2-D array of real numbers, copying only where it must.

    Parameters
    ----------
    embeddings
        (n, d); NumPy arrays and memory maps of any real dtype, byte order and strides, torch tensors, CuPy
        arrays, anything with DLPack or ``__cuda_array_interface__``, pandas, cuDF, Polars and PyArrow
        frames of numbers or columns of lists, HDF5, Zarr and Dask arrays, nested lists.
    name
        Name used in error messages.

    Returns
    -------
    (n, d) NumPy or CuPy array that shares memory with the input wherever the libraries allow; `as_array`
    says when they do not.

    Raises
    ------
    InputError
        If it is not two-dimensional, not numeric, or has fewer than 3 rows or no column.
    """
    array = as_array(embeddings, name=name)
    if array.dtype == object:
        array = _stacked(array, name)
    if array.dtype == object:
        raise InputError(f"The {name} hold Python objects, not numbers; pass a numeric (n, d) array.")
    if array.dtype.kind not in "fiub":
        raise InputError(f"The {name} have dtype {array.dtype}; real numbers are needed.")
    if array.ndim != 2:
        raise InputError(f"The {name} have shape {tuple(array.shape)}; two dimensions (points, features) are needed.")
    if array.shape[0] < 3 or array.shape[1] < 1:
        raise InputError(
            f"The {name} have shape {tuple(array.shape)}; at least 3 points with at least 1 feature are needed."
        )
    return array


def _stacked(array: Array, name: str) -> Array:
    """Stack the vectors of an array (n,) or (n, 1) that holds one a row, as a column of a frame gives it."""
    rows = array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
    return stack_vectors(rows, name) if rows.ndim == 1 and holds_vectors(rows) else array


class ColumnRange(NamedTuple):
    """Mean, least and largest value of every feature: (d,) float64 each, of the array library of the embeddings."""

    mean: Array
    low: Array
    high: Array


def column_means(embeddings: Array, *, name: str = "embeddings") -> Array:
    """Mean of every feature, in one pass that also checks that all values are finite.

    Parameters, errors
        As `column_range`.

    Returns
    -------
    (d,) float64 of the same array library.
    """
    return column_range(embeddings, name=name).mean


def column_range(embeddings: Array, *, name: str = "embeddings") -> ColumnRange:
    """Mean and range of every feature, in one pass that also checks that all values are finite.

    Parameters
    ----------
    embeddings
        (n, d) as `as_embeddings` returns.
    name
        Name used in error messages.

    Raises
    ------
    InputError
        If values are NaN or infinite (says in how many rows, and which come first), or so large that their
        sum is.
    """
    xp = array_module(embeddings)
    total = xp.zeros(embeddings.shape[1], dtype=np.float64)
    low, high = xp.full_like(total, np.inf), xp.full_like(total, -np.inf)
    bad: list[int] = []
    n_bad = 0
    # Infinite values are looked for and reported below; NumPy's warnings on the way there would say less.
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in row_slices(*embeddings.shape, itemsize=8):
            block = embeddings[rows].astype(np.float64)
            sums = block.sum(axis=0)
            if not bool(xp.isfinite(sums).all()):
                wrong = xp.flatnonzero(~xp.isfinite(block).all(axis=1))
                n_bad += int(wrong.size)
                bad += [rows.start + int(row) for row in wrong[: _LISTED - len(bad)]]
            total += sums
            low, high = xp.minimum(low, block.min(axis=0)), xp.maximum(high, block.max(axis=0))
    if n_bad:
        raise InputError(
            f"The {name} hold NaN or infinite values in {n_bad} of {embeddings.shape[0]} rows "
            f"({numbered('row', bad, n_bad)}); remove or repair {'it' if n_bad == 1 else 'these rows'}."
        )
    if not bool(xp.isfinite(total).all()):
        feature = int(xp.flatnonzero(~xp.isfinite(total))[0])
        raise InputError(
            f"The {name} hold values so large that the sum of feature {feature} exceeds the range of "
            "float64; divide all embeddings by a common factor."
        )
    # Rounded, the mean of equal values is not always that value.
    return ColumnRange(xp.clip(total / embeddings.shape[0], low, high), low, high)

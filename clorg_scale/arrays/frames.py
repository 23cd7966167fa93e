"""Data frames and columns of pandas and cuDF as arrays."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from clorg_scale.arrays.columns import Column, choose_columns
from clorg_scale.arrays.device import Array
from clorg_scale.arrays.plain import plain_array
from clorg_scale.errors import InputError

__all__ = ["from_frame", "holds_vectors", "stack_vectors"]


def from_frame(data: Any, *, name: str) -> Array:
    """Take a frame of numeric columns or with one column of equally long lists, or any column, as an array.

    Parameters
    ----------
    data
        pandas or cuDF frame, series or index; cuDF data stay on the GPU, except strings and categories.
    name
        Name used in error messages.

    Returns
    -------
    (n, columns) for a numeric frame, (n, d) for lists of length d, (n,) for another column. Missing numbers
    become NaN. A column of lists goes before others, and an index that became a column is left out; a warning says so.

    Raises
    ------
    InputError
        If columns of a frame are not numeric, or lists differ in length.
    """
    if data.ndim == 1:
        return _from_column(data if hasattr(data, "iloc") else _series(data), name)
    dtypes = enumerate(data.dtypes)  # once: of a wide frame, pandas takes long to list them
    chosen = choose_columns([_described(data, position, dtype) for position, dtype in dtypes], name=name)
    if not chosen:
        return np.empty((len(data), 0))
    if len(chosen) == 1 and not _is_numeric(data.dtypes.iloc[chosen[0]]):
        return _from_column(data.iloc[:, chosen[0]], name)
    if len(chosen) < data.shape[1]:
        data = data.iloc[:, chosen]
    if _on_gpu(data):
        _refuse_missing(int(data.isna().sum().sum()), name)
        return data.to_cupy()
    if len(set(data.dtypes)) == 1 and isinstance(data.dtypes.iloc[0], np.dtype):
        return data.to_numpy()
    common = np.result_type(*map(_numpy_type, data.dtypes))
    if common.kind != "f" and data.isna().any(axis=None):
        common = np.dtype(np.float64)
    return data.to_numpy(dtype=common, na_value=np.nan)


def _described(data: Any, position: int, dtype: Any) -> Column:
    """Describe a column of a frame."""
    column = str(data.columns[position])
    if _is_numeric(dtype):
        return Column(column, "", ())
    if hasattr(dtype, "pyarrow_dtype"):
        from clorg_scale.arrays.arrow import describe_column

        kind, row_shape = describe_column(dtype.pyarrow_dtype)
        return Column(column, kind or str(dtype), row_shape or None)
    lists = type(dtype).__name__ == "ListDtype" or (
        _numpy_type(dtype).kind == "O" and not _on_gpu(data) and holds_vectors(data.iloc[:, position])
    )
    return Column(column, str(dtype), (0,) if lists else None)


def _series(data: Any) -> Any:
    """Make a series of an index or of an extension array, in its own library."""
    return importlib.import_module(type(data).__module__.partition(".")[0]).Series(data)


def _refuse_missing(n_missing: int, name: str) -> None:
    if n_missing:
        raise InputError(f"The {name} hold {n_missing} missing values; remove or fill these rows.")


def _from_column(column: Any, name: str) -> Array:
    """One column: lists as a matrix, anything else as a vector."""
    if _on_gpu(column):
        return _from_cudf(column, name)
    if hasattr(column.dtype, "pyarrow_dtype") and not _is_numeric(column.dtype):
        import pyarrow

        from clorg_scale.arrays.arrow import describe_column, from_arrow

        if describe_column(column.dtype.pyarrow_dtype)[1] is not None or "list" in str(column.dtype):
            return from_arrow(pyarrow.chunked_array([pyarrow.array(column)]), name=name)
    if column.dtype == object and holds_vectors(column):
        return stack_vectors(column, name)
    if _is_numeric(column.dtype) and hasattr(column.dtype, "na_value"):
        if column.isna().any():
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        return column.to_numpy(dtype=_numpy_type(column.dtype))
    return column.to_numpy()


def holds_vectors(rows: Any) -> bool:
    """Whether all rows that are not missing are lists, small arrays or tensors, and not all are missing."""
    kinds = {type(row) for row in rows if not _is_missing(row)}
    return bool(kinds) and all(
        issubclass(kind, (list, tuple, np.ndarray)) or hasattr(kind, "__dlpack__") for kind in kinds
    )


def _is_missing(row: Any) -> bool:
    return row is None or (isinstance(row, float) and row != row)


def stack_vectors(rows: Sequence[Any], name: str) -> Array:
    """Stack rows that are Python lists, small arrays or tensors.

    Raises
    ------
    InputError
        If they differ in length, are missing or do not hold numbers.
    """
    _refuse_missing(sum(map(_is_missing, rows)), name)
    lengths = np.array([len(row) if hasattr(row, "__len__") else -1 for row in rows])
    if (lengths != lengths[0]).any():
        first = int(np.flatnonzero(lengths != lengths[0])[0])
        raise InputError(
            f"The lists of the {name} differ in length: {max(lengths[0], 0)} numbers at row 0, "
            f"{max(lengths[first], 0)} at row {first}."
        )
    arrays = [row if isinstance(row, (list, tuple)) else plain_array(row, name=name) for row in rows]
    # Python integers and floats may alternate from row to row; rows of arrays have types of their own.
    dtype = np.result_type(*{np.dtype(getattr(row, "dtype", np.float64)) for row in arrays})
    first_rows = np.asarray(arrays[:1000])
    if first_rows.dtype.kind not in "fiub" or dtype.kind not in "fiub":
        wrong = dtype if dtype.kind not in "fiub" else first_rows.dtype
        raise InputError(f"The lists of the {name} hold {wrong} values; real numbers are needed.")
    if first_rows.ndim != 2:
        raise InputError(
            f"The rows of the {name} have shape {first_rows.shape[1:]}; one vector per point is needed, flatten them."
        )
    whole = np.empty((len(arrays), lengths[0]), dtype=dtype)
    try:
        for row, values in enumerate(arrays):
            whole[row] = values
    except (ValueError, TypeError) as error:
        raise InputError(f"The list at row {row} of the {name} is not a list of numbers: {error}.") from error
    return whole


def _from_cudf(column: Any, name: str) -> Array:
    """Return a cuDF column, on the device where CuPy can hold its type."""
    kind = type(column.dtype).__name__
    if kind == "ListDtype":
        lengths = column.list.len()
        shortest, longest = int(lengths.min()), int(lengths.max())
        if column.isna().any() or shortest != longest:
            raise InputError(f"The lists of the {name} differ in length (from {shortest} to {longest}) or are missing.")
        return column.list.leaves.values.reshape(len(column), longest)
    # Strings are of type object up to cuDF 25, and of pandas' type for them since.
    if kind == "CategoricalDtype" or not _is_numeric(column.dtype):
        return from_frame(column.to_pandas(), name=name)
    _refuse_missing(int(column.isna().sum()), name)
    return column.values


def _on_gpu(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] == "cudf"


def _is_numeric(dtype: Any) -> bool:
    """Whether a column type holds real numbers or booleans (NumPy's, nullable, or Arrow's)."""
    return _numpy_type(dtype).kind in "fiub"


def _numpy_type(dtype: Any) -> np.dtype[Any]:
    """NumPy type of a column; object where it has none."""
    try:
        numpy_type: np.dtype[Any] = np.dtype(getattr(dtype, "numpy_dtype", dtype))
    except TypeError:
        return np.dtype(object)
    return numpy_type

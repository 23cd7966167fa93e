"""Data frames and columns of pandas and cuDF as arrays."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from clorg_scale.arrays.device import Array
from clorg_scale.errors import InputError

__all__ = ["from_frame"]


def from_frame(data: Any, *, name: str) -> Array:
    """Take a frame of numeric columns, a column of equally long lists, or any other column as an array.

    Parameters
    ----------
    data
        pandas or cuDF frame, series or index; cuDF data stay on the GPU, except strings and categories.
    name
        What to call it in error sentences.

    Returns
    -------
    (n, columns) for a numeric frame, (n, d) for lists of length d, (n,) for another column. Missing numbers
    become NaN.

    Raises
    ------
    InputError
        If columns of a frame are not numeric, or lists differ in length.
    """
    if data.ndim == 1:
        return _from_column(data if hasattr(data, "iloc") else _series(data), name)
    if data.shape[1] == 1 and not _is_numeric(data.dtypes.iloc[0]):
        return _from_column(data.iloc[:, 0], name)
    wrong = [str(column) for column, dtype in zip(data.columns, data.dtypes, strict=True) if not _is_numeric(dtype)]
    if wrong:
        listed = ", ".join(wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        raise InputError(
            f"The {name} are a data frame whose columns {listed} are not numeric; drop them or choose "
            "one column of lists."
        )
    if _on_gpu(data):
        _refuse_missing(int(data.isna().sum().sum()), name)
        return data.to_cupy()
    if len(set(data.dtypes)) == 1 and isinstance(data.dtypes.iloc[0], np.dtype):
        return data.to_numpy()
    common = np.result_type(*map(_numpy_type, data.dtypes))
    if common.kind != "f" and data.isna().any(axis=None):
        common = np.dtype(np.float64)
    return data.to_numpy(dtype=common, na_value=np.nan)


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
    if "pyarrow" in str(column.dtype) and "list" in str(column.dtype):
        import pyarrow

        from clorg_scale.arrays.arrow import from_arrow

        return from_arrow(pyarrow.chunked_array([pyarrow.array(column)]), name=name)
    if column.dtype == object and len(column) and isinstance(column.iloc[0], (list, tuple, np.ndarray)):
        return _from_lists(column, name)
    if _is_numeric(column.dtype) and hasattr(column.dtype, "na_value"):
        if column.isna().any():
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        return column.to_numpy(dtype=_numpy_type(column.dtype))
    return column.to_numpy()


def _from_lists(column: Any, name: str) -> Array:
    """Stack a pandas column of Python lists or small arrays."""
    lengths = np.array([len(row) if hasattr(row, "__len__") else -1 for row in column])
    if (lengths != lengths[0]).any():
        first = int(np.flatnonzero(lengths != lengths[0])[0])
        raise InputError(
            f"The lists of the {name} differ in length: {lengths[0]} numbers at row 0, "
            f"{max(lengths[first], 0)} at row {first}."
        )
    first_rows = np.asarray(column.iloc[: min(len(column), 1000)].tolist())
    if first_rows.dtype.kind not in "fiub":
        raise InputError(f"The lists of the {name} hold {first_rows.dtype} values; real numbers are needed.")
    # Python integers and floats may alternate from row to row; NumPy rows keep their own type.
    dtype = getattr(column.iloc[0], "dtype", np.dtype(np.float64))
    whole = np.empty((len(column), lengths[0]), dtype=dtype)
    try:
        for row, values in enumerate(column):
            whole[row] = values
    except (ValueError, TypeError) as error:
        raise InputError(f"The list at row {row} of the {name} is not a list of numbers: {error}.") from error
    return whole


def _from_cudf(column: Any, name: str) -> Array:
    """Give a cuDF column, on the device where CuPy can hold its type."""
    kind = type(column.dtype).__name__
    if kind == "ListDtype":
        lengths = column.list.len()
        shortest, longest = int(lengths.min()), int(lengths.max())
        if column.isna().any() or shortest != longest:
            raise InputError(f"The lists of the {name} differ in length (from {shortest} to {longest}) or are missing.")
        return column.list.leaves.values.reshape(len(column), longest)
    if kind == "CategoricalDtype" or column.dtype == object:
        return from_frame(column.to_pandas(), name=name)
    _refuse_missing(int(column.isna().sum()), name)
    return column.values


def _on_gpu(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] == "cudf"


def _is_numeric(dtype: Any) -> bool:
    """Tell whether a column type holds real numbers or booleans (NumPy's, nullable, or Arrow's)."""
    return _numpy_type(dtype).kind in "fiub"


def _numpy_type(dtype: Any) -> np.dtype[Any]:
    """NumPy type of a column; object where it has none."""
    try:
        numpy_type: np.dtype[Any] = np.dtype(getattr(dtype, "numpy_dtype", dtype))
    except TypeError:
        return np.dtype(object)
    return numpy_type

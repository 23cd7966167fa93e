"""PyArrow columns and tables, and those of other libraries that export Arrow data, as NumPy arrays."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from clorg_scale.arrays.columns import Column, choose_columns
from clorg_scale.arrays.device import Array
from clorg_scale.arrays.spool import gather_blocks
from clorg_scale.errors import InputError, require

__all__ = ["describe_column", "from_arrow", "from_arrow_stream", "index_columns"]


def from_arrow_stream(data: Any, *, name: str) -> Array:
    """Take a frame or a column of a library that exports Arrow data (Polars, DuckDB, ...) as `from_arrow` does.

    Parameters
    ----------
    data
        Anything with ``__arrow_c_stream__``, the interface of Arrow between libraries, or a Polars LazyFrame.
    name
        Name used in error messages.

    Raises
    ------
    InputError
        As `from_arrow`.
    MissingDependencyError
        If PyArrow is not installed.
    """
    library = type(data).__module__.partition(".")[0]
    pyarrow = require("pyarrow", extra="interop", purpose=f"Taking {name} of {library}")
    if not hasattr(data, "__arrow_c_stream__"):
        data = data.collect()
    stream = pyarrow.chunked_array(data)
    return from_arrow(pyarrow.Table.from_struct_array(stream) if _is_struct(stream.type) else stream, name=name)


def from_arrow(data: Any, *, name: str) -> Array:
    """Take a column of equally long lists or tensors, another column, or a table as an array.

    Parameters
    ----------
    data
        ``pyarrow`` Array, ChunkedArray, Table or RecordBatch. One chunk of a fixed-size list is not copied. Of a
        table, the index of the pandas frame that it was is left out.
    name
        Name used in error messages.

    Returns
    -------
    (n, columns) for a table of numbers, in which missing ones are NaN; (n, d) for lists and tensors of d numbers; (n,)
    for another column.

    Raises
    ------
    InputError
        If values of a column are missing, lists differ in length or do not hold numbers, or the columns of a table are
        not numeric.
    """
    import pyarrow

    if isinstance(data, (pyarrow.Table, pyarrow.RecordBatch)):
        return _from_table(data, name)
    if not isinstance(data, (pyarrow.Array, pyarrow.ChunkedArray)):
        raise InputError(f"The {name} are of the type {type(data).__name__}; pass a pyarrow Table or column.")
    if data.null_count:
        raise InputError(f"The {name} hold {data.null_count} missing values; remove or fill these rows.")
    chunks = [data] if isinstance(data, pyarrow.Array) else data.chunks
    if isinstance(data.type, pyarrow.FixedShapeTensorType) and len(data.type.shape) != 1:
        raise InputError(
            f"The {name} are tensors of shape {tuple(data.type.shape)}; one vector per point is needed, flatten them."
        )
    if isinstance(data.type, pyarrow.BaseExtensionType):
        chunks = [chunk.storage for chunk in chunks]
    kind = _storage(data.type)
    if _is_list(kind):
        return _from_lists([chunk for chunk in chunks if len(chunk)], kind, name)
    return _from_values([chunk for chunk in chunks if len(chunk)], kind)


def _from_table(table: Any, name: str) -> Array:
    """Stack the columns of numbers of a table, or take its one column of lists."""
    index = index_columns(table.schema)
    fields = list(table.schema)
    kept = [position for position, field in enumerate(fields) if field.name not in index]
    columns = [Column(fields[position].name, *describe_column(fields[position].type)) for position in kept]
    chosen = [kept[position] for position in choose_columns(columns, name=name)]
    if not chosen:
        return np.empty((table.num_rows, 0))
    if len(kept) == 1 or not _is_number(fields[chosen[0]].type):
        return from_arrow(table.column(chosen[0]), name=name)
    values = [_numbers(table.column(position)) for position in chosen]
    dtype = np.result_type(*{column.dtype for column in values})
    whole = np.empty((table.num_rows, len(values)), dtype=dtype)
    for position, column in enumerate(values):
        whole[:, position] = column
    return whole


def _numbers(column: Any) -> Array:
    """A column of numbers; missing ones become NaN."""
    import pyarrow

    if column.null_count:
        if pyarrow.types.is_boolean(column.type):
            column = column.cast(pyarrow.uint8())
        column = column.cast(pyarrow.float64())
        return np.asarray(column.to_numpy(zero_copy_only=False) if isinstance(column, pyarrow.Array) else column)
    return from_arrow(column, name="numbers")


def _from_values(chunks: list[Any], kind: Any) -> Array:
    """One value a row: numbers, text or whatever else."""
    import pyarrow

    if not chunks:
        return pyarrow.array([], kind if _is_number(kind) else pyarrow.string()).to_numpy(zero_copy_only=False)
    if pyarrow.types.is_dictionary(kind):
        values = [_plain(chunk.dictionary)[_plain(chunk.indices)] for chunk in chunks]
    else:
        values = [_plain(chunk) for chunk in chunks]
    return values[0] if len(values) == 1 else np.concatenate(values)


def _plain(chunk: Any) -> Array:
    import pyarrow

    if pyarrow.types.is_decimal(chunk.type):
        chunk = chunk.cast(pyarrow.float64())
    array: Array = chunk.to_numpy(zero_copy_only=False)
    return array


def _from_lists(chunks: list[Any], kind: Any, name: str) -> Array:
    """Lists as the rows of a matrix."""
    if not _is_number(kind.value_type):
        raise InputError(f"The {name} are {_in_words(kind)}; lists of numbers, one for each point, are needed.")
    blocks = [_list_matrix(chunk, name) for chunk in chunks]
    if not blocks:
        return np.empty((0, 0))
    if len(blocks) == 1:
        return blocks[0]
    widths = sorted({block.shape[1] for block in blocks})
    if len(widths) != 1:
        raise InputError(f"The lists of the {name} differ in length: {widths[0]} and {widths[1]} numbers.")
    return gather_blocks(blocks, (sum(map(len, blocks)), widths[0]), blocks[0].dtype, name=name)


def _list_matrix(chunk: Any, name: str) -> Array:
    """Return the lists of one chunk, which is not empty, as the rows of a matrix, sharing memory."""
    import pyarrow.compute

    values = chunk.flatten()
    if values.null_count:
        raise InputError(f"The {name} hold missing values; remove or fill these rows.")
    lengths = pyarrow.compute.list_value_length(chunk).to_numpy(zero_copy_only=False)
    width = int(lengths[0])
    if (lengths != width).any():
        row = int(np.flatnonzero(lengths != width)[0])
        raise InputError(f"The lists of the {name} differ in length: {width} and {lengths[row]} numbers (row {row}).")
    return _plain(values).reshape(len(chunk), width)


def describe_column(kind: Any) -> tuple[str, tuple[int, ...] | None]:
    """Describe a column of this Arrow type.

    Returns
    -------
    Description, "" for numbers; and the shape of one row: () for a number, (d,) for lists or tensors of d
    numbers, (0,) where d is not fixed, None for what cannot be features.
    """
    import pyarrow

    if isinstance(kind, pyarrow.FixedShapeTensorType) and len(kind.shape) != 1:
        return f"tensors of shape {tuple(kind.shape)}", None
    storage = _storage(kind)
    if _is_number(storage):
        return "", ()
    if _is_list(storage) and _is_number(storage.value_type):
        return "", (storage.list_size if pyarrow.types.is_fixed_size_list(storage) else 0,)
    return _in_words(kind), None


def index_columns(schema: Any) -> set[str]:
    """Names of the columns that were the index of a pandas frame, as its metadata in the schema say.

    Raises
    ------
    InputError
        If the metadata are damaged.
    """
    try:
        metadata = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        return {column for column in metadata.get("index_columns", []) if isinstance(column, str)}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError("The pandas metadata of the schema are damaged; write the file again.") from error


def _storage(kind: Any) -> Any:
    """The type in which the values of an extension type are stored."""
    import pyarrow

    return kind.storage_type if isinstance(kind, pyarrow.BaseExtensionType) else kind


def _is_number(kind: Any) -> bool:
    """Whether these are real numbers or booleans."""
    import pyarrow

    kinds = pyarrow.types
    return any(is_kind(kind) for is_kind in (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal))


def _is_list(kind: Any) -> bool:
    import pyarrow

    kinds = pyarrow.types
    checks = (
        kinds.is_fixed_size_list,
        kinds.is_list,
        kinds.is_large_list,
        kinds.is_list_view,
        kinds.is_large_list_view,
    )
    return any(is_kind(kind) for is_kind in checks)


def _is_struct(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_struct(kind))


_LONGEST = 60
"""Characters of a type in a sentence."""


def _in_words(kind: Any) -> str:
    """Describe a type."""
    import pyarrow

    if _is_list(kind):
        inner = _storage(kind).value_type
        return f"lists of {'lists' if _is_list(inner) else _short(inner)}"
    if pyarrow.types.is_dictionary(kind):
        return "categories"
    if any(check(kind) for check in (pyarrow.types.is_string, pyarrow.types.is_large_string)):
        return "text"
    return _short(kind)


def _short(kind: Any) -> str:
    text = str(kind)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."

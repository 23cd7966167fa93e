"""Parquet files: a column of equally long lists, or numeric columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import Array
from clorg_scale.arrays.arrow import from_arrow, is_list
from clorg_scale.arrays.spool import check_in_memory, check_room, gather_blocks
from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import LABEL_NAMES, Contents, Member
from clorg_scale.store.damage import tell_damage

__all__ = ["contents"]

_BATCH_ROWS = 8192

_BATCH_BYTES = 256 << 20
"""Rows of lists so long that fewer of them are read at once."""

_BITS = {"BOOLEAN": 1, "INT64": 64, "INT96": 96, "DOUBLE": 64}
"""Of a value of each physical type; 32 for the others: the indices of strings take that, at least."""


def contents(path: Path) -> Contents:
    """List the columns of the file; without a column of lists, the numeric ones together as ``columns``.

    Raises
    ------
    InputError
        If it is not a Parquet file, or truncated.
    MissingDependencyError
        If PyArrow is not installed.
    """
    parquet = require("pyarrow.parquet", extra="interop", purpose="Reading .parquet files")
    arrow = require("pyarrow", extra="interop", purpose="Reading .parquet files")
    with tell_damage(f"{path} is not a Parquet file, or it is truncated"), parquet.ParquetFile(path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
    lists = [column.name for column in schema if is_list(column.type)]
    # The width of variable lists is known only from their rows; 2-D is all that the choice needs.
    members = {name: Member((n_rows, 0), partial(_read_lists, path, name)) for name in lists}
    members |= {
        column.name: Member((n_rows,), partial(_read_column, path, column.name))
        for column in schema
        if column.name not in lists
    }
    numeric = [
        column.name
        for column in schema
        if arrow.types.is_primitive(column.type)
        and not arrow.types.is_temporal(column.type)
        and column.name not in LABEL_NAMES
        and not column.name.startswith("__index_level_")
    ]
    if numeric and not lists:
        members["columns"] = Member((n_rows, len(numeric)), partial(_read_columns, path, numeric))
    return Contents(path, members)


def _read_lists(path: Path, name: str) -> Array:
    """Gather a column of lists."""
    blocks = (
        from_arrow(batch.column(0), name=f"lists of column {name!r} in {path}") for batch in _batches(path, [name])
    )
    return _gather(path, [name], blocks)


def _read_columns(path: Path, names: list[str]) -> Array:
    """Gather numeric columns as the features of a matrix."""
    blocks = (
        np.column_stack([from_arrow(column, name=f"numbers in {path}") for column in batch.columns])
        for batch in _batches(path, names)
    )
    return _gather(path, names, blocks)


def _read_column(path: Path, name: str) -> Any:
    """Read one column as it is."""
    import pyarrow

    check_in_memory(_announced(path, [name]), f"column {name!r} of {path}")
    chunks = [batch.column(0) for batch in _batches(path, [name])]
    return pyarrow.chunked_array(chunks) if chunks else np.empty(0)


def _gather(path: Path, names: list[str], blocks: Iterator[Array]) -> Array:
    """Gather batches, the first of which tells width and type."""
    import pyarrow.parquet

    check_room(_announced(path, names), f"columns of {path}")
    first = next(blocks, None)
    if first is None:
        raise InputError(f"{path} holds no rows.")
    with pyarrow.parquet.ParquetFile(path) as file:
        n_rows = file.metadata.num_rows
    shape = n_rows, first.shape[1]
    return gather_blocks(_of_width(path, first, blocks), shape, first.dtype, name=f"columns of {path}")


def _of_width(path: Path, first: Array, blocks: Iterator[Array]) -> Iterator[Array]:
    """All batches, each checked to be as wide as the first."""
    yield first
    for block in blocks:
        if block.shape[1] != first.shape[1]:
            raise InputError(f"The lists in {path} differ in length: {first.shape[1]} and {block.shape[1]} numbers.")
        yield block


def _batches(path: Path, names: list[str]) -> Iterator[Any]:
    """Batches of rows of some columns."""
    import pyarrow.parquet

    # One row group at a time: asked for all, PyArrow keeps what it has read until the last batch.
    with tell_damage(f"{path} is damaged"), pyarrow.parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = _rows_at_once(file.metadata.row_group(group), names, path)
            yield from file.iter_batches(rows, row_groups=[group], columns=names)


def _announced(path: Path, names: list[str]) -> int:
    """Bytes that the values of some columns take, by the metadata of the file: it may be a thousandth of them."""
    import pyarrow.parquet

    with tell_damage(f"{path} is damaged"), pyarrow.parquet.ParquetFile(path) as file:
        groups = range(file.num_row_groups)
        announced: int = sum(_group_bytes(file.metadata.row_group(group), names) for group in groups)
        return announced


def _rows_at_once(group: Any, names: list[str], path: Path) -> int:
    """Rows of a group that are read at once: few where each is long."""
    row_bytes = _group_bytes(group, names) // max(1, int(group.num_rows))
    check_in_memory(row_bytes, f"rows of {path}")
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, row_bytes)))


def _group_bytes(group: Any, names: list[str]) -> int:
    """Bytes of some columns of a row group, values of lists counted one by one."""
    columns = (group.column(index) for index in range(group.num_columns))
    n_bytes: int = sum(
        column.num_values * _BITS.get(column.physical_type, 32) // 8
        for column in columns
        if any(column.path_in_schema == name or column.path_in_schema.startswith(f"{name}.") for name in names)
    )
    return n_bytes

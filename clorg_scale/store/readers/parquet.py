"""Parquet files: a column of equally long lists or tensors, or numeric columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import Array
from clorg_scale.arrays.arrow import describe_column, from_arrow, index_columns
from clorg_scale.arrays.columns import row_number_reason
from clorg_scale.arrays.spool import check_in_memory, check_room, gather_blocks
from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import LABEL_NAMES, Contents, Member, Table
from clorg_scale.store.damage import explain_damage

__all__ = ["contents"]

_BATCH_ROWS = 8192

_BATCH_BYTES = 256 << 20
"""Rows of lists so long that fewer of them are read at once."""

_BITS = {"BOOLEAN": 1, "INT64": 64, "INT96": 96, "DOUBLE": 64}
"""Bits of a value of each physical type; 32 for the others: the indices of strings take at least that."""


def contents(path: Path) -> Contents:
    """List the columns of the file, and which of them are features.

    Raises
    ------
    InputError
        If it is not a Parquet file, or truncated, or columns have one name.
    MissingDependencyError
        If PyArrow is not installed.
    """
    parquet = require("pyarrow.parquet", extra="interop", purpose="Reading .parquet files")
    with explain_damage(f"{path} is not a Parquet file, or it is truncated"), parquet.ParquetFile(path) as file:
        schema, n_rows = file.schema_arrow, file.metadata.num_rows
        index = index_columns(schema)
    twice = [name for position, name in enumerate(schema.names) if name in schema.names[:position]]
    if twice:
        raise InputError(f"{path} has several columns named {twice[0]!r}; give each a name of its own.")
    members, reasons = {}, {}
    for column in schema:
        kind, row_shape = describe_column(column.type)
        reasons[column.name] = _why_no_feature(column.name, kind, row_shape, index)
        if row_shape:
            members[column.name] = Member((n_rows, *row_shape), partial(_read_lists, path, column.name))
        else:
            members[column.name] = Member((n_rows,), partial(_read_column, path, column.name))
    return Contents(path, members, table=Table(reasons, partial(_read_columns, path)))


def _why_no_feature(name: str, kind: str, row_shape: tuple[int, ...] | None, index: set[str]) -> str:
    """Say why a column is no feature; "" if it is one."""
    if name in index:
        return "the index of the data frame"
    if name in LABEL_NAMES and not row_shape:
        return "a name of labels"
    return kind or row_number_reason(name)


def _read_lists(path: Path, name: str) -> Array:
    """Gather a column of lists."""
    blocks = (
        from_arrow(batch.column(0), name=f"lists of column {name!r} in {path}") for batch in _batches(path, [name])
    )
    return _gather(path, [name], blocks)


def _read_columns(path: Path, names: list[str]) -> Array:
    """Gather numeric columns as the features of a matrix."""
    blocks = (
        np.column_stack(
            [
                from_arrow(column, name=f"numbers of column {name!r} in {path}")
                for name, column in zip(names, batch.columns, strict=True)
            ]
        )
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
    """Gather batches, the first of which gives width and type."""
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
    with explain_damage(f"{path} is damaged"), pyarrow.parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = _rows_at_once(file.metadata.row_group(group), names, path)
            for batch in file.iter_batches(rows, row_groups=[group], columns=names):
                if batch.num_rows:
                    yield batch.select(names)  # "a.b" also reads the field b of a column a


def _announced(path: Path, names: list[str]) -> int:
    """Bytes that the values of some columns take, by the metadata of the file: it may be a thousandth of them."""
    import pyarrow.parquet

    with explain_damage(f"{path} is damaged"), pyarrow.parquet.ParquetFile(path) as file:
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

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
from clorg_scale.arrays.spool import gather_blocks
from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import LABEL_NAMES, Contents, Member, Table
from clorg_scale.store.damage import tell_damage

__all__ = ["contents"]

_BATCH_ROWS = 8192


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
    with tell_damage(f"{path} is not a Parquet file, or it is truncated"), parquet.ParquetFile(path) as file:
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
    return _gather(path, blocks)


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
    return _gather(path, blocks)


def _read_column(path: Path, name: str) -> Any:
    """Read one column as it is."""
    import pyarrow

    chunks = [batch.column(0) for batch in _batches(path, [name])]
    return pyarrow.chunked_array(chunks) if chunks else np.empty(0)


def _gather(path: Path, blocks: Iterator[Array]) -> Array:
    """Gather batches, the first of which tells width and type."""
    import pyarrow.parquet

    first = next(blocks, None)
    if first is None:
        raise InputError(f"{path} holds no rows.")
    with pyarrow.parquet.ParquetFile(path) as file:
        n_rows = file.metadata.num_rows
    return gather_blocks(_of_width(path, first, blocks), (n_rows, first.shape[1]), first.dtype)


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
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names):
                if batch.num_rows:
                    yield batch.select(names)  # "a.b" also reads the part b of a column a

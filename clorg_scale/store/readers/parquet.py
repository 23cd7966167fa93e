"""Parquet files: a column of equally long lists, or numeric columns."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import Array
from clorg_scale.arrays.arrow import from_arrow, is_list
from clorg_scale.arrays.spool import gather_blocks
from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import LABEL_NAMES, Contents, Member
from clorg_scale.store.damage import tell_damage

__all__ = ["contents"]

_BATCH_ROWS = 8192


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
    return _gather(path, blocks)


def _read_columns(path: Path, names: list[str]) -> Array:
    """Gather numeric columns as the features of a matrix."""
    blocks = (
        np.column_stack([from_arrow(column, name=f"numbers in {path}") for column in batch.columns])
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
            yield from file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names)

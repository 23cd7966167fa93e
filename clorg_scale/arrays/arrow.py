"""PyArrow columns and tables as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from clorg_scale.arrays.device import Array
from clorg_scale.arrays.spool import gather_blocks
from clorg_scale.errors import InputError

__all__ = ["from_arrow", "is_list"]


def from_arrow(data: Any, *, name: str) -> Array:
    """Take a column of equally long lists, another column, or a table as an array.

    Parameters
    ----------
    data
        ``pyarrow`` Array, ChunkedArray, Table or RecordBatch. One chunk of a fixed-size list is not copied.
    name
        What to call it in error sentences.

    Raises
    ------
    InputError
        If values are missing, lists differ in length, or the columns of a table are not numeric.
    """
    import pyarrow

    if isinstance(data, (pyarrow.Table, pyarrow.RecordBatch)):
        if data.num_columns != 1:
            from clorg_scale.arrays.frames import from_frame

            return from_frame(data.to_pandas(), name=name)
        data = data.column(0)
    if data.null_count:
        raise InputError(f"The {name} hold {data.null_count} missing values; remove or fill these rows.")
    if pyarrow.types.is_dictionary(data.type):
        data = data.cast(data.type.value_type)
    chunks = [data] if isinstance(data, pyarrow.Array) else data.chunks
    if not is_list(data.type):
        return np.asarray(data.to_numpy(zero_copy_only=False) if len(chunks) == 1 else data.to_numpy())
    blocks = [list_matrix(chunk, name=name) for chunk in chunks if len(chunk)]
    if len(blocks) == 1:
        return blocks[0]
    widths = sorted({block.shape[1] for block in blocks})
    if len(widths) != 1:
        raise InputError(f"The lists of the {name} differ in length: {widths[0]} and {widths[1]} numbers.")
    return gather_blocks(blocks, (len(data), widths[0]), blocks[0].dtype, name=name)


def list_matrix(chunk: Any, *, name: str) -> Array:
    """Give the lists of one chunk as the rows of a matrix, sharing memory.

    Raises
    ------
    InputError
        If the lists differ in length or hold missing values.
    """
    import pyarrow

    values = chunk.flatten()
    if chunk.null_count or values.null_count:
        raise InputError(f"The {name} hold missing values; remove or fill these rows.")
    if pyarrow.types.is_fixed_size_list(chunk.type):
        width = chunk.type.list_size
    else:
        lengths = np.diff(chunk.offsets.to_numpy())
        width = int(lengths[0])
        if (lengths != width).any():
            row = int(np.flatnonzero(lengths != width)[0])
            raise InputError(
                f"The lists of the {name} differ in length: {width} and {lengths[row]} numbers (row {row})."
            )
    return values.to_numpy(zero_copy_only=not pyarrow.types.is_boolean(values.type)).reshape(len(chunk), width)


def is_list(arrow_type: Any) -> bool:
    """Tell whether a column of this type holds lists."""
    import pyarrow

    kinds = pyarrow.types
    return any(is_kind(arrow_type) for is_kind in (kinds.is_fixed_size_list, kinds.is_list, kinds.is_large_list))

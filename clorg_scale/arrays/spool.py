"""Arrays that come in blocks, gathered where they fit: in memory, or in a temporary memory-mapped file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays.device import Array
from clorg_scale.arrays.memory import available_memory

__all__ = ["gather_blocks"]

_SHARE_OF_MEMORY = 0.25
"""Share of the free memory that a gathered array may take; the stages that follow need the rest."""


def gather_blocks(blocks: Iterable[Array], shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Gather consecutive blocks of rows into one array, on disk where it is large against the free memory.

    The file lies in the folder of temporary files (the environment variable ``TMPDIR`` chooses it), has no
    name, and its space is free again when the array is.

    Parameters
    ----------
    blocks
        (b, ...) NumPy arrays, in order, `shape[0]` rows in all.
    shape, dtype
        Of the whole array.

    Returns
    -------
    NumPy array, or read-only memory map.

    Raises
    ------
    InputError
        If the disk is full.
    """
    dtype = np.dtype(dtype)
    n_bytes = prod(shape) * dtype.itemsize
    if n_bytes > _SHARE_OF_MEMORY * available_memory():
        return _on_disk(blocks, shape, dtype)
    whole = np.empty(shape, dtype=dtype)
    start = 0
    for block in blocks:
        whole[start : start + len(block)] = block
        start += len(block)
    return whole


def _on_disk(blocks: Iterable[Array], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Write the blocks to an unnamed temporary file and map it."""
    from clorg_scale.store.atomic import explain_write_errors

    n_bytes = prod(shape) * dtype.itemsize
    # Written, not assigned to a writable map: a full disk is then an error and not a dead process.
    with (
        explain_write_errors(Path(tempfile.gettempdir()) / f"a temporary file of {n_bytes} bytes"),
        tempfile.TemporaryFile() as file,
    ):
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)
        file.flush()
        return np.memmap(file, dtype=dtype, mode="r", shape=shape)

"""Arrays collected from blocks: in memory where they fit, otherwise in a temporary memory-mapped file."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays.device import Array
from clorg_scale.arrays.memory import available_memory, in_bytes
from clorg_scale.errors import InputError

__all__ = ["check_in_memory", "check_on_disk", "check_room", "gather_blocks"]

_SHARE_OF_MEMORY = 0.25
"""Share of the free memory that a gathered array may take; the stages that follow need the rest."""

_ALWAYS_TRIED = 64 << 20
"""Amounts of memory up to which an allocation is always attempted."""


def gather_blocks(
    blocks: Iterable[Array],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    *,
    name: str = "array",
    most: int | None = None,
) -> Array:
    """Collect consecutive blocks of rows in one array, on disk where it is large compared with the free memory.

    The file is in the folder of temporary files (set by the environment variable ``TMPDIR``), has no name, and is freed
    with the array. The announced size is compared with the free space before the first block is read.

    Parameters
    ----------
    blocks
        (b, ...) NumPy arrays, in order, `shape[0]` rows in all.
    shape, dtype
        Shape and type of the whole array.
    name
        Name used in error messages.
    most
        Bytes of memory that it may take, if not a quarter of what is free.

    Returns
    -------
    NumPy array, or read-only memory map.

    Raises
    ------
    InputError
        If it fits neither in memory nor on the disk, or the blocks have more or fewer rows than announced.
    """
    dtype = np.dtype(dtype)
    n_bytes = prod(shape) * dtype.itemsize
    blocks = _counted(blocks, shape[0], name)
    if check_room(n_bytes, name, most=most):
        whole = np.empty(shape, dtype)
        start = 0
        for block in blocks:
            whole[start : start + len(block)] = block
            start += len(block)
        return whole
    return _on_disk(blocks, shape, dtype)


def check_room(n_bytes: int, name: str, *, most: int | None = None) -> bool:
    """Check that an array of that size can be collected; True for in memory, False for in a temporary file.

    `most` are the bytes of memory that it may take, if not a quarter of what is free.

    Raises
    ------
    InputError
        If neither the memory nor the folder of temporary files has room for it.
    """
    in_memory = int(_SHARE_OF_MEMORY * available_memory())
    if n_bytes <= (in_memory if most is None else min(most, in_memory)):
        return True
    check_on_disk(n_bytes, name)
    return False


def check_on_disk(n_bytes: int, name: str) -> None:
    """Check that the folder of temporary files has room for an array of that size.

    Raises
    ------
    InputError
        If it has not.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if largest != resource.RLIM_INFINITY:
        free = min(free, largest)
    if n_bytes > free:
        raise InputError(
            f"The {name} would take {in_bytes(n_bytes)}, more than fits in memory, and {folder} has room for "
            f"{in_bytes(free)}; name a folder with more space in the environment variable TMPDIR, or store fewer rows."
        )


def check_in_memory(n_bytes: int, name: str) -> None:
    """Check that something that is read in one piece fits in the free memory.

    Raises
    ------
    InputError
        If it does not.
    """
    free = available_memory()
    if n_bytes > max(free, _ALWAYS_TRIED):
        raise InputError(
            f"The {name} would take {in_bytes(n_bytes)} of memory to read, and {in_bytes(free)} are free; store them "
            "in smaller pieces."
        )


def _counted(blocks: Iterable[Array], n_rows: int, name: str) -> Iterator[Array]:
    """Yield the blocks, and check that they have as many rows as announced."""
    n_read = 0
    for block in blocks:
        n_read += len(block)
        if n_read > n_rows:
            raise InputError(f"The {name} hold more than the {n_rows} rows announced; the file is damaged.")
        yield block
    if n_read < n_rows:
        raise InputError(f"The {name} end after {n_read} of the {n_rows} rows announced; the file is damaged.")


def _on_disk(blocks: Iterable[Array], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Write the blocks to an unnamed temporary file and map it."""
    from clorg_scale.store.atomic import explain_write_errors

    n_bytes = prod(shape) * dtype.itemsize
    # Written, not assigned to a writable map: a full disk then raises an error instead of killing the process.
    with (
        explain_write_errors(Path(tempfile.gettempdir()) / f"a temporary file of {n_bytes} bytes"),
        tempfile.TemporaryFile() as file,
    ):
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)
        file.flush()
        return np.memmap(file, dtype, "r", 0, shape)

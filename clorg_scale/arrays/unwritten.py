"""Chunks of HDF5 and Zarr arrays that are not there, which their libraries read as the fill value without a word.

An HDF5 chunk appears when anything is written into it, so one that is not there was never written. Zarr, as it is
set up by default, leaves out chunks that hold nothing but the fill value, so one that is not there may have been
lost, or may have been all zeros: rows of a matrix of which nothing is there are refused, as no embedding is exactly
zero for a whole chunk of points; a part of them, or of a vector of labels, is warned of.
"""

from __future__ import annotations

import operator
import os
import warnings
from math import prod
from pathlib import Path
from typing import Any

from clorg_scale.arrays.memory import available_memory, in_bytes
from clorg_scale.errors import InputError

__all__ = ["check_written"]


def check_written(data: Any, *, name: str) -> None:
    """Check that the chunks of an HDF5 or Zarr array are there and fit in memory; others pass.

    Parameters
    ----------
    data
        ``h5py.Dataset`` or ``zarr.Array``; anything else has no chunks that could be missing.
    name
        What to call it in error sentences.

    Raises
    ------
    InputError
        If data were never written, rows of a matrix are lost, or one chunk is larger than the free memory.
    """
    library = type(data).__module__.partition(".")[0]
    if library not in ("h5py", "zarr") or not data.ndim or not prod(data.shape):
        return
    if library == "h5py":
        if not data.is_virtual and not data.external:
            _check_hdf5(data, name)
    else:
        _check_zarr(data, name)


def _check_hdf5(dataset: Any, name: str) -> None:
    """Count the chunks that were never written; a contiguous array is written as a whole or not at all."""
    from h5py import h5d

    properties = dataset.id.get_create_plist()
    if properties.get_layout() == h5d.COMPACT:
        return
    if dataset.chunks is None:
        n_chunks, n_there = 1, int(dataset.id.get_offset() is not None)
    else:
        _check_chunk_size(dataset.chunks, dataset.dtype.itemsize, name)
        n_chunks, n_there = prod(_grid(dataset.shape, dataset.chunks)), dataset.id.get_num_chunks()
    if n_there >= n_chunks:
        return
    counted = _counted(n_chunks - n_there, n_chunks)
    sentence = f"{counted} of the {name} were never written and would be read as {dataset.fillvalue!s}"
    if dataset.ndim == 1 and properties.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
        warnings.warn(f"{sentence}, the fill value chosen for them.", stacklevel=2)
        return
    raise InputError(f"{sentence}; write the file again.")


def _check_zarr(array: Any, name: str) -> None:
    """Count the chunks of which there is no file."""
    shape, chunks = array.shape, array.shards or array.chunks
    _check_chunk_size(chunks, array.dtype.itemsize, name)
    grid = _grid(shape, chunks)
    found = _zarr_chunks(array, grid)
    if found is None or len(found) >= prod(grid) or array.dtype.kind == "b":  # masks are mostly False
        return
    counted = _counted(prod(grid) - len(found), prod(grid))
    sentence = f"{counted} of the {name} are not there and would be read as {array.fill_value!s}"
    lost_rows = grid[0] - len({position[0] for position in found})
    if array.fill_value is None or (len(grid) > 1 and lost_rows):
        raise InputError(
            f"{sentence}; write the store again (where the values are right, with "
            "zarr.config.set({'array.write_empty_chunks': True}))."
        )
    warnings.warn(
        f"{sentence}; Zarr leaves out chunks that hold nothing else, but if they held other values, they are lost.",
        stacklevel=2,
    )


def _zarr_chunks(array: Any, grid: tuple[int, ...]) -> set[tuple[int, ...]] | None:
    """Positions of the chunks that have a file; None where they cannot be listed."""
    root = getattr(array.store_path.store, "root", None)
    if not isinstance(root, Path):  # in memory, in an archive, or remote
        return None
    found = set()
    waiting: list[tuple[Path, tuple[int, ...]]] = [(root / array.path, ())]
    while waiting:
        folder, start = waiting.pop()
        for entry in os.scandir(folder):
            parts = entry.name.removeprefix("c").removeprefix(".").split(".")
            if parts != [""] and not all(part.isdecimal() for part in parts):
                continue
            position = (*start, *(int(part) for part in parts if part))
            if len(position) > len(grid) or not all(map(operator.lt, position, grid)):
                continue
            if entry.is_dir():
                waiting.append((Path(entry.path), position))
            elif len(position) == len(grid):
                found.add(position)
    return found


def _grid(shape: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks along each axis."""
    return tuple(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))


def _check_chunk_size(chunks: tuple[int, ...], itemsize: int, name: str) -> None:
    """Refuse chunks that cannot be read, as each is read whole."""
    n_bytes, free = prod(chunks) * itemsize, available_memory()
    if n_bytes > free:
        raise InputError(
            f"The {name} lie in chunks of {in_bytes(n_bytes)} each, and {in_bytes(free)} of memory are free; store "
            "them in smaller chunks."
        )


def _counted(n_missing: int, n_chunks: int) -> str:
    """Begin the sentence."""
    if n_chunks == 1:
        return "The data"
    return f"{n_missing} of the {n_chunks} chunks"

"""Missing chunks of HDF5 and Zarr arrays, which their libraries silently read as the fill value.

An HDF5 chunk is allocated when anything is written into it, so a missing one was never written. Zarr, by default,
leaves out chunks that hold nothing but the fill value, so a missing one may have been lost, or may have been all zeros:
rows of a matrix without a single stored chunk are refused, as no embeddings are exactly zero for a whole chunk of
points; other missing chunks of a matrix, and those of a vector of labels, are warned of.
"""

from __future__ import annotations

import warnings
from math import prod
from typing import Any

from clorg_scale.arrays.memory import available_memory, in_bytes
from clorg_scale.arrays.zarr_chunks import count_stored_chunks, grid_shape
from clorg_scale.counted import counted
from clorg_scale.errors import InputError

__all__ = ["check_written"]


def check_written(data: Any, *, name: str) -> None:
    """Check that the chunks of an HDF5 or Zarr array are stored and fit in memory; other arrays pass.

    Parameters
    ----------
    data
        ``h5py.Dataset`` or ``zarr.Array``; nothing else has chunks that could be missing.
    name
        Name used in error messages.

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
        n_chunks, n_there = prod(grid_shape(dataset.shape, dataset.chunks)), dataset.id.get_num_chunks()
    if n_there >= n_chunks:
        return
    missing = _missing(n_chunks - n_there, n_chunks)
    sentence = f"{missing} of the {name} were never written and would be read as {dataset.fillvalue!s}"
    if dataset.ndim == 1 and properties.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
        warnings.warn(f"{sentence}, the fill value chosen for them.", stacklevel=2)
        return
    raise InputError(f"{sentence}; write the file again.")


def _check_zarr(array: Any, name: str) -> None:
    """Count the chunks that are not stored."""
    _check_chunk_size(array.shards or array.chunks, array.dtype.itemsize, name)
    found = count_stored_chunks(array)
    if found is None or array.dtype.kind == "b":  # masks are mostly False
        return
    if found.unknown_shards:
        warnings.warn(
            f"{counted(found.unknown_shards, 'shard')} of the {name} {'has' if found.unknown_shards == 1 else 'have'} "
            "an index in an encoding that is not known here; chunks "
            f"missing in them would be read as {array.fill_value!s}.",
            stacklevel=2,
        )
    if found.n_stored >= found.n_chunks:
        return
    n_missing = found.n_chunks - found.n_stored
    verb = "is" if n_missing == 1 < found.n_chunks else "are"
    sentence = (
        f"{_missing(n_missing, found.n_chunks)} of the {name} {verb} missing and would be read as {array.fill_value!s}"
    )
    if array.fill_value is None or (array.ndim > 1 and found.empty_rows):
        raise InputError(
            f"{sentence}; write the store again (where the values are right, with "
            "zarr.config.set({'array.write_empty_chunks': True}))."
        )
    warnings.warn(
        f"{sentence}; Zarr leaves out chunks that hold nothing else, but if they held other values, they are lost.",
        stacklevel=2,
    )


def _check_chunk_size(chunks: tuple[int, ...], itemsize: int, name: str) -> None:
    """Refuse chunks that cannot be read, as each is read whole."""
    n_bytes, free = prod(chunks) * itemsize, available_memory()
    if n_bytes > free:
        raise InputError(
            f"The {name} lie in chunks of {in_bytes(n_bytes)} each, and {in_bytes(free)} of memory are free; store "
            "them in smaller chunks."
        )


def _missing(n_missing: int, n_chunks: int) -> str:
    """Begin the sentence."""
    if n_chunks == 1:
        return "The data"
    return f"{n_missing} of the {n_chunks} chunks"

"""Arrays that share their memory: NumPy, CuPy, torch, DLPack, the array interfaces, and arrays read in slices."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from clorg_scale.arrays.blocks import BLOCK_BYTES, row_slices
from clorg_scale.arrays.device import Array
from clorg_scale.arrays.memory import available_memory
from clorg_scale.arrays.spool import check_in_memory, gather_blocks
from clorg_scale.arrays.unwritten import check_written
from clorg_scale.errors import InputError, require

__all__ = ["plain_array"]

_CPU, _CUDA_DEVICES = 1, (2, 13)
"""Device numbers of DLPack: main memory; CUDA memory, plain and managed."""

_POINTER_BYTES = 8
"""Least size of a string or another Python object."""


def plain_array(data: Any, *, name: str) -> Array:
    """Take an array that is neither a data frame nor a column as NumPy or CuPy; see `as_array`.

    Parameters
    ----------
    data
        The array, or nested lists.
    name
        Name used in error messages.

    Raises
    ------
    InputError
        If it cannot be read as an array.
    """
    if isinstance(data, np.ndarray):
        return _from_numpy(data, name)
    if type(data).__module__.partition(".")[0] == "cupy" and hasattr(data, "dtype") and hasattr(data, "get"):
        return data
    if hasattr(data, "tocsr") and hasattr(data, "nnz"):
        raise InputError(
            f"The {name} are a sparse matrix; pass a dense array, for example the leading components of a "
            "truncated SVD, or .toarray() if that fits in memory."
        )
    if _is_tensor(data):
        return _from_torch(data, name)
    if hasattr(data, "__cuda_array_interface__"):
        return _cupy(name).asarray(data)
    if hasattr(data, "__dlpack__") and hasattr(data, "__dlpack_device__"):
        return _from_dlpack(data, name)
    if _is_sliceable(data):
        return _from_slices(data, name)
    try:
        return _from_numpy(np.asarray(data), name)
    except (ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The {name} cannot be read as an array: {error}.") from error


def _from_numpy(array: Array, name: str) -> Array:
    """Handle the special arrays of NumPy; return all others unchanged."""
    if isinstance(array, np.ma.MaskedArray):
        n_masked = int(np.ma.getmaskarray(array).sum())
        if n_masked:
            raise InputError(f"The {name} hold {n_masked} masked values; remove or fill these rows.")
        return array.data
    if isinstance(array, np.matrix):
        return array.A
    if _is_foreign_float(array.dtype):  # ml_dtypes, which JAX and Zarr use
        return gather_blocks((array[rows].astype(np.float32) for rows in _slices(array)), array.shape, np.float32)
    return array


def _is_foreign_float(dtype: Any) -> bool:
    """Whether this is a float type that NumPy itself lacks."""
    return str(dtype).startswith(("bfloat16", "float8", "torch.bfloat16", "torch.float8"))


def _is_tensor(data: Any) -> bool:
    """Whether this is a tensor, or an instance of a subclass, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(data, torch.Tensor)


def _from_torch(tensor: Any, name: str) -> Array:
    """Share the memory of a tensor on its device."""
    tensor = tensor.detach()
    if str(tensor.layout) != "torch.strided":
        raise InputError(f"The {name} are a sparse tensor; pass a dense one.")
    if tensor.device.type == "cuda":
        # CuPy has no bfloat16; the copy stays on the device.
        return _cupy(name).from_dlpack(tensor.float() if _is_foreign_float(tensor.dtype) else tensor)
    if tensor.device.type == "meta":
        raise InputError(f"The {name} are a tensor without data (device 'meta').")
    tensor = tensor.cpu()
    if _is_foreign_float(tensor.dtype):
        blocks = (tensor[rows].float().numpy() for rows in _slices(tensor))
        return gather_blocks(blocks, tuple(tensor.shape), np.float32, name=name)
    return tensor.resolve_conj().resolve_neg().numpy()


def _from_dlpack(data: Any, name: str) -> Array:
    """Share the memory of an array through DLPack."""
    device = int(data.__dlpack_device__()[0])
    if device in _CUDA_DEVICES:
        return _cupy(name).from_dlpack(data)
    try:
        return np.from_dlpack(data)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        if device == _CPU and hasattr(data, "__array__"):  # a type that DLPack or NumPy's implementation of it lacks
            return _from_numpy(np.asarray(data), name)
        raise InputError(f"The {name} cannot be read through DLPack: {error}.") from error


def _cupy(name: str) -> Any:
    """Import CuPy, which is needed for data on a GPU."""
    return require("cupy", extra="cuda13", purpose=f"Reading {name} on a GPU")


def _is_sliceable(data: Any) -> bool:
    """Whether this is an array that is read in slices (HDF5, Zarr, Dask and similar)."""
    return all(hasattr(data, name) for name in ("shape", "dtype", "ndim", "__getitem__")) and not hasattr(
        data, "__array_interface__"
    )


def _from_slices(data: Any, name: str) -> Array:
    """Read an array in slices of whole chunks."""
    dtype = data.dtype
    if data.ndim == 0:
        raise InputError(f"The {name} are a single value, not an array.")
    check_written(data, name=name)
    if not isinstance(dtype, np.dtype) or dtype.kind == "O":
        check_in_memory(prod(data.shape) * _POINTER_BYTES, name)
        return np.asarray(data[:])
    target = np.float32 if _is_foreign_float(dtype) else dtype
    blocks = (np.asarray(data[rows]).astype(target, copy=False) for rows in _slices(data))
    return gather_blocks(blocks, tuple(data.shape), target, name=name)


def _slices(data: Any) -> Iterator[slice]:
    """Divide the rows into blocks, those of a chunked array into blocks of whole chunks."""
    n_rows = int(data.shape[0])
    row_bytes = max(1, prod(data.shape[1:]) * data.dtype.itemsize)
    chunks = getattr(data, "chunks", None)
    chunk = chunks[0] if isinstance(chunks, tuple) and isinstance(chunks[0], int) else 1
    if chunk * row_bytes > max(BLOCK_BYTES, available_memory() // 4):
        chunk = 1  # tall chunks of few columns are rather read several times than all at once
    return row_slices(
        n_rows,
        1,
        itemsize=row_bytes,
        block_bytes=max(BLOCK_BYTES // (chunk * row_bytes), 1) * chunk * row_bytes,
    )

"""Safetensors files, mapped where their tensors lie (https://github.com/huggingface/safetensors)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, row_slices
from clorg_scale.arrays.memory import in_bytes
from clorg_scale.arrays.spool import gather_blocks
from clorg_scale.errors import InputError
from clorg_scale.store.contents import Contents, Member

__all__ = ["contents"]

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}

_LONGEST_HEADER = 100_000_000
"""Limit of the reference implementation."""


def contents(path: Path) -> Contents:
    """List the tensors of the file; the format is a length (8 bytes), a JSON header and the data.

    Raises
    ------
    InputError
        If it is not such a file, or truncated.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                raise InputError(f"{path} is not a .safetensors file, or it is truncated.")
            if length > _LONGEST_HEADER:
                raise InputError(f"{path} is damaged: it announces a header of {in_bytes(length)}.")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        tensors = {name: _member(path, 8 + length, size, name, entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a .safetensors file, or its header is damaged ({error}).") from error
    return Contents(path, tensors, metadata)


def _member(path: Path, start: int, size: int, name: str, entry: dict[str, Any]) -> Member:
    """Check one entry of the header against the file."""
    shape = tuple(int(length) for length in entry["shape"])
    begin, end = map(int, entry["data_offsets"])
    if entry["dtype"] not in _DTYPES:
        return Member((), partial(_refuse, path, name, str(entry["dtype"])))
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    if begin < 0 or min(shape, default=0) < 0 or end - begin != prod(shape) * dtype.itemsize:
        raise InputError(f"{path} is damaged: the location of tensor {name!r} does not fit its shape {shape}.")
    if start + end > size:
        raise InputError(f"{path} is truncated: tensor {name!r} ends at byte {start + end}, the file at {size}.")
    return Member(shape, partial(_read, path, start + begin, shape, dtype, entry["dtype"] == "BF16"))


def _refuse(path: Path, name: str, dtype: str) -> Array:
    raise InputError(f"Tensor {name!r} in {path} has type {dtype}; store it as F16, BF16 or F32.")


def _read(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], bfloat16: bool) -> Array:  # noqa: FBT001
    """Map a tensor; bfloat16, which NumPy lacks, becomes float32 block by block."""
    if not prod(shape):
        return np.zeros(shape, dtype)
    mapped = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
    return gather_blocks(_widened(mapped), shape, np.float32, name=f"bfloat16 tensor in {path}") if bfloat16 else mapped


def _widened(bits: Array) -> Iterator[Array]:
    """bfloat16 is the upper half of a float32."""
    for rows in row_slices(len(bits), int(np.prod(bits.shape[1:], dtype=np.int64))):
        yield (bits[rows].astype(np.uint32) << 16).view(np.float32)

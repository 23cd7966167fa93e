"""NumPy's .npz archives: uncompressed arrays are mapped where they lie."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from clorg_scale.arrays import BLOCK_BYTES, Array
from clorg_scale.arrays.spool import gather_blocks
from clorg_scale.errors import InputError
from clorg_scale.store.contents import Contents, Member
from clorg_scale.store.damage import explain_damage
from clorg_scale.store.readers.npy import map_npy, read_header

__all__ = ["contents"]

_LOCAL_HEADER = struct.Struct("<26xHH")
"""Local file header of a ZIP archive, of which the lengths of the name and of the extra field matter."""


def contents(path: Path) -> Contents:
    """List the arrays of the archive.

    Raises
    ------
    InputError
        If it is not a ZIP archive, or damaged.
    """
    with explain_damage(f"{path} is not a .npz file, or it is truncated"), zipfile.ZipFile(path) as archive:
        return Contents(path, dict(_members(archive, path)))


def _members(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, Member]]:
    """Name and shape of each array; one that holds Python objects is refused only when it is read."""
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            continue
        with archive.open(info) as file:
            try:
                shape, _, _ = read_header(file, f"{path}:{info.filename}")
            except InputError:
                shape = ()
        yield info.filename.removesuffix(".npy"), Member(shape, partial(_read, path, info))


def _read(path: Path, info: zipfile.ZipInfo) -> Array:
    """Map an array that is stored as it is; gather a compressed one block by block."""
    label = f"{path}:{info.filename}"
    with explain_damage(f"{label} is damaged"):
        if info.compress_type == zipfile.ZIP_STORED:
            with path.open("rb") as file:
                file.seek(info.header_offset)
                name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                start = file.seek(name_length + extra_length, 1)
                shape, fortran, dtype = read_header(file, label)
                if file.tell() - start + prod(shape) * dtype.itemsize != info.file_size:
                    raise InputError(f"{label} is damaged: its header announces an array of another size.")
                return map_npy(path, file.tell(), shape, fortran, dtype)
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            shape, fortran, dtype = read_header(file, label)
            if file.tell() + prod(shape) * dtype.itemsize != info.file_size:
                raise InputError(f"{label} is damaged: its header announces an array of another size.")
            stored = shape[::-1] if fortran else shape
            array = gather_blocks(_blocks(file, stored, dtype, label), stored, dtype, name=label)
            return array.T if fortran else array


def _blocks(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], label: str) -> Iterator[Array]:
    """Blocks of rows out of a stream."""
    row_bytes = prod(shape[1:]) * dtype.itemsize
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, shape[0], step):
        rows = min(step, shape[0] - start)
        data = file.read(rows * row_bytes)
        if len(data) != rows * row_bytes:
            raise InputError(f"{label} is truncated: it ends in row {start + len(data) // max(1, row_bytes)}.")
        yield np.frombuffer(data, dtype).reshape(rows, *shape[1:])
    file.read(1)  # reaching the end checks the checksum

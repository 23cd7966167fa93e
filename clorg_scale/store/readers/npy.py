"""NumPy's .npy files."""

from __future__ import annotations

from functools import partial
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from clorg_scale.arrays import Array
from clorg_scale.errors import InputError
from clorg_scale.store.contents import Contents, Member
from clorg_scale.store.regular import check_regular_file

__all__ = ["contents", "map_npy", "open_npy", "read_header"]

_HEADER_ERRORS = (ValueError, EOFError, SyntaxError, TokenError, TypeError, OverflowError, RecursionError)
"""Errors that NumPy raises for a damaged header, which it parses as Python text."""

_LONGEST_HEADER = 1 << 20
"""NumPy itself parses 10,000 bytes at most."""


def contents(path: Path) -> Contents:
    """List the one array of the file, under the name of the file."""
    with path.open("rb") as file:
        shape, _, _ = read_header(file, path)
    return Contents(path, {path.stem: Member(shape, partial(open_npy, path))})


def open_npy(path: Path) -> Array:
    """Memory-map a ``.npy`` file.

    Raises
    ------
    InputError
        If it is missing, not such a file, truncated, or holds Python objects.
    """
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            header = read_header(file, path)
            return map_npy(path, file.tell(), *header)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def read_header(file: IO[bytes], path: Path | str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, Fortran order and dtype; the file is positioned at the data afterward.

    Raises
    ------
    InputError
        If it has no such header, or announces Python objects.
    """
    try:
        version = np.lib.format.read_magic(file)
        start = _Start(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        # Version 3 differs from 2 in names of fields only, which no embeddings have.
        shape, fortran, dtype = read.get(version, np.lib.format.read_array_header_2_0)(start)
    except _HEADER_ERRORS as error:
        raise InputError(f"{path} is not a .npy file, or it is damaged; write it again with numpy.save.") from error
    if min(shape, default=0) < 0:
        raise InputError(f"{path} is damaged: its header announces the shape {shape}.")
    if dtype.hasobject:
        raise InputError(
            f"{path} holds Python objects, which are never unpickled; save a plain array of numbers or strings."
        )
    return shape, fortran, dtype


class _Start:
    """The beginning of a file: a header that announces its own length is not believed beyond what any needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, n_bytes: int = -1, /) -> bytes:
        """Read as the file does, within limits."""
        if not 0 <= n_bytes <= _LONGEST_HEADER:
            raise ValueError(f"a header of {n_bytes} bytes")
        return self._file.read(n_bytes)


def map_npy(path: Path, offset: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> Array:  # noqa: FBT001
    """Memory-map an array whose data begin at `offset` of a file.

    Raises
    ------
    InputError
        If the file ends before the array does.
    """
    n_bytes = prod(shape) * dtype.itemsize
    available = path.stat().st_size - offset
    if available < n_bytes:
        raise InputError(f"{path} is truncated: {n_bytes} bytes of data are announced, but it has {max(available, 0)}.")
    if n_bytes == 0 or not shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")

"""Fingerprints of arrays: their contents in 32 hexadecimal digits, and a watch on arrays in files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clorg_scale.arrays import Array, on_host, row_slices
from clorg_scale.arrays.mapped import mapped_array
from clorg_scale.errors import InputError

__all__ = ["Unchanged", "fingerprint"]


def fingerprint(array: Array) -> str:
    """BLAKE2 digest of an array's dtype, shape and contents, read block by block."""
    digest = hashlib.blake2b(f"{array.dtype.str}{tuple(array.shape)}".encode(), digest_size=16)
    n_columns = int(np.prod(array.shape[1:], dtype=np.int64))
    for rows in row_slices(len(array), n_columns, itemsize=array.dtype.itemsize):
        digest.update(np.ascontiguousarray(on_host(array[rows])).data)
    return digest.hexdigest()


class Unchanged:
    """Watch arrays that another process can change during a computation: those in memory-mapped files.

    As a context manager it checks them when the block ends, also where the block raises: an error about contents that
    the user never handed in would mislead.

    Parameters
    ----------
    arrays
        Arrays by their name in error messages; None and arrays that lie in no file are not watched.
    fingerprints
        Known fingerprints of the arrays, by the same names.
    """

    def __init__(self, arrays: dict[str, Array | None], fingerprints: dict[str, str] | None = None) -> None:
        self._watched = [
            _Watched(name, array, (fingerprints or {}).get(name) or fingerprint(array), *_file_of(array))
            for name, array in arrays.items()
            if array is not None and _is_mapped(array)
        ]

    def __enter__(self) -> Unchanged:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self.check()

    def check(self) -> None:
        """Check size and time of the files, and the contents of the arrays.

        If nothing is raised, everything computed so far was computed on the same contents.

        Raises
        ------
        InputError
            If one of them was written to; names its file.
        """
        for watched in self._watched:
            watched.check()


@dataclass(frozen=True)
class _Watched:
    name: str
    array: Array
    fingerprint: str
    path: Path | None
    state: tuple[int, ...] | None
    """Device, inode, size and time of the file."""

    def check(self) -> None:
        """Check this array."""
        now = None if self.path is None else _state(self.path)
        # A file of another inode took over the name: the array still lies in the old one.
        written = now is not None and self.state is not None and now[:2] == self.state[:2] and now != self.state
        # A file that was written to is not read: reading beyond the end of a shortened file kills the process.
        if written or fingerprint(self.array) != self.fingerprint:
            where = "" if self.path is None else f" in {self.path}"
            raise InputError(
                f"The {self.name}{where} were written to while they were computed on; what was computed since then is "
                "not kept: run the same again once they are complete."
            )


def _is_mapped(array: Array) -> bool:
    """Tell whether an array is, or may be, a view of a file: NumPy's maps, and memory that NumPy does not own."""
    owner = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    return not isinstance(owner, np.ndarray) and isinstance(array, np.ndarray)


def _file_of(array: Array) -> tuple[Path | None, tuple[int, ...] | None]:
    """Path and state of the file that an array lies in."""
    mapped = mapped_array(array)
    path = None if mapped is None else Path(mapped.path)
    return path, None if path is None else _state(path)


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

"""Fingerprints of arrays: their contents in 32 hexadecimal digits, and a watch on arrays in files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, array_module, on_host, row_slices
from clorg_scale.arrays.mapped import mapped_array
from clorg_scale.errors import InputError

__all__ = ["Unchanged", "fingerprint"]

POSITIONS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1342543DE82EF95))
"""Odd factors of a word's position, one for each sum."""

MIXING = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
LAST_SHIFT = np.uint64(31)
"""Shifts and factors of splitmix64's finalizer."""


def fingerprint(array: Array) -> str:
    """BLAKE2 digest of an array's dtype, shape and contents, read block by block.

    The contents of an array on a GPU are summed up there first, in 16 bytes: its digest is not that of the same array
    in main memory.
    """
    digest = hashlib.blake2b(f"{array.dtype.str}{tuple(array.shape)}".encode(), digest_size=16)
    if array_module(array) is not np:
        digest.update(_device_sums(array).data)
        return digest.hexdigest()
    n_columns = int(np.prod(array.shape[1:], dtype=np.int64))
    for rows in row_slices(len(array), n_columns, itemsize=array.dtype.itemsize):
        digest.update(np.ascontiguousarray(array[rows]).data)
    return digest.hexdigest()


def _device_sums(array: Array) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """(2,) sums modulo 2^64, over all words of 8 bytes, of a hash of word and position: the only copy to the host.

    The hash is splitmix64's finalizer, which is one-to-one: a word that changes always changes both sums.
    """
    xp = array_module(array)
    sums, start = xp.zeros(len(POSITIONS), dtype=np.uint64), 0
    n_columns = int(np.prod(array.shape[1:], dtype=np.int64))
    for rows in row_slices(len(array), n_columns, itemsize=array.dtype.itemsize):
        raw = xp.ascontiguousarray(array[rows]).reshape(-1).view(np.uint8)
        padded = xp.zeros(-(-len(raw) // 8) * 8, dtype=np.uint8)
        padded[: len(raw)] = raw
        words = padded.view(np.uint64)
        position = xp.arange(start + 1, start + 1 + len(words), dtype=np.uint64)
        sums += xp.stack([_mixed(words ^ (position * odd)).sum() for odd in POSITIONS])
        start += len(words)
    return on_host(sums)


def _mixed(words: Array) -> Array:
    for shift, factor in MIXING:
        words = (words ^ (words >> shift)) * factor
    return words ^ (words >> LAST_SHIFT)


class Unchanged:
    """Watch arrays that another process can change during a computation: those in memory-mapped files.

    As a context manager it checks them when the block ends, also where the block raises: an error about contents that
    the user never passed would mislead.

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
                "not kept: run this again once they are complete."
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

"""Arrays in memory-mapped files: pickled by their location in the file, not by their contents."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MappedArray", "compilable_view", "location_or_array", "mapped_array", "original_of", "originals"]


@dataclass(frozen=True)
class MappedArray:
    """Location of an array in a file; it is unpickled as the array, mapped from that file.

    Attributes
    ----------
    path
        Absolute path of the file.
    offset
        Bytes before the first element.
    dtype, shape, strides
        As NumPy has them.
    """

    path: str
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def open(self) -> npt.NDArray[Any]:
        """Map the array, read-only."""
        return self.within(np.memmap(self.path, dtype=np.uint8, mode="r"))

    def within(self, whole: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the array as a view of the bytes of its file."""
        return np.ndarray(self.shape, self.dtype, buffer=whole, offset=self.offset, strides=self.strides)

    def signature(self) -> tuple[str, int, int]:
        """Path, size and time of the last change of the file, for `is_here`."""
        return self.path, *_state(self.path)

    def __reduce__(self) -> Any:
        return _open, (self.path, self.offset, self.dtype, self.shape, self.strides)

    @staticmethod
    def is_here(signature: tuple[str, int, int]) -> bool:
        """Whether this process sees the same file."""
        path, *state = signature
        try:
            return os.access(path, os.R_OK) and list(_state(path)) == state
        except OSError:
            return False


def mapped_array(array: Any) -> MappedArray | None:
    """Location of an array, or of a view of one, in a named file; None where there is none."""
    owner = array
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    mapping = getattr(owner, "_mmap", None)
    if mapping is None or not isinstance(owner.filename, (str, os.PathLike)):
        return None
    path = Path(owner.filename).resolve()
    if not path.is_file():
        return None
    # The mapping begins where pages do; `offset` is that of the first memory map, whatever view this is.
    first_page = owner.offset - owner.offset % _granularity()
    start = np.frombuffer(mapping, dtype=np.uint8).ctypes.data
    location = MappedArray(str(path), first_page + array.ctypes.data - start, array.dtype, array.shape, array.strides)
    first, last = np.lib.array_utils.byte_bounds(array)
    ends = first_page + first - start, first_page + last - start
    return location if 0 <= ends[0] and ends[1] <= path.stat().st_size else None


def location_or_array(array: Any) -> Any:
    """Return what to pickle for an array: its location in a file where it has one, otherwise the array.

    Where the file is a machine's own copy (`clorg_scale.arrays.local_copies`), that of the original.
    """
    location = mapped_array(array)
    return array if location is None else original_of(location) or location


originals: dict[str, Callable[[MappedArray], Any]] = {}
"""Substitutes of locations in pickles, by the path of each file that is a machine's own copy of an array elsewhere."""


def original_of(location: MappedArray) -> Any:
    """Return what to pickle for an array in a copy; None for one in any other file."""
    original = originals.get(location.path)
    return None if original is None else original(location)


def compilable_view(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """View of a contiguous array that counts as writable, for compiled loops that only read it.

    Numba compiles a loop once more for read-only arrays, which takes longer than most runs of it; and PyTorch warns of
    them. Writing to the view of a read-only map ends the process.
    """
    if array.flags.writeable or not array.flags.c_contiguous or not array.nbytes:
        return array
    memory: Any = (ctypes.c_byte * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array  # kept as long as the view
    view: npt.NDArray[Any] = np.frombuffer(memory, dtype=array.dtype)
    return view.reshape(array.shape)


def _granularity() -> int:
    import mmap

    return mmap.ALLOCATIONGRANULARITY


def _state(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_size, status.st_mtime_ns


def _open(*location: Any) -> npt.NDArray[Any]:
    return MappedArray(*location).open()

"""Remote arrays (object stores, Dask arrays), copied block by block to the disk of each machine that computes.

Embeddings are needed in every order (by class, by nearness), so each machine keeps a copy in a file in its folder of
temporary files (``TMPDIR``), which all its processes map. The first that needs it writes it; the last that has no more
use for it removes it, and one that is killed loses its hold by that. Pickled, an array in a copy is its source: the
process that unpickles it copies anew or maps what its machine has.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays.mapped import MappedArray, originals
from clorg_scale.arrays.spool import check_on_disk
from clorg_scale.errors import InputError

__all__ = ["BlockSource", "local_copy"]


class BlockSource(Protocol):
    """An array that can be read in blocks of rows by any process that has unpickled its source."""

    @property
    def token(self) -> str:
        """Name of the contents; differs from that of any other source."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """Blocks of consecutive rows, in order."""


_copies: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""Bytes of each copy that this process has mapped, by token."""

_one_at_a_time = threading.Lock()


def local_copy(source: BlockSource) -> npt.NDArray[Any]:
    """Map this machine's copy of a source, read-only; it is made if there is none.

    Raises
    ------
    InputError
        If the disk has no room for it.
    """
    shape, dtype = source.shape, source.dtype
    strides = tuple(dtype.itemsize * prod(shape[axis + 1 :]) for axis in range(len(shape)))
    whole = _whole(source)
    return MappedArray("", 0, dtype, shape, strides).within(whole)


@dataclass(frozen=True)
class _SourceArray:
    """An array in the copy of a source; unpickled, it is in the copy of that machine."""

    source: BlockSource
    location: MappedArray

    def __reduce__(self) -> Any:
        location = self.location
        return _opened, (self.source, location.offset, location.dtype, location.shape, location.strides)


def _opened(source: BlockSource, *location: Any) -> npt.NDArray[Any]:
    return MappedArray("", *location).within(_whole(source))


def _whole(source: BlockSource) -> npt.NDArray[np.uint8]:
    """Bytes of this machine's copy."""
    with _one_at_a_time:
        whole = _copies.get(source.token)
        if whole is None:
            path = _folder() / source.token
            file = _held(source, path)
            whole = np.memmap(file, dtype=np.uint8, mode="r")
            _copies[source.token], originals[str(path.resolve())] = whole, partial(_SourceArray, source)
            weakref.finalize(whole, _let_go, path, file)
        return whole


def _folder() -> Path:
    """Folder of the copies of this user on this machine."""
    folder = Path(tempfile.gettempdir()) / f"clorg-scale-copies-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _held(source: BlockSource, path: Path) -> BinaryIO:
    """Open the complete copy and hold it together with other processes."""
    n_bytes = prod(source.shape) * source.dtype.itemsize
    while True:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_SH)  # waits for a process that writes it
            if _size(file) != n_bytes:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _size(file) != n_bytes and _is_at(path, file):
                    _write(source, path, file, n_bytes)
                fcntl.flock(file, fcntl.LOCK_SH)
            if _is_at(path, file):
                return file
        except BaseException:
            _let_go(path, file)
            raise
        file.close()  # another process has removed it meanwhile


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write(source: BlockSource, path: Path, file: BinaryIO, n_bytes: int) -> None:
    """Write the blocks; a process that was killed may have left some."""
    from clorg_scale.store.atomic import explain_write_errors

    _remove_strays(path)
    check_on_disk(n_bytes, "copy of the embeddings")
    file.truncate(0)
    n_rows = 0
    with explain_write_errors(path):
        for block in source.blocks():
            n_rows += len(block)
            if block.ndim != 2 or block.shape[1] != source.shape[1] or n_rows > source.shape[0]:
                raise InputError(
                    f"The embeddings were announced with shape {source.shape}, but a block that ends with row {n_rows} "
                    f"has shape {block.shape}; they have changed, or are damaged."
                )
            file.write(np.ascontiguousarray(block, dtype=source.dtype).data)
        file.flush()
    if n_rows != source.shape[0]:
        raise InputError(f"The embeddings end after {n_rows} of the {source.shape[0]} rows announced.")


def _remove_strays(path: Path) -> None:
    """Remove copies of processes that were killed, which nobody holds."""
    for other in path.parent.iterdir():
        if other != path:
            with suppress(OSError):
                _let_go(other, other.open("rb"))


def _let_go(path: Path, file: BinaryIO) -> None:
    """Close a copy, and remove it if no other process holds it."""
    with suppress(OSError), file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(path, file):
            path.unlink()
        originals.pop(str(path.resolve()), None)

"""Checks that a path is a regular file: pipes, sockets and devices are never read."""

from __future__ import annotations

import stat
from pathlib import Path

from clorg_scale.arrays.memory import available_memory, in_bytes
from clorg_scale.errors import InputError

__all__ = ["check_fits_memory", "check_regular_file"]

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

OBJECTS_PER_BYTE = 10
"""Bytes of Python objects per byte of text, at most; short numbers and strings come close to it."""


def check_regular_file(path: Path | str) -> None:
    """Check that a path, links followed, is not a pipe, socket or device: reading one may block, or never end.

    Folders and missing files pass: opening them raises an error.

    Raises
    ------
    InputError
        If it is; says what it is.
    """
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        raise InputError(f"{path} is {kind}, not a regular file; write what it holds to a file first.")


def check_fits_memory(path: Path) -> None:
    """Check that a text file, read as a whole, and the objects made of it fit in the free memory.

    Raises
    ------
    InputError
        If it is a pipe or device, or too large.
    """
    check_regular_file(path)
    try:
        needed = path.stat().st_size * OBJECTS_PER_BYTE
    except OSError:
        return
    free = available_memory()
    if needed > free:
        raise InputError(
            f"{path} has {in_bytes(needed // OBJECTS_PER_BYTE)} of text, which takes about {in_bytes(needed)} of "
            f"memory to read, and {in_bytes(free)} are free; store it as a NumPy array (.npy)."
        )

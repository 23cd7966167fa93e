"""Temporary files of `write_whole`: their names, and removal of those left by killed processes.

A writer holds a lock on its temporary file, which the system lifts when the process dies: what is not locked, and
older than this process, was left by a process that was killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["lock_temporary", "remove_strays", "remove_strays_of", "temporary_name"]

_NAME_LENGTH = 100
"""Longer names are shortened, so that the temporary name does not exceed the 255 bytes of a file name."""

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{12}\.tmp", re.DOTALL)

_STARTED = time.time()


def temporary_name(target: Path) -> Path:
    """Return a name that is free, in the folder of `target`, hidden and ending in ``.tmp``."""
    return target.with_name(f".{target.name[:_NAME_LENGTH]}.{secrets.token_hex(6)}.tmp")


def lock_temporary(descriptor: int) -> None:
    """Lock an open temporary file, so that no other process removes it as a leftover."""
    with suppress(OSError):  # a file system without locks: leftovers are not removed
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_strays_of(target: Path) -> None:
    """Remove the temporary files that killed processes left for this file."""
    remove_strays(target.parent, re.compile(re.escape(target.name[:_NAME_LENGTH])))


def remove_strays(folder: Path, names: re.Pattern[str]) -> None:
    """Remove the temporary files that killed processes left in a folder for files of these names."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match and names.fullmatch(match[1]) and entry.is_file(follow_symlinks=False):
                _remove_stray(Path(entry.path))


def _remove_stray(path: Path) -> None:
    """Remove a file that is older than this process and that no process holds."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if a process holds it
            if os.fstat(descriptor).st_mtime < _STARTED:
                path.unlink()
        finally:
            os.close(descriptor)

"""Lock by which one process at a time compiles a function; the others read its result from the disk."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["CompileLock"]

_LONGEST_WAIT = 60.0
"""Seconds after which a process compiles itself: the one that holds the lock may have been stopped."""

_PAUSE = 0.02
"""Seconds between two looks at a lock that another process holds."""


class CompileLock:
    """A lock among processes on one function's compiled code, which the system lifts when a process dies.

    Numba reads the list of a function's compiled versions, extends it and writes it, all without a lock: of two
    processes that do so at once both compile, and if they add different versions, both may take the same file for them.

    Where the folder cannot be written to, or its file system has no locks, nothing is locked.

    Parameters
    ----------
    path
        An empty file, made when first locked; it stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Wait until no other process holds the lock and take it; without it after `_LONGEST_WAIT`."""
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return
        try:
            if _locked(descriptor):
                self._descriptor, descriptor = descriptor, -1
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def release(self) -> None:
        """Release the lock; without effect if it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked process may have inherited the open file
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Whether an open file could be locked, for which a process that holds it is waited for."""
    end = time.monotonic() + _LONGEST_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = error.errno in (errno.EWOULDBLOCK, errno.EACCES)  # the latter on some network file systems
            if not held or time.monotonic() >= end:
                return False
            time.sleep(_PAUSE)
        else:
            return True

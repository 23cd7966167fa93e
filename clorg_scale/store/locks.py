"""Locks that let only one process at a time write to a folder.

The lock is the kernel's, on the folder itself: it leaves no file behind, and the kernel lifts it when the process ends,
however it ends. Where folders cannot be locked (NFS), a hidden file in the folder is.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec, TypeVar

from clorg_scale.errors import InputError

__all__ = ["FolderLock", "lock_folder", "releasing_locks"]

P = ParamSpec("P")
Result = TypeVar("Result")

LOCK_FILE = ".clorg-scale-lock.tmp"
"""File to lock where a folder cannot be locked; it is not removed."""

_scope: ContextVar[ExitStack | None] = ContextVar("_scope", default=None)


class FolderLock:
    """Keep other writers out of a folder, in this process and in others, until `release`.

    Parameters
    ----------
    folder
        Must exist.

    Raises
    ------
    InputError
        If another run is writing there.
    """

    def __init__(self, folder: Path | str) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not _locked(self._descriptor):
                self._lock_file(Path(folder))
        except BlockingIOError as error:
            self.release()
            raise InputError(
                f"Another process is writing to {folder}; wait until it has finished, or choose another folder."
            ) from error
        except BaseException:
            self.release()
            raise

    def _lock_file(self, folder: Path) -> None:
        """Lock a file instead, which network file systems allow if it is open for writing."""
        os.close(self._descriptor)
        self._descriptor = -1
        self._descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        _locked(self._descriptor)  # False: no locks at all there

    def release(self) -> None:
        """Release the lock; calling it again has no effect."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            with suppress(OSError):
                self.release()


def lock_folder(folder: Path | str) -> None:
    """Keep other writers out of a folder until the function decorated by `releasing_locks` returns or raises.

    Raises
    ------
    InputError
        If somebody else is writing there.
    """
    scope = _scope.get()
    assert scope is not None, "lock_folder outside releasing_locks"
    scope.callback(FolderLock(folder).release)


def releasing_locks(function: Callable[P, Result]) -> Callable[P, Result]:
    """Release the locks of `lock_folder` when the decorated function returns or raises."""

    @functools.wraps(function)
    def released(*args: P.args, **kwargs: P.kwargs) -> Result:
        with ExitStack() as scope:
            token = _scope.set(scope)
            try:
                return function(*args, **kwargs)
            finally:
                _scope.reset(token)

    return released


def _locked(descriptor: int) -> bool:
    """Lock an open folder or file; False where the file system has no such locks.

    Raises
    ------
    BlockingIOError
        If another process holds the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno == errno.EACCES:  # the equivalent on some network file systems
            raise BlockingIOError(error.errno, error.strerror) from error
        return False
    return True

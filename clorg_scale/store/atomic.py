"""Atomic writing of files: completely or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from clorg_scale.errors import InputError
from clorg_scale.store.temporary import lock_temporary, remove_strays_of, temporary_name

__all__ = [
    "check_target",
    "explain_write_errors",
    "make_folder",
    "remove_empty",
    "result_folder",
    "sync_folder",
    "write_together",
    "write_whole",
]

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the largest file size allowed is exceeded",
}

_REFUSED = {
    errno.EACCES: "writing there is not permitted",
    errno.EPERM: "writing there is not permitted",
    errno.EROFS: "it lies on a read-only file system",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.ENAMETOOLONG: "its name is too long",
    errno.EEXIST: "a file of that name exists",
    errno.ELOOP: "its path is a loop of symbolic links",
}


@contextmanager
def write_whole(path: Path | str, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    r"""Write a file that appears under its name only when it is complete.

    The block writes to a temporary file in the same folder. When the block ends, that file is synced to the
    disk and takes the name `path` in one step; when the block raises, it is removed and a file that was there
    before stays as it was. A process killed in the middle leaves the old file and a stray ``.name.*.tmp``, which
    the next write of the same file removes.

    Parameters
    ----------
    path
        Where the file will be; a symbolic link is followed. Its folder must exist.
    mode
        ``"wb"`` for bytes, ``"w"`` for UTF-8 text with ``\n`` line ends.

    Yields
    ------
    The open temporary file.

    Raises
    ------
    InputError
        If the folder is missing or not writable, the disk is full, or `path` is not a regular file.
    """
    with explain_write_errors(path):
        target = check_target(path)
        temporary = temporary_name(target)
        remove_strays_of(target)
        # os.open rather than tempfile: the umask decides who may read the file, as for any other.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        encoding, newline = ("utf-8", "\n") if mode == "w" else (None, None)
        lock_temporary(descriptor)
        complete = _CompleteFile(temporary, target, os.dup(descriptor))
        try:
            with os.fdopen(descriptor, mode, encoding=encoding, newline=newline) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            together = _together.get()
            if together is None:
                complete.take_name()
            else:
                together.append(complete)
        except BaseException:
            complete.discard()
            raise


@contextmanager
def write_together() -> Iterator[None]:
    """Make all files that `write_whole` writes in the block appear together when the block ends.

    If one of them cannot be written, or the block raises, none of them appears, and existing files stay unchanged.

    Raises
    ------
    InputError
        As `write_whole`.
    """
    if _together.get() is not None:  # a part of a larger result
        yield
        return
    files: list[_CompleteFile] = []
    token = _together.set(files)
    try:
        yield
        for file in files:
            with explain_write_errors(file.target):
                file.take_name()
    finally:
        _together.reset(token)
        for file in files:
            file.discard()


@dataclass
class _CompleteFile:
    """A complete temporary file, locked until it is renamed."""

    temporary: Path
    target: Path
    descriptor: int | None

    def take_name(self) -> None:
        self.temporary.replace(self.target)
        self._close()
        sync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove it, unless it has its name."""
        self._close()
        self.temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_together: ContextVar[list[_CompleteFile] | None] = ContextVar("_together", default=None)


def check_target(path: Path | str) -> Path:
    """Check that a file can be written there, as far as this shows without writing; give its path without links.

    Raises
    ------
    InputError
        If its folder is missing or not writable, or `path` is there and not a regular file.
    """
    with explain_write_errors(path):
        target = _real(path)
        if target.exists() and not target.is_file():
            raise InputError(f"{path} cannot be written: it exists and is not a file; choose another name.")
        folder = target.parent.stat()  # raises where it is missing
        if not stat.S_ISDIR(folder.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "", str(target))
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "", str(target))
    return target


def make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it.

    Returns
    -------
    The folders that were missing, innermost first; removed again if one of them cannot be made.

    Raises
    ------
    InputError
        If it cannot be made or written to.
    """
    missing: list[Path] = []
    try:
        with explain_write_errors(path):
            missing = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "", str(path))
    except BaseException:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders, in this order, that are there and empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def result_folder(path: Path) -> Iterator[None]:
    """Make a folder for the results of the block; if it raises and left nothing there, remove it again.

    Raises
    ------
    InputError
        If it cannot be made or written to.
    """
    made = make_folder(path)
    try:
        yield
    except BaseException:
        remove_empty(made)
        raise


@contextmanager
def explain_write_errors(path: Path | str) -> Iterator[None]:
    """Turn a full disk or a refused write to `path` into one `InputError` sentence.

    Raises
    ------
    InputError
        In place of an `OSError` that says so; other errors pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                f"{path} cannot be written: {_FULL[error.errno]}; free some space or choose another folder."
            ) from error
        if error.errno in _REFUSED and _is_about(error, path):
            raise InputError(f"{path} cannot be written: {_REFUSED[error.errno]}; choose another folder.") from error
        raise


def _is_about(error: OSError, path: Path | str) -> bool:
    """Whether the error names a file in the folder of `path` or one above (the block may read from elsewhere)."""
    if error.filename is None:
        return True
    named, target = _real(os.fsdecode(error.filename)), _real(path)
    return named.is_relative_to(target.parent) or target.is_relative_to(named)


def _real(path: Path | str) -> Path:
    """Return the path without symbolic links; a loop of them stays (`Path.resolve` raises its own error for one)."""
    return Path(os.path.realpath(path))


def sync_folder(folder: Path) -> None:
    """Flush the entries of `folder` to the disk, so that a rename survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

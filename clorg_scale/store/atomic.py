"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from clorg_scale.errors import InputError

__all__ = ["explain_write_errors", "sync_folder", "temporary_name", "write_whole"]

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
}


@contextmanager
def write_whole(path: Path | str, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    r"""Write a file that appears under its name only when it is complete.

    The block writes to a temporary file in the same folder. When the block ends, that file is synced to the
    disk and takes the name `path` in one step; when the block raises, it is removed and a file that was there
    before stays as it was. A process killed in the middle leaves the old file and a stray ``.name.*.tmp``.

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
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise InputError(f"{path} cannot be written: it exists and is not a file.")
    temporary = temporary_name(target)
    with explain_write_errors(path):
        # os.open rather than tempfile: the umask decides who may read the file, as for any other.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        encoding, newline = ("utf-8", "\n") if mode == "w" else (None, None)
        try:
            with os.fdopen(descriptor, mode, encoding=encoding, newline=newline) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


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
    """Tell whether the error names a file in the folder of `path` (the block may read from elsewhere)."""
    named = error.filename
    return named is None or Path(os.fsdecode(named)).resolve().is_relative_to(Path(path).resolve().parent)


def temporary_name(target: Path) -> Path:
    """Give a name that is free, in the folder of `target`, hidden and ending in ``.tmp``."""
    # A long name is shortened, so that the temporary one does not exceed the 255 bytes of a file name.
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Numba's `njit`, whose compiled code is kept where there is a place for it."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache as cached
from pathlib import Path
from typing import Any

import numba

__all__ = ["njit"]

_MEMORY_FOLDER = Path("/dev/shm")
"""Writable in containers where nothing else is."""


def njit(*functions: Callable[..., Any], cache: bool = False, **options: Any) -> Any:
    """Compile as `numba.njit` does.

    With `cache`, Numba keeps what it compiled in the package's folder, or in the home folder. Where it can write to
    neither (installed by another user, no home: containers, services), it is kept in a folder of this user among the
    temporary files; where there is no such place either, every process compiles anew. A cache that is damaged, or on a
    full disk, is done without.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        if cache and hasattr(dispatcher, "enable_caching"):  # not where NUMBA_DISABLE_JIT is set
            _enable_caching(dispatcher)
        return dispatcher

    return compiled(*functions) if functions else compiled


def _enable_caching(dispatcher: Any) -> None:
    if not (numba.config.CACHE_DIR or os.path.isabs(os.path.expanduser("~"))):  # noqa: PTH111, PTH117
        # A user whom the system does not know: Numba would make a folder of the name "~" here.
        numba.config.CACHE_DIR = str(_temporary_folder() or "")
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # Numba found no place
        folder = _temporary_folder()
        if folder is None:
            return
        numba.config.CACHE_DIR = str(folder)
        try:
            dispatcher.enable_caching()
        except RuntimeError:
            return
    dispatcher._cache = _OptionalCache(dispatcher._cache)


class _OptionalCache:
    """A cache of Numba's whose failures cost time only."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def load_overload(self, *arguments: Any) -> Any:
        """Give the compiled code, None where there is none that can be read."""
        try:
            return self._cache.load_overload(*arguments)
        except Exception:  # a damaged file makes pickle raise a dozen kinds
            with suppress(Exception):
                self._cache.flush()
            return None

    def save_overload(self, *arguments: Any) -> None:
        """Keep compiled code, if that is possible."""
        with suppress(OSError, EOFError):
            self._cache.save_overload(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


@cached
def _temporary_folder() -> Path | None:
    """Give a folder that this user alone can write to, where possible the same in every process; None without one."""
    for parent in _temporary_places():
        folder = parent / f"clorg-scale-compiled-{os.getuid()}"
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            if _is_own(folder):
                return folder
        with suppress(OSError):  # somebody else has that name: what lies there would be run
            own = Path(tempfile.mkdtemp(prefix="clorg-scale-compiled-", dir=parent))
            atexit.register(shutil.rmtree, own, ignore_errors=True)
            return own
    return None


def _temporary_places() -> Iterator[Path]:
    with suppress(OSError):  # raised where no folder for temporary files is writable
        yield Path(tempfile.gettempdir())
    yield _MEMORY_FOLDER


def _is_own(folder: Path) -> bool:
    """Tell whether nobody else can write to the folder, and this user can."""
    status = folder.lstat()
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return private and os.access(folder, os.W_OK | os.X_OK)

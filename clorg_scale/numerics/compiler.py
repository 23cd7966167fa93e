"""Numba's `njit` with a cache on disk wherever one can be written."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache as cached
from pathlib import Path
from types import FunctionType
from typing import Any

import numba

from clorg_scale.numerics.compile_lock import CompileLock

__all__ = ["callee", "njit"]

_MEMORY_FOLDER = Path("/dev/shm")
"""Folder that is writable in containers where nothing else is."""


def njit(*functions: Callable[..., Any], cache: bool = False, **options: Any) -> Any:
    """Compile as `numba.njit` does.

    With `cache`, Numba keeps compiled code in the package's folder, or in the home folder. Where it can write to
    neither (installed by another user, no home: containers, services), it goes to a folder of this user among the
    temporary files; where that cannot be written either, every process compiles anew. A damaged cache, or one on a full
    disk, is ignored. Of processes side by side one compiles a function, the others wait for it.

    Cache only functions that Python calls: a callee that comes from disk is not inlined into a caller compiled anew.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(**options)(function)
        if cache and hasattr(dispatcher, "enable_caching"):  # not where NUMBA_DISABLE_JIT is set
            _enable_caching(dispatcher)
        return dispatcher

    return compiled(*functions) if functions else compiled


def callee(*functions: Callable[..., Any], **options: Any) -> Any:
    """Compile as `njit` does what compiled functions alone call: without the wrappers for Python and for C."""
    return njit(*functions, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)


def _enable_caching(dispatcher: Any) -> None:
    if not (numba.config.CACHE_DIR or os.path.isabs(os.path.expanduser("~"))):  # noqa: PTH111, PTH117
        # A user whom the system does not know: Numba would make a folder of the name "~" here.
        numba.config.CACHE_DIR = str(_temporary_folder() or "")
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # Numba found no folder
        folder = _temporary_folder()
        if folder is None:
            return
        numba.config.CACHE_DIR = str(folder)
        try:
            dispatcher.enable_caching()
        except RuntimeError:
            return
    cache = dispatcher._cache
    cache._cache_file = file = _cache_file(cache, dispatcher)
    lock = CompileLock(Path(f"{file._index_path}.lock"))
    dispatcher._cache = _OptionalCache(cache, lock)
    dispatcher._compiler.compile = _released_on_failure(dispatcher._compiler.compile, lock)


def _cache_file(cache: Any, dispatcher: Any) -> Any:
    """Numba's list of what is kept of a function, with what Numba leaves out of it."""
    # Numba compares the file of the function itself; code inlined from other files would go stale.
    stamp = cache._cache_file._source_stamp, _callee_stamps(dispatcher.py_func)
    # To Numba, one function compiled with two sets of options is the same.
    options = sorted((name, _in_order(value)) for name, value in dispatcher.targetoptions.items())
    digest = hashlib.sha256(repr(options).encode()).hexdigest()[:8]
    return type(cache._cache_file)(cache._cache_path, f"{cache._impl.filename_base}-{digest}", stamp)


def _in_order(value: Any) -> Any:
    """The value of an option; names in a set in the same order in every process."""
    return sorted(value) if isinstance(value, set | frozenset) else value


def _released_on_failure(compile_: Callable[..., Any], lock: CompileLock) -> Callable[..., Any]:
    """Return the function, releasing the lock where it raises, since then nothing is saved."""

    def compile_or_release(*arguments: Any) -> Any:
        try:
            return compile_(*arguments)
        except BaseException:
            lock.release()
            raise

    return compile_or_release


def _callee_stamps(function: Callable[..., Any]) -> list[tuple[str, float, int]]:
    """Files that hold what a function compiles along with itself: path, time of the last change, size."""
    package = function.__module__.split(".")[0]
    found: dict[str, tuple[float, int]] = {}
    seen, ahead = set(), [function]
    while ahead:
        current = ahead.pop()
        if current in seen:
            continue
        seen.add(current)
        status = Path(current.__code__.co_filename).stat()
        found[current.__code__.co_filename] = status.st_mtime, status.st_size
        cells = [cell.cell_contents for cell in current.__closure__ or ()]
        named = [current.__globals__.get(name) for name in current.__code__.co_names]
        for used in (*named, *cells):
            if hasattr(used, "py_func"):
                ahead.append(used.py_func)
            elif isinstance(used, FunctionType) and used.__module__.split(".")[0] == package:  # overloaded for Numba
                ahead.append(used)
    return [(path, *found[path]) for path in sorted(found)]


class _OptionalCache:
    """A cache of Numba's whose failures cost time only, and which one process at a time fills."""

    def __init__(self, cache: Any, lock: CompileLock) -> None:
        self._cache, self._lock = cache, lock

    def load_overload(self, *arguments: Any) -> Any:
        """Compiled code; None where none can be read, with the lock held until it is saved."""
        found = self._load(*arguments)
        if found is None:
            self._lock.acquire()
            found = self._load(*arguments)  # another process may have compiled it by now
            if found is not None:
                self._lock.release()
        return found

    def _load(self, *arguments: Any) -> Any:
        try:
            return self._cache.load_overload(*arguments)
        except Exception:  # a damaged file makes pickle raise a dozen kinds
            with suppress(Exception):
                self._cache.flush()
            return None

    def save_overload(self, *arguments: Any) -> None:
        """Keep compiled code where possible, and let others read it."""
        try:
            with suppress(OSError, EOFError):
                self._cache.save_overload(*arguments)
        finally:
            self._lock.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


@cached
def _temporary_folder() -> Path | None:
    """Folder that this user alone can write to, if possible the same in every process; None without one."""
    for parent in _temporary_parents():
        folder = parent / f"clorg-scale-compiled-{os.getuid()}"
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            if _is_own(folder):
                return folder
        with suppress(OSError):  # another user's folder: code in it would be executed
            own = Path(tempfile.mkdtemp(prefix="clorg-scale-compiled-", dir=parent))
            atexit.register(shutil.rmtree, own, ignore_errors=True)
            return own
    return None


def _temporary_parents() -> Iterator[Path]:
    with suppress(OSError):  # raised where no folder for temporary files is writable
        yield Path(tempfile.gettempdir())
    yield _MEMORY_FOLDER


def _is_own(folder: Path) -> bool:
    """Whether this user and nobody else can write to the folder."""
    status = folder.lstat()
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return private and os.access(folder, os.W_OK | os.X_OK)

"""The two kinds of error a user can mend, each told in one sentence."""

from __future__ import annotations

import errno
import importlib
from types import ModuleType

from clorg_scale.installation import pip_line

__all__ = ["InputError", "MissingDependencyError", "lacks_memory", "require"]

_MEMORY_REFUSED = (
    "allocate memory", "std::bad_alloc", "unable to allocate", "failed to map segment", "can't start new thread",
)  # fmt: skip
"""What the loader of libraries, PyTorch, FAISS, LLVM and Python's threads say where main memory was refused."""

_OTHERWISE_REFUSED = ("not permitted", "permission denied")
"""The same words followed by these: a file system from which nothing may be executed."""


class InputError(ValueError):
    """What was handed in cannot be used; the message says what is wrong, where, and what to do."""


class MissingDependencyError(ImportError):
    """An optional package is not installed; the message holds the pip command that installs it."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package where it is used.

    Parameters
    ----------
    module
        Dotted name to import.
    extra
        The extra of clorg-scale that brings it.
    purpose
        What needs it, as the beginning of a sentence ("Reading .zarr stores").

    Raises
    ------
    MissingDependencyError
        If it cannot be imported, with the pip command.
    MemoryError
        If it is there, but the memory does not suffice to load it.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if lacks_memory(error):
            raise MemoryError(f"{purpose} needs the package '{package}', which cannot be loaded: {error}") from error
        raise MissingDependencyError(
            f"{purpose} needs the package '{package}' ({error}); install it with: {pip_line(extra)}"
        ) from error


def lacks_memory(error: BaseException) -> bool:
    """Tell whether main memory was refused, whatever kind of error the library makes of it."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    message = str(error).lower()
    refused = isinstance(error, (ImportError, OSError, RuntimeError)) and any(
        words in message for words in _MEMORY_REFUSED
    )
    return refused and not any(words in message for words in _OTHERWISE_REFUSED)

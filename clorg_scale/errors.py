"""The two kinds of errors that a user can fix, each with a message of one sentence."""

from __future__ import annotations

import errno
import importlib
from types import ModuleType

from clorg_scale.installation import pip_line

__all__ = ["InputError", "MissingDependencyError", "lacks_memory", "require"]

_MEMORY_REFUSED = (
    "allocate memory",
    "std::bad_alloc",
    "unable to allocate",
    "failed to map segment",
    "can't start new thread",
)
"""Messages of the library loader, PyTorch, FAISS, LLVM and Python's threads where main memory was refused."""

_OTHERWISE_REFUSED = ("not permitted", "permission denied")
"""The same messages with one of these phrases come from a file system mounted without execution."""


class InputError(ValueError):
    """An input cannot be used; the message says what is wrong, where, and what to do."""


class MissingDependencyError(ImportError):
    """An optional package is not installed; the message has the pip command that installs it."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package.

    Parameters
    ----------
    module
        Dotted name to import.
    extra
        The extra of clorg-scale that brings it.
    purpose
        What needs it, as the beginning of a sentence, such as "Reading .zarr stores".

    Raises
    ------
    MissingDependencyError
        If it cannot be imported, with the pip command.
    MemoryError
        If it is installed, but there is not enough memory to load it.
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
    """Whether main memory was refused, whatever kind of error the library makes of it."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    message = str(error).lower()
    refused = isinstance(error, (ImportError, OSError, RuntimeError)) and any(
        phrase in message for phrase in _MEMORY_REFUSED
    )
    return refused and not any(phrase in message for phrase in _OTHERWISE_REFUSED)

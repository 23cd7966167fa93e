"""The two kinds of error a user can mend, each told in one sentence."""

from __future__ import annotations

import importlib
from types import ModuleType

from clorg_scale.installation import pip_line

__all__ = ["InputError", "MissingDependencyError", "require"]


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
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingDependencyError(
            f"{purpose} needs the package '{package}' ({error}); install it with: {pip_line(extra)}"
        ) from error

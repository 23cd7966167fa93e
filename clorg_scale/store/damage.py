"""One-sentence errors for damaged files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clorg_scale.errors import InputError, MissingDependencyError, lacks_memory

__all__ = ["explain_damage"]


@contextmanager
def explain_damage(what: str) -> Iterator[None]:
    """Turn any error of a library in the block into an `InputError`.

    For a damaged file, zipfile, NumPy's header parser, PyArrow, HDF5 and Zarr raise many kinds of errors, some of them
    undocumented.

    Parameters
    ----------
    what
        Beginning of the message; that of the library follows in parentheses.

    Raises
    ------
    InputError
        In place of any error except `InputError`, `MissingDependencyError` and those about memory, which pass.
    """
    try:
        yield
    except (InputError, MissingDependencyError):
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        raise InputError(f"{what} ({str(error).strip().rstrip('.') or type(error).__name__}).") from error

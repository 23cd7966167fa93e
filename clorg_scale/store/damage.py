"""One sentence for a file that cannot be what it says it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clorg_scale.errors import InputError, MissingDependencyError, lacks_memory

__all__ = ["tell_damage"]


@contextmanager
def tell_damage(what: str) -> Iterator[None]:
    """Turn whatever a library raises in the block into an error for the user.

    A damaged file makes zipfile, NumPy's parser of headers, PyArrow, HDF5 and Zarr raise a dozen kinds of errors,
    among them some that no documentation names.

    Parameters
    ----------
    what
        Beginning of the sentence; what the library said follows in brackets.

    Raises
    ------
    InputError
        In place of any error but `InputError`, `MissingDependencyError` and those that say that memory was refused,
        which pass.
    """
    try:
        yield
    except (InputError, MissingDependencyError):
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        raise InputError(f"{what} ({str(error).strip().rstrip('.') or type(error).__name__}).") from error

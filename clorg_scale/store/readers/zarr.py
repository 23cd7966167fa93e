"""Zarr stores: one array, or groups of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import Contents, Member

__all__ = ["contents"]


def contents(path: Path) -> Contents:
    """List the arrays of the store by their path in it.

    Raises
    ------
    InputError
        If it is not a Zarr store, or damaged.
    MissingDependencyError
        If Zarr is not installed.
    """
    zarr = require("zarr", extra="interop", purpose="Reading Zarr stores")
    try:
        root = zarr.open(str(path), mode="r")
        if isinstance(root, zarr.Array):
            return Contents(path, {path.stem: Member(root.shape, partial(_read, path, root))}, dict(root.attrs))
        return Contents(path, dict(_members(path, root, "")), dict(root.attrs))
    except Exception as error:  # Zarr has no error class of its own for a damaged store
        raise InputError(f"{path} is not a Zarr store, or it is damaged ({error}).") from error


def _members(path: Path, group: Any, prefix: str) -> Iterator[tuple[str, Member]]:
    """All arrays below a group."""
    for name, array in group.arrays():
        yield prefix + name, Member(array.shape, partial(_read, path, array))
    for name, below in group.groups():
        yield from _members(path, below, f"{prefix}{name}/")


def _read(path: Path, array: Any) -> Any:
    """Gather an array chunk by chunk."""
    from clorg_scale.arrays import as_array

    try:
        return as_array(array)
    except InputError:
        raise
    except Exception as error:  # whatever the codec of the chunk raises
        raise InputError(f"The array {array.name!r} in {path} cannot be read ({error}).") from error

"""Zarr stores: one array, or groups of arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import Contents, Member
from clorg_scale.store.readers.zarr_files import check_files

__all__ = ["contents"]


def contents(path: Path, *, allow_external: bool = False) -> Contents:
    """List the arrays of the store by their path in it.

    Parameters
    ----------
    path
        Folder of the store.
    allow_external
        Follow symbolic links that leave the folder.

    Raises
    ------
    InputError
        If it is not a Zarr store, or damaged; if a link in it leads out of it and must not.
    MissingDependencyError
        If Zarr is not installed.
    """
    zarr = require("zarr", extra="interop", purpose="Reading Zarr stores")
    check_files(path, allow_external=allow_external)
    try:
        # What lies in the folder counts, not the names that consolidated metadata give.
        root = zarr.open(str(path), mode="r", use_consolidated=False)
        if isinstance(root, zarr.Array):
            return Contents(path, {path.stem: Member(root.shape, partial(_read, path, root))}, dict(root.attrs))
        return Contents(path, dict(_members(path, root, "", {os.path.realpath(path)})), dict(root.attrs))
    except Exception as error:  # Zarr has no error class of its own for a damaged store
        raise InputError(f"{path} is not a Zarr store, or it is damaged ({error}).") from error


def _members(path: Path, group: Any, prefix: str, seen: set[str]) -> Iterator[tuple[str, Member]]:
    """All arrays below a group; a folder that several links lead to once."""
    for name, array in group.arrays():
        yield prefix + name, Member(array.shape, partial(_read, path, array))
    for name, below in group.groups():
        folder = os.path.realpath(path / f"{prefix}{name}")
        if folder not in seen:
            seen.add(folder)
            yield from _members(path, below, f"{prefix}{name}/", seen)


def _read(path: Path, array: Any) -> Any:
    """Gather an array chunk by chunk."""
    from clorg_scale.arrays import as_array

    try:
        return as_array(array, name=f"array {array.name!r} in {path}")
    except InputError:
        raise
    except Exception as error:  # whatever the codec of the chunk raises
        raise InputError(f"The array {array.name!r} in {path} cannot be read ({error}).") from error

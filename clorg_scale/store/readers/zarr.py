"""Zarr stores: one array, or groups of arrays."""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import Contents, Member
from clorg_scale.store.readers.annotated import describes_points, encoded_members, is_annotated, table_of
from clorg_scale.store.readers.zarr_files import check_files

__all__ = ["contents"]


def contents(path: Path, *, allow_external: bool = False) -> Contents:
    """List the arrays of the store by their path in it; of AnnData, ``X``, ``obsm/*`` and ``obs/*``.

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
        members: dict[str, Member] = {}
        _collect(root, path, members)
        return Contents(path, members, dict(root.attrs), table_of(members) if is_annotated(root) else None)
    except InputError:
        raise
    except Exception as error:  # Zarr has no error class of its own for a damaged store
        raise InputError(f"{path} is not a Zarr store, or it is damaged ({error}).") from error


def _collect(root: Any, path: Path, members: dict[str, Member]) -> None:
    """List all arrays, each folder once, however many links lead to it: those nearest to the root first."""
    waiting, seen = deque([("", root)]), {os.path.realpath(path)}
    while waiting:
        prefix, group = waiting.popleft()
        annotated = is_annotated(group)
        for name, item in sorted(group.members()):  # Zarr's own order differs from run to run
            full = prefix + name
            if not describes_points(group, name, annotated=annotated):
                continue
            found = encoded_members(group, name, full, partial(_member, path), path)
            if found is not None:
                members |= found
            elif (folder := os.path.realpath(path / full)) not in seen:
                seen.add(folder)
                waiting.append((f"{full}/", item))


def _member(path: Path, array: Any, full: str) -> Member:
    """One array; of records, which cannot be embeddings, without a shape."""
    records = getattr(array.dtype, "names", None) is not None
    return Member(() if records else array.shape, partial(_read, path, array))


def _read(path: Path, array: Any) -> Any:
    """Gather an array chunk by chunk."""
    from clorg_scale.arrays import as_array

    try:
        return as_array(array, name=f"array {array.name!r} in {path}")
    except InputError:
        raise
    except Exception as error:  # whatever the codec of the chunk raises
        raise InputError(f"The array {array.name!r} in {path} cannot be read ({error}).") from error

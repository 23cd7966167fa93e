"""HDF5 files, among them AnnData's .h5ad."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, as_array
from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import Contents, Member
from clorg_scale.store.damage import tell_damage
from clorg_scale.store.readers.annotated import describes_points, encoded_members, is_annotated, table_of

__all__ = ["contents"]


def contents(path: Path) -> Contents:
    """List the datasets of the file by their path in it; of AnnData, ``X``, ``obsm/*`` and ``obs/*``.

    Raises
    ------
    InputError
        If it is not an HDF5 file, or truncated.
    MissingDependencyError
        If h5py is not installed.
    """
    h5py = require("h5py", extra="interop", purpose=f"Reading {path.suffix} files")
    members: dict[str, Member] = {}
    with tell_damage(f"{path} is not an HDF5 file, or it is truncated"), h5py.File(path, "r") as file:
        annotated = path.suffix.lower() == ".h5ad" or is_annotated(file)
        _collect(file, "", path, members)
    return Contents(path, members, table=table_of(members) if annotated else None)


def _collect(group: Any, prefix: str, path: Path, members: dict[str, Member]) -> None:
    """List all arrays below a group."""
    annotated = is_annotated(group) or (path.suffix.lower() == ".h5ad" and not prefix)
    for name, item in group.items():
        full = prefix + name
        if item is None or not describes_points(group, name, annotated=annotated):  # None: a link that leads nowhere
            continue
        found = encoded_members(group, name, full, partial(_member, path), path)
        if found is None:
            _collect(item, f"{full}/", path, members)
        else:
            members |= found


def _member(path: Path, dataset: Any, full: str) -> Member:
    """One dataset; of records, which cannot be embeddings, without a shape."""
    return Member(dataset.shape if dataset.dtype.names is None else (), partial(_read, path, full))


def _read(path: Path, name: str) -> Array:
    """Map a dataset that lies in one piece; gather another one chunk by chunk."""
    import h5py

    with tell_damage(f"The dataset {name!r} in {path} is damaged"), h5py.File(path, "r") as file:
        dataset = file[name]
        if h5py.check_string_dtype(dataset.dtype) is not None:
            return np.asarray(dataset.asstr()[()])
        if dataset.dtype.names is not None and name.rpartition("/")[2] in ("obs", "obsm"):
            return dataset[:]
        if dataset.dtype.kind not in "fiub":
            raise InputError(f"The dataset {name!r} in {path} has type {dataset.dtype}; numbers are needed.")
        offset = dataset.id.get_offset()
        in_one_piece = offset is not None and not dataset.external and not dataset.file.userblock_size
        if not dataset.shape:
            return np.asarray(dataset[()])
        if not in_one_piece or dataset.dtype.kind == "b" or not dataset.size:
            return as_array(dataset)
        # A link may lead to another file.
        return np.memmap(dataset.file.filename, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)

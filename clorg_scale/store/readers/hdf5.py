"""HDF5 files, among them AnnData's .h5ad."""

from __future__ import annotations

from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, as_array
from clorg_scale.arrays.spool import check_in_memory
from clorg_scale.arrays.unwritten import check_written
from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import Contents, Member
from clorg_scale.store.damage import explain_damage
from clorg_scale.store.readers.annotated import describes_points, encoded_members, is_annotated, table_of
from clorg_scale.store.readers.hdf5_objects import Objects, Unfollowed, check_path, check_sources

__all__ = ["contents"]


def contents(path: Path, *, allow_external: bool = False) -> Contents:
    """List the datasets of the file by their path in it; of AnnData, ``X``, ``obsm/*`` and ``obs/*``.

    Parameters
    ----------
    path
        Of the file.
    allow_external
        Read what it takes from other files; otherwise that is refused when it is chosen.

    Raises
    ------
    InputError
        If it is not an HDF5 file, or truncated.
    MissingDependencyError
        If h5py is not installed.
    """
    h5py = require("h5py", extra="interop", purpose=f"Reading {path.suffix} files")
    members: dict[str, Member] = {}
    with explain_damage(f"{path} is not an HDF5 file, or it is truncated"), h5py.File(path, "r") as file:
        annotated = path.suffix.lower() == ".h5ad" or is_annotated(file)
        _collect(file, path, members, allow_external=allow_external)
    return Contents(path, members, table=table_of(members) if annotated else None)


def _collect(file: Any, path: Path, members: dict[str, Member], *, allow_external: bool) -> None:
    """List all arrays, each group once: those nearest to the root first."""
    objects = Objects(file, path, allow_external=allow_external)
    plain = partial(_member, path, allow_external=allow_external)
    waiting = deque([("", file)])
    while waiting:
        prefix, group = waiting.popleft()
        annotated = is_annotated(group) or (path.suffix.lower() == ".h5ad" and not prefix)
        for name, item in objects.entries(group):
            full = prefix + name
            if not describes_points(group, name, annotated=annotated):
                continue
            unfollowed = item if isinstance(item, Unfollowed) else objects.unfollowed_member(group, name, item)
            if unfollowed is not None:
                members[full] = Member((), partial(_refuse, unfollowed.sentence), elsewhere=unfollowed.elsewhere)
                continue
            try:
                found = encoded_members(group, name, full, plain, path)
            except InputError as error:
                found = {full: Member((), partial(_refuse, str(error)))}
            except Exception as error:  # members that are missing, or of another kind: a dozen types of errors
                sentence = f"{full!r} in {path} is not encoded as AnnData says, or it is damaged ({error})."
                found = {full: Member((), partial(_refuse, sentence))}
            if found is None:
                waiting.append((f"{full}/", item))
            else:
                members |= found


def _member(path: Path, dataset: Any, full: str, *, allow_external: bool) -> Member:
    """One dataset; of records, which cannot be embeddings, or without data, without a shape."""
    shape = dataset.shape if dataset.dtype.names is None else None
    return Member(shape or (), partial(_read, path, full, allow_external=allow_external))


def _refuse(sentence: str) -> Array:
    raise InputError(sentence)


def _read(path: Path, name: str, *, allow_external: bool) -> Array:
    """Map a dataset that lies in one piece; gather another one chunk by chunk."""
    import h5py

    with explain_damage(f"The dataset {name!r} in {path} is damaged"), h5py.File(path, "r") as file:
        check_path(file, name, path, allow_external=allow_external)
        dataset = file[name]
        called = f"dataset {name!r} in {path}"
        check_sources(dataset, path, allow_external=allow_external)
        check_written(dataset, name=called)
        if h5py.check_string_dtype(dataset.dtype) is not None:
            check_in_memory(dataset.size * dataset.dtype.itemsize, called)
            return np.asarray(dataset.asstr("utf-8")[()])  # others than Python write UTF-8 and call it ASCII
        if dataset.dtype.names is not None and name.rpartition("/")[2] in ("obs", "obsm"):
            check_in_memory(dataset.size * dataset.dtype.itemsize, called)
            return dataset[:]
        if dataset.dtype.kind not in "fiub":
            raise InputError(f"The dataset {name!r} in {path} has type {dataset.dtype}; numbers are needed.")
        offset = dataset.id.get_offset()
        in_one_piece = offset is not None and not dataset.external and not dataset.file.userblock_size
        if not dataset.shape:
            return np.asarray(dataset[()])
        if not in_one_piece or dataset.dtype.kind == "b" or not dataset.size:
            return as_array(dataset, name=called)
        # A link may lead to another file.
        return np.memmap(dataset.file.filename, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)

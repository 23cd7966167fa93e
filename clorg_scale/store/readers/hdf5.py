"""HDF5 files, among them AnnData's .h5ad."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, as_array
from clorg_scale.arrays.spool import check_in_memory
from clorg_scale.arrays.unwritten import check_written
from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import Contents, Member, check_codes
from clorg_scale.store.damage import tell_damage
from clorg_scale.store.readers.hdf5_objects import (
    Objects,
    Unfollowed,
    check_path,
    check_sources,
    leads_elsewhere,
    text_attribute,
)

__all__ = ["contents"]

_NOT_PER_POINT = ("var", "varm", "varp", "uns", "obsp", "layers", "raw")
"""Parts of an .h5ad file that describe genes or pairs, not points."""


def contents(path: Path, *, allow_external: bool = False) -> Contents:
    """List the datasets of the file by their path in it; of ``.h5ad``, ``X``, ``obsm/*`` and ``obs/*``.

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
    with tell_damage(f"{path} is not an HDF5 file, or it is truncated"), h5py.File(path, "r") as file:
        _collect(file, path, members, allow_external=allow_external)
    return Contents(path, members)


def _collect(file: Any, path: Path, members: dict[str, Member], *, allow_external: bool) -> None:
    """List all arrays, each group once: those nearest to the root first."""
    annotated = path.suffix.lower() == ".h5ad"
    objects = Objects(file, path, allow_external=allow_external)
    waiting = deque([("", file)])
    while waiting:
        prefix, group = waiting.popleft()
        for name, item in objects.entries(group):
            full = prefix + name
            if annotated and (full in _NOT_PER_POINT or name in ("_index", "__categories")):
                continue
            if isinstance(item, Unfollowed):
                members[full] = Member((), partial(_refuse, item.sentence), elsewhere=item.elsewhere)
                continue
            encoding = text_attribute(item, "encoding-type")
            read = partial(_read, path, allow_external=allow_external)
            if hasattr(item, "shape"):
                usable = item.shape if item.dtype.names is None else None
                members[full] = Member(usable or (), partial(read, full))
            elif encoding == "categorical":
                members[full] = Member(_shape_of(item, "codes"), partial(_read_categories, read, path, full))
            elif encoding in ("csr_matrix", "csc_matrix"):
                members[full] = Member((), partial(_refuse_sparse, path, full))
            elif encoding.startswith("nullable"):
                members[full] = Member(_shape_of(item, "values"), partial(_read_nullable, read, full))
            else:
                waiting.append((f"{full}/", item))


def _shape_of(group: Any, name: str) -> tuple[int, ...]:
    """Shape of a part of a group; () where it lies elsewhere or is none, which reading it will tell."""
    if leads_elsewhere(group, name):
        return (0,)
    return getattr(group.get(name), "shape", None) or ()


def _refuse(sentence: str) -> Array:
    raise InputError(sentence)


def _read(path: Path, name: str, *, allow_external: bool) -> Array:
    """Map a dataset that lies in one piece; gather another one chunk by chunk."""
    import h5py

    with tell_damage(f"The dataset {name!r} in {path} is damaged"), h5py.File(path, "r") as file:
        check_path(file, name, path, allow_external=allow_external)
        dataset = file[name]
        called = f"dataset {name!r} in {path}"
        check_sources(dataset, path, allow_external=allow_external)
        check_written(dataset, name=called)
        if h5py.check_string_dtype(dataset.dtype) is not None:
            check_in_memory(dataset.size * dataset.dtype.itemsize, called)
            return dataset.asstr("utf-8")[:]  # others than Python write UTF-8 and call it ASCII
        if dataset.dtype.kind not in "fiub":
            raise InputError(f"The dataset {name!r} in {path} has type {dataset.dtype}; numbers are needed.")
        offset = dataset.id.get_offset()
        in_one_piece = offset is not None and not dataset.external and not dataset.file.userblock_size
        if not in_one_piece or dataset.dtype.kind == "b" or not dataset.size:
            return as_array(dataset, name=called)
        # A link may lead to another file.
        return np.memmap(dataset.file.filename, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


def _read_categories(read: Callable[[str], Array], path: Path, name: str) -> Array:
    """Labels of a column of categories; missing ones are None."""
    codes, categories = read(f"{name}/codes"), read(f"{name}/categories")
    check_codes(codes, len(categories), f"{name!r} in {path}")
    if (codes >= 0).all():
        return categories[codes]
    labels = categories.astype(object)[codes]
    labels[codes < 0] = None
    return labels


def _read_nullable(read: Callable[[str], Array], name: str) -> Array:
    """Values of a nullable column; missing ones are None."""
    values, missing = read(f"{name}/values"), read(f"{name}/mask")
    if not missing.any():
        return values
    labels = values.astype(object)
    labels[missing] = None
    return labels


def _refuse_sparse(path: Path, name: str) -> Array:
    raise InputError(
        f"{name!r} in {path} is a sparse matrix; choose a dense embedding such as '{path}:obsm/X_pca', or store "
        "a dense matrix."
    )

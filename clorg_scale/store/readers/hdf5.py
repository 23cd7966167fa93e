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

__all__ = ["contents"]

_NOT_PER_POINT = ("var", "varm", "varp", "uns", "obsp", "layers", "raw")
"""Parts of an .h5ad file that describe genes or pairs, not points."""


def contents(path: Path) -> Contents:
    """List the datasets of the file by their path in it; of ``.h5ad``, ``X``, ``obsm/*`` and ``obs/*``.

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
        _collect(file, "", path, members)
    return Contents(path, members)


def _collect(group: Any, prefix: str, path: Path, members: dict[str, Member]) -> None:
    """List all arrays below a group."""
    annotated = path.suffix.lower() == ".h5ad"
    for name, item in group.items():
        full = prefix + name
        if item is None:  # a link that leads nowhere
            continue
        if annotated and (full in _NOT_PER_POINT or name in ("_index", "__categories")):
            continue
        encoding = item.attrs.get("encoding-type", "")
        if hasattr(item, "shape"):
            usable = item.shape if item.dtype.names is None else ()
            members[full] = Member(usable, partial(_read, path, full))
        elif encoding == "categorical":
            members[full] = Member(item["codes"].shape, partial(_read_categories, path, full))
        elif encoding in ("csr_matrix", "csc_matrix"):
            members[full] = Member((), partial(_refuse_sparse, path, full))
        elif encoding.startswith("nullable"):
            members[full] = Member(item["values"].shape, partial(_read_nullable, path, full))
        else:
            _collect(item, f"{full}/", path, members)


def _read(path: Path, name: str) -> Array:
    """Map a dataset that lies in one piece; gather another one chunk by chunk."""
    import h5py

    with tell_damage(f"The dataset {name!r} in {path} is damaged"), h5py.File(path, "r") as file:
        dataset = file[name]
        if h5py.check_string_dtype(dataset.dtype) is not None:
            return dataset.asstr()[:]
        if dataset.dtype.kind not in "fiub":
            raise InputError(f"The dataset {name!r} in {path} has type {dataset.dtype}; numbers are needed.")
        offset = dataset.id.get_offset()
        in_one_piece = offset is not None and not dataset.external and not dataset.file.userblock_size
        if not in_one_piece or dataset.dtype.kind == "b" or not dataset.size:
            return as_array(dataset)
        # A link may lead to another file.
        return np.memmap(dataset.file.filename, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)


def _read_categories(path: Path, name: str) -> Array:
    """Labels of a column of categories; missing ones are None."""
    codes, categories = _read(path, f"{name}/codes"), _read(path, f"{name}/categories")
    if (codes >= 0).all():
        return categories[codes]
    labels = categories.astype(object)[codes]
    labels[codes < 0] = None
    return labels


def _read_nullable(path: Path, name: str) -> Array:
    """Values of a nullable column; missing ones are None."""
    values, missing = _read(path, f"{name}/values"), _read(path, f"{name}/mask")
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

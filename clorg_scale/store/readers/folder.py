"""The folder that `save_embeddings` writes."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from clorg_scale.errors import InputError
from clorg_scale.store.contents import Contents, Member
from clorg_scale.store.layout import METADATA, PROGRESS, read_record
from clorg_scale.store.readers.npy import open_npy

__all__ = ["contents"]


def contents(path: Path, *, allow_external: bool = False) -> Contents:
    """List the embeddings and, if there are any, the labels of a store.

    Parameters
    ----------
    path
        Folder of the store.
    allow_external
        Follow a symbolic link that stands for an array and leads out of the folder.

    Raises
    ------
    InputError
        If the store is unfinished, damaged or not one of this package.
    """
    record = read_record(path / METADATA)
    if record is None:
        progress = read_record(path / PROGRESS) or {}
        raise InputError(
            f"{path} is unfinished ({progress.get('rows', 0)} rows are written); run the command that writes it again."
        )
    files = record.get("files", {})
    shape = tuple(record.get("shape", ()))
    if "embeddings" not in files or len(shape) != 2:
        raise InputError(f"{path / METADATA} is incomplete; the store is damaged.")
    shapes = {"embeddings": shape, "labels": shape[:1]}
    open_array = partial(_open_checked, allow_external=allow_external)
    members = {
        name: Member(shapes[name], partial(open_array, path / files[name], shapes[name]))
        for name in shapes
        if name in files
    }
    return Contents(path, members, record.get("metadata", {}))


def _open_checked(path: Path, shape: tuple[int, ...], *, allow_external: bool) -> object:
    """Map an array whose shape the table of contents knows."""
    target = Path(os.path.realpath(path))
    if not allow_external and not target.is_relative_to(os.path.realpath(path.parent)):
        raise InputError(
            f"{path} is a link to {target}, outside the store; other files are read only with --allow-external (in "
            "Python, allow_external=True)."
        )
    array = open_npy(path)
    if array.shape != shape:
        raise InputError(f"{path} has shape {array.shape}, but its metadata.json says {shape}; the store is damaged.")
    return array

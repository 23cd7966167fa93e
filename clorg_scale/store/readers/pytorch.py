"""PyTorch's files: a tensor, or tensors in a dictionary or list; nothing else in them is unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import as_array
from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import Contents, Member
from clorg_scale.store.damage import explain_damage

__all__ = ["contents"]

_DEPTH = 8
"""Dictionaries and lists within one another that are looked into."""


def contents(path: Path) -> Contents:
    """List the tensors of the file; those in dictionaries and lists by their keys and positions.

    Raises
    ------
    InputError
        If it is not such a file, truncated, or holds Python objects.
    MissingDependencyError
        If PyTorch is not installed.
    """
    torch = require("torch", extra="train", purpose=f"Reading {path.suffix} files")
    with explain_damage(
        f"{path} cannot be read as tensors; save a tensor, or a dictionary of tensors, with torch.save"
    ):
        stored = _load(torch, path)
    if isinstance(stored, torch.Tensor):
        return Contents(path, {path.stem: _member(path, path.stem, stored)})
    members = dict(_members(path, stored, "", torch, _DEPTH))
    if not members:
        raise InputError(f"{path} holds no tensor; save one, or a dictionary of tensors, with torch.save.")
    return Contents(path, members)


def _load(torch: Any, path: Path) -> Any:
    """Load tensors, memory-mapped where the file is of the newer of the two formats."""
    import pickle

    with path.open("rb") as file:
        mapped = file.read(4) == b"PK\x03\x04"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old and of sparse tensors, which are reported where they matter
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        # What PyTorch says of it is a page of advice to unpickle it nevertheless.
        raise InputError(
            f"{path} holds Python objects, which are never unpickled, or it is damaged; save a tensor, or a "
            "dictionary of tensors, with torch.save."
        ) from error


def _members(path: Path, stored: Any, prefix: str, torch: Any, depth: int) -> Iterator[tuple[str, Member]]:
    """All tensors, and lists of numbers or text, in a dictionary or list."""
    items = stored.items() if isinstance(stored, Mapping) else enumerate(stored) if _is_list(stored) else ()
    for key, value in items:
        name = f"{prefix}{key}"
        if isinstance(value, torch.Tensor):
            yield name, _member(path, name, value)
        elif _is_list(value) and value and all(isinstance(item, (int, float, str, type(None))) for item in value):
            yield name, Member((len(value),), partial(_as_objects, value))
        elif depth:
            yield from _members(path, value, f"{name}/", torch, depth - 1)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _member(path: Path, name: str, tensor: Any) -> Member:
    return Member(tuple(tensor.shape), partial(_read, path, name, tensor))


def _read(path: Path, name: str, tensor: Any) -> Any:
    """Return a tensor as an array that shares its memory."""
    with explain_damage(f"The tensor {name!r} in {path} cannot be read"):
        return as_array(tensor, name=f"values of the tensor {name!r} in {path}")


def _as_objects(values: list[Any]) -> np.ndarray[Any, Any]:
    """Keep each label's own type, so that mixed or missing ones are seen."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array

"""Sorting and selection within the rows of a table, on a GPU by torch where it is installed.

CuPy sorts the whole table at once, by row and by value, also to select; torch gives each row to a block of threads.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, array_module

__all__ = ["smallest_columns", "sorted_columns"]


def smallest_columns(keys: Array, c: int) -> Array:
    """(b, c) columns of the c smallest of each row of keys (b, m), c <= m, in any order."""
    torch, xp = _torch_for(keys), array_module(keys)
    if torch is None:
        return xp.argpartition(keys, c - 1, axis=1)[:, :c]
    return xp.from_dlpack(torch.from_dlpack(keys).topk(c, dim=1, largest=False, sorted=False).indices)


def sorted_columns(keys: Array) -> Array:
    """(b, m) columns that sort each row of keys (b, m); equal ones keep their order."""
    torch, xp = _torch_for(keys), array_module(keys)
    if torch is None:
        return xp.argsort(keys, axis=1, kind="stable")
    return xp.from_dlpack(torch.from_dlpack(keys).sort(dim=1, stable=True).indices)


def _torch_for(keys: Array) -> Any:
    """PyTorch, if it works on the GPU that holds the keys."""
    if array_module(keys) is np or importlib.util.find_spec("torch") is None:
        return None
    torch = importlib.import_module("torch")
    return torch if torch.cuda.is_available() else None

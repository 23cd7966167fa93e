"""Labels in .json files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.errors import InputError
from clorg_scale.store.contents import Contents, Member, Table
from clorg_scale.store.regular import check_fits_memory

__all__ = ["contents"]


def contents(path: Path) -> Contents:
    """List the label vectors: a list as ``labels``, or each list of an object under its key.

    Raises
    ------
    InputError
        If it is not JSON, or holds neither.
    """
    check_fits_memory(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file ({error}).") from error
    if isinstance(data, list):
        data = {"labels": data}
    lists = {key: value for key, value in data.items() if isinstance(value, list)} if isinstance(data, dict) else {}
    if not lists:
        raise InputError(f"{path} must hold a list of labels, or an object of lists.")
    members = {key: Member((len(value),), partial(_as_objects, value)) for key, value in lists.items()}
    return Contents(path, members, table=Table(dict.fromkeys(lists, "not chosen")))


def _as_objects(values: list[Any]) -> np.ndarray[Any, Any]:
    """Keep each label's own type, so that mixed or missing ones are seen."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array

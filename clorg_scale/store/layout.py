"""Layout of a store: which files its folder has, and which of them are valid.

``metadata.json`` is the table of contents: it names the file of the embeddings and that of the labels
(``embeddings.npy``, ``labels.npy``; with a random part in the name where an older store is replaced). It is
replaced last and in one step, so that at every moment the folder holds the old store or the new one.
``progress.json`` says, while a store is written, how many rows of the new files are safely on the disk.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clorg_scale.errors import InputError
from clorg_scale.store.atomic import write_whole
from clorg_scale.store.regular import check_fits_memory

__all__ = ["FORMAT", "METADATA", "PROGRESS", "read_record", "remove_leftovers", "write_record"]

FORMAT = "clorg-scale embeddings 1"

METADATA = "metadata.json"

PROGRESS = "progress.json"

_MOST_ROWS = 2**63


def read_record(path: Path) -> dict[str, Any] | None:
    """Read ``metadata.json`` or ``progress.json``; None if it is not there.

    Raises
    ------
    InputError
        If it was not written by this package, or is damaged.
    """
    check_fits_memory(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); the folder is not a store of embeddings.") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path} does not belong to a store of embeddings that this version knows.")
    files = record.get("files", {})
    names = files.values() if isinstance(files, dict) else [None]
    if not all(isinstance(name, str) and name == Path(name).name and name.endswith(".npy") for name in names):
        raise InputError(f"{path} names files outside its folder; the store is damaged.")
    if not (_are_counts(record.get("shape", [])) and _are_counts([record.get("rows", 0)])):
        raise InputError(f"{path} gives an invalid shape or number of rows; the store is damaged.")
    if not isinstance(record.get("metadata", {}), dict):
        raise InputError(f"{path} holds metadata that are not a JSON object; the store is damaged.")
    return record


def _are_counts(values: Any) -> bool:
    """Whether this is a list of whole numbers of a size that files have."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < _MOST_ROWS for value in values)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Replace ``metadata.json`` or ``progress.json`` in one step."""
    with write_whole(path, "w") as file:
        json.dump({"format": FORMAT, **record}, file, indent=1)


def remove_leftovers(folder: Path, keep: set[str]) -> None:
    """Remove what an interrupted or replaced store left: its arrays not in `keep`, and temporary files."""
    for pattern in ("embeddings*.npy", "labels*.npy", f".{METADATA}.*.tmp", f".{PROGRESS}.*.tmp"):
        for path in folder.glob(pattern):
            if path.name not in keep:
                path.unlink(missing_ok=True)

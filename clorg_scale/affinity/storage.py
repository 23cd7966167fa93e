"""An affinity graph in a folder: its CSR arrays as .npy files, which are mapped, not read, when it is opened.

``metadata.json`` names the files of the arrays (``indptr.npy``, ``indices.npy``, ``weights.npy``; with a random part in
the name where an older graph is replaced), their types, shapes and digests. It is replaced last and in one step: at
every moment the folder holds the old graph, the new one, or none.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays.blocks import BLOCK_BYTES
from clorg_scale.errors import InputError
from clorg_scale.store.atomic import explain_write_errors, result_folder, sync_folder, write_whole
from clorg_scale.store.locks import FolderLock
from clorg_scale.store.readers.npy import open_npy
from clorg_scale.store.regular import check_fits_memory

__all__ = ["is_graph_folder", "open_folder", "write_folder"]

FORMAT = "clorg-scale affinity graph 1"

METADATA = "metadata.json"

NAMES = ("indptr", "indices", "weights")

SAMPLE_BYTES = 1 << 16
"""Bytes of one block of a digest."""

SAMPLES = 256
"""Blocks of a digest, evenly spaced: every byte of arrays up to 16 MB is covered, and larger ones open no slower."""


class _Entry(NamedTuple):
    """Entry of one array in ``metadata.json``."""

    file: str
    dtype: str
    length: int
    digest: str


def is_graph_folder(path: Path | str) -> bool:
    """Whether a folder holds a graph, complete or damaged."""
    try:
        return FORMAT.rpartition(" ")[0] in (Path(path) / METADATA).read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return False


def write_folder(path: Path | str, arrays: tuple[npt.NDArray[Any], ...]) -> None:
    """Write a graph into a folder, which is made where it is missing; a graph that is there stays until the end.

    Parameters
    ----------
    path
        A folder that is empty, missing, or holds a graph.
    arrays
        indptr, indices and weights, in main memory or mapped; written block by block.

    Raises
    ------
    InputError
        If something else lies there, another run is writing there, or the disk is full.
    """
    folder = Path(path)
    _check_folder(folder)
    with explain_write_errors(folder), result_folder(folder):
        lock = FolderLock(folder)
        try:
            kept = {entry.file for entry in (_entries(folder) if (folder / METADATA).exists() else {}).values()}
            part = f"-{secrets.token_hex(4)}" if kept else ""
            entries = {name: _entry(f"{name}{part}.npy", array) for name, array in zip(NAMES, arrays, strict=True)}
            try:
                for name, array in zip(NAMES, arrays, strict=True):
                    _write_array(folder / entries[name].file, array)
                record = {"format": FORMAT, "arrays": {name: entry._asdict() for name, entry in entries.items()}}
                with write_whole(folder / METADATA, "w") as file:
                    json.dump(record, file, indent=1)
                kept = {entry.file for entry in entries.values()}
            finally:
                _remove_others(folder, kept)
            sync_folder(folder)
        finally:
            lock.release()


def open_folder(path: Path | str) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Map the arrays of a graph that `write_folder` wrote, read-only.

    Raises
    ------
    InputError
        If there is none, or it is truncated, changed or something else.
    """
    folder = Path(path)
    if not folder.is_dir():
        missing = not folder.exists()
        raise InputError(
            f"There is no folder {path}."
            if missing
            else f"{path} is a file; a graph that is opened lies in a folder (AffinityGraph.load reads .npz files)."
        )
    entries = _entries(folder)
    indptr, indices, weights = (_open_array(folder, entries[name]) for name in NAMES)
    fits = len(indptr) and int(indptr[0]) == 0 and int(indptr[-1]) == len(indices) == len(weights)
    kinds = indptr.dtype.kind + indices.dtype.kind + weights.dtype.kind
    if not fits or kinds != "iif" or bool((indptr[1:] < indptr[:-1]).any()):
        raise InputError(f"{path} is damaged: its arrays do not fit together; write the graph again.")
    return indptr, indices, weights


def _entries(folder: Path) -> dict[str, _Entry]:
    """Read ``metadata.json``."""
    path = folder / METADATA
    check_fits_memory(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise KeyError("format")
        entries = {name: _Entry(**record["arrays"][name]) for name in NAMES}
    except FileNotFoundError:
        raise InputError(f"{folder} holds no affinity graph: it has no {METADATA}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} does not describe an affinity graph that this version knows.") from error
    for entry in entries.values():
        strings = (entry.file, entry.dtype, entry.digest)
        if not all(isinstance(part, str) for part in strings) or type(entry.length) is not int:
            raise InputError(f"{path} is damaged; write the graph again.")
        if entry.file != Path(entry.file).name or not entry.file.endswith(".npy"):
            raise InputError(f"{path} names files outside its folder; the graph is damaged.")
    return entries


def _open_array(folder: Path, entry: _Entry) -> npt.NDArray[Any]:
    """Map one array and compare it with its entry."""
    path = folder / entry.file
    if path.is_symlink():
        raise InputError(f"{path} is a link; the arrays of a graph lie in its folder.")
    array: npt.NDArray[Any] = np.asarray(open_npy(path))
    if array.dtype.str != entry.dtype or array.shape != (entry.length,):
        raise InputError(
            f"{path} holds {array.dtype.str} {array.shape}, but {METADATA} says {entry.dtype} ({entry.length},); the "
            "graph is damaged, write it again."
        )
    if _digest(array) != entry.digest:
        raise InputError(f"{path} is not what was written with {METADATA}; the graph is damaged, write it again.")
    return array


def _entry(file: str, array: npt.NDArray[Any]) -> _Entry:
    return _Entry(file, array.dtype.str, len(array), _digest(array))


def _digest(array: npt.NDArray[Any]) -> str:
    """Digest of evenly spaced blocks of an array, the first and the last among them."""
    step = SAMPLE_BYTES // array.itemsize
    last = max(0, len(array) - step)
    starts = np.unique(np.append(np.arange(0, last, max(step, -(-last // (SAMPLES - 1)))), last))
    digest = hashlib.blake2b(f"{array.dtype.str} {len(array)}".encode(), digest_size=16)
    for start in starts.tolist():
        digest.update(np.ascontiguousarray(array[start : start + step]).data)
    return digest.hexdigest()


def _write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a .npy file, whole or not at all."""
    step = BLOCK_BYTES // array.itemsize
    with write_whole(path) as file:
        header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(array), step):
            file.write(np.ascontiguousarray(array[start : start + step]).data)


def _check_folder(folder: Path) -> None:
    """Refuse to write into something that is no graph."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; a graph is stored in a folder or as .npz: choose another path.")
    if folder.is_dir() and not is_graph_folder(folder):
        others = sorted(path.name for path in folder.iterdir() if not path.name.endswith(".tmp"))
        others = [name for name in others if not _is_array_file(name)]
        if others:
            raise InputError(
                f"{folder} is not empty and holds no affinity graph ({others[0]!r} lies in it); choose another folder."
            )


def _is_array_file(name: str) -> bool:
    """Whether `write_folder` writes files of such names."""
    stem, _, part = name.removesuffix(".npy").partition("-")
    return name.endswith(".npy") and stem in NAMES and (not part or len(part) == 8)


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove arrays that ``metadata.json`` does not name."""
    for path in folder.iterdir():
        if _is_array_file(path.name) and path.name not in kept:
            path.unlink(missing_ok=True)

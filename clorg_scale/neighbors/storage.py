"""k-NN tables on disk: one .npz file without pickled objects, written whole or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.arrays import on_host, row_slices
from clorg_scale.errors import InputError
from clorg_scale.neighbors.metric import id_dtype

__all__ = ["read_fields", "write_fields"]

FORMAT = "clorg-scale k-NN table 1"

ARRAYS = ("indices", "distances", "queries")
NUMBERS = ("measured_recall", "mean_distance")


def write_fields(table: dict[str, Any], path: str | Path) -> None:
    """Write the fields of a table (see `KNN.save`); absent numbers are stored as NaN."""
    from clorg_scale.store.atomic import write_whole
    from clorg_scale.store.endings import check_ending

    check_ending(path, (".npz",))
    stored = {name: on_host(value) if name in ARRAYS else value for name, value in table.items() if value is not None}
    stored |= {name: np.nan for name in NUMBERS if table[name] is None}
    with write_whole(path) as file:
        np.savez(file, allow_pickle=False, format=FORMAT, **stored)


def read_fields(path: str | Path) -> dict[str, Any]:
    """Read and check the fields of a table (see `KNN.load`)."""
    from clorg_scale.store.regular import check_regular_file

    path = Path(path)
    check_regular_file(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            stored = {name: data[name] for name in data.files}
    except FileNotFoundError as error:
        raise InputError(f"There is no k-NN table at {path}.") from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(f"{path} is not a k-NN table, or a truncated one ({error}).") from error
    needed = {"format", "metric", "index", "n_points", "measured_recall", "mean_distance", "indices", "distances"}
    if not needed <= set(stored) or str(stored["format"]) != FORMAT:
        raise InputError(f"{path} is not a k-NN table of clorg-scale.")
    _check_contents(stored, path)
    numbers = {name: float(stored[name]) for name in NUMBERS}
    return {
        **{name: stored.get(name) for name in ARRAYS},
        **{name: None if np.isnan(value) else value for name, value in numbers.items()},
        "metric": str(stored["metric"]),
        "index": str(stored["index"]),
        "n_points": int(stored["n_points"]),
    }


def _check_contents(stored: dict[str, np.ndarray], path: Path) -> None:
    """Refuse a table whose arrays contradict each other; shapes are checked by `KNN` itself."""
    n = int(stored["n_points"])
    indices, distances, queries = stored["indices"], stored["distances"], stored.get("queries")
    if indices.dtype != id_dtype(n) or distances.dtype not in (np.float32, np.float64):
        raise InputError(f"{path} holds indices of {indices.dtype} and distances of {distances.dtype}.")
    if queries is not None and (queries.dtype != np.int64 or queries.ndim != 1):
        raise InputError(f"{path} holds queries of {queries.dtype} in {queries.ndim} dimensions.")
    if indices.ndim != 2 or indices.shape != distances.shape:
        raise InputError(f"{path} holds indices and distances of different shapes.")
    for rows in row_slices(len(indices), indices.shape[1], itemsize=8):
        if indices[rows].min(initial=0) < 0 or indices[rows].max(initial=0) >= n:
            raise InputError(f"{path} holds neighbors outside 0 .. {n - 1}.")
        if not np.isfinite(distances[rows]).all() or (np.diff(distances[rows], axis=1) < 0).any():
            raise InputError(f"{path} holds distances that are not ascending finite numbers.")

"""k-NN tables on disk: one .npz file without pickled objects, written whole or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from clorg_scale.arrays import on_host, row_slices
from clorg_scale.errors import InputError
from clorg_scale.neighbors.result import KNN, id_dtype

__all__ = ["load_knn", "save_knn"]

FORMAT = "clorg-scale k-NN table 1"


def save_knn(knn: KNN, path: str | Path) -> None:
    """Write the table (see `KNN.save`)."""
    from clorg_scale.store.atomic import write_whole
    from clorg_scale.store.endings import check_ending

    check_ending(path, (".npz",))
    arrays = {"indices": on_host(knn.indices), "distances": on_host(knn.distances)}
    if knn.queries is not None:
        arrays["queries"] = on_host(knn.queries)
    recall = np.nan if knn.measured_recall is None else knn.measured_recall
    mean = np.nan if knn.mean_distance is None else knn.mean_distance
    with write_whole(path) as file:
        np.savez(
            file, allow_pickle=False, format=FORMAT, metric=knn.metric, index=knn.index,
            n_points=knn.n_points, measured_recall=recall, mean_distance=mean, **arrays,
        )  # fmt: skip


def load_knn(path: str | Path) -> KNN:
    """Read and check a table (see `KNN.load`)."""
    from clorg_scale.store.regular import check_regular_file

    path = Path(path)
    check_regular_file(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            stored = {name: data[name] for name in data.files}
    except FileNotFoundError as error:
        raise InputError(f"There is no k-NN table at {path}.") from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(f"{path} is not a k-NN table, or only a part of one ({error}).") from error
    needed = {"format", "metric", "index", "n_points", "measured_recall", "mean_distance", "indices", "distances"}
    if not needed <= set(stored) or str(stored["format"]) != FORMAT:
        raise InputError(f"{path} is not a k-NN table of clorg-scale.")
    recall, mean = float(stored["measured_recall"]), float(stored["mean_distance"])
    _check_contents(stored, path)
    return KNN(
        stored["indices"], stored["distances"], str(stored["metric"]), str(stored["index"]),  # type: ignore[arg-type]
        int(stored["n_points"]), stored.get("queries"), None if np.isnan(recall) else recall,
        None if np.isnan(mean) else mean,
    )  # fmt: skip


def _check_contents(stored: dict[str, np.ndarray], path: Path) -> None:
    """Refuse a table whose parts contradict each other; shapes are checked by `KNN` itself."""
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

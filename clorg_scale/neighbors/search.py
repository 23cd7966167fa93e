"""k-NN searches: every point's neighbours, those of a sample, those of other points."""

from __future__ import annotations

from typing import Any

import numpy as np

from clorg_scale.arrays import (
    Device,
    as_embeddings,
)
from clorg_scale.errors import InputError
from clorg_scale.neighbors.algorithms import flat_faiss
from clorg_scale.neighbors.exact import search_exact
from clorg_scale.neighbors.points import prepare, prepare_like
from clorg_scale.neighbors.result import KNN, Metric, check_metric, id_dtype
from clorg_scale.progress import progress_bar

__all__ = ["knn", "knn_between", "knn_of"]


def knn(
    embeddings: Any,
    k: int,
    *,
    metric: Metric = "euclidean",
    index: str = "auto",
    device: Device = "auto",
    memory_limit: str | int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> KNN:
    """Find the k nearest neighbours of every point."""
    embeddings = as_embeddings(embeddings)
    check_metric(metric)
    _check_k(k, embeddings.shape[0])
    points = prepare(embeddings, metric)
    rows = np.arange(points.n)
    with progress_bar("nearest neighbours", points.n, unit="points", enabled=progress) as advance:
        keys, ids = search_exact(
            points, points, rows, k, exclude=rows, search_block=flat_faiss.search_block,
            block_bytes=1 << 29, advance=advance,
        )  # fmt: skip
    return KNN(ids.astype(id_dtype(points.n)), points.distances(keys), metric, "flat", points.n, None, 1.0)


def _check_k(k: int, n: int) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1 or k >= n:
        raise InputError(f"k must be a whole number from 1 to {n - 1} for {n} points, not {k!r}.")


def knn_of(
    embeddings: Any, queries: Any, k: int, *, metric: Metric = "euclidean", device: Device = "auto",
    memory_limit: str | int | None = None, progress: bool = False,
) -> KNN:  # fmt: skip
    """Find the exact k nearest neighbours of some of the points."""
    embeddings = as_embeddings(embeddings)
    check_metric(metric)
    _check_k(k, embeddings.shape[0])
    points = prepare(embeddings, metric)
    rows = np.asarray(queries, dtype=np.int64)
    with progress_bar("nearest neighbours", len(rows), unit="points", enabled=progress) as advance:
        keys, ids = search_exact(
            points, points, rows, k, exclude=rows, search_block=flat_faiss.search_block,
            block_bytes=1 << 29, advance=advance,
        )  # fmt: skip
    return KNN(ids.astype(id_dtype(points.n)), points.distances(keys), metric, "flat", points.n, rows, 1.0)


def knn_between(
    queries: Any, embeddings: Any, k: int, *, metric: Metric = "euclidean", device: Device = "auto",
    memory_limit: str | int | None = None, progress: bool = False,
) -> KNN:  # fmt: skip
    """Find the exact k nearest embeddings of other points."""
    embeddings = as_embeddings(embeddings)
    check_metric(metric)
    _check_k(k, embeddings.shape[0] + 1)
    points = prepare(embeddings, metric)
    others = prepare_like(points, as_embeddings(queries, name="queries"), name="queries")
    rows = np.arange(others.n)
    with progress_bar("nearest neighbours", len(rows), unit="points", enabled=progress) as advance:
        keys, ids = search_exact(
            others, points, rows, k, exclude=None, search_block=flat_faiss.search_block,
            block_bytes=1 << 29, advance=advance,
        )  # fmt: skip
    return KNN(
        ids.astype(id_dtype(points.n)), points.distances(keys), metric, "flat", points.n,
        np.full(others.n, -1, dtype=np.int64), 1.0,
    )  # fmt: skip

"""k-NN searches: every point's neighbors, those of a sample, those of other points."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from clorg_scale.arrays import (
    Array,
    Device,
    array_module,
    as_embeddings,
    free_device_memory,
    on_host,
    resolve_device,
    row_slices,
    within_device_memory,
)
from clorg_scale.distributed import Map, device_of_workers, mapped, within_reach
from clorg_scale.errors import InputError
from clorg_scale.neighbors.approximate import MARGIN, tune
from clorg_scale.neighbors.engines import approximate_index, automatic_index, exact_engine
from clorg_scale.neighbors.exact import search_exact
from clorg_scale.neighbors.memory import Budget, flat_bytes, index_bytes, search_budget
from clorg_scale.neighbors.pairs import mean_pair_distance, pair_keys
from clorg_scale.neighbors.parts import PART_ROWS, CandidateSearch, ExactSearch, silent
from clorg_scale.neighbors.points import Points, hold, prepare, prepare_pair
from clorg_scale.neighbors.recall import SAMPLE, Truth, recall_of, sample_truth
from clorg_scale.neighbors.result import KNN, Metric, check_metric, id_dtype
from clorg_scale.progress import Advance, progress_bar
from clorg_scale.whole import whole_number

__all__ = ["knn", "knn_between", "knn_of", "measure_recall"]

POOR_RECALL, POOR_BY = 0.95, 0.02
"""What the sample of the tuning may be off by is no reason to warn."""

MANY_QUERIES = 8192
"""Queries from which on the embeddings are read several times, so that a float32 copy of them pays."""


@within_device_memory("the search for neighbors")
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
    target_recall: float = 0.99,
    client: Any = None,
) -> KNN:
    """Find the k nearest neighbors of every point.

    Whatever the index, every returned neighbor is checked (no point is its own neighbor, none occurs twice,
    none is missing) and its distance computed in float64 from the embeddings as handed in. The recall of an
    approximate index is measured against exact search on a sample of 500 points.

    Parameters
    ----------
    embeddings
        (n, d) of any array library and real dtype, memory maps included; read block by block.
    k
        Neighbors per point, 1 <= k < n.
    metric
        ``"euclidean"``; ``"cosine"``, 1 - cos; ``"inner_product"``, the largest first, as negative distances.
    index
        ``"auto"`` searches exactly while that takes seconds: up to 5,000 points, while n^2 d <= 3e11 on a
        CPU (20,000 points of 784 features) or 5e14 on a GPU, and where k > n / 20. Beyond, it takes ``"ivf"``,
        probes more lists until the recall on the sample is the target, and turns to exact search where a third of
        the lists do not suffice (data without clusters).

        Others, by name: ``"flat"`` (exact); ``"ivf"`` (inverted lists, deterministic for a seed); ``"hnsw"``
        (FAISS; holds a copy of the embeddings, and differs in a few neighbors from run to run when threads
        share the work); ``"nndescent"``; ``"cagra"`` (GPU); or any FAISS factory string such as
        ``"IVF1024,SQ8"`` or ``"HNSW48,Flat"`` (CPU).

        Measured on 60,000 x 784 images (Fashion-MNIST, k = 16, two cores, all checks included): ivf 2.6 s at
        recall .997, hnsw 12 s at .999, flat 21 s, nndescent 28 s at 1.00 (`python -m bench knn`).
    device
        ``"cuda"`` searches with cuVS, else with a GPU build of FAISS, else with torch; exactly, in 256 or more
        features, with torch where it is there, for its tensor cores. The table is then on the GPU.
    memory_limit
        For what the search holds beside the embeddings, such as ``"8GB"``; default: 80% of what is available, on
        the GPU where they lie there.
    seed
        For clustering, graph construction and the sample for the recall.
    progress
        Show a progress bar on stderr.
    target_recall
        Share of the true neighbors that an approximate index is tuned to find.
    client
        `distributed.Client` of a Dask cluster that shares the work (see `clorg_scale.distributed`): an index is built
        here and searched by all workers, each of which holds it (in parts of another size than without a cluster, so
        that rounding decides otherwise on a few neighbors in 100,000); workers with GPUs search exactly.

    Returns
    -------
    KNN
        Its `index` says what searched with which parameters, its `measured_recall` how well.

    Raises
    ------
    InputError
        If k is out of range, the metric or index unknown, embeddings are NaN, infinite or (cosine) zero, or
        memory does not suffice (says what would).

    Warns
    -----
    UserWarning
        If the measured recall is below .95.
    """
    embeddings, place = _place(embeddings, device, client)
    check_metric(metric)
    k, seed = _check_k(k, embeddings.shape[0] - 1, embeddings.shape[0]), whole_number("seed", seed, 0)
    if not 0 < target_recall <= 1:
        raise InputError(f"target_recall must be above 0 and at most 1, not {target_recall!r}.")
    points = prepare(embeddings, metric)
    name = automatic_index(points, k, place) if index == "auto" else index
    run, workers = mapped(client), place
    if run is not None:
        place = "cpu"  # of this process, which may have no GPU
        name = _exact_on_gpus(index) if workers == "cuda" else name
    least = flat_bytes(points.n, points.d, points.n, k)
    if index == "auto" and name != "flat":
        name = _affordable(name, points, k, place, memory_limit)
    needed = index_bytes(name, points.n, points.d, k)
    budget = _budget(points, needed, least, place, memory_limit, f"Searching {k} neighbors with index {name!r}")
    if name != "flat":
        result = _approximate(
            points, k, name, place, budget, seed, progress, target_recall, must_reach=index == "auto", run=run
        )
        if result is not None:
            return replace(result, mean_distance=mean_pair_distance(points, seed))
    if run is None:
        result = _exact(points, points, None, k, place, budget, progress)
    else:
        result = _exact_on_cluster(points, k, workers, budget, run, progress)
    return replace(result, mean_distance=mean_pair_distance(points, seed))


@within_device_memory("the search for neighbors")
def knn_of(
    embeddings: Any,
    queries: Any,
    k: int,
    *,
    metric: Metric = "euclidean",
    device: Device = "auto",
    memory_limit: str | int | None = None,
    progress: bool = False,
) -> KNN:
    """Find the exact k nearest neighbors of a sample of the points, for any k.

    Parameters
    ----------
    embeddings
        (n, d) as for `knn`.
    queries
        (q,) row numbers of the points whose neighbors are sought, without repetition.
    k, metric, device, memory_limit, progress
        As for `knn`.

    Returns
    -------
    KNN
        With q rows; `queries` holds the row numbers.

    Raises
    ------
    InputError
        As `knn`; if row numbers are out of range or repeated.
    """
    embeddings, place = _place(embeddings, device)
    check_metric(metric)
    k = _check_k(k, embeddings.shape[0] - 1, embeddings.shape[0])
    rows = _query_rows(queries, embeddings.shape[0])
    points = prepare(embeddings, metric)
    needed = flat_bytes(points.n, points.d, len(rows), k)
    budget = _budget(points, needed, needed, place, memory_limit, f"Searching {k} neighbors of {len(rows)} points")
    return _exact(points, points, rows, k, place, budget, progress)


@within_device_memory("the search for neighbors")
def knn_between(
    queries: Any,
    embeddings: Any,
    k: int,
    *,
    metric: Metric = "euclidean",
    device: Device = "auto",
    memory_limit: str | int | None = None,
    progress: bool = False,
) -> KNN:
    """Find the exact k nearest embeddings of other points, such as those of a test set.

    Parameters
    ----------
    queries
        (q, d) points that are not among the embeddings; an equal embedding is a neighbor like any other.
    embeddings
        (n, d) what is searched.
    k, metric, device, memory_limit, progress
        As for `knn`, but k <= n.

    Returns
    -------
    KNN
        With q rows; `queries` is -1 throughout.

    Raises
    ------
    InputError
        As `knn`; if the numbers of features differ.
    """
    embeddings, place = _place(embeddings, device)
    others = _like(as_embeddings(queries, name="queries"), embeddings)
    check_metric(metric)
    k = _check_k(k, embeddings.shape[0], embeddings.shape[0])
    points, prepared = prepare_pair(embeddings, others, metric)
    needed = flat_bytes(points.n, points.d, prepared.n, k)
    budget = _budget(points, needed, needed, place, memory_limit, f"Searching {k} neighbors of {prepared.n} points")
    return _exact(prepared, points, None, k, place, budget, progress)


def measure_recall(knn: KNN, embeddings: Any, sample: int, seed: int) -> float:
    """Measure the recall of a table (see `KNN.recall`)."""
    device: Device = "cpu" if array_module(knn.indices) is np else "cuda"
    embeddings, place = _place(embeddings, device)
    xp = array_module(embeddings)
    if embeddings.shape[0] != knn.n_points:
        raise InputError(
            f"The k-NN table was made from {knn.n_points} embeddings, not from these {embeddings.shape[0]}."
        )
    table_points = _like(knn.query_points(), embeddings)
    if bool((table_points < 0).any()):
        raise InputError("The recall of neighbors of other points (knn_between) is not measured: they are exact.")
    sample, seed = whole_number("sample", sample, 1), whole_number("seed", seed, 0)
    points = prepare(embeddings, knn.metric)
    least = flat_bytes(points.n, points.d, sample, knn.k)
    budget = _budget(points, least, least, place, None, "Measuring the recall")
    engine = exact_engine(points, knn.k, place)
    truth = sample_truth(
        points,
        table_points,
        knn.k,
        size=sample,
        seed=seed,
        engine=engine,
        block_bytes=budget.blocks,
    )
    ids = xp.asarray(_like(knn.indices, embeddings)[truth.rows], dtype=np.int64)
    return recall_of(pair_keys(points, points, table_points[truth.rows], ids), truth.bounds)


def _place(embeddings: Any, device: Device, client: Any = None) -> tuple[Array, str]:
    """Bring the embeddings to the device that searches them, if they fit it, or within reach of all workers."""
    embeddings = as_embeddings(embeddings)
    if client is not None:
        return within_reach(client, embeddings), device_of_workers(client, device)
    chosen = resolve_device(device)
    if chosen == "cpu":
        return on_host(embeddings), chosen
    if array_module(embeddings) is not np:
        return embeddings, chosen
    if embeddings.nbytes > free_device_memory() // 2:
        return embeddings, chosen
    import cupy

    native = embeddings.dtype.newbyteorder("=")
    data = cupy.empty(embeddings.shape, dtype=native)
    for rows in row_slices(*embeddings.shape, itemsize=embeddings.itemsize):
        data[rows] = cupy.asarray(np.ascontiguousarray(embeddings[rows], dtype=native))
    return data, chosen


def _like(array: Array, model: Array) -> Array:
    """`array` where `model` lives."""
    xp = array_module(model)
    if array_module(array) is xp:
        return array
    return on_host(array) if xp is np else xp.asarray(array)


def _check_k(k: Any, most: int, n: int) -> int:
    return whole_number("k", k, 1, most, where=f" for {n} points")


def _query_rows(queries: Any, n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    rows = np.asarray(queries.get() if hasattr(queries, "get") else queries)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) == 0:
        raise InputError(
            f"The queries must be a non-empty list of row numbers, not {rows.dtype} of shape {rows.shape}."
        )
    if rows.min() < 0 or rows.max() >= n:
        raise InputError(f"The queries must be row numbers from 0 to {n - 1}; {rows.min()} .. {rows.max()} occur.")
    if len(np.unique(rows)) != len(rows):
        raise InputError("The queries repeat row numbers; give each point once.")
    return rows.astype(np.int64)


def _budget(points: Points, needed: int, least: int, device: str, memory_limit: str | int | None, what: str) -> Budget:
    """Divide the memory of where the points lie (see `search_budget`)."""
    on_device = array_module(points.embeddings) is not np
    return search_budget(needed, least, memory_limit, what, device=device, on_device=on_device)


def _affordable(name: str, points: Points, k: int, device: str, memory_limit: str | int | None) -> str:
    """`name`, or ``"flat"`` where memory does not suffice for it."""
    least = flat_bytes(points.n, points.d, points.n, k)
    try:
        _budget(points, index_bytes(name, points.n, points.d, k), least, device, memory_limit, name)
    except InputError:
        return "flat"
    return name


def _exact_on_gpus(index: str) -> str:
    """``"flat"``, unless another index was asked for by name."""
    if index not in ("auto", "flat"):
        raise InputError(f"Workers with GPUs search exactly, not with index={index!r}; use index='flat' or 'auto'.")
    return "flat"


def _exact_on_cluster(
    points: Points,
    k: int,
    device: str,
    budget: Budget,
    run: Map,
    progress: bool,  # noqa: FBT001
) -> KNN:
    """Search all points exactly, some of them on each worker."""
    task = ExactSearch(points, k, device, budget.blocks)
    rows = (np.arange(part.start, part.stop) for part in row_slices(points.n, 1, itemsize=1, block_bytes=PART_ROWS))
    with progress_bar("nearest neighbors", points.n, unit="points", enabled=progress) as advance:
        indices, distances = _table(points, _reported(run(task, rows), advance), points.n, k, "cpu")
    name = "flat" if device == "cpu" else "flat(GPU workers)"
    return KNN(indices, distances, points.metric, name, points.n, None, 1.0)


def _exact(
    queries: Points,
    points: Points,
    rows: Any,
    k: int,
    device: str,
    budget: Budget,
    progress: bool,  # noqa: FBT001
) -> KNN:
    """Search the points `rows` (all points if None), or other points, exactly."""
    xp = array_module(points.embeddings)
    engine = exact_engine(points, k, device)
    own = queries is points
    chosen = xp.arange(queries.n) if rows is None else xp.asarray(rows)
    if len(chosen) >= MANY_QUERIES:
        points = hold(points, budget.spare)
        queries = points if own else queries
    with progress_bar("nearest neighbors", len(chosen), unit="points", enabled=progress) as advance:
        parts = search_exact(
            queries, points, chosen, k,
            exclude=chosen if own else None, engine=engine, block_bytes=budget.blocks,
        )  # fmt: skip
        indices, distances = _table(points, _reported(parts, advance), len(chosen), k, device)
    if not own:
        chosen = xp.full(queries.n, -1, dtype=np.int64)
    kept = None if own and rows is None else array_module(indices).asarray(chosen)
    return KNN(indices, distances, points.metric, engine.name, points.n, kept, 1.0)


def _approximate(
    points: Points,
    k: int,
    name: str,
    device: str,
    budget: Budget,
    seed: int,
    progress: bool,  # noqa: FBT001
    target_recall: float,
    *,
    must_reach: bool,
    run: Map | None,
) -> KNN | None:
    """Search through an approximate index; None if `must_reach` and the recall on the sample is too low."""
    xp = array_module(points.embeddings)
    engine = exact_engine(points, k, device)
    index = approximate_index(name, device, engine.find, budget.spare)(points, k, seed=seed)
    truth = sample_truth(
        points, xp.arange(points.n), k,
        size=SAMPLE if target_recall >= POOR_RECALL else SAMPLE // 2, seed=seed, engine=engine,
        block_bytes=budget.blocks,
    )  # fmt: skip
    if tune(index, points, truth, k, target_recall) < target_recall and must_reach:
        return None
    order = xp.arange(points.n) if index.order is None else index.order
    found = xp.full((len(truth.rows), k), np.inf)
    with progress_bar(f"nearest neighbors, {name}", points.n, unit="points", enabled=progress) as advance:
        task = CandidateSearch(index, points, k, device, budget.blocks, advance if run is None else silent)
        at_once = budget.blocks if run is None else PART_ROWS * _bytes_per_row(k)
        rows = (order[part] for part in row_slices(points.n, _bytes_per_row(k), itemsize=1, block_bytes=at_once))
        parts = map(task, rows) if run is None else _reported(run(task, rows), advance)
        indices, distances = _table(points, _watched(parts, truth, found, points.n), points.n, k, device)
    recall = recall_of(found, truth.bounds)
    if recall < min(POOR_RECALL, target_recall - POOR_BY):
        warnings.warn(
            f"The index {index.description} found only {recall:.1%} of the true neighbors on a sample; "
            "use index='auto' or 'flat'.",
            stacklevel=4,
        )
    return KNN(indices, distances, points.metric, index.description, points.n, None, recall)


def _bytes_per_row(k: int) -> int:
    """Memory of the candidates of one point."""
    return 64 * (k + MARGIN) + 512


def _reported(parts: Iterable[tuple[Any, Array, Array]], advance: Advance) -> Iterable[tuple[Any, Array, Array]]:
    """Pass the parts of the table on, telling the progress bar."""
    for rows, keys, ids in parts:
        yield rows, keys, ids
        advance(len(keys))


def _watched(
    parts: Iterable[tuple[Array, Array, Array]], truth: Truth, found: Array, n: int
) -> Iterable[tuple[Array, Array, Array]]:
    """Pass the parts of the table on, copying the sampled rows' keys to `found` (s, k)."""
    xp = array_module(found)
    place = xp.full(n, -1, dtype=np.int64)
    place[truth.rows] = xp.arange(len(truth.rows))
    for rows, keys, ids in parts:
        sampled = xp.flatnonzero(place[rows] >= 0)
        found[place[rows[sampled]]] = keys[sampled]
        yield rows, keys, ids


def _table(
    points: Points, parts: Iterable[tuple[slice | Array, Array, Array]], n_rows: int, k: int, device: str
) -> tuple[Array, Array]:
    """Collect indices and distances in their final types, on the device that was asked for."""
    xp = array_module(points.embeddings)
    indices = xp.empty((n_rows, k), dtype=id_dtype(points.n))
    distances = xp.empty((n_rows, k), dtype=points.distance_dtype)
    for rows, keys, ids in parts:
        indices[rows] = ids
        distances[rows] = points.distances(keys)
    if device == "cuda" and xp is np:
        import cupy

        return cupy.asarray(indices), cupy.asarray(distances)
    return indices, distances

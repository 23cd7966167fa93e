"""k-NN searches: every point's neighbors, those of a sample, those of other points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from clorg_scale.arrays import Device, within_device_memory
from clorg_scale.neighbors.metric import Metric
from clorg_scale.neighbors.pairs import mean_pair_distance
from clorg_scale.neighbors.partitioned import partitioned_table
from clorg_scale.neighbors.plan import SearchPlan, plan_search
from clorg_scale.neighbors.result import KNN
from clorg_scale.neighbors.tables import search_table
from clorg_scale.on_workers import opens_sources

__all__ = ["knn", "knn_between", "knn_of"]

SEARCHES: dict[str, Callable[..., KNN | None]] = {"flat": search_table, "partitioned": partitioned_table}
"""(plan, must_reach) -> the table; None where the target recall must be reached and is not. By `SearchPlan.index`."""


def _search(plan: SearchPlan, *, must_reach: bool) -> KNN:
    """Search as planned; exactly, if that does not reach the target recall."""
    search = SEARCHES.get(plan.index, SEARCHES["flat"])
    found = search(plan, must_reach=must_reach)
    return _search(replace(plan, index="flat"), must_reach=False) if found is None else found


@opens_sources
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
    normalize: bool = False,
) -> KNN:
    """Find the k nearest neighbors of every point.

    Whatever the index, every returned neighbor is checked (no point is its own neighbor, none occurs twice,
    none is missing) and its distance computed in float64 from the embeddings as given. The recall of an
    approximate index is measured against exact search on a sample of 500 points.

    Parameters
    ----------
    embeddings
        (n, d) of any array library and real dtype, memory maps included; read block by block. With `client`, Dask
        arrays, Zarr arrays in a store, and addresses of ``.npy``, ``.zarr`` or ``.parquet`` data sets that fsspec opens
        (``"s3://..."``) are read by the workers, each machine of which keeps a copy in its folder of temporary files
        (``TMPDIR``); they never pass through this process.
    k
        Neighbors per point, 1 <= k < n.
    metric
        ``"euclidean"``; ``"cosine"``, 1 - cos; ``"inner_product"``, the largest first, as negative distances.
    index
        ``"auto"`` searches exactly while that takes seconds: up to 5,000 points, while n^2 d <= 3e11 on a
        CPU (20,000 points of 784 features) or 5e14 on a GPU, and where k > n / 20. Beyond, it takes ``"ivf"``,
        probes more lists until the recall on the sample is the target, and turns to exact search where two fifths of
        the lists do not suffice (data without clusters; a tenth of those on principal axes, where memory is short for
        all features). Where such an index does not fit the memory, of this process
        or of a worker of `client`, it takes ``"partitioned"``.

        Others, by name: ``"flat"`` (exact); ``"ivf"`` (inverted lists, on the CPU over principal axes where a few
        hold the variance; deterministic for a seed); ``"hnsw"`` (FAISS; holds a copy of the embeddings, and differs in
        a few neighbors from run to run when threads share the work); ``"nndescent"``; ``"partitioned"`` (groups of near
        points that overlap, each searched alone: needs memory for one group and the table); ``"cagra"`` (GPU); or any
        FAISS factory string such as ``"IVF1024,SQ8"`` or ``"HNSW48,Flat"`` (CPU).

        `clorg-scale bench run knn` measures their time and recall.
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
        here and searched by all workers, each of which has a copy of it. Chunks are of another size than without a
        cluster, so that rounding changes a few neighbors in 100,000. Workers with GPUs search exactly.
    normalize
        Divide each embedding by its Euclidean length first (L2); Euclidean distances then rank neighbors as the cosine
        does.

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
    plan = plan_search(
        embeddings,
        k,
        metric=metric,
        device=device,
        memory_limit=memory_limit,
        index=index,
        seed=seed,
        target_recall=target_recall,
        client=client,
        progress=progress,
        normalize=normalize,
    )
    found = _search(plan, must_reach=index == "auto")
    return replace(found, mean_distance=mean_pair_distance(plan))


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
    plan = plan_search(
        embeddings, k, metric=metric, device=device, memory_limit=memory_limit, rows=queries, progress=progress
    )
    return search_table(plan)


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
    plan = plan_search(
        embeddings, k, metric=metric, device=device, memory_limit=memory_limit, others=queries, progress=progress
    )
    return search_table(plan)

"""`rld`: check the input, choose the method, make a result of its sums."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from clorg_scale.arrays import (
    UNLABELLED,
    ClassLabels,
    Device,
    as_embeddings,
    encode_labels,
    label_array,
    on_host,
    parse_memory,
    resolve_device,
    to_unit_range,
)
from clorg_scale.arrays.local_copies import local_copy
from clorg_scale.arrays.normalize import normalize_within
from clorg_scale.distributed import device_of_workers, ordered_map, share_with_workers
from clorg_scale.errors import InputError, require
from clorg_scale.on_workers import run_on_worker
from clorg_scale.progress import progress_bar
from clorg_scale.rld.modularity import label_modularity, shuffled_labels
from clorg_scale.rld.points import ClassOrderedPoints, positive_mean
from clorg_scale.rld.predicted import check_sampled_memory, memory_needed, product_rate
from clorg_scale.rld.result import RLDResult
from clorg_scale.rld.temperatures import check_temperatures
from clorg_scale.rld.types import Floats
from clorg_scale.store.block_sources import block_source
from clorg_scale.whole import whole_number

if TYPE_CHECKING:
    from clorg_scale.neighbors import KNN

__all__ = ["DEFAULT_TEMPERATURES", "check_temperatures", "rld", "rld_from_table"]

DEFAULT_TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05)
"""The paper's temperatures 1, 0.5, 0.2, 0.1 and the 0.05 of its two-dimensional examples."""

Method = Literal["auto", "exact", "sampled", "graph"]


def rld(
    embeddings: Any,
    labels: Any,
    *,
    temperatures: Iterable[float] = DEFAULT_TEMPERATURES,
    method: Method = "auto",
    device: Device = "auto",
    target_error: float = 0.005,
    k: int = 15,
    memory_limit: str | int | None = None,
    seed: int = 0,
    progress: bool = False,
    client: Any = None,
    unlabelled: int | str | None = UNLABELLED,
    normalize: bool = False,
) -> RLDResult:
    r"""Relative Local Density: how much denser embeddings are within classes than between, at each scale.

    RLD(T) is the Newman modularity of the class labels on the affinity graph (arXiv 2305.10229)

        A_ij = n^2 E_ij^2 / (r_i r_j),   E_ij = exp(-d_ij / (mu T)),   r_i = sum_j E_ij

    with Euclidean distances d_ij and their mean mu. Small temperatures T look at near neighbors only, T = 1 at
    the whole data set. RLD does not change under translation, rotation or scaling of the embeddings.

    Parameters
    ----------
    embeddings
        (n, d) of any array library, or a memory map; n >= 3. Workers read what they do of
        `clorg_scale.knn`: Dask and Zarr arrays, addresses. Float64 is computed in float64, all else in float32; exact
        and sampled RLD on a GPU from centered coordinates rounded to fp16, which moves it by about 1e-5; `details`
        says which.
    labels
        (n,) integers or strings; -1 for unlabelled points, which take part in the graph, not in any class.
    temperatures
        (t,) each > 0. Ratios of 2 between them are cheapest.
    method
        "exact" visits all n^2 / 2 pairs in O(n) memory. "sampled" estimates the same number from landmarks, with a
        standard error. "graph" is the modularity on the sparse graph of the `k` nearest neighbors: another number
        (without far pairs it hardly falls with T), cheap, and the one that Louvain and Leiden maximize.
        "auto" is exact while its predicted time is below a minute on this machine, else sampled; `details` says why.
    device
        "cpu", "cuda", or "auto".
    target_error
        Half-width of the 95 % interval that "sampled" works toward.
    k
        Nearest neighbors of the graph method, and of the sampled method's near field.
    memory_limit
        Bytes, or text such as "8GB", that may be taken beside the embeddings.
    seed
        Seed of everything random.
    progress
        Show a progress bar on stderr.
    client
        `distributed.Client` of a Dask cluster that shares the work (see `clorg_scale.distributed`).
    unlabelled
        The label of unlabelled points; None: every label, -1 too, is a class.
    normalize
        Divide each embedding by its Euclidean length first (L2), as the paper's notebooks do. RLD changes: at T = 0.1
        it is .72 on the pixels of Fashion-MNIST so, .68 without.

    Returns
    -------
    RLDResult

    Raises
    ------
    InputError
        For NaN or infinite embeddings, wrong shapes or labels, a temperature <= 0, points that are all identical,
        a memory limit that is too small, or ``device="cuda"`` without a GPU.

    Warns
    -----
    UserWarning
        If -1 means unlabelled and looks like a class.
    """
    settings: dict[str, Any] = {"temperatures": temperatures, "method": method, "target_error": target_error, "k": k}
    settings |= {"device": device, "memory_limit": memory_limit, "seed": seed, "progress": progress, "client": client}
    settings |= {"unlabelled": unlabelled, "normalize": normalize}
    source = block_source(embeddings, has_workers=client is not None)
    if source is None:
        return rld_from_table(embeddings, labels, None, **settings)
    if client is None:
        return rld_from_table(local_copy(source), labels, None, **settings)
    settings |= {"temperatures": check_temperatures(temperatures).tolist(), "client": None}
    result: RLDResult = run_on_worker(client, rld, source, label_array(labels, source.shape[0]), **settings)
    return result


def rld_from_table(
    embeddings: Any,
    labels: Any,
    table: KNN | None,
    *,
    temperatures: Iterable[float] = DEFAULT_TEMPERATURES,
    method: Method = "auto",
    device: Device = "auto",
    target_error: float = 0.005,
    k: int = 15,
    memory_limit: str | int | None = None,
    seed: int = 0,
    progress: bool = False,
    client: Any = None,
    unlabelled: int | str | None = UNLABELLED,
    normalize: bool = False,
) -> RLDResult:
    """Compute as `rld` does; the sampled and the graph method take neighbors from `table` instead of searching.

    `table` holds at least k Euclidean neighbors of every point, normalized if `normalize` is set; None: they search.
    """
    started = time.perf_counter()
    array = as_embeddings(embeddings)
    classes = encode_labels(labels, len(array), unlabelled=unlabelled)
    chosen = check_temperatures(temperatures)
    if method not in ("auto", "exact", "sampled", "graph"):
        raise InputError(f"method must be 'auto', 'exact', 'sampled' or 'graph', not {method!r}.")
    if not target_error > 0:
        raise InputError(f"target_error must be positive, not {target_error}.")
    k, seed = whole_number("k", k, 1), whole_number("seed", seed, 0)
    used = resolve_device(device) if client is None else device_of_workers(client, device)
    array = on_host(array) if used == "cpu" or client is not None else array
    limit = parse_memory(memory_limit)
    if normalize:
        needed = memory_needed(array.shape, array.dtype, n_temperatures=len(chosen), method=method, k=k)
        array, limit = normalize_within(array, limit, needed=needed)
    scaled = to_unit_range(array)
    if client is not None:
        scaled = scaled._replace(embeddings=share_with_workers(client, scaled.embeddings))
    points = ClassOrderedPoints(scaled.embeddings, classes.codes, len(classes.names), mean=scaled.mean)
    if table is not None:
        from clorg_scale.neighbors.shared import prepared

        table = prepared(table, k, exponent=-scaled.exponent, device="cpu" if client is not None else used)
    options = _Options(used, k, limit, target_error, seed, progress, client, table)
    why: dict[str, Any] = {"normalized": True} if normalize else {}
    if method == "auto":
        method, why["why"] = _choose(points, options)
    compute = {"graph": _graph, "sampled": _sampled, "exact": _exact}[method]
    found = compute(points, classes, chosen, options)
    mu = scaled.in_user_units(found.mean_distance, "The mean distance of the embeddings")
    return replace(found, mean_distance=mu, seconds=time.perf_counter() - started, details=found.details | why)


@dataclass(frozen=True)
class _Options:
    """Settings of all methods."""

    device: Literal["cpu", "cuda"]
    k: int
    memory_limit: int | None
    target_error: float
    seed: int
    progress: bool
    client: Any
    table: KNN | None


EXACT_SECONDS = 60
"""Predicted time up to which "auto" is exact. On two AVX2 cores 60,000 x 784 take 50 s, and 100,000 x 768 by arithmetic
more than two minutes, where sampled RLD takes 12 s and says by how much it may be off."""

NEAR_RECALL = 0.9
"""Recall of the near field of sampled RLD; a pair counts if either end finds it, and those missed are the farthest."""

AT_ONCE = 1e12
"""FLOP of exact RLD that any machine does in less."""


def _choose(points: ClassOrderedPoints, options: _Options) -> tuple[Literal["exact", "sampled"], str]:
    """The method that "auto" takes, and why."""
    work = 2.0 * points.n_points**2 * points.n_features
    where = "this machine" if options.client is None else "this cluster"
    if work <= AT_ONCE or 1.4 * work / _rate(points, options) <= EXACT_SECONDS:
        return "exact", f"exact is predicted to take less than a minute on {where}"
    return "sampled", f"exact would take more than a minute on {where}"


def _rate(points: ClassOrderedPoints, options: _Options) -> float:
    """FLOP a second in matrix products, of all workers if there are some."""
    arguments, client = (points.n_features, points.dtype, options.device), options.client
    if client is None:
        return product_rate(*arguments)
    of_worker = client.submit(product_rate, *arguments, pure=False)
    return len(client.nthreads()) * float(of_worker.result())


def _exact(points: ClassOrderedPoints, classes: ClassLabels, temperatures: Floats, options: _Options) -> RLDResult:
    """The exact method."""
    from clorg_scale.rld.exact.passes import n_pair_visits

    n_visits, precision = n_pair_visits(points), str(points.dtype)
    if options.device == "cuda":
        precision = "fp64" if points.dtype == np.float64 else "fp16"
    exact_sums = _exact_engine(options, precision)
    with progress_bar("exact RLD", n_visits, unit="M pairs", scale=1e6, enabled=options.progress) as advance:
        sums = exact_sums(points, temperatures, seed=options.seed, memory_limit=options.memory_limit, advance=advance)
    details = {"device": options.device, "precision": precision, "rescued_rows": int(sums.n_rescued.sum())}
    if options.device == "cuda":
        details["kernels"] = sums.kernels
    result = _result("exact", classes, temperatures, sums, details)
    return replace(result, null_std=_null_std(points, classes, sums, temperatures, seed=options.seed))


def _exact_engine(options: _Options, precision: str) -> Callable[..., Any]:
    """Sum of the affinities of all pairs by the loops of the CPU or the kernels of a GPU, here or on a cluster."""
    mapper = ordered_map(options.client)
    if options.device == "cpu":
        from clorg_scale.rld.exact import cpu

        return partial(cpu.exact_sums, ordered_map=mapper)
    if mapper is None:
        require("torch", extra="cuda13", purpose="Exact RLD on a GPU")
        from clorg_scale.rld.exact import gpu

        return partial(gpu.exact_sums, precision=precision)
    from clorg_scale.rld.exact import gpu_cluster

    return partial(gpu_cluster.exact_sums, precision=precision, ordered_map=mapper)


def _sampled(points: ClassOrderedPoints, classes: ClassLabels, temperatures: Floats, options: _Options) -> RLDResult:
    """The sampled method."""
    from clorg_scale.rld.sampled.estimate import sampled_sums
    from clorg_scale.rld.sampled.near_field import NearField
    from clorg_scale.rld.sampled.tile_order import tile_order

    check_sampled_memory(points, len(temperatures), options.k, options.memory_limit)
    table = _neighbors(points, min(options.k, points.n_points - 1), options, target_recall=NEAR_RECALL)
    near_field = NearField.of(table, tile_order(points.n_points, options.seed))
    sums = sampled_sums(
        points,
        classes.codes,
        near_field,
        temperatures,
        target_error=options.target_error,
        seed=options.seed,
        device="cuda" if options.device == "cuda" else None,
        precision="fp16",
        memory_limit=options.memory_limit,
        progress=options.progress,
        ordered_map=ordered_map(options.client),
    )
    details = {
        "device": options.device,
        "precision": sums.precision,
        "landmarks": sums.n_landmarks,
        "k": table.k,
        "index": table.index,
        "recall": table.measured_recall,
        "bias_removed": sums.bias.tolist(),
        "interval": round(sums.interval, 3),
    }
    result = _result("sampled", classes, temperatures, sums, details)
    null_std = _null_std(points, classes, sums, temperatures, seed=options.seed)
    return replace(result, stderr=sums.stderr, null_std=null_std)


def _neighbors(points: ClassOrderedPoints, k: int, options: _Options, **settings: Any) -> KNN:
    """The k-NN table that was passed, or else that of a search."""
    from clorg_scale.neighbors import knn

    names = ("device", "memory_limit", "seed", "progress", "client")
    shared = {name: getattr(options, name) for name in names}
    return options.table or knn(points.embeddings, k, **shared, **settings)


def _null_std(
    points: ClassOrderedPoints, classes: ClassLabels, sums: Any, temperatures: Floats, *, seed: int
) -> Floats:
    """(t,) deviation of RLD over shufflings of the labels."""
    from clorg_scale.rld.null import affinity_spread, shuffled_labels_deviation

    spread = sums.spread
    if spread is None:
        spread = affinity_spread(points, temperatures, sums, seed=seed)
    return shuffled_labels_deviation(spread, classes.codes, len(classes.names))


def _graph(points: ClassOrderedPoints, classes: ClassLabels, temperatures: Floats, options: _Options) -> RLDResult:
    """The graph method."""
    from clorg_scale.rld.graph import graph_sums

    table = _neighbors(points, options.k, options)
    mu = positive_mean(table.mean_distance or 0.0)
    k, w = graph_sums(table, classes.codes, temperatures, mu)
    details = {"device": options.device, "k": options.k, "index": table.index}
    return _result("graph", classes, temperatures, _GraphSums(on_host(k), on_host(w), mu), details)


class _GraphSums(NamedTuple):
    """(t, n) affinities of each point to all others and to those of its class; mean distance."""

    k: Floats
    w: Floats
    mean_distance: float


def _result(
    method: Literal["exact", "sampled", "graph"],
    classes: ClassLabels,
    temperatures: Floats,
    sums: Any,
    details: dict[str, Any],
) -> RLDResult:
    """RLD from the affinities of every point; the errors are added by the methods that know them."""
    k = sums.k
    found = label_modularity(k, sums.w, classes.codes, len(classes.names))
    return RLDResult(
        temperatures=temperatures,
        values=found.values,
        stderr=np.zeros(len(temperatures)),
        per_class=found.per_class,
        purity=found.purity,
        classes=classes.names,
        local_density=found.local_density,
        null_mean=shuffled_labels(k, classes.codes, len(classes.names)),
        null_std=np.full(len(temperatures), np.nan),
        mean_distance=sums.mean_distance,
        method=method,
        n_points=k.shape[1],
        seconds=0.0,
        details=details,
        n_unlabelled=classes.n_unlabelled,
    )

"""Launches the graph-shaped kernels (`*.cu`) on CuPy arrays.

Each file's head has its mathematics, its costs, and the plain function that it must equal.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np

__all__ = [
    "class_matches",
    "inclusion_scale",
    "label_sums",
    "pair_keys",
    "sample_rows",
    "source",
    "symmetrize",
]

Rule = Literal["max", "mean", "mutual"]

RULES: dict[Rule, int] = {"max": 0, "mean": 1, "mutual": 2}

BLOCK = 256
"""Threads of a block."""

WARP = 32

MOST_BLOCKS = 132 * 64
"""Blocks of a grid; each thread goes on with a grid's stride. Divisible among the multiprocessors of one H200."""


def symmetrize(neighbors: Any, weights: Any, rule: Rule) -> tuple[Any, Any, Any]:
    """Make a k-NN table a symmetric graph.

    Parameters
    ----------
    neighbors
        (n, k) CuPy int32 or int64, negative where absent; no neighbor twice in a row.
    weights
        (n, k) CuPy float32.
    rule
        "max", "mean" or "mutual" (the smaller of the two directions).

    Returns
    -------
    indptr (n + 1,), indices (e,) sorted within rows, weights (e,) float32; integers of the table's dtype.

    Raises
    ------
    ValueError
        If an int32 table has or gives 2^31 or more entries, the rule is unknown, or a neighbor is none of the points.
    """
    cupy = _cupy()
    if rule not in RULES:
        raise ValueError(f"symmetrize must be 'max', 'mean' or 'mutual', not {rule!r}.")
    n, k = neighbors.shape
    index = neighbors.dtype
    if n * k >= 2**31 and index == np.int32:
        raise ValueError(f"The k-NN table has {n * k} entries, too many for int32; hand in an int64 table.")
    _check_range(neighbors, n)
    # Copies: the rows are sorted in place. CuPy's own argsort along an axis would sort the whole table at once.
    neighbors, weights = cupy.array(neighbors, order="C"), cupy.array(weights, dtype=np.float32, order="C")
    rows = cupy.arange(n + 1, dtype=index) * index.type(k)
    _launch("symmetrize", "sort_rows", index, n, (rows, np.int64(n), neighbors, weights))
    degree = cupy.zeros(n, dtype=np.int32)
    shape = (np.int64(n), np.int32(k), np.int32(RULES[rule]))
    _launch("symmetrize", "count_edges", index, n * k, (neighbors, *shape, degree))
    bounds = cupy.zeros(n + 1, dtype=np.int64)
    cupy.cumsum(degree, out=bounds[1:])
    n_entries = int(bounds[-1])
    if n_entries >= 2**31 and index == np.int32:
        raise ValueError(f"The graph has {n_entries} entries, too many for int32; hand in an int64 table.")
    indptr = bounds.astype(index)
    columns, values = cupy.empty(n_entries, dtype=index), cupy.empty(n_entries, dtype=np.float32)
    degree.fill(0)
    arguments = (neighbors, weights, *shape, indptr, degree, columns, values)
    _launch("symmetrize", "fill_edges", index, n * k, arguments)
    _launch("symmetrize", "sort_rows", index, n, (indptr, np.int64(n), columns, values))
    return indptr, columns, values


def label_sums(indptr: Any, indices: Any, weights: Any, codes: Any, n_classes: int) -> tuple[Any, Any, float]:
    """W_c, K_c and 2m of labels on a graph.

    Parameters
    ----------
    indptr, indices, weights
        CSR arrays, CuPy; integers of one dtype, weights float32.
    codes
        (n,) int32 class codes, negative where unlabelled.
    n_classes
        Number of classes C.

    Returns
    -------
    W (C,) and K (C,) float64, and 2m.
    """
    cupy = _cupy()
    n = len(codes)
    indptr, indices, weights = (cupy.ascontiguousarray(array) for array in (indptr, indices, weights))
    total, own = cupy.empty(n, dtype=np.float64), cupy.empty(n, dtype=np.float64)
    W, K = cupy.zeros(n_classes, dtype=np.float64), cupy.zeros(n_classes, dtype=np.float64)
    index = indices.dtype
    _launch("label_modularity", "row_sums", index, n, (indptr, indices, weights, codes, np.int64(n), total, own))
    _launch("label_modularity", "class_sums", index, -(-n // 64), (codes, total, own, np.int64(n), W, K))
    return W, K, float(total.sum())


def class_matches(neighbors: Any, owners: Any, codes: Any, ks: Sequence[int]) -> Any:
    """Class mates among the first k neighbors, for every k.

    Parameters
    ----------
    neighbors
        (q, k) CuPy int32 or int64, nearest first.
    owners
        (q,) int64 points that the rows belong to.
    codes
        (n,) int32 class codes, negative where unlabelled.
    ks
        Ascending, at most k.

    Returns
    -------
    (q, len(ks)) int32; -1 in rows of unlabelled points.

    Raises
    ------
    ValueError
        If a neighbor is none of the points.
    """
    cupy = _cupy()
    q, width = neighbors.shape
    _check_range(neighbors, len(codes))
    neighbors, owners = cupy.ascontiguousarray(neighbors), cupy.ascontiguousarray(owners, dtype=np.int64)
    matches = cupy.empty((q, len(ks)), dtype=np.int32)
    wanted = cupy.asarray(ks, dtype=np.int32)
    arguments = (neighbors, owners, codes, np.int64(q), np.int32(width), wanted, np.int32(len(ks)), matches)
    _launch("class_matches", "class_matches", neighbors.dtype, q, arguments)
    return matches


def pair_keys(queries: Any, points: Any, factors: tuple[Any, Any], rows: Any, ids: Any, *, inner_product: bool) -> Any:
    """Squared distances, or minus the inner products, of pairs of points times their factors.

    Parameters
    ----------
    queries, points
        (m, d), (n, d) CuPy, contiguous, both float16, float32 or float64.
    factors
        (m,) or (1,), (n,) or (1,) float64 factors of each, or of all.
    rows
        (b,) rows of the queries.
    ids
        (b, k) int64 rows of the points; below 0 gives infinity.
    inner_product
        Whether products are summed, not squared differences.

    Returns
    -------
    (b, k) float64.

    Raises
    ------
    ValueError
        If a row or id is none of the points.
    """
    cupy = _cupy()
    for some, n in ((rows, len(queries)), (ids, len(points))):
        _check_range(some, n)
    rows, ids = (cupy.ascontiguousarray(some, dtype=np.int64) for some in (rows, ids))
    keys = cupy.empty(ids.shape, dtype=np.float64)
    (a, b), steps = factors, [np.int64(len(some) > 1) for some in factors]
    width, d = np.int32(ids.shape[1]), np.int32(queries.shape[1])
    sizes = (np.int64(ids.size), width, d, np.int32(inner_product))
    arguments = (queries, points, a, steps[0], b, steps[1], rows, ids, *sizes, keys)
    _launch("pair_keys", f"keys_{queries.dtype.name}", np.int64, WARP * ids.size, arguments)
    return keys


def inclusion_scale(indptr: Any, weights: Any, fanout: int) -> tuple[Any, Any]:
    """Scale c of each row's inclusion probabilities, (n,) float64, and the size of its sample, (n,) int32."""
    cupy = _cupy()
    n = len(indptr) - 1
    scale, sizes = cupy.empty(n, dtype=np.float64), cupy.empty(n, dtype=np.int32)
    arguments = (indptr, weights, np.int64(n), np.int32(fanout), scale, sizes)
    _launch("sample_neighbors", "inclusion_scale", indptr.dtype, n, arguments)
    return scale, sizes


def sample_rows(
    indptr: Any, indices: Any, weights: Any, inclusion: tuple[Any, Any], targets: Any, *, seed: int
) -> tuple[Any, Any, Any]:
    """Sample neighbors of the targets.

    Parameters
    ----------
    indptr, indices, weights
        CSR arrays, CuPy.
    inclusion
        What `inclusion_scale` gives for the fanout.
    targets
        (b,) int64 nodes.
    seed
        Equal seeds give equal samples, the same as `clorg_scale.probes.sampler` on the CPU.

    Returns
    -------
    starts (b + 1,) int32, nodes (s,), values (s,) float32: a CSR matrix of the sampled entries.
    """
    cupy = _cupy()
    scale, sizes = inclusion
    starts = cupy.zeros(len(targets) + 1, dtype=np.int32)
    cupy.cumsum(sizes[targets], out=starts[1:])
    nodes, values = cupy.empty(int(starts[-1]), dtype=indices.dtype), cupy.empty(int(starts[-1]), dtype=np.float32)
    state = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
    arguments = (indptr, indices, weights, scale, targets, np.int64(len(targets)), state, starts, nodes, values)
    _launch("sample_neighbors", "sample_rows", indices.dtype, len(targets), arguments)
    return starts, nodes, values


def source(name: str) -> str:
    """The text of a kernel file."""
    return resources.files(__package__).joinpath(f"{name}.cu").read_text(encoding="utf-8")


def _check_range(neighbors: Any, n: int) -> None:
    """Refuse neighbors for which a kernel would read beyond its arrays."""
    largest = int(neighbors.max()) if neighbors.size else -1
    if largest >= n:
        raise ValueError(f"The k-NN table lists neighbor {largest}, but there are only {n} points.")


def _launch(name: str, kernel: str, index: Any, n_threads: int, arguments: tuple[Any, ...]) -> None:
    """Run one kernel, as many threads as there is work for up to a full grid."""
    blocks = max(1, min(MOST_BLOCKS, -(-n_threads // BLOCK)))
    _module(name, np.dtype(index).name).get_function(kernel)((blocks,), (BLOCK,), arguments)


@cache
def _module(name: str, index: str) -> Any:
    """A kernel file compiled for one type of index (CuPy keeps it on disk too)."""
    integer = {"int32": "int", "int64": "long long"}[index]
    return _cupy().RawModule(code=source(name), options=("-std=c++17", f"-DINDEX={integer}"))


def _cupy() -> Any:
    return importlib.import_module("cupy")

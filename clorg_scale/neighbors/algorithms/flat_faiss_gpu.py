"""Exact search of blocks with a GPU build of FAISS, which reads and writes CuPy's memory in place.

`faiss.bfKnn` ends the process where there is no GPU, so callers ask `usable` first.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from clorg_scale.arrays import Array, array_module, on_default_stream

__all__ = ["MAX_K", "device_pointer", "gpu_resources", "search_block", "usable"]

MAX_K = 2048
"""The most neighbors that FAISS selects on a GPU."""

MAX_QUERIES = 1 << 15
"""Queries of one call; more than 65,535 have crashed."""


def usable() -> bool:
    """Whether FAISS was built for GPUs and sees one."""
    try:
        faiss = importlib.import_module("faiss")
    except (ImportError, RuntimeError):  # a GPU build without the CUDA libraries it wants raises the latter
        return False
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


@on_default_stream()
def search_block(queries: Array, points: Array, k: int, inner_product: bool) -> tuple[Array, Array]:  # noqa: FBT001
    """Find the k best of `points` for each of `queries` (see `neighbors.exact.PairSearch`); CuPy arrays."""
    faiss = importlib.import_module("faiss")
    xp = array_module(queries)
    queries, points = xp.ascontiguousarray(queries), xp.ascontiguousarray(points)
    keys = xp.empty((len(queries), k), dtype="float32")
    ids = xp.empty((len(queries), k), dtype="int64")
    for start in range(0, len(queries), MAX_QUERIES):
        chunk = slice(start, start + MAX_QUERIES)
        job = _distance_job(faiss, queries[chunk], points, keys[chunk], ids[chunk])
        job.metric = faiss.METRIC_INNER_PRODUCT if inner_product else faiss.METRIC_L2
        faiss.bfKnn(gpu_resources(), job)
    return (-keys if inner_product else keys), ids


def _distance_job(faiss: Any, queries: Array, points: Array, keys: Array, ids: Array) -> Any:
    """Describe one search: the addresses of its arrays on the current device, and their sizes."""
    job = faiss.GpuDistanceParams()
    job.k, job.dims = keys.shape[1], points.shape[1]
    job.vectors, job.numVectors = device_pointer(faiss, points), len(points)
    job.vectorType, job.vectorsRowMajor = faiss.DistanceDataType_F32, True
    job.queries, job.numQueries = device_pointer(faiss, queries), len(queries)
    job.queryType, job.queriesRowMajor = faiss.DistanceDataType_F32, True
    job.outDistances, job.outIndices = device_pointer(faiss, keys), device_pointer(faiss, ids)
    job.outIndicesType = faiss.IndicesDataType_I64
    job.device = -1  # the current one, which holds the arrays
    return job


def device_pointer(faiss: Any, array: Array) -> Any:
    """FAISS's pointer to a contiguous CuPy array of float32 or int64."""
    assert array.flags.c_contiguous
    cast = {"float32": faiss.cast_integer_to_float_ptr, "int64": faiss.cast_integer_to_idx_t_ptr}
    return cast[array.dtype.name](array.data.ptr)


@cache
def gpu_resources() -> Any:
    """One set of GPU resources for the process, as each reserves scratch memory; on the default stream, as CuPy."""
    resources = importlib.import_module("faiss").StandardGpuResources()
    resources.setDefaultNullStreamAllDevices()
    return resources

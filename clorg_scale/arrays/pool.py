"""One pool of GPU memory for CuPy and RAPIDS: the device's own, from which the driver allocates in streams' order.

CuPy, and RMM for cuVS, cuGraph and pylibraft, would each hold what they have freed, and one would run out of memory
that the other only holds. torch keeps its own pool: RMM's allocator for it ignores `record_stream`, on which panels in
flight depend, raises no `OutOfMemoryError`, and counts nothing. What torch holds unused is freed before others plan
(`clorg_scale.arrays.gpu.free_device_memory`); ``PYTORCH_ALLOC_CONF=backend:cudaMallocAsync`` has it join.
"""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from typing import Any

__all__ = ["share_pool", "trim_pool"]

POOLS_SUPPORTED = 115
"""cudaDevAttrMemoryPoolsSupported."""

RELEASE_THRESHOLD, ALL = 4, (1 << 64) - 1
"""cudaMemPoolAttrReleaseThreshold, and that nothing is released before it is asked for (see `trim_pool`)."""


def share_pool() -> str:
    """Let CuPy and RMM allocate from one pool of the current device, once; describes which library allocates where.

    An allocator that the user has set stays: of the two, only one that is still its library's default is changed.
    """
    return _shared(importlib.import_module("cupy").cuda.runtime.getDevice())


def trim_pool() -> None:
    """Return to the device what its pool holds unused."""
    cuda = importlib.import_module("cupy").cuda
    device = cuda.runtime.getDevice()
    if cuda.runtime.deviceGetAttribute(POOLS_SUPPORTED, device):
        cuda.Device().synchronize()  # memory is free once the stream that freed it has come that far
        cuda.runtime.memPoolTrimTo(cuda.runtime.deviceGetDefaultMemPool(device), 0)


@cache
def _shared(device: int) -> str:
    cupy = importlib.import_module("cupy")
    try:
        resources = importlib.import_module("rmm.mr")
        allocate = importlib.import_module("rmm.allocators.cupy").rmm_cupy_allocator
    except ImportError:
        return "CuPy by itself (RMM is not installed)"
    try:
        if _is_default(resources, device) and cupy.cuda.runtime.deviceGetAttribute(POOLS_SUPPORTED, device):
            resources.set_per_device_resource(device, _resource(resources, cupy.cuda.runtime, device))
    except Exception as error:  # of CUDA's and RMM's own classes; memory for all of them is better than nothing
        warnings.warn(f"CuPy and RAPIDS do not share GPU memory: {error}", stacklevel=2)
    resource = type(resources.get_per_device_resource(device)).__name__
    at_first = getattr(cupy.cuda.get_allocator(), "__self__", None) is cupy.get_default_memory_pool()
    if at_first and not _is_default(resources, device):  # which has no pool, and would be slow
        cupy.cuda.set_allocator(allocate)
    if cupy.cuda.get_allocator() is allocate:
        return f"CuPy and RAPIDS together ({resource})"
    return f"CuPy by itself, RAPIDS by itself ({resource})"


def _is_default(resources: Any, device: int) -> bool:
    """Whether RMM takes memory straight from the device, as it does by default."""
    return type(resources.get_per_device_resource(device)) is resources.CudaMemoryResource


def _resource(resources: Any, runtime: Any, device: int) -> Any:
    """RMM's view of the device's own pool, which is to keep what is freed."""
    pool = runtime.deviceGetDefaultMemPool(device)
    runtime.memPoolSetAttribute(pool, RELEASE_THRESHOLD, ALL)
    handle = importlib.import_module("cuda.bindings.runtime").cudaMemPool_t
    return resources.CudaAsyncViewMemoryResource(handle(pool))

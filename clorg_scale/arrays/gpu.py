"""Libraries that share a GPU: order of their streams, free memory, and a message where it runs out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from clorg_scale.arrays.blocks import row_slices
from clorg_scale.arrays.device import Array, array_module, on_host
from clorg_scale.arrays.pool import trim_pool
from clorg_scale.errors import InputError

__all__ = [
    "OutOfDeviceMemoryError",
    "brought_to",
    "free_device_memory",
    "is_out_of_memory",
    "on_default_stream",
    "within_device_memory",
]

OUT_OF_MEMORY = ("out of memory", "out_of_memory", "bad_alloc", "memoryallocation", "alloc_error", "rmm failure")
"""Phrases in messages of cuVS, cuGraph, FAISS and CUDA; their error classes are not specific."""

MAIN_MEMORY_OUT = "std::bad_alloc"
"""The whole message of FAISS where main memory was refused; libraries of the GPU say more."""


def brought_to(device: str, embeddings: Array) -> Array:
    """Embeddings (n, d) in the memory of a device, ``"cpu"`` or ``"cuda"``; the same array where they are there.

    Those larger than half of the free memory of the GPU stay in main memory, from where stages take blocks.
    """
    if device == "cpu":
        return embeddings if array_module(embeddings) is np else on_host(embeddings)
    if array_module(embeddings) is not np or embeddings.nbytes > free_device_memory() // 2:
        return embeddings
    import cupy

    native = embeddings.dtype.newbyteorder("=")
    data = cupy.empty(embeddings.shape, dtype=native)
    for rows in row_slices(*data.shape, itemsize=native.itemsize):
        data[rows] = cupy.asarray(np.ascontiguousarray(embeddings[rows], dtype=native))
    return data


def free_device_memory() -> int:
    """Free bytes on the current GPU after torch and CuPy have released the unused memory of their pools.

    Neither takes memory from the other's pool; both allocate it again from what is free.
    """
    cupy, torch = sys.modules.get("cupy"), sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()
        trim_pool()
        return int(cupy.cuda.runtime.memGetInfo()[0])
    assert torch is not None
    return int(torch.cuda.mem_get_info()[0])


@contextmanager
def on_default_stream() -> Iterator[None]:
    """Run CuPy on the default stream, after its work on the current stream has finished.

    For libraries that keep to the default stream, as FAISS is set to, or to the thread's, which CUDA orders with
    respect to the default one only. Those of RAPIDS are given CuPy's (`clorg_scale.arrays.handles`).
    """
    import cupy

    current = cupy.cuda.get_current_stream()
    if current == cupy.cuda.Stream.null:
        yield
        return
    current.synchronize()
    with cupy.cuda.Stream.null:
        yield
    cupy.cuda.Device().synchronize()


class OutOfDeviceMemoryError(InputError):
    """The GPU has too little memory for a computation; the CPU may have enough."""


@contextmanager
def within_device_memory(what: str, advice: str = "use device='cpu'") -> Iterator[None]:
    """Report in one sentence that the device ran out of memory in `what`, whichever library raised the error.

    Raises
    ------
    OutOfDeviceMemoryError
        In place of the library's own error.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfDeviceMemoryError(
            f"The device ran out of memory in {what}; free device memory, or {advice}."
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether device memory ran out: by the class name of torch and CuPy, otherwise by the message."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    message = str(error).lower()
    if message == MAIN_MEMORY_OUT:
        return False
    return not isinstance(error, InputError) and any(phrase in message for phrase in OUT_OF_MEMORY)

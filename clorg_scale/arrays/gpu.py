"""What libraries on one GPU need of each other: an order of their streams, room, and a sentence where it runs out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from clorg_scale.errors import InputError

__all__ = ["free_device_memory", "on_default_stream", "within_device_memory"]

OUT_OF_MEMORY = ("out of memory", "out_of_memory", "bad_alloc", "memoryallocation")
"""What messages of cuVS, cuGraph, FAISS and CUDA itself say of it; their classes do not."""

MAIN_MEMORY_OUT = "std::bad_alloc"
"""What FAISS says, and nothing else, where main memory was refused; libraries of the GPU say more."""


def free_device_memory() -> int:
    """Bytes free on the current GPU, once torch and CuPy have given back what each keeps for itself.

    Neither takes memory from the other's pool; both fill theirs again from what is free.
    """
    cupy, torch = sys.modules.get("cupy"), sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()
        return int(cupy.cuda.runtime.memGetInfo()[0])
    assert torch is not None
    return int(torch.cuda.mem_get_info()[0])


@contextmanager
def on_default_stream() -> Iterator[None]:
    """Let CuPy work on the default stream, and what it was doing on another one be finished.

    cuVS and cuGraph work on a stream of the thread, which CUDA keeps in order with the default stream and no other.
    They are given no stream of CuPy's: cuVS 26.8 takes the address of the number for the stream.
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


@contextmanager
def within_device_memory(what: str, advice: str = "use device='cpu'") -> Iterator[None]:
    """Say in a sentence that the device ran out of memory in `what`, whichever library was refused it.

    Raises
    ------
    InputError
        In place of the library's own error.
    """
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise InputError(f"The device ran out of memory in {what}; free device memory, or {advice}.") from error


def _is_out_of_memory(error: Exception) -> bool:
    """Torch's and CuPy's own classes share a name; others are told by their words, main memory's own error is not."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    told = str(error).lower()
    if told == MAIN_MEMORY_OUT:
        return False
    return not isinstance(error, InputError) and any(words in told for words in OUT_OF_MEMORY)
